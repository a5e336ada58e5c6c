//! What a training tells while it runs, and what it asks its caller.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::error::{SourceError, TrainError};
use crate::metrics::Metrics;
use crate::run_folder::RunFolder;

/// Something that happened in a training.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// It begins, or goes on after `done` steps.
    Began {
        /// Steps done before.
        done: usize,
        /// Steps in all.
        steps: usize,
    },
    /// A step is done.
    Stepped {
        /// Its number, from 1.
        step: usize,
        /// Steps in all.
        steps: usize,
        /// What was measured.
        metrics: &'a Metrics,
        /// Seconds by part, and tokens a second. Not reproducible, so kept apart.
        timings: &'a Metrics,
    },
    /// A question or lesson could not be made ready, and was left out of its step.
    Skipped {
        /// Which, and why.
        error: &'a TrainError,
    },
    /// The policy was evaluated.
    Evaluated {
        /// Steps done before.
        step: usize,
        /// What was found.
        evaluation: &'a Evaluation,
        /// Whether it is the best so far.
        best: bool,
    },
    /// A checkpoint was written.
    Saved {
        /// Steps done before.
        step: usize,
        /// Its folder.
        path: PathBuf,
    },
}

/// Is told what happens in a training.
pub trait Progress {
    /// Something happened.
    fn tell(&self, event: &Event<'_>);
}

/// Listens to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn tell(&self, _: &Event<'_>) {}
}

/// What an evaluation found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// What the best checkpoint is chosen by; more is better.
    pub score: f64,
    /// Everything that was measured.
    pub metrics: Metrics,
}

/// Evaluates the policy as it stands, on the development split.
pub trait Evaluate<L> {
    /// Evaluates; must not depend on anything but the weights.
    ///
    /// # Errors
    ///
    /// When the evaluation cannot be carried out.
    fn evaluate(&mut self, learner: &L, step: usize) -> Result<Evaluation, SourceError>;
}

/// Where a training writes, whom it tells, and who may stop it.
pub struct Run<'a, L> {
    /// The run's folder.
    pub folder: &'a RunFolder,
    /// Evaluates on the development split now and then.
    pub evaluate: Option<&'a mut dyn Evaluate<L>>,
    /// Is told what happens.
    pub progress: &'a dyn Progress,
    /// When set, the run ends after the current step, with a checkpoint.
    pub stop: &'a AtomicBool,
}

impl<L> Run<'_, L> {
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// How a training ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Steps done in all.
    pub step: usize,
    /// Whether these were all of them.
    pub finished: bool,
    /// The best evaluation.
    pub best: Option<Best>,
    /// Folder of the last checkpoint.
    pub last_checkpoint: Option<PathBuf>,
    /// Folder of the best checkpoint: the last one if nothing was evaluated.
    pub best_checkpoint: Option<PathBuf>,
}

/// The best evaluation so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Steps done before it.
    pub step: usize,
    /// Its score.
    pub score: f64,
}
