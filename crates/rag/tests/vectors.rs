//! What every index of vectors must do, and how vectors live in a collection.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod world;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use mmrag_core::{Document, Embed, EngineError};
use mmrag_rag::fakes::HashEmbed;
use mmrag_rag::vectors::{Flat, Listed, Near, Precision, VectorIndex, gather};
use mmrag_rag::{Collection, Embedder, Fused, Lane, Record, Retriever, Source};
use proptest::prelude::*;

use world::{documents, question, text};

type Rows = Vec<(u64, Vec<f32>)>;

/// Vectors of unit length that are drawn from a seed.
fn drawn(seed: u64, n: usize, width: usize) -> Rows {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let row = |i: usize| {
        let mut row: Vec<f32> = (0..width).map(|_| next()).collect();
        let length = row.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-9);
        for x in &mut row {
            *x /= length;
        }
        (3 * i as u64 + 1, row)
    };
    (0..n).map(row).collect()
}

fn brute(rows: &Rows, query: &[f32], k: usize, keep: &dyn Fn(u64) -> bool) -> Vec<Near> {
    let dot = |row: &[f32]| row.iter().zip(query).map(|(x, y)| x * y).sum();
    let mut all: Vec<Near> = rows
        .iter()
        .filter(|(number, _)| keep(*number))
        .map(|(number, row)| Near { number: *number, score: dot(row) })
        .collect();
    all.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.number.cmp(&b.number)));
    all.truncate(k);
    all
}

/// Vectors around middles, as those of texts lie around what they are about.
fn around(seed: u64, n: usize, width: usize, middles: usize) -> Rows {
    let middles = drawn(seed + 7, middles, width);
    let mut rows = drawn(seed, n, width);
    for (i, (_, row)) in rows.iter_mut().enumerate() {
        let middle = &middles[i * 31 % middles.len()].1;
        row.iter_mut().zip(middle).for_each(|(x, middle)| *x = *x * 0.7 + middle);
        let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        for x in row.iter_mut() {
            *x /= length;
        }
    }
    rows
}

/// What every index must do; `tolerance` is how far its scores may lie from the true ones. Gives the
/// searches for the ten best, so that what is found can be compared.
fn conforms(make: &dyn Fn(&Rows) -> Box<dyn VectorIndex>, tolerance: f32) -> Vec<Vec<u64>> {
    let even = [(1, 0, 8), (2, 1, 8), (3, 100, 24), (4, 9000, 16)];
    let all = even.map(|(seed, n, width)| (seed, width, drawn(seed, n, width)));
    let near = [(5, 32, around(5, 5000, 32, 60)), (6, 8, around(6, 1200, 8, 3))];
    let mut found = Vec::new();
    for (seed, width, rows) in all.into_iter().chain(near) {
        let (index, n) = (make(&rows), rows.len());
        assert_eq!((index.len(), index.width(), index.is_empty()), (n, width, n == 0));
        for query in questions(seed, width, &rows) {
            for k in [0, 1, n + 5] {
                check(&*index, &rows, &query, k, tolerance);
            }
            found.push(check(&*index, &rows, &query, 10, tolerance));
        }
    }
    found
}

/// Two drawn evenly, and seven that are made of parts of rows with something drawn added.
fn questions(seed: u64, width: usize, rows: &Rows) -> Vec<Vec<f32>> {
    let mut questions: Vec<Vec<f32>> =
        drawn(seed + 100, 9, width).into_iter().map(|(_, row)| row).collect();
    for (i, question) in questions.iter_mut().enumerate().skip(2) {
        for x in question.iter_mut() {
            *x *= 0.3;
        }
        for (j, part) in [1.0, 0.6, 0.4].into_iter().enumerate() {
            let Some((_, row)) = rows.get((i * 577 + j * 7919) % rows.len().max(1)) else {
                continue;
            };
            question.iter_mut().zip(row).for_each(|(x, y)| *x += part * y);
        }
    }
    questions
}

