//! Where training takes its examples from: seekable, so that a run resumes in the middle.

use mmrag_core::{Example, Prompt};

use crate::error::{SourceError, TrainError};
use crate::seed;

/// A seekable source of examples for reinforcement.
pub trait Examples: Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// The `index`-th example; the same whenever it is asked.
    ///
    /// # Errors
    ///
    /// When the example cannot be read.
    fn get(&self, index: usize) -> Result<Example, SourceError>;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One demonstration: what is shown, and what is to be said.
#[derive(Clone, Debug, PartialEq)]
pub struct Lesson {
    /// What the policy is shown.
    pub prompt: Prompt,
    /// What it is to write.
    pub reply: String,
}

/// A seekable source of lessons for supervised fine-tuning.
pub trait Lessons: Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// The `index`-th lesson; the same whenever it is asked.
    ///
    /// # Errors
    ///
    /// When the lesson cannot be made.
    fn get(&self, index: usize) -> Result<Lesson, SourceError>;

    /// Whether the order of the lessons is part of what they teach: they are then taken from the
    /// first to the last, pass after pass, and not shuffled.
    fn is_ordered(&self) -> bool {
        false
    }

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Examples for Vec<Example> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn get(&self, index: usize) -> Result<Example, SourceError> {
        self.as_slice().get(index).cloned().ok_or_else(|| outside(index, self.len()))
    }
}

impl Lessons for Vec<Lesson> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn get(&self, index: usize) -> Result<Lesson, SourceError> {
        self.as_slice().get(index).cloned().ok_or_else(|| outside(index, self.len()))
    }
}

pub(crate) fn example(examples: &dyn Examples, index: usize) -> Result<Example, TrainError> {
    let told = |source| TrainError::Source { what: "example", index, source };
    examples.get(index).map_err(told)
}

pub(crate) fn lesson(lessons: &dyn Lessons, index: usize) -> Result<Lesson, TrainError> {
    let told = |source| TrainError::Source { what: "lesson", index, source };
    lessons.get(index).map_err(told)
}

/// Walks over a source pass after pass, each pass in its own order; the order of the last pass
/// asked for is kept.
#[derive(Debug)]
pub(crate) struct Walk {
    run_seed: u64,
    len: usize,
    epoch: usize,
    order: Vec<usize>,
}

impl Walk {
    pub(crate) fn new(run_seed: u64, len: usize) -> Self {
        Self { run_seed, len, epoch: 0, order: seed::order(run_seed, 0, len) }
    }

    /// The index at a position counted over all passes. The source must not be empty.
    pub(crate) fn at(&mut self, position: usize) -> usize {
        let epoch = position / self.len;
        if epoch != self.epoch {
            (self.epoch, self.order) = (epoch, seed::order(self.run_seed, epoch, self.len));
        }
        self.order[position % self.len]
    }
}

fn outside(index: usize, len: usize) -> SourceError {
    format!("there are only {len}, and none at {index}").into()
}
