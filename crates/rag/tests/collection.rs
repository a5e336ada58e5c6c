//! A collection on disk against the plain formula, through changes, killed writers and readers in
//! the middle of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod world;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mmrag_core::{Content, Document, DocumentId, ImageSource, Origin};
use mmrag_rag::{Candidates, Collection, Fingerprint, RagError, Record, Retriever, SourceFile};
use proptest::prelude::*;

use world::{documents, question, text};

fn record(document: &Arc<Document>) -> Record {
    Record { document: (**document).clone(), origin: Some(Origin::of("x.md")) }
}

fn filled(place: &Path, documents: &[Arc<Document>]) -> Collection {
    let collection = Collection::open_or_create(place).unwrap();
    let mut writer = collection.writer().unwrap();
    for document in documents {
        writer.put(record(document)).unwrap();
    }
    writer.commit().unwrap();
    collection
}

fn found(retriever: &dyn Retriever, asked: &str, k: usize) -> Vec<(String, f64)> {
    let hits = retriever.retrieve(&question("q", asked), k).expect("the collection is there");
    for (i, hit) in hits.iter().enumerate() {
        assert_eq!(hit.sources[0].rank, i + 1);
    }
    hits.iter().map(|hit| (hit.document.id.to_string(), hit.sources[0].score)).collect()
}

fn source(name: &str) -> SourceFile {
    SourceFile {
        name: name.into(),
        fingerprint: Fingerprint::default(),
        documents: Vec::new(),
        uses: Vec::new(),
        failure: None,
    }
}

#[test]
fn what_is_put_is_there_after_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("olm");
    filled(&place, &documents());
    let snapshot = Collection::open(&place).unwrap().snapshot().unwrap();
    assert_eq!(snapshot.len(), 6);
    let listed = snapshot.list(0, 99).unwrap();
    let ids: Vec<_> = listed.iter().map(|record| record.document.id.as_str()).collect();
    assert_eq!(ids, ["t-olm", "t-rin", "b-towns", "i-flag", "i-torn", "t-sea"]);
    assert_eq!(snapshot.list(4, 1).unwrap()[0].document.id.as_str(), "i-torn");
    let flag = snapshot.get(&DocumentId::new("i-flag")).unwrap().unwrap();
    let Content::Image(ImageSource::Path(picture)) = &flag.document.content else {
        panic!("pictures are files");
    };
    assert_eq!(std::fs::read(picture).unwrap(), world::PIXEL_PNG);
    assert_eq!(flag.origin, Some(Origin::of("x.md")));
    let hits = snapshot.retrieve(&question("q", "cheese"), 3).unwrap();
    assert_eq!(hits[0].document.id.as_str(), "t-rin");
    assert_eq!(hits[0].origin, Some(Origin::of("x.md")));
    assert!(snapshot.get(&DocumentId::new("no")).unwrap().is_none());
}

#[test]
fn a_state_stays_as_it_was_while_others_write() {
    let folder = tempfile::tempdir().unwrap();
    let collection = filled(&folder.path().join("olm"), &documents()[..2]);
    let before = collection.snapshot().unwrap();
    let other = Collection::open(collection.place()).unwrap();
    let mut writer = other.writer().unwrap();
    assert!(writer.delete(&DocumentId::new("t-rin")).unwrap());
    assert!(!writer.delete(&DocumentId::new("t-rin")).unwrap());
    writer.put(record(&text("t-olm", "Olm", "Now with cheese."))).unwrap();
    // Nobody sees it before it is committed, and nobody else may write.
    assert_eq!(found(&*collection.snapshot().unwrap(), "cheese", 9)[0].0, "t-rin");
    assert!(matches!(collection.writer(), Err(RagError::BeingWritten { .. })));
    let version = writer.commit().unwrap();
    let after = collection.snapshot().unwrap();
    assert_eq!((after.version(), after.len()), (version, 1));
    assert_eq!(found(&*after, "cheese", 9)[0].0, "t-olm");
    assert_eq!(found(&*before, "cheese", 9)[0].0, "t-rin");
    assert_ne!(before.version(), after.version());
}

#[test]
fn what_is_not_committed_is_lost_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let collection = filled(&folder.path().join("olm"), &documents()[..2]);
    let version = collection.snapshot().unwrap().version();
    let mut writer = collection.writer().unwrap();
    writer.put(record(&documents()[3])).unwrap();
    writer.delete(&DocumentId::new("t-olm")).unwrap();
    drop(writer);
    let again = Collection::open(collection.place()).unwrap();
    assert_eq!(again.snapshot().unwrap().version(), version);
    assert!(again.writer().is_ok());
}