fn check(
    index: &dyn VectorIndex,
    rows: &Rows,
    query: &[f32],
    k: usize,
    tolerance: f32,
) -> Vec<u64> {
    let keep = |number: u64| number % 2 == 1;
    let found = index.search(query, k, &keep);
    let n_kept = rows.iter().filter(|(number, _)| keep(*number)).count();
    assert_eq!(found.len(), n_kept.min(k), "{} rows, {k} wanted", rows.len());
    let ids: HashSet<u64> = found.iter().map(|near| near.number).collect();
    assert_eq!(ids.len(), found.len(), "each is found once");
    for near in &found {
        assert!(keep(near.number));
        let row = &rows[(near.number as usize - 1) / 3].1;
        let score: f32 = row.iter().zip(query).map(|(x, y)| x * y).sum();
        assert!((near.score - score).abs() <= tolerance, "{} {score}", near.score);
    }
    let in_order =
        |pair: &[Near]| (pair[0].score, pair[1].number) >= (pair[1].score, pair[0].number);
    assert!(found.windows(2).all(in_order));
    assert_eq!(found, index.search(query, k, &keep), "the same again");
    if k >= rows.len() {
        let expected = brute(rows, query, k, &keep);
        let close =
            |(found, expected): (&Near, &Near)| (found.score - expected.score).abs() <= tolerance;
        assert!(found.iter().zip(&expected).all(close), "who wants all gets all");
    }
    found.into_iter().map(|near| near.number).collect()
}

/// What an exact index must do besides.
fn is_exact(make: &dyn Fn(&Rows) -> Box<dyn VectorIndex>, tolerance: f32) {
    for (seed, rows) in [(4, drawn(4, 9000, 16)), (5, around(5, 5000, 32, 60))] {
        let index = make(&rows);
        for query in questions(seed, index.width(), &rows) {
            let expected = brute(&rows, &query, 10, &|_| true);
            for (found, expected) in index.search(&query, 10, &|_| true).iter().zip(&expected) {
                assert!((found.score - expected.score).abs() <= tolerance);
            }
        }
    }
}

fn flat(precision: Precision) -> impl Fn(&Rows) -> Box<dyn VectorIndex> {
    move |rows| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.vec");
        let width = rows.first().map_or(8, |(_, row)| row.len());
        Flat::write(&path, width, precision, rows).unwrap();
        Box::new(Flat::open(&path).unwrap())
    }
}

#[test]
fn half_floats_conform() {
    conforms(&flat(Precision::F16), 1e-3);
    is_exact(&flat(Precision::F16), 1e-3);
}

#[test]
fn whole_numbers_conform() {
    conforms(&flat(Precision::Int8), 2e-2);
    is_exact(&flat(Precision::Int8), 2e-2);
}

fn listed(precision: Precision) -> impl Fn(&Rows) -> Box<dyn VectorIndex> {
    move |rows| {
        let folder = tempfile::tempdir().unwrap();
        let (path, lists) = (folder.path().join("x.vec"), folder.path().join("y.vec"));
        let width = rows.first().map_or(8, |(_, row)| row.len());
        Flat::write(&path, width, precision, rows).unwrap();
        assert!(gather(&Flat::open(&path).unwrap(), &lists, &|_| true).unwrap());
        Box::new(Listed::open(&lists).unwrap())
    }
}

/// The least share of what looking at all finds that lists have to find, over all searches: questions
/// that are like documents, and some that are like nothing.
const RECALL_BOUND: f64 = 0.95;

fn lists_conform(precision: Precision, tolerance: f32) {
    let exact = conforms(&flat(precision), tolerance);
    let found = conforms(&listed(precision), tolerance);
    let right = |(found, exact): (&Vec<u64>, &Vec<u64>)| {
        exact.iter().filter(|number| found.contains(number)).count()
    };
    let all: usize = exact.iter().map(Vec::len).sum();
    let right: usize = found.iter().zip(&exact).map(right).sum();
    let recall = right as f64 / all as f64;
    assert!(recall >= RECALL_BOUND, "{recall}");
}

