//! The explanation: one object for an answered question, read by the command line, the server, the
//! page, trace files and evaluation alike.

mod attribution;
mod confidence;
mod quote;
mod reasoning;

use mmrag_core::{DocumentId, Modality, Origin, Question, QuestionId};
use serde::{Deserialize, Serialize};

use crate::retriever::SourceRank;

pub use attribution::{Attribution, Method, Told};
pub use confidence::{ConfidenceMap, answer_confidence};
pub use quote::{Quote, find_quote};
pub use reasoning::{ReasoningStep, reasoning_steps, sentences};

/// Why a question got its answer: what was found, what was kept, how it was ordered, what was
/// cited, and what became of every other candidate.
///
/// The order of its keys as JSON is the order of the fields here. Made again from the same
/// collection, model, adapters and seed it is the same to the byte, `timings_ms` aside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// What was asked.
    pub question: Asked,
    /// The answer without its citations, items of a list joined by `"; "`. `none` if the policy said
    /// so or was shown no document; empty if it said nothing that can be read.
    pub answer: String,
    /// Whether there is no answer: the policy says that the documents hold none or, as `fallback`
    /// tells, it was shown none or said nothing that can be read.
    pub abstained: bool,
    /// How sure the policy is of the answer, in [0, 1]. Absent if there is no answer or the engine
    /// tells no probabilities.
    pub confidence: Option<f64>,
    /// What the answer rests on, in order of mention.
    pub citations: Vec<Citation>,
    /// Every document that was found, in the order of retrieval, also those that were dropped.
    pub candidates: Vec<Candidate>,
    /// The reasoning, step by step.
    pub reasoning: Vec<ReasoningStep>,
    /// The model that answered.
    pub model: String,
    /// The adapters on it: of the filter, of the ranker.
    pub adapters: Vec<String>,
    /// The version of the collection that was searched.
    pub index_version: String,
    /// The seed of label orders and draws.
    pub seed: u64,
    /// Present if the answer is not what the policy replied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// For each picture that is cited, which parts of it the policy rested on. Absent if it was not
    /// asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribution: Option<Vec<Attribution>>,
    /// How long each part took.
    pub timings_ms: Timings,
}

impl Explanation {
    /// Whether the ranker's reply could not be read.
    pub fn is_unparsable(&self) -> bool {
        self.fallback.as_ref().is_some_and(|f| f.kind == FallbackKind::Unparsable)
    }

    /// The same with all timings 0, to compare with another run.
    #[must_use]
    pub fn without_timings(mut self) -> Self {
        self.timings_ms = Timings::default();
        self
    }
}

/// A question as it was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// Its identity.
    pub id: QuestionId,
    /// The words.
    pub text: String,
    /// How many pictures belong to it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub images: usize,
}

impl From<&Question> for Asked {
    fn from(question: &Question) -> Self {
        let text = question.text.clone();
        Self { id: question.id.clone(), text, images: question.images.len() }
    }
}

/// A document that the answer cites.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Citation {
    /// Its label in the ranker's prompt.
    pub label: usize,
    /// The document.
    pub document: DocumentId,
    /// Its title.
    pub title: String,
    /// Its kind.
    pub modality: Modality,
    /// Of a table, the row and column (from 0; the header is no row) of the cell quoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cells: Option<Vec<[usize; 2]>>,
    /// The longest span of its text or of one cell that the answer or a step about it repeats.
    /// Of a picture, of its caption.
    pub quote: Option<String>,
    /// Where the quote begins and ends in that text, cell or caption, in characters.
    pub span: Option<[usize; 2]>,
    /// Where the document was read. Of a text on a page its boxes are those of the quote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// A document that was found, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The document.
    pub document: DocumentId,
    /// Its title.
    pub title: String,
    /// Its kind.
    pub modality: Modality,
    /// Where it was read, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// How it was found.
    pub retrieval: Vec<SourceRank>,
    /// What the filter said. Absent if there was no filter or it could not read the document.
    pub filter: Option<Filtering>,
    /// Where the ranker put it. Absent if it was dropped before.
    pub rank: Option<Ranking>,
    /// Whether the answer cites it.
    pub cited: bool,
    /// Where it was dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped_at: Option<DroppedAt>,
    /// Why it was dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped_why: Option<String>,
}

/// What the filter said about a candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Filtering {
    /// Whether it stays.
    pub verdict: Verdict,
    /// P(Yes) / (P(Yes) + P(No)); absent if the filter said neither.
    pub p: Option<f64>,
    /// From here on a candidate stays.
    pub threshold: f64,
    /// What decided.
    pub why: String,
    /// What the filter wrote before its verdict, where it reasons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
}

/// Whether a candidate stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It goes on to the ranker.
    Keep,
    /// It does not.
    Drop,
}

/// Where the ranker put a candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// Its place in the order, from 1.
    pub position: usize,
    /// Its label in the prompt.
    pub label: usize,
    /// The first step of the reasoning that names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The part of the pipeline that dropped a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DroppedAt {
    /// Its picture could not be read.
    Read,
    /// The filter.
    Filter,
    /// The prompt would have been too long.
    Prompt,
}

/// The answer is not what the policy replied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fallback {
    /// What happened.
    pub kind: FallbackKind,
    /// In words.
    pub why: String,
    /// What the policy wrote, if it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
}

/// Why an answer is not what the policy replied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FallbackKind {
    /// The reply could not be read: no answer, and the order is the filter's.
    Unparsable,
    /// No candidate was left to answer from: the answer is `none`.
    NothingKept,
}

/// How long each part took, in milliseconds. Of questions answered together, the even share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Finding candidates.
    pub retrieve: f64,
    /// Filtering.
    pub filter: f64,
    /// Ranking and answering.
    pub rank: f64,
    /// All three.
    pub total: f64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}
