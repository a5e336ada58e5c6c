//! The loader, on small folders written in the tests.

use std::fs;
use std::io::Write;
use std::path::Path;

use mmrag_core::{Content, Modality};
use mmrag_data::DataError;
use mmrag_data::multimodalqa::{IMAGES, Loaded, Split, load};
use tempfile::TempDir;

const TABLES: &str = r#"{"title": "Lighthouses", "url": "u", "id": "tab1", "table": {"table_name": "List", "header": [{"column_name": "Name", "metadata": {}}, {"column_name": "Built", "metadata": {"num_of_links": 0}}], "table_rows": [[{"text": "North Point", "links": []}, {"text": "1871", "links": [{"text": "1871", "wiki_title": "1871", "url": "u"}]}], [{"text": "Grey Rock", "links": []}, {"text": "", "links": []}]]}}
"#;

const TEXTS: &str = r#"{"title": "North Point", "url": "u", "id": "txt1", "text": "A lighthouse of granite."}
{"title": "Grey Rock", "url": "u", "id": "txt2", "text": "An iron one, painted twice."}

{"title": "Ferries", "url": "u", "id": "txt3", "text": "They sail in summer."}
"#;

const IMAGES_FILE: &str = r#"{"title": "North Point", "url": "u", "id": "img1", "path": "img1.png"}
{"title": "Grey Rock", "url": "u", "id": "img2", "path": "img2.png"}
"#;

const DEV: &str = r#"{"qid": "q1", "question": "What is North Point built of?", "answers": [{"answer": "granite", "type": "string", "modality": "text", "text_instances": [{"doc_id": "txt1", "part": "text", "start_byte": 16, "text": "granite"}], "table_indices": [], "image_instances": []}], "metadata": {"type": "TextQ", "modalities": ["text"], "image_doc_ids": ["img1", "img2"], "text_doc_ids": ["txt2", "txt1"], "table_id": "tab1"}, "supporting_context": [{"doc_id": "txt1", "doc_part": "text"}, {"doc_id": "txt1", "doc_part": "text"}]}
{"qid": "q2", "question": "Which numbers?", "answers": [{"answer": 300.0}, {"answer": 7}, {"answer": "x"}], "metadata": {"type": "Compose(ImageQ,TableQ)", "image_doc_ids": ["img1", "img1"], "text_doc_ids": [], "table_id": "tab1"}, "supporting_context": [{"doc_id": "tab1", "doc_part": "table"}, {"doc_id": "txt3", "doc_part": "text"}]}
{"qid": "q3", "question": "Who knows?", "metadata": {"image_doc_ids": [], "text_doc_ids": ["txt1"], "table_id": "tab1"}}
"#;

struct Folder(TempDir);

impl Folder {
    /// A folder that loads without a problem.
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a temporary folder is made"));
        folder.put("MMQA_tables.jsonl", TABLES);
        folder.put("MMQA_texts.jsonl", TEXTS);
        folder.put("MMQA_images.jsonl", IMAGES_FILE);
        folder.put("MMQA_dev.jsonl", DEV);
        fs::create_dir(folder.path().join(IMAGES)).expect("a folder is made");
        for name in ["img1.png", "img2.png"] {
            let picture = image::RgbImage::from_pixel(3, 2, image::Rgb([9, 8, 7]));
            picture.save(folder.path().join(IMAGES).join(name)).expect("a picture is saved");
        }
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).expect("a file is written");
    }

    fn load(&self) -> Loaded {
        load(self.path(), Split::Dev).expect("all files are there")
    }
}

fn ids(loaded: &Loaded, at: usize) -> Vec<&str> {
    loaded.examples[at].candidates.iter().map(|document| document.id.as_str()).collect()
}

#[test]
fn a_whole_folder_loads() {
    let loaded = Folder::new().load();
    assert_eq!(loaded.problems, []);
    assert_eq!(loaded.documents.len(), 6);
    assert_eq!(loaded.examples.len(), 3);
    assert_eq!(ids(&loaded, 0), ["tab1", "txt2", "txt1", "img1", "img2"]);
    let first = &loaded.examples[0];
    assert_eq!(first.kind, "TextQ");
    assert_eq!(first.gold.answers, ["granite"]);
    assert_eq!(first.gold.documents.len(), 1);
    assert!(first.steps.is_empty());
    let Content::Table(table) = &first.candidates[0].content else { panic!("a table") };
    assert_eq!((table.name.as_str(), table.header.len()), ("List", 2));
    assert_eq!(table.rows[1], ["Grey Rock", ""]);
    assert_eq!(first.candidates[3].modality(), Modality::Image);
}

