//! What reading a data set gives: examples, documents, and what was wrong with the files.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use mmrag_core::{Document, DocumentId, Example};

use crate::DataError;

/// A row that was left out, or of which something was.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}: {}", self.file.display(), self.line, self.what)
    }
}

/// Where a document is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<PathBuf>,
    /// The line, counted from 1.
    pub line: usize,
}

impl Place {
    /// What is wrong with what is named here.
    pub fn problem(&self, what: impl Into<String>) -> Problem {
        Problem { file: self.file.to_path_buf(), line: self.line, what: what.into() }
    }
}

impl From<Problem> for DataError {
    fn from(Problem { file, line, what }: Problem) -> Self {
        Self::Row { file, line, what }
    }
}

/// What a folder holds.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The questions of the split, in the file's order. A question without answers in the file
    /// has an empty [`Gold`](mmrag_core::Gold).
    pub examples: Vec<Example>,
    /// The pool: tables, texts, images, in the files' order. Pictures that no question of the
    /// split has as a candidate may be listed unopened.
    pub documents: Vec<Arc<Document>>,
    /// Where each of the documents is named.
    pub places: Vec<Place>,
    /// What was left out, by file and line.
    pub problems: Vec<Problem>,
}

impl Loaded {
    /// Keeps of the pool what a question has as a candidate.
    #[must_use]
    pub fn with_candidates_only(mut self) -> Self {
        let candidates = self.examples.iter().flat_map(|example| &example.candidates);
        let kept: HashSet<DocumentId> = candidates.map(|document| document.id.clone()).collect();
        let pool = std::mem::take(&mut self.documents).into_iter().zip(self.places);
        (self.documents, self.places) = pool.filter(|(d, _)| kept.contains(&d.id)).unzip();
        self
    }

    /// Takes the first problem for an error.
    ///
    /// # Errors
    ///
    /// When there is a problem.
    pub fn strict(self) -> Result<Self, DataError> {
        match self.problems.first() {
            None => Ok(self),
            Some(problem) => Err(problem.clone().into()),
        }
    }
}
