//! The right replies to a data set's questions, as lessons.

use std::sync::Arc;

use mmrag_core::{Document, Example};
use mmrag_task::{Case, Stage, StageName};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::distractors::{likeness, split_gold};
use super::{Composed, happens, stream};

/// The right replies of a stage to a data set's questions: one lesson a question for the ranker,
/// and for the filter one on a gold document and one on another, turn by turn.
pub(crate) struct Demonstrations {
    stage: Stage,
    examples: Vec<Example>,
    seed: u64,
}

impl Demonstrations {
    /// The demonstrations of `stage` on `examples`.
    pub(crate) fn new(stage: Stage, examples: Vec<Example>, seed: u64) -> Self {
        Self { stage, examples, seed }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        match self.stage.name {
            StageName::Filter => 2 * self.examples.len(),
            StageName::Rank => self.examples.len(),
        }
    }

    /// Demonstration `index`, or nothing past the end.
    pub(crate) fn lesson(&self, index: usize) -> Option<Composed> {
        let mut draws = stream(self.seed, index);
        match self.stage.name {
            StageName::Filter => {
                let example = self.examples.get(index / 2)?;
                Some(verdict(&self.stage, example, index.is_multiple_of(2), 0.0, &mut draws))
            }
            StageName::Rank => {
                let example = self.examples.get(index)?;
                Some(demonstration(&self.stage, example, &example.candidates, draws.random()))
            }
        }
    }
}

/// The lesson of a gold document, or of another; of what there is if there is none of the kind.
pub(super) fn verdict(
    stage: &Stage,
    example: &Example,
    of_gold: bool,
    alike: f64,
    draws: &mut ChaCha8Rng,
) -> Composed {
    let (gold, mut others) = split_gold(example);
    let is_gold = (of_gold && !gold.is_empty()) || others.is_empty();
    if !is_gold && happens(alike, draws) {
        let most = others.iter().map(|other| likeness(other, &gold)).max();
        others.retain(|other| Some(likeness(other, &gold)) == most);
    }
    let pool = if is_gold { &gold } else { &others };
    let document = &pool[draws.random_range(0..pool.len())];
    lesson_of(stage, &Case::pointwise(&example.question, document), example)
}

/// The lesson of the right reply to a list of documents.
pub(super) fn demonstration(
    stage: &Stage,
    example: &Example,
    documents: &[Arc<Document>],
    label_seed: u64,
) -> Composed {
    lesson_of(stage, &Case::listwise(&example.question, documents, label_seed), example)
}

fn lesson_of(stage: &Stage, case: &Case, example: &Example) -> Composed {
    let reply = stage.demonstration(case, example);
    Composed { prompt: stage.prompt(case), reply: stage.render(&reply) }
}
