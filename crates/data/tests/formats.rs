//! VQA, TextVQA, own JSON Lines, plain folders, archives of pictures, inspection and conversion, on
//! small folders written in the tests.

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;
use std::sync::Arc;

use mmrag_core::{Content, Document, Example, ImageSource};
use mmrag_data::jsonl::{Conversion, convert};
use mmrag_data::{
    DataError, Format, InspectOptions, Inspection, Loaded, Look, Pool, Split, inspect,
    picture_bytes,
};
use tempfile::TempDir;

struct Folder(TempDir);

fn png() -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let picture = image::RgbImage::from_pixel(4, 3, image::Rgb([9, 8, 7]));
    picture.write_to(&mut bytes, image::ImageFormat::Png).expect("it fits into memory");
    bytes.into_inner()
}

impl Folder {
    fn of(files: &[(&str, &[u8])]) -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder is made"));
        for (name, bytes) in files {
            folder.put(name, bytes);
        }
        folder
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("it is in the folder")).expect("a folder is made");
        fs::write(path, bytes).expect("a file is written");
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn load(&self, format: Format, split: Split) -> Loaded {
        format.load(self.path(), split, Pool::Whole).expect("all files are there")
    }

    fn inspect(&self, format: Format) -> Inspection {
        let splits = format.splits(self.path());
        let (splits, pool, look) = (&splits[..], Pool::Whole, Look::Pixels);
        let options = InspectOptions { format, dir: self.path(), splits, pool, look };
        inspect(&options, &|_, _| ()).expect("it can be read")
    }
}

/// Each expected part is in the problem at its place, and there are no others.
#[track_caller]
fn check_told(problems: &[mmrag_data::Problem], expected: &[&str]) {
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for (told, part) in told.iter().zip(expected) {
        assert!(told.contains(part), "{part} is not in {told}");
    }
}

const QUESTIONS: &str = r#"{"info": {}, "questions": [
{"question_id": 1001, "image_id": 42, "question": "What is it?"},
{"question_id": 1002, "image_id": 42, "question": "How many?"},
{"question_id": 1003, "image_id": 43, "question": "Where?"},
{"question_id": 1004, "image_id": 42, "question": "Unknown?"},
{"question_id": 1005, "image_id": 42, "question": 7}
], "data_type": "mscoco"}"#;

fn annotation(id: u64, answers: &[&str]) -> String {
    let answers: Vec<String> = answers
        .iter()
        .map(|a| format!(r#"{{"answer": "{a}", "answer_confidence": "yes"}}"#))
        .collect();
    format!(
        r#"{{"question_id": {id}, "answer_type": "other", "answers": [{}]}}"#,
        answers.join(", ")
    )
}

#[test]
fn vqa_questions_come_with_their_picture_and_ten_answers() {
    let said = ["a", "b", "b", "b", "a", "a", "c", "c", "b", "d"];
    let rows = [annotation(1001, &said), annotation(1002, &said[..9]), annotation(1003, &said)];
    let annotations = format!("{{\"annotations\": [\n{}\n]}}", rows.join(",\n"));
    let folder = Folder::of(&[
        ("v2_OpenEnded_mscoco_val2014_questions.json", QUESTIONS.as_bytes()),
        ("v2_mscoco_val2014_annotations.json", annotations.as_bytes()),
        ("val2014/COCO_val2014_000000000042.jpg", &png()),
        ("v2_OpenEnded_mscoco_test2015_questions.json", QUESTIONS.as_bytes()),
        ("test2015/COCO_test2015_000000000042.jpg", &png()),
    ]);
    let loaded = folder.load(Format::Vqa2, Split::Dev);
    let expected = [
        "annotations.json, line 3: question 1002 has 9 answers",
        "questions.json, line 3: question 1002 is left out",
        "questions.json, line 5: question 1004 is left out",
        "questions.json, line 6: invalid type",
        "questions.json, line 4: question 1003 is left out: picture",
    ];
    check_told(&loaded.problems, &expected);
    assert_eq!(loaded.examples.len(), 1);
    let example = &loaded.examples[0];
    assert_eq!((&*example.kind, &*example.question.text), ("other", "What is it?"));
    assert_eq!(example.gold.answers, ["b"]);
    assert_eq!(example.gold.references, said);
    assert_eq!(example.gold.documents[0].as_str(), "42");
    assert!(matches!(example.candidates[0].content, Content::Image(_)));
    let test = folder.load(Format::Vqa2, Split::Test);
    assert_eq!((test.examples.len(), test.documents.len()), (3, 1));
    assert!(!test.examples[0].gold.is_answerable());
    assert_eq!(Format::Vqa2.splits(folder.path()), [Split::Dev, Split::Test]);
}

#[test]
fn textvqa_reads_alike() {
    let rows = r#"{"dataset_type": "val", "data": [
{"question_id": 5, "image_id": "0a1b", "question": "What brand?", "set_name": "val", "answers": ["x", "x", "x", "x", "x", "x", "x", "x", "y", "y"]},
{"question_id": 5, "image_id": "0a1b", "question": "Again?", "answers": ["x", "x", "x", "x", "x", "x", "x", "x", "y", "y"]},
{"question_id": 6, "image_id": "0a1b", "question": "None?"}]}"#;
    let folder = Folder::of(&[
        ("TextVQA_0.5.1_val.json", rows.as_bytes()),
        ("train_images/0a1b.jpg", &png()),
    ]);
    let loaded = folder.load(Format::TextVqa, Split::Dev);
    let expected = ["line 4: question 6 has 0 answers", "line 3: question 5 stands there twice"];
    check_told(&loaded.problems, &expected);
    assert_eq!(loaded.examples[0].gold.answers, ["x"]);
    folder.put("TextVQA_0.5.1_val.json", "{\"dataset_type\": \"val\"}");
    let missing = Format::TextVqa.load(folder.path(), Split::Dev, Pool::Split).unwrap_err();
    assert!(missing.to_string().contains("data is missing"), "{missing}");
}