#[test]
fn numbers_and_stray_support_are_taken_as_the_original_has_them() {
    let loaded = Folder::new().load();
    assert_eq!(loaded.examples[1].gold.answers, ["300.0", "7", "x"]);
    assert_eq!(ids(&loaded, 1), ["tab1", "img1", "txt3"]);
    assert!(!loaded.examples[2].gold.is_answerable());
}

#[test]
fn gzip_reads_as_plain_does() {
    let folder = Folder::new();
    let plain = folder.load();
    for name in ["MMQA_tables", "MMQA_texts", "MMQA_images", "MMQA_dev"] {
        let path = folder.path().join(format!("{name}.jsonl"));
        let file = fs::File::create(folder.path().join(format!("{name}.jsonl.gz"))).unwrap();
        let mut out = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        out.write_all(&fs::read(&path).unwrap()).unwrap();
        out.finish().unwrap();
        fs::remove_file(path).unwrap();
    }
    assert_eq!(folder.load().examples, plain.examples);
}

#[test]
fn malformed_rows_are_named_by_file_and_line_and_left_out() {
    let check = |file: &str, line: usize, row: &str, what: &str| {
        let folder = Folder::new();
        let text = fs::read_to_string(folder.path().join(file)).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.insert(line - 1, row);
        folder.put(file, &lines.join("\n"));
        let loaded = folder.load();
        let told: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
        assert_eq!(loaded.problems.len(), 1, "{told:?}");
        assert!(told[0].contains(&format!("{file}, line {line}: ")), "{told:?}");
        assert!(told[0].contains(what), "{told:?}");
        assert_eq!((loaded.examples.len(), loaded.documents.len()), (3, 6));
        let DataError::Row { line: told_line, .. } = loaded.strict().unwrap_err() else {
            panic!("an error of a row")
        };
        assert_eq!(told_line, line);
    };
    check("MMQA_dev.jsonl", 2, "{\"qid\": \"q9\", ", "not a row");
    check("MMQA_dev.jsonl", 3, "{\"qid\": \"q9\"}", "question");
    check("MMQA_dev.jsonl", 1, "[1, 2]", "not a row");
    check(
        "MMQA_dev.jsonl",
        4,
        r#"{"qid": "q1", "question": "Again?"}"#,
        "question q1 stands in an earlier line",
    );
    check(
        "MMQA_dev.jsonl",
        4,
        r#"{"qid": "q9", "question": "?", "answers": [{"answer": [1]}]}"#,
        "is no text or number",
    );
    check(
        "MMQA_dev.jsonl",
        2,
        r#"{"qid": "q9", "question": "?", "supporting_context": [{"doc_id": "gone"}]}"#,
        "supporting document gone of question q9 is missing",
    );
    check("MMQA_texts.jsonl", 2, r#"{"title": "x", "id": 7, "text": "y"}"#, "expected a string");
    check(
        "MMQA_texts.jsonl",
        5,
        r#"{"title": "x", "id": "txt1", "text": "y"}"#,
        "document txt1 stands in an earlier line",
    );
    check("MMQA_tables.jsonl", 1, r#"{"title": "x", "id": "tab9"}"#, "table");
    check(
        "MMQA_images.jsonl",
        2,
        r#"{"title": "x", "id": "img9", "path": "../up.png"}"#,
        "leads out of the folder",
    );
    check(
        "MMQA_images.jsonl",
        3,
        r#"{"title": "x", "id": "img9", "path": "gone.png"}"#,
        "gone.png is missing",
    );
}

#[test]
fn ragged_rows_of_a_table_are_told_and_the_table_stays() {
    let folder = Folder::new();
    folder.put("MMQA_tables.jsonl", &TABLES.replace(r#", {"text": "", "links": []}"#, ""));
    let loaded = folder.load();
    assert_eq!((loaded.examples.len(), loaded.documents.len()), (3, 6));
    let told: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
    assert!(
        told[0]
            .ends_with("MMQA_tables.jsonl, line 1: table tab1: row 2 has 1 cells under 2 columns")
    );
    assert_eq!(told.len(), 1);
}

#[test]
fn a_missing_candidate_costs_a_question_that_candidate_only() {
    let folder = Folder::new();
    folder.put("MMQA_texts.jsonl", &TEXTS.replace("txt2", "other"));
    let loaded = folder.load();
    assert_eq!(loaded.examples.len(), 3);
    assert_eq!(ids(&loaded, 0), ["tab1", "txt1", "img1", "img2"]);
    let told = loaded.problems[0].to_string();
    assert!(told.ends_with("MMQA_dev.jsonl, line 1: candidate txt2 of question q1 is missing"));
}

#[test]
fn a_broken_picture_is_told_of_once_and_left_out() {
    let folder = Folder::new();
    fs::write(folder.path().join(IMAGES).join("img2.png"), b"\x89PNG\r\n\x1a\nrubbish").unwrap();
    let loaded = folder.load();
    assert_eq!(loaded.problems.len(), 1);
    assert_eq!(loaded.problems[0].line, 2);
    assert!(loaded.problems[0].what.contains("img2.png is broken"), "{:?}", loaded.problems);
    assert_eq!(ids(&loaded, 0), ["tab1", "txt2", "txt1", "img1"]);
}

#[test]
fn a_question_whose_supporting_picture_is_gone_is_left_out() {
    let folder = Folder::new();
    fs::remove_file(folder.path().join(IMAGES).join("img1.png")).unwrap();
    folder.put("MMQA_dev.jsonl", &DEV.replace("\"doc_id\": \"txt3\"", "\"doc_id\": \"img1\""));
    let loaded = folder.load();
    assert_eq!(loaded.examples.len(), 2);
    let told: Vec<usize> = loaded.problems.iter().map(|problem| problem.line).collect();
    assert_eq!(told, [1, 2]);
}

#[test]
fn a_missing_or_cut_file_is_an_error_that_names_it() {
    let folder = Folder::new();
    let missing = load(folder.path(), Split::Train).unwrap_err().to_string();
    assert!(missing.starts_with("find MMQA_train.jsonl"), "{missing}");
    fs::remove_file(folder.path().join("MMQA_texts.jsonl")).unwrap();
    folder.put("MMQA_texts.jsonl.gz", "not gzip");
    let broken = load(folder.path(), Split::Dev).unwrap_err().to_string();
    assert!(broken.contains("MMQA_texts.jsonl.gz"), "{broken}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(40))]

    /// Whatever stands in a line, the loader tells of it or passes it over, and keeps the rest.
    #[test]
    fn no_line_stops_the_loader(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60),
        cut in 0..DEV.len(),
    ) {
        let folder = Folder::new();
        for file in ["MMQA_tables.jsonl", "MMQA_texts.jsonl", "MMQA_images.jsonl"] {
            let mut text = fs::read(folder.path().join(file)).expect("the file was written");
            text.extend(&bytes);
            fs::write(folder.path().join(file), text).expect("a file is written");
        }
        folder.put("MMQA_dev.jsonl", &format!("{DEV}{}", &DEV[..cut]));
        let loaded = folder.load();
        proptest::prop_assert_eq!(loaded.examples.len(), 3);
        proptest::prop_assert!(loaded.documents.len() >= 6);
    }
}

/// The folder named by `MMRAG_MMQA_DIR`, if it is set, loads without a problem.
#[test]
fn the_real_files_load() {
    let Ok(dir) = std::env::var("MMRAG_MMQA_DIR") else {
        println!("skipped: MMRAG_MMQA_DIR is not set");
        return;
    };
    let loaded = load(Path::new(&dir), Split::Dev).unwrap().strict().unwrap();
    assert!(!loaded.examples.is_empty());
    for example in &loaded.examples {
        assert!(example.gold.is_answerable() && !example.gold.documents.is_empty());
        let n = example.candidates.len();
        assert!((11..=26).contains(&n), "{n} candidates of {}", example.question.id);
    }
    println!("{} questions, {} documents", loaded.examples.len(), loaded.documents.len());
}