#[test]
fn lists_of_half_floats_conform() {
    lists_conform(Precision::F16, 1e-3);
}

#[test]
fn lists_of_whole_numbers_conform() {
    lists_conform(Precision::Int8, 3e-2);
}

#[test]
fn lists_look_at_a_part_and_the_same_file_gives_the_same_lists() {
    let folder = tempfile::tempdir().unwrap();
    let [path, first, second] =
        ["x", "y", "z"].map(|n| folder.path().join(n).with_extension("vec"));
    let rows = around(9, 5000, 32, 200);
    Flat::write(&path, 32, Precision::F16, &rows).unwrap();
    let flat = Flat::open(&path).unwrap();
    assert!(!gather(&flat, &first, &|share| share < 0.5).unwrap(), "it can be stopped");
    assert!(!first.exists());
    for lists in [&first, &second] {
        assert!(gather(&flat, lists, &|_| true).unwrap());
    }
    assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());
    let listed = Listed::open(&first).unwrap();
    assert!(listed.probes() * 4 < listed.n_lists(), "{} {}", listed.probes(), listed.n_lists());
    // The rows themselves are as they were, and all are found where all are wanted.
    let (mut before, mut after) = (flat.numbers().to_vec(), listed.exact().numbers().to_vec());
    let at = after.iter().position(|number| *number == 301).unwrap();
    assert_eq!(listed.exact().row(at), flat.row(100));
    before.sort_unstable();
    after.sort_unstable();
    assert_eq!(before, after);
    let bytes = std::fs::read(&first).unwrap();
    std::fs::write(&first, &bytes[..bytes.len() - 1]).unwrap();
    assert!(Listed::open(&first).is_err());
    assert!(Listed::open(&path).is_err());
}

#[test]
fn equal_scores_come_by_number_and_saved_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.vec");
    let rows: Rows = [7, 3, 5].map(|number| (number, vec![0.5, -0.25])).to_vec();
    Flat::write(&path, 2, Precision::F16, &rows).unwrap();
    let index = Flat::open(&path).unwrap();
    let found = index.search(&[1.0, 0.0], 2, &|_| true);
    assert_eq!(found.iter().map(|near| near.number).collect::<Vec<_>>(), [3, 5]);
    assert_eq!(index.numbers(), [7, 3, 5]);
    assert_eq!(index.row(1), [0.5, -0.25]);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(Flat::open(&path).is_err());
    std::fs::write(&path, b"something else, longer than the header of a file with vectors in it..")
        .unwrap();
    assert!(Flat::open(&path).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn half_floats_find_what_looking_at_all_finds(seed in 1_u64..999, n in 1_usize..60, k in 0_usize..9) {
        // Rounded first, so that scores are those of the file.
        let round = |row: Vec<f32>| row.iter().map(|x| half::f16::from_f32(*x).to_f32()).collect();
        let rows: Rows = drawn(seed, n, 12).into_iter().map(|(i, row)| (i, round(row))).collect();
        let query = &drawn(seed + 1000, 1, 12)[0].1;
        let found = flat(Precision::F16)(&rows).search(query, k, &|_| true);
        let expected = brute(&rows, query, k, &|_| true);
        prop_assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            prop_assert!((found.score - expected.score).abs() < 1e-5);
        }
    }
}

const ENGINE: HashEmbed = HashEmbed { width: 64 };

fn embedder(engine: &dyn Embed) -> Embedder<'_> {
    Embedder { lane: Lane::Text, version: "hash-64", source: "nowhere", engine }
}

fn filled(place: &Path, documents: &[Arc<Document>]) -> Collection {
    let collection = Collection::open_or_create(place).unwrap();
    let mut writer = collection.writer().unwrap();
    for document in documents {
        writer.put(Record::new((**document).clone())).unwrap();
    }
    writer.commit().unwrap();
    collection
}

