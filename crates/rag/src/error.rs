//! What can go wrong between a question and its explanation.

use std::path::{Path, PathBuf};

use mmrag_core::{DocumentId, EngineError, QuestionId};

/// Retrieval, the pipeline, the log of explanations or the report could not do their work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RagError {
    /// A file or folder could not be used.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried, such as `read`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A line of a file does not hold what it should.
    #[error("read line {line} of {}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A value could not be written as JSON.
    #[error("write {what} as JSON")]
    Json {
        /// Which value.
        what: &'static str,
        /// Why not.
        source: serde_json::Error,
    },
    /// The search engine under the index failed.
    #[error("{action} the word index")]
    Search {
        /// What was tried, such as `search`.
        action: &'static str,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Two documents of one collection have the same id.
    #[error("index the document {id} twice: ids must differ")]
    DuplicateDocument {
        /// The id.
        id: DocumentId,
    },
    /// A folder that should hold an index holds something else.
    #[error("use {} as an index: {reason}", path.display())]
    NotAnIndex {
        /// The folder.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },
    /// A folder that should hold a finished run does not.
    #[error("read the run {}: {reason}", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },
    /// Two runs have no question in common.
    #[error("pair the runs {} and {}: they have no question in common", a.display(), b.display())]
    NothingInCommon {
        /// The one.
        a: PathBuf,
        /// The other.
        b: PathBuf,
    },
    /// Two runs were not asked the same.
    #[error("pair the runs: question {question} has other gold answers in the second")]
    OtherGold {
        /// The question.
        question: QuestionId,
    },
    /// Somebody else writes to the collection.
    #[error("write to {}: somebody else does; try again when they are done", path.display())]
    BeingWritten {
        /// The collection's folder.
        path: PathBuf,
    },
    /// An embedder failed.
    #[error("embed")]
    Embedding {
        /// What it said.
        source: EngineError,
    },
    /// A question was embedded by something else than the documents.
    #[error("compare vectors of {found} values with those of the index, which have {expected}")]
    OtherWidth {
        /// Values of the question's vector.
        found: usize,
        /// Values of the documents'.
        expected: usize,
    },
    /// A question came without documents, and the pipeline has no collection to search.
    #[error(
        "find documents for question {question}: it has no candidates and the pipeline has no index"
    )]
    NoDocuments {
        /// The question.
        question: QuestionId,
    },
    /// An engine failed on a question.
    #[error("{action} for question {question}")]
    Engine {
        /// What was asked of it.
        action: &'static str,
        /// The question.
        question: QuestionId,
        /// What the engine said.
        source: EngineError,
    },
    /// An engine answered another number of things than it was asked for.
    #[error("{action} for question {question}: the engine gave {found} results for {expected}")]
    EngineCount {
        /// What was asked of it.
        action: &'static str,
        /// The question.
        question: QuestionId,
        /// Results wanted.
        expected: usize,
        /// Results given.
        found: usize,
    },
    /// A comparison names a variant that the report does not have.
    #[error("compare variants: {name} is not among {known}")]
    UnknownVariant {
        /// The name.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A variant has more training seeds than intervals are made for.
    #[error("compare variants: {name} has {found} seeds, more than {most}")]
    TooManySeeds {
        /// The variant.
        name: String,
        /// Seeds it has.
        found: usize,
        /// Seeds it may have.
        most: usize,
    },
    /// Variants that are to be compared were not run on the same questions in the same order.
    #[error("compare variants: {name} (seed {seed}) was run on other questions than the first")]
    DifferentQuestions {
        /// The variant.
        name: String,
        /// Its seed.
        seed: u64,
    },
}

impl RagError {
    pub(crate) fn io(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn search<E>(action: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Search { action, source: source.into() }
    }
}