const DOCUMENTS: &str = r#"{"id": "d1", "title": "North Point", "text": "A lighthouse of granite."}
{"id": "d2", "title": "Lighthouses", "table": {"name": "By age", "header": ["Name", "Built"], "rows": [["North Point", "1871"]]}}
{"id": "d3", "title": "At night", "image": "images/d3.png"}
"#;

const DEV: &str = r#"{"id": "q1", "question": "Of what?", "candidates": ["d1", "d2", "d3"], "gold": ["d1"], "answers": ["granite"], "type": "text", "steps": [{"document": "d1", "text": "It is of granite."}]}
{"id": "q2", "question": "What is shown?", "images": ["images/d3.png"], "gold": ["d3"], "answers": ["night"], "references": ["night", "a night"], "keywords": "night"}
"#;

fn own() -> Folder {
    Folder::of(&[
        ("documents.jsonl", DOCUMENTS.as_bytes()),
        ("dev.jsonl", DEV.as_bytes()),
        ("images/d3.png", &png()),
    ])
}

#[test]
fn own_json_lines_are_read() {
    let loaded = own().load(Format::JsonLines, Split::Dev);
    check_told(&loaded.problems, &[]);
    assert_eq!((loaded.examples.len(), loaded.documents.len()), (2, 3));
    let [first, second] = &loaded.examples[..] else { panic!("two questions") };
    assert_eq!((first.candidates.len(), first.steps.len(), &*first.kind), (3, 1, "text"));
    assert_eq!((second.candidates.len(), second.question.images.len()), (1, 1));
    assert_eq!(second.gold.references, ["night", "a night"]);
    assert_eq!(second.gold.keywords.as_deref(), Some("night"));
}

/// A row is changed: so many questions are left, and this is told.
#[track_caller]
fn check(file: &str, from: &str, to: &str, left: usize, expected: &[&str]) {
    let folder = own();
    let text = if file == "dev.jsonl" { DEV } else { DOCUMENTS };
    assert!(text.contains(from), "{from}");
    folder.put(file, text.replacen(from, to, 1));
    let loaded = folder.load(Format::JsonLines, Split::Dev);
    assert_eq!(loaded.examples.len(), left, "{:?}", loaded.problems);
    check_told(&loaded.problems, expected);
    assert!(matches!(loaded.strict(), Err(DataError::Row { .. })));
}

#[test]
fn what_is_wrong_with_own_questions_is_told_by_line() {
    check(
        "dev.jsonl",
        "\"gold\"",
        "\"golden\"",
        1,
        &["dev.jsonl, line 1: not a row of this file: unknown field `golden`"],
    );
    check(
        "dev.jsonl",
        "\"d2\"",
        "\"d9\"",
        2,
        &["dev.jsonl, line 1: candidate d9 of question q1 is missing"],
    );
    check("dev.jsonl", "\"q2\"", "\"q1\"", 1, &["dev.jsonl, line 2: question q1 stands in"]);
    check("dev.jsonl", "images/d3.png", "/etc/passwd", 1, &["line 2: question q2: picture path"]);
    check("dev.jsonl", "images/d3.png", "images/d4.png", 1, &["line 2: question q2: picture"]);
}

