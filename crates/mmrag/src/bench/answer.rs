//! Explained answers to questions of the atlas.

use anyhow::Context as _;
use mmrag_data::atlas::{self, AtlasOptions, NameSplit};
use serde_json::{Value, json};

use super::machine::peak_bytes;
use super::{Rounds, median};
use crate::answerer::Answerer;

/// Milliseconds of explained answers to dev questions, one by one.
///
/// # Errors
///
/// When a question cannot be answered.
pub(crate) fn answers(
    answerer: &Answerer<'_>,
    candidates: usize,
    rounds: Rounds,
) -> anyhow::Result<Value> {
    let options = AtlasOptions { candidates: candidates..=candidates, kinds: None };
    let mut explanations = Vec::new();
    for index in 0..rounds.all() as u64 {
        let example = atlas::example(0, NameSplit::Dev, index, &options);
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
        "candidates": candidates,
        "answers": counted.len(),
        "retrieve_ms": part(|timings| timings.retrieve),
        "filter_ms": part(|timings| timings.filter),
        "rank_ms": part(|timings| timings.rank),
        "total_ms": part(|timings| timings.total),
        "peak_bytes": peak_bytes(),
        "threads": rayon::current_num_threads(),
    }))
}