fn embed_all(collection: &Collection, together: usize) -> usize {
    let mut writer = collection.writer().unwrap();
    let mut all = 0;
    loop {
        let n = writer.embed(&embedder(&ENGINE), together).unwrap().documents;
        if n == 0 {
            return all;
        }
        all += n;
        writer.commit().unwrap();
    }
}

fn fused(collection: &Collection) -> Fused<'static> {
    let snapshot = collection.snapshot().unwrap();
    Fused { snapshot, engines: vec![(Lane::Text, &ENGINE)] }
}

#[test]
fn words_and_vectors_are_put_together_and_each_part_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let collection = filled(&folder.path().join("c"), &documents());
    let before = collection.snapshot().unwrap().version();
    assert_eq!(embed_all(&collection, 2), 6);
    assert_ne!(collection.snapshot().unwrap().version(), before);
    let fused = fused(&collection);
    let hits = fused.retrieve(&question("q", "hill town known for cheese"), 3).unwrap();
    assert_eq!(hits[0].document.id.as_str(), "t-rin");
    let sources: Vec<Source> = hits[0].sources.iter().map(|source| source.source).collect();
    assert_eq!(sources, [Source::Bm25, Source::Dense, Source::Fused]);
    let total: f64 = hits[0].sources[..2].iter().map(|s| 1.0 / (60.0 + s.rank as f64)).sum();
    assert!((hits[0].sources[2].score - total).abs() < 1e-12);
    // A document without a word in common is found by its vector alone.
    assert!(hits.len() == 3);
}

#[test]
fn what_changes_is_embedded_again_and_what_goes_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let collection = filled(&folder.path().join("c"), &documents());
    // More commits than files are kept: they are put together.
    let many: Vec<_> = (0..12).map(|i| text(&format!("n{i}"), "", "Nothing here.")).collect();
    let mut writer = collection.writer().unwrap();
    for document in &many {
        writer.put(Record::new((**document).clone())).unwrap();
    }
    writer.commit().unwrap();
    drop(writer);
    assert_eq!(embed_all(&collection, 1), 18);
    assert_eq!(embed_all(&collection, 1), 0);
    let mut writer = collection.writer().unwrap();
    writer.put(Record::new((*text("t-sea", "Sea", "Now about cheese.")).clone())).unwrap();
    writer.delete(&documents()[1].id).unwrap();
    writer.commit().unwrap();
    drop(writer);
    let asked = question("q", "cheese");
    let ids = |collection: &Collection| -> Vec<(String, Vec<Source>)> {
        let hits = fused(collection).retrieve(&asked, 4).unwrap();
        let told = |hit: &mmrag_rag::Hit| {
            let sources = hit.sources.iter().map(|source| source.source).collect();
            (hit.document.id.to_string(), sources)
        };
        hits.iter().map(told).collect()
    };
    let found = ids(&collection);
    assert_eq!(found[0], ("t-sea".to_owned(), vec![Source::Bm25, Source::Fused]));
    assert!(found.iter().all(|(id, _)| id != "t-rin"));
    assert_eq!(embed_all(&collection, 9), 1);
    let found = ids(&collection);
    assert_eq!(found[0], ("t-sea".to_owned(), vec![Source::Bm25, Source::Dense, Source::Fused]));
    let files = std::fs::read_dir(folder.path().join("c/vectors")).unwrap().count();
    assert!(files <= 8, "old files go: {files}");
}

#[test]
fn other_weights_make_all_vectors_anew_and_other_widths_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let collection = filled(&folder.path().join("c"), &documents());
    embed_all(&collection, 9);
    let engine = HashEmbed { width: 32 };
    let other = Embedder { version: "hash-32", ..embedder(&engine) };
    let snapshot = collection.snapshot().unwrap();
    let wrong = Fused { snapshot, engines: vec![(Lane::Text, &engine)] };
    let error = wrong.retrieve(&question("q", "cheese"), 3).unwrap_err().to_string();
    assert!(error.contains("32") && error.contains("64"), "{error}");
    let mut writer = collection.writer().unwrap();
    assert_eq!(writer.embed(&other, 99).unwrap().documents, 6);
    writer.commit().unwrap();
    assert_eq!(collection.snapshot().unwrap().lanes()[0].version, "hash-32");
}

