//! Explained answers to questions of the atlas.

use anyhow::{Context as _, ensure};
use mmrag_core::{Example, Modality};
use mmrag_data::atlas::{self, AtlasOptions, NameSplit};
use serde_json::{Value, json};

use super::machine::peak_bytes;
use super::{Rounds, median};
use crate::answerer::Answerer;

/// Questions that are looked through for those with a number of pictures.
const SEARCHED: u64 = 10_000;

/// What the candidates of each question are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CandidateCount {
    /// All of them.
    pub(crate) all: usize,
    /// Pictures among them; as they come if nothing is said.
    pub(crate) images: Option<usize>,
}

/// Milliseconds of explained answers to dev questions, one by one.
///
/// # Errors
///
/// When a question cannot be answered.
pub(crate) fn answers(
    answerer: &Answerer<'_>,
    candidates: CandidateCount,
    rounds: Rounds,
) -> anyhow::Result<Value> {
    let mut explanations = Vec::new();
    for example in examples(candidates, rounds.all())? {
        let answered = answerer.with_pipeline(None, 0, |pipeline| {
            pipeline.answer(&example.question, Some(&example.candidates))
        });
        explanations.push(answered.context("failed to answer")?);
    }
    let counted = &explanations[rounds.warm_up..];
    let part = |of: fn(&mmrag_rag::explanation::Timings) -> f64| {
        median(counted.iter().map(|explanation| of(&explanation.timings_ms)).collect())
    };
    Ok(json!({
        "candidates": candidates.all,
        "images": candidates.images,
        "answers": counted.len(),
        "retrieve_ms": part(|timings| timings.retrieve),
        "filter_ms": part(|timings| timings.filter),
        "rank_ms": part(|timings| timings.rank),
        "total_ms": part(|timings| timings.total),
        "peak_bytes": peak_bytes(),
        "threads": rayon::current_num_threads(),
    }))
}

fn examples(count: CandidateCount, most: usize) -> anyhow::Result<Vec<Example>> {
    let options = AtlasOptions { candidates: count.all..=count.all, kinds: None };
    let pictures = |example: &Example| {
        let modalities = example.candidates.iter().map(|document| document.modality());
        modalities.filter(|modality| *modality == Modality::Image).count()
    };
    let all = (0..SEARCHED).map(|index| atlas::example(0, NameSplit::Dev, index, &options));
    let fits = |example: &Example| count.images.is_none_or(|images| pictures(example) == images);
    let found: Vec<Example> = all.filter(fits).take(most).collect();
    ensure!(
        found.len() == most,
        "of {SEARCHED} questions with {} candidates only {} have {} pictures among them",
        count.all,
        found.len(),
        count.images.unwrap_or_default()
    );
    Ok(found)
}
