//! Candidates narrowed by search, as a comparison for a trained filter.

use std::collections::HashSet;

use anyhow::Context as _;
use mmrag_core::{DocumentId, Example};
use mmrag_rag::{Index, Retriever as _};
use rayon::prelude::*;

/// What becomes of gold documents that the search does not find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gold {
    /// They are lost, as others are.
    AsFound,
    /// They stay: nothing is learned from a question whose gold is lost.
    Kept,
}

/// The examples with the `k` candidates that BM25 finds best for the question, in the examples'
/// order. A candidate that shares no word with the question is not found.
///
/// # Errors
///
/// When candidates cannot be searched.
pub(crate) fn narrowed(examples: &[Example], k: usize, gold: Gold) -> anyhow::Result<Vec<Example>> {
    examples.par_iter().map(|example| narrowed_one(example, k, gold)).collect()
}

fn narrowed_one(example: &Example, k: usize, gold: Gold) -> anyhow::Result<Example> {
    let context = || format!("failed to search the candidates of {}", example.question.id);
    let index = Index::in_memory(example.candidates.clone()).with_context(context)?;
    let hits = index.retrieve(&example.question, k).with_context(context)?;
    let mut stays: HashSet<&DocumentId> = hits.iter().map(|hit| &hit.document.id).collect();
    if gold == Gold::Kept {
        stays.extend(&example.gold.documents);
    }
    let candidates = example.candidates.iter().filter(|d| stays.contains(&d.id)).cloned();
    Ok(Example { candidates: candidates.collect(), ..example.clone() })
}

#[cfg(test)]
mod tests {
    use mmrag_data::atlas::{AtlasOptions, NameSplit, example};

    use super::*;

    #[test]
    fn the_best_stay_and_gold_where_it_must() {
        let options = AtlasOptions::default();
        let examples: Vec<Example> =
            (0..12).map(|index| example(5, NameSplit::Dev, index, &options)).collect();
        let found = narrowed(&examples, 3, Gold::AsFound).unwrap();
        let kept = narrowed(&examples, 3, Gold::Kept).unwrap();
        for ((before, found), kept) in examples.iter().zip(&found).zip(&kept) {
            assert!(found.candidates.len() <= 3);
            let has =
                |example: &Example, id: &DocumentId| example.candidates.iter().any(|d| d.id == *id);
            assert!(before.gold.documents.iter().all(|id| has(kept, id)));
            assert!(found.candidates.iter().all(|d| has(kept, &d.id)));
        }
        let lost = examples.iter().zip(&found).any(|(e, found)| {
            e.gold.documents.iter().any(|id| found.candidates.iter().all(|d| d.id != *id))
        });
        assert!(lost, "three are too few for every question of the atlas");
    }
}
