//! Gold files and files of entries, as scoring reads them.

use std::path::PathBuf;

use mmrag_data::{
    DataError, PeopleRow, entries, multimodalqa, people, predictions, webqa, webqa_table,
};
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
"a": {"Qcate": "color", "A": ["\"It is white.\""], "Keywords_A": "\"white\"", "img_posFacts": [{"image_id": 30000001}], "txt_posFacts": []},
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
    assert_eq!(gold.rows[0].answers, ["It is white."]);
    assert!(gold.rows[1].answers.is_empty());
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

#[test]
fn predictions_are_read_with_their_lines() {
    let folder = tempfile::tempdir().expect("a folder is made");
    let check = |text: &str, expected: &[(usize, Option<&str>, &str)]| {
        let read = predictions(&put(&folder, text.as_bytes())).expect("the file is read");
        let seen: Vec<(usize, Option<String>, String)> =
            read.into_iter().map(|p| (p.line, p.id.ok(), p.value.to_string())).collect();
        let expected: Vec<(usize, Option<String>, String)> = expected
            .iter()
            .map(|(line, id, value)| (*line, id.map(String::from), (*value).to_owned()))
            .collect();
        assert_eq!(seen, expected, "{text}");
    };
    check(
        "\u{feff}{\"a\": \"x\",\n\n \"b:\\\"{,\":\n [1,\n {\"c\": \"}\\\\\"}], \"a\"\n:\n2}",
        &[(1, Some("a"), "\"x\""), (4, Some("b:\"{,"), r#"[1,{"c":"}\\"}]"#), (7, Some("a"), "2")],
    );
    check("{}", &[]);
    check("[]", &[]);
    check(
        "[{\"question_id\": 7, \"answer\": \"x\"},\n{\"question_id\": \"b\"},\n5, {\"answer\": 1}]",
        &[(1, Some("7"), "\"x\""), (2, Some("b"), "null"), (3, None, "null"), (3, None, "1")],
    );
    let row = |id: &str, output: &str| format!("{id}\tcolor\tQ\t[\"No.\"]\tno\t[]\t{output}\n");
    let table = format!(
        "Guid\tQcate\tQ\tA\tKeywords_A\tOutput_conf\tOutput\n{}{}",
        row("a", "[\"x \\u00e9\", \"y\"]"),
        row("b", "x")
    );
    check(&table, &[(2, Some("a"), r#"{"answer":"x é"}"#), (3, None, "null")]);
    let gold = webqa_table::gold(&put(&folder, table.as_bytes())).expect("the file is read");
    assert_eq!(gold.rows[0].keywords.as_deref(), Some("no"));
    assert_eq!(gold.rows[0].answers, ["No."]);
    assert!(gold.problems[0].contains("line 3: column Output"), "{:?}", gold.problems);

    let refused = |text: &[u8], at: usize, part: &str| match predictions(&put(&folder, text)) {
        Err(DataError::Row { line, what, .. }) => {
            assert_eq!(line, at, "{what}");
            assert!(what.contains(part), "{what}");
        }
        other => panic!("{other:?}"),
    };
    refused(b"{\"a\": \"x\",\n \"b\": \"\xff\"}", 2, "byte 8 of the line is not UTF-8");
    refused(b"{\"a\": \"x\",\n", 2, "EOF");
    refused(b"\"x\"", 1, "one object");
    refused(b"{\"a\": NaN}", 1, "expected value");
    refused(b"{\"a\": 1}\n{}", 2, "trailing");
    refused(b"", 1, "EOF");
}

#[test]
fn annotations_of_both_kinds_are_read() {
    let folder = tempfile::tempdir().expect("a folder is made");
    let ten = |answer: &str| [answer; 10].join(", ");
    let full = |id: &str, list: &str| format!("{{\"question_id\": {id}, \"answers\": [{list}]}}");
    let vqa = format!(
        "{{\"annotations\": [{}, {}, {}, {}, 7]}}",
        full("1", &ten("{\"answer\": \"x\"}")).replace("}]}", "}], \"answer_type\": \"other\"}"),
        full("1", &ten("{\"answer\": \"x\"}")),
        full("2", "{\"answer\": \"x\"}"),
        full("3", &ten("{\"answer\": 3}")),
    );
    let read = people(&put(&folder, vqa.as_bytes())).expect("the file is read");
    let expected = PeopleRow {
        id: "1".into(),
        answer_kind: Some("other".into()),
        answers: vec!["x".into(); 10],
    };
    assert_eq!(read.rows, [expected]);
    for (problem, part) in read.problems.iter().zip(["twice", "1 answers", "no text", "no id"]) {
        assert!(problem.contains(part), "{problem}");
    }
    assert_eq!(read.problems.len(), 4);
    let text_vqa = format!("{{\"data\": [{}]}}", full("\"q\"", &ten("\"y\"")));
    let read = people(&put(&folder, text_vqa.as_bytes())).expect("the file is read");
    assert_eq!((read.rows[0].id.as_str(), read.rows[0].answers.len()), ("q", 10));
    assert!(people(&put(&folder, b"{}")).is_err());
}
