//! Files into an index and answers out of it, as a user meets them: what changes, what goes, what
//! is hostile, and what is killed.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

mod pages;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use pages::{page_of_text, pdf, stream};

const PIXEL_PNG: [u8; 67] = [
    0x89, 0x50, 0x4e, 0x47, 0xd, 0xa, 0x1a, 0xa, 0, 0, 0, 0xd, 0x49, 0x48, 0x44, 0x52, 0, 0, 0, 1,
    0, 0, 0, 1, 8, 0, 0, 0, 0, 0x3a, 0x7e, 0x9b, 0x55, 0, 0, 0, 0xa, 0x49, 0x44, 0x41, 0x54, 0x78,
    0xda, 0x63, 0x68, 0, 0, 0, 0x82, 0, 0x81, 0xda, 0x45, 8, 0x3b, 0, 0, 0, 0, 0x49, 0x45, 0x4e,
    0x44, 0xae, 0x42, 0x60, 0x82,
];

struct World {
    _folder: tempfile::TempDir,
    files: PathBuf,
    index: PathBuf,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (files, index) = (folder.path().join("files"), folder.path().join("index"));
        std::fs::create_dir(&files).unwrap();
        Self { _folder: folder, files, index }
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.files.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn index(&self, more: &[&str]) -> Value {
        let output = self.run(&["index", text(&self.files)], more);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn index_and_kill(&self, more: &[&str], wait_ms: u64) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mmrag"))
            .args(["index", text(&self.files), "--index", text(&self.index)])
            .args(more)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(wait_ms));
        let _ = child.kill();
        child.wait().unwrap();
    }

    fn ask(&self, question: &str, more: &[&str]) -> Value {
        let output = self.run(&["ask", question], more);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn run(&self, first: &[&str], more: &[&str]) -> Output {
        let place = ["--index", text(&self.index), "--json"];
        mmrag(&[first, &place, more].concat())
    }
}

fn mmrag(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mmrag")).args(arguments).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn failures(summary: &Value) -> Vec<(String, String)> {
    let failures = summary["failures"].as_array().unwrap();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    failures.iter().map(|failure| (word(&failure["file"]), word(&failure["why"]))).collect()
}

#[test]
fn what_changes_is_read_again_and_what_goes_is_deleted() {
    let world = World::new();
    world.write("notes/olm.md", "# Olm\n\nOlm is a harbour town.\n\n## Mayor\n\nAda Voss.\n");
    world.write("rin.html", "<title>Rin</title><p>Rin makes cheese.");
    world.write("towns.csv", "Town,Mayor\nOlm,Ada Voss\nRin,Bo Ek\n");
    world.write("rows.jsonl", "{\"id\": \"f\", \"title\": \"Flag\", \"path\": \"flag.png\"}\n");
    world.write("flag.png", PIXEL_PNG);
    world.write("other.bin", "x");
    world.write("questions.jsonl", "{\"question\": \"Why?\"}\n");
    world.write("page.pdf", page_of_text("Lighthouse keeper Bo"));
    let first = world.index(&[]);
    let told = |key: &str| first[key].as_u64().unwrap();
    assert_eq!((told("read"), told("documents"), told("other_files")), (5, 7, 1));
    assert_eq!(failures(&first).len(), 1);
    assert_eq!(failures(&first)[0].0, "questions.jsonl");

    let again = world.index(&[]);
    assert_eq!((again["read"].as_u64(), again["changed_documents"].as_u64()), (Some(0), Some(0)));
    assert_eq!(again["version"], first["version"]);
    // A touched file is looked at, and found to be the same.
    world.write("rin.html", "<title>Rin</title><p>Rin makes cheese.");
    assert_eq!(world.index(&[])["changed_documents"].as_u64(), Some(0));

    world.write("notes/olm.md", "# Olm\n\nOlm is a harbour town.\n\n## Mayor\n\nBo Ek.\n");
    std::fs::remove_file(world.files.join("rin.html")).unwrap();
    let changed = world.index(&[]);
    assert_eq!((changed["read"].as_u64(), changed["deleted"].as_u64()), (Some(1), Some(1)));
    // One text in the place of another, and one gone.
    assert_eq!(changed["changed_documents"].as_u64(), Some(3));
    assert_eq!(changed["documents"].as_u64(), Some(6));

    let strict = world.run(&["index", text(&world.files)], &["--strict"]);
    assert_eq!(strict.status.code(), Some(1));
}