#[test]
fn what_is_wrong_with_own_documents_is_told_by_line() {
    check(
        "documents.jsonl",
        "\"1871\"]",
        "\"1871\", \"x\"]",
        2,
        &["documents.jsonl, line 2: table d2: row 1 has 3 cells under 2"],
    );
    check(
        "documents.jsonl",
        "\"id\": \"d2\"",
        "\"id\": \"d1\"",
        2,
        &["documents.jsonl, line 2: document d1 stands in", "dev.jsonl, line 1: candidate d2"],
    );
    check(
        "documents.jsonl",
        "\"1871\"",
        "1871",
        2,
        &["documents.jsonl, line 2: not a row", "dev.jsonl, line 1: candidate d2"],
    );
    check(
        "documents.jsonl",
        "\"text\": \"A lighthouse of granite.\"",
        "\"text\": null",
        1,
        &["documents.jsonl, line 1: document d1 needs one of", "line 1: supporting document d1"],
    );
    check(
        "documents.jsonl",
        "images/d3.png",
        "images/none.png",
        1,
        &["documents.jsonl, line 3: picture", "line 2: supporting document d3"],
    );
    check(
        "documents.jsonl",
        "{\"id\": \"d2\"",
        "[\"d2\"",
        2,
        &[
            "documents.jsonl, line 2: not a row of this file: it is no object",
            "dev.jsonl, line 1: candidate d2",
        ],
    );
}

#[test]
fn bytes_that_are_no_text_are_told_by_line() {
    let folder = own();
    let mut bytes = DOCUMENTS.as_bytes().to_vec();
    let at = DOCUMENTS.find("By age").unwrap();
    bytes[at] = 0xe4;
    folder.put("documents.jsonl", bytes);
    let told = folder.load(Format::JsonLines, Split::Dev).problems;
    check_told(&told, &["documents.jsonl, line 2: not a row", "dev.jsonl, line 1: candidate d2"]);
}

#[test]
fn a_folder_s_files_are_documents() {
    let folder = Folder::of(&[
        ("b/notes.txt", b"Of granite."),
        ("b/ages.csv", b"Name,Built\nNorth Point,1871\n\"Grey, Rock\",\n"),
        ("a.PNG", &png()),
        ("odd.tsv", b"Name\tBuilt\nNorth Point\n"),
        ("latin.md", b"one\ntwo \xe4\n"),
        ("broken.jpg", b"\xff\xd8\xff no picture"),
        ("empty.csv", b""),
        (".hidden/x.txt", b"x"),
        ("program.exe", b"x"),
    ]);
    let loaded = folder.load(Format::Folder, Split::Dev);
    let ids: Vec<&str> = loaded.documents.iter().map(|document| document.id.as_str()).collect();
    assert_eq!(ids, ["a.PNG", "b/ages.csv", "b/notes.txt", "odd.tsv"]);
    let Content::Table(table) = &loaded.documents[1].content else { panic!("a table") };
    assert_eq!(table.header, ["Name", "Built"]);
    assert_eq!(table.rows[1], ["Grey, Rock", ""]);
    assert_eq!(loaded.documents[2].title, "notes");
    let expected = [
        "broken.jpg, line 1: the picture is broken",
        "empty.csv, line 1: the table is empty",
        "latin.md, line 2: it is not UTF-8",
        "odd.tsv, line 1: table odd.tsv: row 1 has 1 cells under 2 columns",
    ];
    check_told(&loaded.problems, &expected);
}

fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::STORE);
    for (name, bytes) in files {
        writer.start_file(*name, stored).expect("it fits into memory");
        writer.write_all(bytes).expect("it fits into memory");
    }
    writer.finish().expect("it fits into memory").into_inner()
}

/// MultimodalQA's smallest files with one picture, the pictures in an archive.
fn archived(name: &str, archive: &[u8]) -> Folder {
    let question = r#"{"qid": "q", "question": "?", "answers": [{"answer": "x"}], "metadata": {"type": "ImageQ", "image_doc_ids": ["i", "j"]}, "supporting_context": [{"doc_id": "i"}]}"#;
    let images = "{\"title\": \"I\", \"id\": \"i\", \"path\": \"i.png\"}\n{\"title\": \"J\", \"id\": \"j\", \"path\": \"j.png\"}\n";
    Folder::of(&[
        ("MMQA_dev.jsonl", question.as_bytes()),
        ("MMQA_texts.jsonl", b""),
        ("MMQA_tables.jsonl", b""),
        ("MMQA_images.jsonl", images.as_bytes()),
        (name, archive),
    ])
}

#[test]
fn pictures_stay_in_their_archive() {
    let bytes = zip(&[("final_dataset_images/i.png", &png()), ("x/j.png", b"no picture")]);
    let folder = archived("images.zip", &bytes);
    let loaded = folder.load(Format::MultimodalQa, Split::Dev);
    check_told(&loaded.problems, &["MMQA_images.jsonl, line 2: picture j.png is broken"]);
    let Content::Image(source) = &loaded.documents[0].content else { panic!("a picture") };
    assert!(matches!(source, ImageSource::Packed(_)));
    assert_eq!(*picture_bytes(source).unwrap(), *png());
    let lost = archived("images.zip", &zip(&[("other.png", &png())]));
    let told = lost.load(Format::MultimodalQa, Split::Dev).problems;
    check_told(
        &told,
        &["line 1: picture i.png is missing in", "line 2: picture j.png", "line 1: supporting"],
    );
    let broken = archived("final_dataset_images.zip", &bytes[..bytes.len() - 30]);
    let error = Format::MultimodalQa.load(broken.path(), Split::Dev, Pool::Split).unwrap_err();
    assert!(error.to_string().contains("final_dataset_images.zip"), "{error}");
}

