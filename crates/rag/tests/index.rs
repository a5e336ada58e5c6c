//! The word index in memory against the plain formula.

mod world;

use std::sync::Arc;

use mmrag_core::Document;
use mmrag_rag::{Candidates, Index, Retriever};
use proptest::prelude::*;

use world::{documents, question, text};

fn found(retriever: &dyn Retriever, asked: &str, k: usize) -> Vec<(String, f64)> {
    let hits = retriever.retrieve(&question("q", asked), k).expect("the collection is there");
    for (i, hit) in hits.iter().enumerate() {
        assert_eq!(hit.sources[0].rank, i + 1);
    }
    hits.iter().map(|hit| (hit.document.id.to_string(), hit.sources[0].score)).collect()
}

#[test]
fn titles_texts_cells_and_captions_are_searched() {
    let index = Index::in_memory(documents()).unwrap();
    let first = |asked: &str| found(&index, asked, 3).first().map(|(id, _)| id.clone());
    assert_eq!(first("CHEESE!").as_deref(), Some("t-rin"));
    assert_eq!(first("bo ek").as_deref(), Some("b-towns"));
    assert_eq!(first("a flag").as_deref(), Some("i-flag"));
    assert_eq!(first("xylophone"), None);
    assert_eq!(first("\" AND ) title:["), None);
    assert!(found(&index, "Olm", 0).is_empty());
}

#[test]
fn ids_must_differ() {
    let twice = vec![text("a", "x", "y"), text("a", "z", "w")];
    let error = Index::in_memory(twice).map(|_| ()).unwrap_err().to_string();
    assert_eq!(error, "index the document a twice: ids must differ");
}

#[test]
fn all_candidates_are_hits_also_without_words_in_common() {
    let documents = documents();
    let candidates = Candidates { documents: &documents };
    let found = found(&candidates, "cheese", 9);
    assert_eq!(found.len(), 6);
    assert_eq!(found[0].0, "t-rin");
    assert_eq!(found[1], ("t-olm".to_owned(), 0.0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_index_scores_as_the_formula_does(
        bodies in proptest::collection::vec("[abc ]{0,30}", 1..8),
        asked in "[abcd ]{0,8}",
    ) {
        let documents: Vec<Arc<Document>> =
            bodies.iter().enumerate().map(|(i, body)| text(&i.to_string(), "", body)).collect();
        let index = found(&Index::in_memory(documents.clone()).unwrap(), &asked, 99);
        let mut formula = found(&Candidates { documents: &documents }, &asked, 99);
        formula.retain(|(_, score)| *score > 0.0);
        prop_assert_eq!(index.len(), formula.len());
        for (id, score) in &index {
            let same = formula.iter().find(|(other, _)| other == id).map(|f| f.1).unwrap();
            prop_assert!((score - same).abs() < 1e-4 * same.max(1.0), "{} {}", score, same);
        }
    }
}
