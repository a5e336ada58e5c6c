//! Gold files and files of entries, as scoring reads them.

use std::path::PathBuf;

use mmrag_data::{DataError, entries, multimodalqa, webqa};
use tempfile::TempDir;

fn put(folder: &TempDir, text: &[u8]) -> PathBuf {
    let path = folder.path().join("file.json");
    std::fs::write(&path, text).expect("the file is written");
    path
}

#[test]
fn a_question_file_is_read_without_its_documents() {
    let folder = tempfile::tempdir().expect("a folder is made");
    let lines = br#"{"qid": "q1", "question": "?", "answers": [{"answer": 300.0, "modality": "table"}], "metadata": {"type": "TableQ"}}
{"qid": "q2", "question": "?", "answers": [{"answer": "x", "modality": "text"}, {"answer": "y", "modality": "image"}]}
{"qid": "q3", "question": "?", "answers": [{"answer": "x"}]}
{"qid": "q4", "question": "?"}
{"qid": "q1", "question": "?", "answers": [{"answer": "x"}]}
{"qid": 5}
"#;
    let path = put(&folder, lines);
    let gold = multimodalqa::gold(&path).expect("the file is read");
    let seen: Vec<_> = gold.rows.iter().map(|row| (&*row.id, &*row.modality, &*row.kind)).collect();
    assert_eq!(seen, [("q1", "table", "TableQ"), ("q2", "mixed", ""), ("q3", "unknown", "")]);
    assert_eq!(gold.rows[0].answers, ["300.0"]);
    let lines: Vec<usize> = gold.problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [4, 5, 6]);
    assert!(gold.problems[0].what.contains("no answer"), "{}", gold.problems[0]);
}

#[test]
fn webqa_gold_is_read_and_its_faults_told_by_key() {
    let folder = tempfile::tempdir().expect("a folder is made");
    let text = br#"{
"a": {"Qcate": "color", "Keywords_A": "\"white\"", "img_posFacts": [{"image_id": 30000001}], "txt_posFacts": []},
"b": {"Qcate": "text", "Keywords_A": "TBD", "txt_posFacts": [{"snippet_id": "b_2"}]},
"c": {"Qcate": "text"},
"a": {"Qcate": "color"},
"d": {"Keywords_A": "x"},
"e": {"Qcate": "number", "Keywords_A": 2},
"f": {"Qcate": "text", "img_posFacts": [7]},
"g": []
}"#;
    let gold = webqa::gold(&put(&folder, text)).expect("the file is read");
    let seen: Vec<_> = gold.rows.iter().map(|row| (&*row.id, row.keywords.as_deref())).collect();
    assert_eq!(seen, [("a", Some("white")), ("b", None), ("c", None)]);
    assert_eq!(gold.rows[0].sources, ["30000001"]);
    assert_eq!(gold.rows[1].sources, ["b_2"]);
    for (problem, part) in
        gold.problems.iter().zip(["a", "d: Qcate", "e: Keywords_A", "f: img", "g"])
    {
        assert!(problem.starts_with(&format!("question {part}")), "{problem}");
    }
    assert_eq!(gold.problems.len(), 5);
}

#[test]
fn entries_that_are_no_object_are_told_by_line() {
    let folder = tempfile::tempdir().expect("a folder is made");
    let check = |text: &[u8], at: usize| match entries(&put(&folder, text)) {
        Err(DataError::Row { line, .. }) => assert_eq!(line, at),
        other => panic!("{other:?}"),
    };
    check(b"[1]", 1);
    check(b"{\"a\": 1,\n\"b\": }", 2);
    check(b"{\"a\": \"\xff\"}", 1);
    check(b"", 1);
    check(b"{} {}", 1);
    let kept = entries(&put(&folder, b"{\"a\": 1, \"a\": \"x\"}")).expect("the file is read");
    assert_eq!(kept.len(), 2);
    assert!(matches!(entries(&folder.path().join("none")), Err(DataError::File { .. })));
}