#[test]
fn inspection_counts_what_decodes_and_lists_the_rest() {
    let folder = own();
    let inspection = folder.inspect(Format::JsonLines);
    let counts = (inspection.questions, inspection.texts, inspection.tables, inspection.images);
    assert_eq!(counts, (2, 1, 1, 1));
    let by = |map: &std::collections::BTreeMap<String, usize>| {
        map.iter().map(|(key, n)| format!("{key} {n}")).collect::<Vec<_>>()
    };
    assert_eq!(by(&inspection.by_kind), [" 1", "text 1"]);
    assert_eq!(by(&inspection.by_modality), ["image 1", "text 1"]);
    assert_eq!(inspection.by_split[&Split::Dev], 2);
    assert!(inspection.problems.is_empty());
    // The header can be read, the pixels cannot.
    let mut broken = png();
    let at = broken.len() - 20;
    broken[at] ^= 0xff;
    folder.put("images/d3.png", broken);
    let cut = folder.inspect(Format::JsonLines);
    assert_eq!((cut.questions, cut.images), (2, 0));
    check_told(&cut.problems, &["documents.jsonl, line 3: the picture does not decode"]);
}

fn same(loaded: &[Example], again: &[Example]) {
    let bytes_of = |document: &Arc<Document>| match &document.content {
        Content::Image(source) => {
            Some(picture_bytes(source).expect("the picture is there").into_owned())
        }
        _ => None,
    };
    assert_eq!(loaded.len(), again.len());
    for (one, other) in loaded.iter().zip(again) {
        assert_eq!(one.question.text, other.question.text);
        assert_eq!(one.question.images.len(), other.question.images.len());
        assert_eq!((&one.gold, &one.kind, &one.steps), (&other.gold, &other.kind, &other.steps));
        assert_eq!(one.candidates.len(), other.candidates.len());
        for (one, other) in one.candidates.iter().zip(&other.candidates) {
            assert_eq!((&one.id, &one.title), (&other.id, &other.title));
            assert_eq!(bytes_of(one), bytes_of(other));
            if bytes_of(one).is_none() {
                assert_eq!(one.content, other.content);
            }
        }
    }
}

#[test]
fn what_is_converted_reads_as_the_original_did() {
    let mmqa = archived("images.zip", &zip(&[("i.png", &png()), ("j.png", &png())]));
    for (folder, format) in [(&mmqa, Format::MultimodalQa), (&own(), Format::JsonLines)] {
        let out = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| out.path().join(name));
        let go = |format: Format, from: &Path, to: &Path| {
            let conversion = Conversion { format, from, to, pool: Pool::Whole, strict: true };
            convert(&conversion, &[Split::Dev], &mut |_, _| ())
        };
        let written = go(format, folder.path(), &first).unwrap();
        let original = folder.load(format, Split::Dev);
        assert_eq!(written.questions, original.examples.len());
        assert_eq!(written.documents, original.documents.len());
        let again = Format::JsonLines.load(&first, Split::Dev, Pool::Whole).unwrap();
        check_told(&again.problems, &[]);
        same(&original.examples, &again.examples);
        go(Format::JsonLines, &first, &second).unwrap();
        for name in ["documents.jsonl", "dev.jsonl"] {
            assert_eq!(fs::read(first.join(name)).unwrap(), fs::read(second.join(name)).unwrap());
        }
        assert!(matches!(go(format, folder.path(), &first), Err(DataError::Occupied { .. })));
    }
    // What is wrong is left out and told, or is an error.
    let broken = archived("images.zip", &zip(&[("i.png", &png())]));
    let out = tempfile::tempdir().unwrap();
    let to = out.path().join("out");
    let mut conversion = Conversion {
        format: Format::MultimodalQa,
        from: broken.path(),
        to: &to,
        pool: Pool::Split,
        strict: true,
    };
    assert!(convert(&conversion, &[Split::Dev], &mut |_, _| ()).is_err());
    assert!(!to.exists());
    conversion.strict = false;
    let written = convert(&conversion, &[Split::Dev], &mut |_, _| ()).unwrap();
    assert_eq!((written.questions, written.documents, written.images), (1, 1, 1));
    check_told(&written.problems, &["MMQA_images.jsonl, line 2: picture j.png is missing"]);
}
