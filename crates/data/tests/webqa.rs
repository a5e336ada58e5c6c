//! The WebQA loader, on small folders written in the tests.

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use mmrag_core::{Content, ImageSource, Modality};
use mmrag_data::webqa::{Images, load, splits};
use mmrag_data::{DataError, Loaded, Pool, Seen, Split, look_at, picture_bytes};
use tempfile::TempDir;

const TRAIN_VAL: &str = r#"{
"q1": {"Guid": "q1", "Q": "\"What color is the frog?\"", "A": ["\"It is white.\"", "\"White\""], "Keywords_A": "\"white\"", "Qcate": "color", "split": "val", "topic": "frog",
  "img_posFacts": [{"image_id": 30000001, "title": "a", "caption": "\"Frog\" one", "url": "u", "imgUrl": "v"}],
  "img_negFacts": [{"image_id": 30000000, "title": "Toad"},
    {"image_id": 30000002}],
  "txt_posFacts": [],
  "txt_negFacts": [{"snippet_id": "q1_1", "fact": "\"Toads\" are brown.", "title": "Toad", "url": "u"}]},
"q2": {"Q": "\"Which tower?\"", "A": ["\"Both\""], "Keywords_A": "TBD", "Qcate": "text", "split": "val",
  "img_posFacts": [], "img_negFacts": [{"image_id": 30000001, "title": "a", "caption": "\"Frog\" one"}],
  "txt_posFacts": [{"snippet_id": "q2_0", "fact": "One.", "title": "T"}, {"snippet_id": "q2_1", "fact": "Two."}], "txt_negFacts": []},
"q3": {"Q": "Who?", "A": ["x"], "Qcate": "text", "split": "train", "txt_posFacts": [{"snippet_id": "q3_0", "fact": "Three."}]}
}
"#;

const TEST: &str = r#"{"t1": {"Guid": "t1", "Q": "\"And now?\"", "Qcate": "YesNo",
  "img_Facts": [{"image_id": 30000002, "caption": "later"}, {"image_id": 30000000, "title": "Toad"}],
  "txt_Facts": [{"snippet_id": "t1_5", "fact": "Now."}]}}"#;

struct Folder(TempDir);

/// A picture of its own colour.
fn jpeg(shade: u8) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let picture = image::RgbImage::from_fn(64, 48, |x, y| {
        image::Rgb([shade, (x * y * 37) as u8, (x * 5 + y * y) as u8])
    });
    picture.write_to(&mut bytes, image::ImageFormat::Jpeg).expect("it fits into memory");
    bytes.into_inner()
}

impl Folder {
    /// A folder that loads without a problem, with three pictures by the row rule.
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder is made"));
        folder.put("WebQA_train_val.json", TRAIN_VAL);
        folder.put("WebQA_test.json", TEST);
        folder.put_images(&[
            (30_000_000, jpeg(0)),
            (30_000_001, jpeg(90)),
            (30_000_002, jpeg(180)),
        ]);
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path().join(name), text).expect("a file is written");
    }

    fn put_images(&self, pictures: &[(u64, Vec<u8>)]) {
        let (mut rows, mut index) = (Vec::new(), Vec::new());
        for (id, bytes) in pictures {
            writeln!(index, "{}", rows.len()).expect("it fits into memory");
            writeln!(rows, "{id}\t{}", BASE64_STANDARD.encode(bytes)).expect("it fits into memory");
        }
        self.put("imgs.tsv", &rows);
        self.put("imgs.lineidx", &index);
    }

    fn load(&self, split: Split) -> Loaded {
        load(self.path(), split, Pool::Split).expect("all files are there")
    }
}

fn told(loaded: &Loaded) -> Vec<String> {
    loaded.problems.iter().map(ToString::to_string).collect()
}

