//! What can go wrong while a policy is trained.

use std::error::Error;
use std::path::{Path, PathBuf};

use mmrag_core::EngineError;

/// What a source of examples or an evaluation may say went wrong.
pub type SourceError = Box<dyn Error + Send + Sync>;

/// A training could not begin or go on. Messages read after "failed to".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The settings contradict themselves.
    #[error("train with {key} = {value}: {why}")]
    Settings {
        /// The key in the run file.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A run folder holds a run with other settings.
    #[error("resume the run in {}: its {key} differs from what it is to be resumed with; use another \
             folder, or what its settings.json says", path.display())]
    OtherRun {
        /// The run folder.
        path: PathBuf,
        /// The first key that differs.
        key: String,
    },
    /// A file of the run folder could not be read or written.
    #[error("{doing} {}", path.display())]
    File {
        /// `read`, `write`, …
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of the run folder does not hold what it should.
    #[error("understand {}: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// An example or lesson could not be had.
    #[error("get {what} {index}")]
    Source {
        /// `example` or `lesson`.
        what: &'static str,
        /// Its place in the source.
        index: usize,
        /// What the source said.
        source: SourceError,
    },
    /// The source has nothing a stage could be trained on.
    #[error("find {wanted} training cases for a step: the examples give only {found}")]
    TooFewCases {
        /// Cases of a step.
        wanted: usize,
        /// Cases found.
        found: usize,
    },
    /// The policy could not do what it was asked.
    #[error("{doing} at step {step}")]
    Policy {
        /// What it was asked.
        doing: &'static str,
        /// Steps done before.
        step: usize,
        /// What it said.
        source: EngineError,
    },
    /// A question with its documents, or a lesson, could not be made ready for the policy.
    #[error("encode {what} at step {step}")]
    Encode {
        /// Which question, or which lesson.
        what: String,
        /// Steps done before.
        step: usize,
        /// What the policy said.
        source: EngineError,
    },
    /// The evaluation failed.
    #[error("evaluate at step {step}")]
    Evaluation {
        /// Steps done before.
        step: usize,
        /// What it said.
        source: SourceError,
    },
    /// A model, an adapter or reference outputs could not be read.
    #[error(transparent)]
    Model(Box<mmrag_model::ModelError>),
    /// A computation on tensors failed.
    #[error("{doing} at step {step}")]
    Tensor {
        /// What was computed.
        doing: &'static str,
        /// Steps done before.
        step: usize,
        /// What candle said.
        source: candle_core::Error,
    },
}

impl From<mmrag_model::ModelError> for TrainError {
    fn from(error: mmrag_model::ModelError) -> Self {
        Self::Model(Box::new(error))
    }
}

impl TrainError {
    pub(crate) fn file(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { doing, path, source }
    }

    pub(crate) fn malformed(path: &Path, why: &dyn ToString) -> Self {
        Self::Malformed { path: path.to_path_buf(), why: why.to_string() }
    }

    pub(crate) fn policy(doing: &'static str, step: usize) -> impl FnOnce(EngineError) -> Self {
        move |source| Self::Policy { doing, step, source }
    }

    pub(crate) fn encode(what: String, step: usize) -> impl FnOnce(EngineError) -> Self {
        move |source| Self::Encode { what, step, source }
    }

    pub(crate) fn tensor(
        doing: &'static str,
        step: usize,
    ) -> impl FnOnce(candle_core::Error) -> Self {
        move |source| Self::Tensor { doing, step, source }
    }
}