#[test]
fn answers_are_explained_verified_and_replayed() {
    let world = World::new();
    world.write("olm.md", "# Olm\n\nOlm is a harbour town.\n");
    world.write("sea.txt", "The sea is deep.\n");
    world.write("page.pdf", page_of_text("The harbour of Olm is old"));
    world.index(&[]);
    let asked = world.ask("What is the harbour of Olm?", &["--verify", "--why-not", "olm.md"]);
    let candidates = asked["candidates"].as_array().unwrap();
    assert!(candidates.iter().any(|candidate| candidate["origin"]["page"] == 1));
    for candidate in candidates {
        assert!(candidate["retrieval"][0]["score"].as_f64().unwrap() > 0.0);
        assert!(candidate["origin"]["source"].as_str().unwrap().starts_with("files/"));
    }
    assert!(asked["verification"]["finding"].is_string());
    assert!(!asked["why_not"][0]["told"].as_array().unwrap().is_empty());

    let file = world.files.parent().unwrap().join("answer.json");
    std::fs::write(&file, serde_json::to_string(&asked).unwrap()).unwrap();
    let replayed = mmrag(&["ask", "--replay", text(&file), "--json"]);
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stderr));
    world.write("sea.txt", "The sea is not deep.\n");
    world.index(&[]);
    let replayed = mmrag(&["ask", "--replay", text(&file), "--json"]);
    assert_eq!(replayed.status.code(), Some(1));
    let error = String::from_utf8_lossy(&replayed.stderr);
    assert!(error.contains("the documents are others than then"), "{error}");

    let table = mmrag(&["ask", "harbour?", "--index", text(&world.index), "--explain"]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("words #1") && table.contains("page.pdf, page 1"), "{table}");
    let missing = mmrag(&["ask", "harbour?", "--index", text(&world.index), "--why-not", "no"]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("there is no document no"));
}