/// An engine that cannot.
struct Broken;

impl Embed for Broken {
    fn width(&self) -> usize {
        8
    }

    fn embed_questions(&self, _: &[&str]) -> Result<Vec<Vec<f32>>, EngineError> {
        Err(EngineError::new("no"))
    }

    fn embed_documents(&self, _: &[&Document]) -> Result<Vec<Vec<f32>>, EngineError> {
        Err(EngineError::new("no"))
    }

    fn count_tokens(&self, _: &str) -> Result<usize, EngineError> {
        Err(EngineError::new("no"))
    }
}

#[test]
fn an_engine_that_fails_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let collection = filled(&folder.path().join("c"), &documents());
    let mut writer = collection.writer().unwrap();
    assert!(writer.embed(&embedder(&Broken), 9).is_err());
    writer.commit().unwrap();
    assert!(collection.snapshot().unwrap().lanes().is_empty());
}

/// An engine that cannot embed one document.
struct Choosy;

impl Embed for Choosy {
    fn width(&self) -> usize {
        ENGINE.width
    }

    fn embed_questions(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EngineError> {
        ENGINE.embed_questions(texts)
    }

    fn embed_documents(&self, documents: &[&Document]) -> Result<Vec<Vec<f32>>, EngineError> {
        if documents.iter().any(|document| document.id.as_str() == "i-torn") {
            return Err(EngineError::new("read the picture"));
        }
        ENGINE.embed_documents(documents)
    }

    fn count_tokens(&self, text: &str) -> Result<usize, EngineError> {
        ENGINE.count_tokens(text)
    }
}

#[test]
fn a_document_that_cannot_be_embedded_costs_itself() {
    let folder = tempfile::tempdir().unwrap();
    let collection = filled(&folder.path().join("c"), &documents());
    let mut writer = collection.writer().unwrap();
    let embedded = writer.embed(&embedder(&Choosy), 99).unwrap();
    writer.commit().unwrap();
    assert_eq!(embedded.documents, 6);
    assert_eq!(embedded.failures, [(documents()[4].id.clone(), "read the picture".to_owned())]);
    let snapshot = collection.snapshot().unwrap();
    assert!(snapshot.without_vectors(Lane::Text, "hash-64", 9).unwrap().is_empty());
    let query = &ENGINE.embed_questions(&["harbour of olm"]).unwrap()[0];
    let hits = snapshot.nearest(Lane::Text, Source::Dense, query, 9).unwrap();
    assert!(hits.iter().all(|hit| hit.document.id.as_str() != "i-torn"));
}

#[test]
fn readers_see_whole_states_while_vectors_are_put_together_and_old_files_go() {
    let folder = tempfile::tempdir().unwrap();
    let collection = filled(&folder.path().join("c"), &documents());
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|scope| {
        let read = || {
            let mut states = 0;
            while !is_over.load(order) {
                let collection = Collection::open(collection.place()).unwrap();
                let snapshot = collection.snapshot().unwrap();
                let query = &ENGINE.embed_questions(&["number 1 of many"]).unwrap()[0];
                snapshot.nearest(Lane::Text, Source::Dense, query, 3).unwrap();
                states += 1;
            }
            states
        };
        let readers = [(); 4].map(|()| scope.spawn(read));
        let mut writer = collection.writer().unwrap();
        for i in 0..40 {
            let document =
                (*text(&format!("n{}", i % 40), "", &format!("number {i} of many"))).clone();
            writer.put(Record::new(document.clone())).unwrap();
            writer.embed_put(&embedder(&ENGINE), &[document]).unwrap();
            writer.commit().unwrap();
        }
        is_over.store(true, order);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
}
