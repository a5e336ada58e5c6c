//! Finding candidates for a question.

use std::sync::Arc;

use mmrag_core::{Document, Origin, Question};
use serde::{Deserialize, Serialize};

use crate::bm25;
use crate::error::RagError;
use crate::version::contents_version;

/// Finds candidates for a question, best first.
pub trait Retriever: Send + Sync {
    /// At most `k` documents, best first, each once.
    ///
    /// # Errors
    ///
    /// When the collection cannot be searched.
    fn retrieve(&self, question: &Question, k: usize) -> Result<Vec<Hit>, RagError>;

    /// A name of the collection's contents: other contents, another name.
    fn version(&self) -> String;
}

/// A document that was found, with who found it.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// The document.
    pub document: Arc<Document>,
    /// Where it was read, if that is known.
    pub origin: Option<Origin>,
    /// Where it stood in each list that was searched.
    pub sources: Vec<SourceRank>,
}

/// The place of a document in one list of results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceRank {
    /// Which list.
    pub source: Source,
    /// The place in it, from 1.
    pub rank: usize,
    /// The score there; scores of different lists do not compare.
    pub score: f64,
    /// Whether only a part of the vectors was looked at, so that documents may be missing before
    /// this one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub approximate: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

impl SourceRank {
    /// A place in a list of all there is.
    pub fn exact(source: Source, rank: usize, score: f64) -> Self {
        Self { source, rank, score, approximate: false }
    }
}

/// A way of finding documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Source {
    /// Words in common, by BM25.
    Bm25,
    /// Likeness of what is said, by vectors.
    Dense,
    /// Likeness of a picture to the question's words, by vectors.
    Image,
    /// Likeness of a picture to the question's picture, by vectors.
    Picture,
    /// All lists together.
    Fused,
}

/// Candidate mode: the documents that come with one question. All of them are hits, those with
/// words in common first, the rest in the order they came in.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    /// The documents.
    pub documents: &'a [Arc<Document>],
}

impl Retriever for Candidates<'_> {
    fn retrieve(&self, question: &Question, k: usize) -> Result<Vec<Hit>, RagError> {
        let ranked = bm25::rank(&question.text, self.documents);
        Ok(hits(ranked.into_iter().take(k).map(|(i, score)| (&self.documents[i], score))))
    }

    fn version(&self) -> String {
        contents_version(self.documents)
    }
}

/// Hits of one BM25 list, best first.
pub(crate) fn hits<'a>(ranked: impl Iterator<Item = (&'a Arc<Document>, f64)>) -> Vec<Hit> {
    ranked
        .enumerate()
        .map(|(i, (document, score))| Hit {
            document: Arc::clone(document),
            origin: None,
            sources: vec![SourceRank::exact(Source::Bm25, i + 1, score)],
        })
        .collect()
}
