//! Vectors of a collection in lists: what is added and deleted after they were made, what is stopped
//! and killed while they are made, and what is said of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod world;

use std::path::Path;

use mmrag_core::{Document, DocumentId, Embed as _};
use mmrag_rag::fakes::HashEmbed;
use mmrag_rag::{
    Approximate, Collection, Embedder, Fused, Hit, Lane, Record, Retriever as _, Snapshot, Source,
};

use world::{question, text};

const ENGINE: HashEmbed = HashEmbed { width: 64 };
const N: usize = 1500;

fn embedder() -> Embedder<'static> {
    Embedder { lane: Lane::Text, version: "hash-64", source: "nowhere", engine: &ENGINE }
}

fn document(i: usize) -> Document {
    let topic = i % 50;
    let body = format!("subject{topic} matter{topic} about{topic} item{i}");
    (*text(&format!("d{i}"), "", &body)).clone()
}

fn put(collection: &Collection, documents: &[Document]) {
    let mut writer = collection.writer().unwrap();
    for document in documents {
        writer.put(Record::new(document.clone())).unwrap();
    }
    writer.embed_put(&embedder(), documents).unwrap();
    writer.commit().unwrap();
}

fn filled(place: &Path) -> Collection {
    let collection = Collection::open_or_create(place).unwrap();
    put(&collection, &(0..N).map(document).collect::<Vec<_>>());
    collection
}

/// Makes lists, as `mmrag index --ann on` does.
fn list(collection: &Collection) -> usize {
    let mut writer = collection.writer().unwrap();
    writer.set_approximate(Approximate::On);
    let listed = writer.list_vectors(&|_| true).unwrap();
    writer.commit().unwrap();
    listed
}

fn nearest(snapshot: &Snapshot, asked: &str, k: usize) -> Vec<Hit> {
    let query = ENGINE.embed_questions(&[asked]).unwrap().remove(0);
    snapshot.nearest(Lane::Text, Source::Dense, &query, k).unwrap()
}

fn ids(hits: &[Hit]) -> Vec<&str> {
    hits.iter().map(|hit| hit.document.id.as_str()).collect()
}

const ASKED: &str = "subject7 matter7 about7 item57";

#[test]
fn what_is_new_is_found_and_what_is_deleted_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let collection = filled(&folder.path().join("c"));
    let exact = collection.snapshot().unwrap();
    assert!(!nearest(&exact, ASKED, 3)[0].sources[0].approximate);
    assert_eq!(list(&collection), N);
    let snapshot = collection.snapshot().unwrap();
    assert_ne!(snapshot.version(), exact.version(), "what is found may differ");
    let search = snapshot.lane_search(Lane::Text).unwrap();
    assert_eq!((search.vectors, search.in_lists), (N, N));
    assert!(0 < search.probes && search.probes < search.lists, "{search:?}");
    let hits = nearest(&snapshot, ASKED, 3);
    assert_eq!(hits[0].document.id.as_str(), "d57");
    assert!(hits.iter().all(|hit| hit.sources[0].approximate), "it is said of each");

    // Deleted, put anew with other words, and new.
    let mut writer = collection.writer().unwrap();
    writer.delete(&DocumentId::new("d57")).unwrap();
    writer.commit().unwrap();
    drop(writer);
    put(&collection, &[(*text("d107", "", "nothing of the kind")).clone()]);
    put(&collection, &[(*text("new", "", ASKED)).clone()]);
    let snapshot = collection.snapshot().unwrap();
    let hits = nearest(&snapshot, ASKED, N);
    assert_eq!(hits[0].document.id.as_str(), "new");
    let found = ids(&hits);
    assert!(!found.contains(&"d57"), "it is deleted");
    let changed = hits.iter().find(|hit| hit.document.id.as_str() == "d107");
    assert!(
        changed.is_none_or(|hit| hit.sources[0].score < 0.5),
        "it is found by what it says now"
    );
    let search = snapshot.lane_search(Lane::Text).unwrap();
    assert_eq!((search.vectors, search.in_lists), (N + 2, N));
    // All that are wanted is all that there is.
    let query = ENGINE.embed_questions(&[ASKED]).unwrap().remove(0);
    let all = snapshot.nearest_exactly(Lane::Text, Source::Dense, &query, N).unwrap();
    assert_eq!(found, ids(&all));

    let engines: Vec<(Lane, &dyn mmrag_core::Embed)> = vec![(Lane::Text, &ENGINE)];
    let fused = Fused { snapshot, engines };
    let hits = fused.retrieve(&question("q", ASKED), 3).unwrap();
    let told: Vec<bool> = hits[0].sources.iter().map(|source| source.approximate).collect();
    assert_eq!(told, [false, true, false], "words, vectors, together");
}