fn ids(documents: &[std::sync::Arc<mmrag_core::Document>]) -> Vec<&str> {
    let mut ids: Vec<&str> = documents.iter().map(|document| document.id.as_str()).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn questions_facts_and_pictures_come_without_the_literal_quotes() {
    let folder = Folder::new();
    let loaded = folder.load(Split::Dev);
    assert_eq!(told(&loaded), [""; 0]);
    assert_eq!(loaded.examples.len(), 2);
    let first = &loaded.examples[0];
    assert_eq!(first.question.text, "What color is the frog?");
    assert_eq!(first.kind, "color");
    assert_eq!(first.gold.answers, ["It is white."]);
    assert_eq!(first.gold.references, ["It is white.", "White"]);
    assert_eq!(first.gold.keywords.as_deref(), Some("white"));
    assert_eq!(ids(&first.candidates), ["30000000", "30000001", "30000002", "q1_1"]);
    let find = |id: &str| first.candidates.iter().find(|d| d.id.as_str() == id).unwrap();
    assert_eq!(find("30000001").title, "Frog one");
    assert_eq!(find("30000000").title, "Toad");
    assert_eq!(find("30000002").title, "");
    assert_eq!(find("q1_1").content, Content::Text("Toads are brown.".into()));
    assert_eq!(first.gold.documents[0].as_str(), "30000001");
    let Content::Image(source) = &find("30000001").content else { panic!("a picture") };
    assert_eq!(*picture_bytes(source).unwrap(), *jpeg(90));

    let second = &loaded.examples[1];
    assert_eq!(second.gold.keywords, None);
    assert_eq!(second.gold.documents.len(), 2);
    assert_eq!(ids(&loaded.documents).len(), 6);
}

#[test]
fn the_order_of_candidates_does_not_tell_what_is_gold() {
    let folder = Folder::new();
    let mut places = std::collections::BTreeSet::new();
    let records: Vec<String> = (0..20)
        .map(|i| {
            TRAIN_VAL.lines().skip(1).take(6).collect::<String>().replace("q1", &format!("r{i}"))
        })
        .collect();
    let text = records.join("").trim_end_matches(',').to_owned();
    folder.put("WebQA_train_val.json", format!("{{{text}}}"));
    for example in folder.load(Split::Dev).examples {
        let gold = &example.gold.documents[0];
        places.insert(example.candidates.iter().position(|d| d.id == *gold).unwrap());
    }
    assert_eq!(places.len(), 4, "{places:?}");
}

#[test]
fn test_questions_have_facts_and_no_gold() {
    let folder = Folder::new();
    let loaded = folder.load(Split::Test);
    assert_eq!(told(&loaded), [""; 0]);
    let example = &loaded.examples[0];
    assert!(!example.gold.is_answerable() && example.gold.documents.is_empty());
    let order: Vec<&str> = example.candidates.iter().map(|d| d.id.as_str()).collect();
    assert_eq!(order, ["30000002", "30000000", "t1_5"]);
}

#[test]
fn the_pool_is_the_split_s_or_that_of_all_files() {
    let folder = Folder::new();
    let of = |pool| load(folder.path(), Split::Train, pool).unwrap();
    assert_eq!(ids(&of(Pool::Split).documents), ["q3_0"]);
    let whole = of(Pool::Whole);
    assert_eq!(told(&whole), [""; 0]);
    assert_eq!(whole.examples.len(), 1);
    let expected = ["30000000", "30000001", "30000002", "q1_1", "q2_0", "q2_1", "q3_0", "t1_5"];
    assert_eq!(ids(&whole.documents), expected);
    assert_eq!(splits(folder.path()), [Split::Train, Split::Dev, Split::Test]);
}

#[test]
fn both_indexes_and_gzip_read_alike() {
    let folder = Folder::new();
    let by_number = folder.load(Split::Dev);
    let lines = fs::read_to_string(folder.path().join("imgs.lineidx")).unwrap();
    let mut named: Vec<String> = lines
        .lines()
        .enumerate()
        .map(|(i, start)| format!("{}\t{start}", 30_000_000 + i))
        .collect();
    named.reverse();
    fs::remove_file(folder.path().join("imgs.lineidx")).unwrap();
    folder.put("imgs.lineidx.new", named.join("\r\n"));
    let path = folder.path().join("WebQA_train_val.json");
    let file = fs::File::create(path.with_extension("json.gz")).unwrap();
    let mut out = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    out.write_all(TRAIN_VAL.as_bytes()).unwrap();
    out.finish().unwrap();
    fs::remove_file(path).unwrap();
    let by_id = folder.load(Split::Dev);
    assert_eq!(told(&by_id), [""; 0]);
    assert_eq!(by_id.examples, by_number.examples);
    let images = Images::open(folder.path(), &mut Vec::new()).unwrap();
    assert_eq!(images.len(), 3);
    assert_eq!(images.unpack(&images.find(30_000_002).unwrap()).unwrap(), jpeg(180));
    assert!(images.find(30_000_007).unwrap_err().contains("no line in"));
}

/// What is wrong is told by file and line, and the rest stays.
#[test]
fn faults_are_told_by_file_and_line() {
    let check = |from: &str, to: &str, n_examples: usize, expected: &[&str]| {
        let folder = Folder::new();
        assert!(TRAIN_VAL.contains(from), "{from}");
        folder.put("WebQA_train_val.json", TRAIN_VAL.replacen(from, to, 1));
        let loaded = folder.load(Split::Dev);
        let told = told(&loaded);
        assert_eq!((loaded.examples.len(), told.len()), (n_examples, expected.len()), "{told:?}");
        for (told, expected) in told.iter().zip(expected) {
            let (line, what) = expected.split_once(' ').unwrap();
            let at = format!("WebQA_train_val.json, line {line}: ");
            assert!(told.contains(&at) && told.contains(what), "{told:?}: {expected}");
        }
        assert_eq!(loaded.strict().is_err(), !expected.is_empty());
    };
    check("\"Guid\": \"q1\"", "\"Guid\": \"zz\"", 2, &["2 has the Guid zz"]);
    check("{\"image_id\": 30000002}", "{\"image_id\": 1.5}", 2, &["5 image_id 1.5 is no number"]);
    check(
        "{\"image_id\": 30000002}",
        "[7]",
        2,
        &["5 a fact of question q1 (img_negFacts): it is no object"],
    );
    check("{\"image_id\": 30000002}", "{\"image_id\": 30000099}", 2, &["5 no line in"]);
    check("\"fact\": \"Two.\"", "\"fact\": 2", 1, &["10 expected a string", "8 q2 is left out"]);
    check("30000001", "30000077", 1, &["3 no line in", "2 q1 is left out"]);
    check("[\"\\\"Both\\\"\"]", "\"Both\"", 1, &["8 question q2: A: invalid type"]);
    check("\"Q\": \"\\\"Which", "\"R\": \"\\\"Which", 1, &["8 question q2: Q is missing"]);
    check("\"split\": \"val\",\n  \"img_posFacts\": [],", "", 2, &["8 has no split"]);
    check("\"split\": \"val\", \"topic\"", "\"split\": \"dev2\", \"topic\"", 1, &["2 is none of"]);
    check("\"q2\": {", "\"q1\": {", 1, &["8 question q1 stands there twice"]);
}

#[test]
fn bytes_that_are_no_text_cost_one_question() {
    let folder = Folder::new();
    let mut bytes = TRAIN_VAL.as_bytes().to_vec();
    let at = TRAIN_VAL.find("Which tower").unwrap();
    bytes[at] = 0xff;
    fs::write(folder.path().join("WebQA_train_val.json"), bytes).unwrap();
    let loaded = folder.load(Split::Dev);
    assert_eq!(loaded.examples.len(), 1);
    let told = told(&loaded);
    assert!(told[0].contains("line 8: question q2: Q: invalid unicode"), "{told:?}");
}

#[test]
fn a_file_that_is_cut_off_is_an_error_with_its_line() {
    let folder = Folder::new();
    let check = |text: &str, at: usize| {
        folder.put("WebQA_train_val.json", text);
        match load(folder.path(), Split::Dev, Pool::Split) {
            Err(DataError::Row { line, .. }) => assert_eq!(line, at),
            other => panic!("{other:?}"),
        }
    };
    check(&TRAIN_VAL[..TRAIN_VAL.len() - 3], 11);
    check(&TRAIN_VAL[..300], 4);
    check("[]", 1);
    check("", 1);
    fs::remove_file(folder.path().join("WebQA_train_val.json")).unwrap();
    let missing = load(folder.path(), Split::Dev, Pool::Split).unwrap_err().to_string();
    assert!(missing.starts_with("find WebQA_train_val.json"), "{missing}");
}

#[test]
fn broken_rows_of_pictures_are_told_by_the_index_s_line() {
    let check = |change: &dyn Fn(&Folder), expected: &str| {
        let folder = Folder::new();
        change(&folder);
        let loaded = folder.load(Split::Test);
        let told = told(&loaded);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(expected), "{told:?}");
        assert_eq!(loaded.examples[0].candidates.len(), 2);
    };
    let index = |folder: &Folder| {
        let text = fs::read_to_string(folder.path().join("imgs.lineidx")).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let swap = |folder: &Folder, line: usize, to: &str| {
        let mut lines = index(folder);
        lines[line - 1] = to.to_owned();
        folder.put("imgs.lineidx", lines.join("\n"));
    };
    let second = |folder: &Folder| index(folder)[1].clone();
    check(
        &|f| swap(f, 3, &second(f)),
        "imgs.lineidx, line 3: the row of picture 30000002 is that of",
    );
    check(&|f| swap(f, 3, "99999999"), "imgs.lineidx, line 3: byte 99999999 is behind the end");
    let inside = |f: &Folder| (second(f).parse::<usize>().unwrap() + 20).to_string();
    check(&|f| swap(f, 3, &inside(f)), "line 3: no row of a picture begins at byte");
    let broken = |bytes: &[u8]| {
        let rows = [(30_000_000, jpeg(0)), (30_000_001, jpeg(9)), (30_000_002, bytes.to_vec())];
        move |folder: &Folder| folder.put_images(&rows)
    };
    check(&broken(b"no picture"), "imgs.lineidx, line 3: picture 30000002 is broken");
    check(&broken(b""), "imgs.lineidx, line 3: picture 30000002 is broken");
}

#[test]
fn a_picture_that_is_cut_off_is_seen_as_far_as_it_goes() {
    let folder = Folder::new();
    let whole = jpeg(9);
    let cut = whole[..whole.len() * 9 / 10].to_vec();
    folder.put_images(&[(30_000_000, jpeg(0)), (30_000_001, jpeg(9)), (30_000_002, cut)]);
    let loaded = folder.load(Split::Test);
    assert_eq!(told(&loaded), [""; 0]);
    let mut seen = Vec::new();
    for document in loaded.documents.iter().filter(|d| d.modality() == Modality::Image) {
        let Content::Image(source) = &document.content else { panic!("a picture") };
        assert!(matches!(source, ImageSource::Packed(_)));
        seen.push(look_at(&picture_bytes(source).unwrap()).unwrap());
    }
    assert_eq!(seen, [Seen::Cut, Seen::Whole]);
    // Base64 that was cut in the middle of a group.
    let rows = fs::read(folder.path().join("imgs.tsv")).unwrap();
    fs::write(folder.path().join("imgs.tsv"), &rows[..rows.len() - 4]).unwrap();
    assert_eq!(told(&folder.load(Split::Test)), [""; 0]);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(60))]

    /// Whatever is done to the files, there is no panic, and what is lost is told.
    #[test]
    fn damage_is_told(
        at in 0..TRAIN_VAL.len(),
        byte in proptest::prelude::any::<u8>(),
        in_index in proptest::prelude::any::<bool>(),
    ) {
        let folder = Folder::new();
        let name = if in_index { "imgs.lineidx" } else { "WebQA_train_val.json" };
        let path = folder.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        let at = at % bytes.len();
        bytes[at] = byte;
        fs::write(&path, bytes).unwrap();
        if let Ok(loaded) = load(folder.path(), Split::Dev, Pool::Split) {
            let moved = byte == b't' || !loaded.problems.is_empty();
            proptest::prop_assert!(loaded.examples.len() == 2 || moved);
        }
    }
}

/// The folder named by `MMRAG_WEBQA_DIR`, if it is set, loads without a problem, and all pictures
/// decode.
#[test]
fn the_real_files_load() {
    let Ok(dir) = std::env::var("MMRAG_WEBQA_DIR") else {
        println!("skipped: MMRAG_WEBQA_DIR is not set");
        return;
    };
    let loaded = load(Path::new(&dir), Split::Dev, Pool::Split).unwrap().strict().unwrap();
    assert!(!loaded.examples.is_empty());
    assert!(loaded.examples.iter().all(|example| !example.gold.documents.is_empty()));
    let images = Images::open(Path::new(&dir), &mut Vec::new()).unwrap();
    for row in images.rows() {
        let (id, packed) = row.found.unwrap_or_else(|what| panic!("{:?}: {what}", row.place));
        let seen = look_at(&images.unpack(&packed).unwrap());
        assert_eq!(seen, Ok(Seen::Whole), "picture {id}");
    }
    println!("{} questions, {} pictures", loaded.examples.len(), images.len());
}