/// The files of a folder, and what is in them.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[test]
fn deletions_are_written_again_after_a_writer_was_killed_over_them() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("olm");
    let documents: Vec<_> = (0..300).map(|i| text(&format!("t{i}"), "", "x")).collect();
    let collection = filled(&place, &documents);
    let version = collection.snapshot().unwrap().version();
    let open_all_along = Collection::open(&place).unwrap();
    let before = files(&place.join("words"));
    let delete = |collection: &Collection| {
        let mut writer = collection.writer().unwrap();
        for document in documents.iter().step_by(3) {
            assert!(writer.delete(&document.id).unwrap());
        }
        writer.commit().unwrap()
    };
    let without = delete(&collection);
    for again in [open_all_along, Collection::open(&place).unwrap()] {
        let is_deletions = |path: &PathBuf| path.extension().is_some_and(|end| end == "del");
        assert!(files(&place.join("words")).keys().any(is_deletions));
        // All that the commit wrote is there, but for the file that says so; and what it removed.
        for (path, bytes) in before.iter().filter(|(path, _)| !path.ends_with(".managed.json")) {
            std::fs::write(path, bytes).unwrap();
        }
        assert_eq!(again.snapshot().unwrap().version(), version);
        assert_eq!(delete(&again), without);
    }
}

#[test]
fn the_version_names_the_documents_however_they_came() {
    let folder = tempfile::tempdir().unwrap();
    let documents = documents();
    let one = filled(&folder.path().join("one"), &documents);
    let other = filled(&folder.path().join("other"), &documents[3..]);
    let mut writer = other.writer().unwrap();
    for document in documents[..3].iter().rev() {
        writer.put(record(document)).unwrap();
    }
    writer.put(record(&text("extra", "", "x"))).unwrap();
    writer.commit().unwrap();
    writer.delete(&DocumentId::new("extra")).unwrap();
    writer.put(record(&documents[0])).unwrap();
    writer.commit().unwrap();
    let (one, other) = (one.snapshot().unwrap(), other.snapshot().unwrap());
    assert_eq!(one.version(), other.version());
    for asked in ["harbour of Olm", "town", "Ada Voss", "sea"] {
        assert_eq!(found(&*one, asked, 9), found(&*other, asked, 9), "{asked}");
    }
}

#[test]
fn files_take_their_documents_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let collection = Collection::open_or_create(&folder.path().join("olm")).unwrap();
    let documents = documents();
    let records = |range: &[Arc<Document>]| range.iter().map(record).collect::<Vec<_>>();
    let mut writer = collection.writer().unwrap();
    assert_eq!(writer.put_source(source("/a"), records(&documents[..3])).unwrap(), 3);
    assert_eq!(writer.put_source(source("/b"), records(&documents[3..4])).unwrap(), 1);
    writer.commit().unwrap();
    // The same again changes nothing; one fewer deletes it.
    assert_eq!(writer.put_source(source("/a"), records(&documents[..3])).unwrap(), 0);
    assert_eq!(writer.put_source(source("/a"), records(&documents[..2])).unwrap(), 1);
    writer.commit().unwrap();
    let snapshot = collection.snapshot().unwrap();
    assert_eq!(snapshot.len(), 3);
    let sources = snapshot.sources().unwrap();
    let told: Vec<_> = sources.iter().map(|s| (s.name.as_str(), s.documents.len())).collect();
    assert_eq!(told, [("/a", 2), ("/b", 1)]);
    let picture = snapshot.get(&DocumentId::new("i-flag")).unwrap().unwrap();
    let Content::Image(ImageSource::Path(picture)) = picture.document.content else { panic!() };
    assert_eq!(writer.delete_source("/b").unwrap(), 1);
    writer.commit().unwrap();
    assert!(picture.exists(), "who reads the state before finds it");
    writer.commit().unwrap();
    assert!(!picture.exists());
    assert!(collection.snapshot().unwrap().source("/b").unwrap().is_none());
}

#[test]
fn what_is_no_collection_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine.txt"), "keep").unwrap();
    let error = Collection::open_or_create(folder.path()).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("as an index"), "{error}");
    let error = Collection::open(&folder.path().join("no")).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("as an index"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn whatever_was_put_and_deleted_the_scores_are_the_formula(
        steps in proptest::collection::vec((0_usize..5, "[abc ]{0,30}", any::<bool>(), any::<bool>()), 1..16),
        asked in "[abcd ]{0,8}",
    ) {
        let folder = tempfile::tempdir().unwrap();
        let collection = Collection::open_or_create(&folder.path().join("c")).unwrap();
        let mut writer = collection.writer().unwrap();
        let mut living: BTreeMap<String, Arc<Document>> = BTreeMap::new();
        for (i, body, deletes, commits) in steps {
            let id = i.to_string();
            if deletes {
                let was_there = writer.delete(&DocumentId::new(&id)).unwrap();
                prop_assert_eq!(was_there, living.remove(&id).is_some());
            } else {
                let document = text(&id, "", &body);
                writer.put(record(&document)).unwrap();
                living.insert(id, document);
            }
            if commits {
                writer.commit().unwrap();
            }
        }
        writer.commit().unwrap();
        let snapshot = collection.snapshot().unwrap();
        prop_assert_eq!(snapshot.len(), living.len());
        let documents: Vec<Arc<Document>> = living.into_values().collect();
        let index: BTreeMap<String, f64> = found(&*snapshot, &asked, 99).into_iter().collect();
        let mut formula = found(&Candidates { documents: &documents }, &asked, 99);
        formula.retain(|(_, score)| *score > 0.0);
        prop_assert_eq!(index.len(), formula.len());
        for (id, score) in formula {
            prop_assert!((score - index[&id]).abs() < 1e-9, "{} {}", score, index[&id]);
        }
    }
}