#[test]
fn what_is_found_is_nearly_what_looking_at_all_finds() {
    let folder = tempfile::tempdir().unwrap();
    let collection = filled(&folder.path().join("c"));
    list(&collection);
    let snapshot = collection.snapshot().unwrap();
    let (mut right, mut all) = (0, 0);
    for i in (0..N).step_by(75) {
        let asked = format!("subject{} about{} item{i}", i % 50, i % 50);
        let query = ENGINE.embed_questions(&[&asked]).unwrap().remove(0);
        let exact = snapshot.nearest_exactly(Lane::Text, Source::Dense, &query, 10).unwrap();
        let hits = nearest(&snapshot, &asked, 10);
        let found = ids(&hits);
        right += ids(&exact).iter().filter(|id| found.contains(id)).count();
        all += exact.len();
    }
    assert!(right as f64 >= 0.95 * all as f64, "{right} of {all}");
}

#[test]
fn a_build_that_is_killed_or_stopped_leaves_what_was_and_is_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("c");
    let collection = filled(&place);
    let before = collection.snapshot().unwrap().version();
    let mut writer = collection.writer().unwrap();
    writer.set_approximate(Approximate::On);
    assert_eq!(writer.list_vectors(&|_| false).unwrap(), 0, "it was stopped");
    assert_eq!(writer.list_vectors(&|_| true).unwrap(), N);
    // Killed before the commit.
    drop(writer);
    std::fs::write(place.join("vectors/text-9-9.draft"), "half of it").unwrap();
    let collection = Collection::open(&place).unwrap();
    let snapshot = collection.snapshot().unwrap();
    assert_eq!(snapshot.version(), before);
    assert_eq!(snapshot.lane_search(Lane::Text).unwrap().in_lists, 0);
    assert_eq!(list(&collection), N);
    assert_eq!(list(&collection), 0, "nothing is done twice");
    let mut writer = collection.writer().unwrap();
    writer.commit().unwrap();
    drop(writer);
    let left = std::fs::read_dir(place.join("vectors")).unwrap().count();
    assert_eq!(left, 1, "strays and what was replaced are gone");
    assert_eq!(nearest(&collection.snapshot().unwrap(), ASKED, 1)[0].document.id.as_str(), "d57");
}

#[test]
fn lists_are_used_as_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let collection = filled(&folder.path().join("c"));
    let exact = collection.snapshot().unwrap().version();
    // So few are looked at all, if nothing is said.
    let mut writer = collection.writer().unwrap();
    assert_eq!(writer.list_vectors(&|_| true).unwrap(), 0);
    drop(writer);
    list(&collection);
    let mut writer = collection.writer().unwrap();
    assert!(writer.set_approximate(Approximate::Off), "it is new");
    assert!(!writer.set_approximate(Approximate::Off));
    writer.commit().unwrap();
    drop(writer);
    let snapshot = collection.snapshot().unwrap();
    assert_eq!(snapshot.version(), exact, "the same is found as before there were lists");
    assert_eq!(snapshot.lane_search(Lane::Text).unwrap().in_lists, 0);
    assert!(!nearest(&snapshot, ASKED, 3)[0].sources[0].approximate);
}