/// A PNG that says it has 60,000 x 60,000 pixels.
fn pixel_bomb() -> Vec<u8> {
    let mut bytes = PIXEL_PNG.to_vec();
    bytes[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let mut crc = flate2::Crc::new();
    crc.update(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    bytes
}

/// A workbook of a few KB whose sheet unpacks to hundreds of MB.
fn zip_bomb() -> Vec<u8> {
    let mut book = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    let mut add = |name: &str, parts: &[&str], middle: &str, times: usize| {
        book.start_file(name, options).unwrap();
        book.write_all(parts[0].as_bytes()).unwrap();
        let block = middle.repeat(10_000);
        (0..times).for_each(|_| book.write_all(block.as_bytes()).unwrap());
        book.write_all(parts[1].as_bytes()).unwrap();
    };
    let main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
    let relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    let package = "http://schemas.openxmlformats.org/package/2006";
    add(
        "[Content_Types].xml",
        &[&format!("<Types xmlns=\"{package}/content-types\"/>"), ""],
        "",
        0,
    );
    let root = format!(
        "<Relationships xmlns=\"{package}/relationships\"><Relationship Id=\"r1\" \
         Type=\"{relations}/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>"
    );
    add("_rels/.rels", &[&root, ""], "", 0);
    let book_xml = format!(
        "<workbook xmlns=\"{main}\" xmlns:r=\"{relations}\"><sheets><sheet name=\"s\" sheetId=\"1\" \
         r:id=\"r1\"/></sheets></workbook>"
    );
    add("xl/workbook.xml", &[&book_xml, ""], "", 0);
    let links = format!(
        "<Relationships xmlns=\"{package}/relationships\"><Relationship Id=\"r1\" \
         Type=\"{relations}/worksheet\" Target=\"worksheets/sheet1.xml\"/></Relationships>"
    );
    add("xl/_rels/workbook.xml.rels", &[&links, ""], "", 0);
    let sheet = format!("<worksheet xmlns=\"{main}\"><sheetData>");
    let row =
        "<row><c t=\"inlineStr\"><is><t>aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa</t></is></c></row>";
    add("xl/worksheets/sheet1.xml", &[&sheet, "</sheetData></worksheet>"], row, 400);
    book.finish().unwrap().into_inner()
}

#[test]
fn a_hostile_file_costs_itself_and_nothing_else() {
    let world = World::new();
    world.write("a_good.md", "# Good\n\nStill here.\n");
    world.write("z_good.txt", "Also here.\n");
    world.write("pixels.png", pixel_bomb());
    world.write("torn.png", &PIXEL_PNG[..40]);
    world.write("bomb.xlsx", zip_bomb());
    world.write("deep.json", "[".repeat(1_000_000));
    world.write("escape.jsonl", "{\"title\": \"x\", \"path\": \"../index/collection.json\"}\n");
    world.write("line.jsonl", format!("{{\"text\": \"{}\"}}", "x".repeat(5 << 20)));
    std::fs::File::create(world.files.join("large.json")).unwrap().set_len(100 << 20).unwrap();
    let looping = "<< /Type /Pages /Kids [2 0 R] /Count 1000000 >>";
    world.write("loop.pdf", pdf(&["<< /Type /Catalog /Pages 2 0 R >>", looping]));
    let form = stream(
        "/X Do /X Do",
        "/Type /XObject /Subtype /Form /BBox [0 0 9 9] \
        /Resources << /XObject << /X 5 0 R >> >>",
    );
    let recursive = pdf(&[
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R \
         /Resources << /XObject << /X 5 0 R >> >> >>",
        &stream("/X Do", ""),
        &form,
    ]);
    world.write("recursive.pdf", recursive);
    let summary = world.index(&["--max-memory-mb", "700", "--max-seconds", "10"]);
    let failed = failures(&summary);
    let why = |file: &str| {
        let failure = failed.iter().find(|(name, _)| name == file);
        failure.unwrap_or_else(|| panic!("{file} is told: {failed:?}")).1.clone()
    };
    assert!(why("pixels.png").contains("60000 x 60000 pixels"), "{}", why("pixels.png"));
    assert!(why("torn.png").contains("picture"), "{}", why("torn.png"));
    let bomb = why("bomb.xlsx");
    assert!(bomb.contains("broke the worker") || bomb.contains("longer than"), "{bomb}");
    assert!(why("deep.json").contains("no array"), "{}", why("deep.json"));
    assert!(why("escape.jsonl").contains("no such file in the folder"));
    assert!(why("line.jsonl").contains("longer than 4 MB"), "{}", why("line.jsonl"));
    assert!(why("large.json").contains("may have 64 MB"), "{}", why("large.json"));
    why("loop.pdf");
    let hits = world.ask("here", &[]);
    assert_eq!(hits["candidates"].as_array().unwrap().len(), 2);
    // What failed is remembered, and told again without being read again.
    let again = world.index(&["--max-memory-mb", "700", "--max-seconds", "10"]);
    assert_eq!((again["read"].as_u64(), failures(&again).len()), (Some(0), failed.len()));
}

#[test]
fn an_indexing_that_is_killed_goes_on_where_it_was() {
    let world = World::new();
    for i in 0..150 {
        world.write(&format!("{i}.txt"), format!("Number {i} of many.\n"));
    }
    let whole = World::new();
    for i in 0..150 {
        whole.write(&format!("{i}.txt"), format!("Number {i} of many.\n"));
    }
    for wait_ms in [0, 30, 150] {
        world.index_and_kill(&[], wait_ms);
    }
    let (gone_on, at_once) = (world.index(&[]), whole.index(&[]));
    assert_eq!(gone_on["documents"].as_u64(), Some(150));
    assert_eq!(gone_on["version"], at_once["version"]);
}

#[test]
fn many_vectors_are_looked_through_by_lists_and_it_is_said() {
    let world = World::new();
    let row = |i: usize| {
        format!("{{\"id\": \"{i}\", \"title\": \"Olm {i}\", \"text\": \"the sea of olm {i}\"}}\n")
    };
    world.write("rows.jsonl", (0..1100).map(row).collect::<String>());
    let encoder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures/bert_tiny");
    let first = world.index(&["--embedder", text(&encoder)]);
    let told = |summary: &Value, key: &str| summary["vectors"]["text"][key].as_u64().unwrap();
    assert_eq!((told(&first, "vectors"), told(&first, "in_lists")), (1100, 0));
    let listed = world.index(&["--ann", "on"]);
    // The rest lies in files of its own, too small for lists.
    assert_eq!((told(&listed, "vectors"), told(&listed, "in_lists")), (1100, 1024));
    assert_ne!(listed["version"], first["version"]);
    // What was said is kept, and nothing is done again.
    let again = world.index(&[]);
    assert_eq!((told(&again, "in_lists"), &again["version"]), (1024, &listed["version"]));
    let asked = world.ask("the sea?", &[]);
    let all = asked["candidates"].as_array().unwrap();
    let ways: Vec<&Value> =
        all.iter().flat_map(|candidate| candidate["retrieval"].as_array().unwrap()).collect();
    let dense: Vec<&&Value> = ways.iter().filter(|way| way["source"] == "dense").collect();
    assert!(!dense.is_empty());
    let approximate = told(&listed, "probes") < told(&listed, "lists");
    assert!(dense.iter().all(|way| way["approximate"].as_bool().unwrap_or(false) == approximate));
    let off = world.index(&["--ann", "off"]);
    assert_eq!((told(&off, "in_lists"), &off["version"]), (0, &first["version"]));
}

#[test]
fn the_making_of_lists_may_be_killed_at_any_time() {
    let world = World::new();
    let row = |i: usize| format!("{{\"id\": \"{i}\", \"text\": \"the sea of olm {i}\"}}\n");
    world.write("rows.jsonl", (0..1100).map(row).collect::<String>());
    let encoder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures/bert_tiny");
    let first = world.index(&["--embedder", text(&encoder)]);
    let found = ids_of(&world, "the sea of olm 7?");
    for wait_ms in [5, 20, 40, 80, 160, 320] {
        world.index_and_kill(&["--ann", "on"], wait_ms);
        // Whole as it was, or whole with its lists.
        assert_eq!(ids_of(&world, "the sea of olm 7?").len(), found.len(), "after {wait_ms} ms");
    }
    let listed = world.index(&["--ann", "on"]);
    let told = |key: &str| listed["vectors"]["text"][key].as_u64().unwrap();
    assert_eq!((told("vectors"), told("in_lists")), (1100, 1024));
    let off = world.index(&["--ann", "off"]);
    assert_eq!(off["version"], first["version"]);
    assert_eq!(ids_of(&world, "the sea of olm 7?"), found);
}

fn ids(world: &World) -> Vec<String> {
    ids_of(world, "the town of Olm, Rin, Sea, and New?")
}

fn ids_of(world: &World, question: &str) -> Vec<String> {
    let found = world.ask(question, &["--top-k", "99"]);
    let candidates = found["candidates"].as_array().unwrap();
    let mut ids: Vec<String> =
        candidates.iter().map(|c| c["document"].as_str().unwrap().to_owned()).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn a_data_set_is_indexed_with_its_ids_and_again_only_where_it_changed() {
    let world = World::new();
    let documents = |olm: &str, more: &str| {
        format!(
            "{{\"id\": \"t1\", \"title\": \"Olm\", \"text\": \"{olm}\"}}\n\
             {{\"id\": \"t2\", \"title\": \"Rin\", \"text\": \"A town [[t2]].\"}}\n{more}"
        )
    };
    let sea = "{\"id\": \"t3\", \"title\": \"Sea\", \"text\": \"The sea.\"}\n";
    world.write("documents.jsonl", documents("A town.", sea));
    let question = |id: &str, candidate: &str| {
        format!(
            "{{\"id\": \"{id}\", \"question\": \"Where?\", \"candidates\": [\"{candidate}\"]}}\n"
        )
    };
    world.write("dev.jsonl", question("q1", "t1"));
    world.write("test.jsonl", question("q2", "t1") + &question("q3", "t2"));
    settle(&world.files);
    let run = |more: &[&str]| {
        let first = ["index", "--dataset", "jsonl", "--data", text(&world.files)];
        let output = world.run(&first, more);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let told = |summary: &Value| {
        ["documents", "changed_documents", "unchanged"].map(|key| summary[key].as_u64().unwrap())
    };
    let both = ["--split", "dev", "--split", "test", "--leave-out", r" \[\[[^\]]*\]\]"];
    let first = run(&both);
    assert_eq!(told(&first), [3, 3, 0]);
    assert_eq!(ids(&world), ["jsonl/files#t1", "jsonl/files#t2", "jsonl/files#t3"]);
    let found = world.ask("town?", &[]);
    let origin = |id: &str| {
        let all = found["candidates"].as_array().unwrap();
        all.iter().find(|c| c["document"] == id).unwrap()["origin"].clone()
    };
    let of = &origin("jsonl/files#t1")["dataset"];
    assert_eq!((&of["name"], &of["id"]), (&"jsonl".into(), &"t1".into()));
    assert_eq!(of["splits"], serde_json::json!(["dev", "test"]));
    assert_eq!(origin("jsonl/files#t2")["source"], "jsonl/files/documents.jsonl");
    assert!(!found.to_string().contains("[[t2]]"));

    let again = run(&both);
    assert_eq!((told(&again), &again["version"]), ([3, 0, 3], &first["version"]));
    // A row before the others, one that says something else, and one that is gone.
    let new = "{\"id\": \"t0\", \"title\": \"New\", \"text\": \"Before.\"}\n";
    world.write("documents.jsonl", new.to_owned() + &documents("A harbour town.", ""));
    settle(&world.files);
    assert_eq!(told(&run(&both)), [3, 3, 0]);
    assert_eq!(ids(&world), ["jsonl/files#t0", "jsonl/files#t1", "jsonl/files#t2"]);
    // Documents of other origin stay, and only what is asked about can be wanted.
    world.write("other/note.md", "# Note\n\nOf the town of Olm.\n");
    let other = world.files.join("other");
    let added = world.run(&["index", text(&other)], &[]);
    assert!(added.status.success());
    settle(&world.files);
    let asked = run(&["--split", "dev", "--asked-only", "--leave-out", r" \[\[[^\]]*\]\]"]);
    assert_eq!(asked["documents"].as_u64(), Some(2));
    assert!(ids(&world).iter().any(|id| id.starts_with("other/note.md")));

    let wrong = mmrag(&["index", "--data", text(&world.files), "--index", text(&world.index)]);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("--dataset"));
}

/// Makes files look as if they had been written long ago: what is new may change again unseen.
fn settle(folder: &Path) {
    let then = std::time::SystemTime::now() - std::time::Duration::from_mins(1);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            settle(&path);
        } else {
            std::fs::File::options().append(true).open(path).unwrap().set_modified(then).unwrap();
        }
    }
}
