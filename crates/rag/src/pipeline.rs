//! The pipeline: question → retrieved → filtered → answered → explanation.
//!
//! Many questions go through each arrow together, because engines are much faster on many prompts
//! at once; what a question gets does not depend on what else is in the batch.

mod attribute;
mod explain;
mod filter;
mod opinion;
mod rank;

use std::sync::Arc;
use std::time::Instant;

use mmrag_core::{
    Attribute, Choose, Completion, Document, DocumentId, Generate, Question, Sampling,
};
use mmrag_task::{GrammarError, Reply, Stage};
use serde::{Deserialize, Serialize};

use crate::error::RagError;
use crate::explanation::{ConfidenceMap, DroppedAt, Explanation, Filtering, Verdict};
use crate::retriever::{Candidates, Hit, Retriever};

pub use opinion::Opinion;
pub use rank::Shown;

/// Answers questions and explains the answers.
#[derive(Clone, Copy)]
pub struct Pipeline<'a> {
    /// Finds documents for questions that come without any. None: such questions are errors.
    pub retriever: Option<&'a dyn Retriever>,
    /// How many documents are retrieved at most. Documents that come with a question are all taken.
    pub top_k: usize,
    /// Drops what is plainly irrelevant. None: everything retrieved goes to the ranker.
    pub filter: Option<FilterStage<'a>>,
    /// Orders what is left, and answers.
    pub rank: RankStage<'a>,
    /// Seed of label orders and draws.
    pub seed: u64,
    /// What is written into explanations about who answered.
    pub names: Names<'a>,
    /// Turns the raw confidence into the share of answers right at it. None: raw.
    pub confidence: Option<&'a ConfidenceMap>,
}

/// Who answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names<'a> {
    /// The model.
    pub model: &'a str,
    /// The adapters on it.
    pub adapters: &'a [String],
}

/// The stage that says of each candidate alone whether it helps.
#[derive(Clone, Copy)]
pub struct FilterStage<'a> {
    /// How it asks.
    pub stage: &'a Stage,
    /// Whom it asks for verdicts.
    pub engine: &'a dyn Choose,
    /// Who writes the reasoning of a stage that reasons before its verdict.
    pub writer: Option<&'a dyn Generate>,
    /// The reasoning ends after so many tokens at the latest.
    pub max_new_tokens: usize,
    /// A candidate stays from this P(Yes) / (P(Yes) + P(No)) up.
    pub threshold: f64,
    /// At least so many candidates stay.
    pub k_min: usize,
    /// At most so many candidates stay.
    pub k_max: usize,
}

/// The stage that orders all candidates that are left, and answers.
#[derive(Clone, Copy)]
pub struct RankStage<'a> {
    /// How it asks, and how it reads the reply.
    pub stage: &'a Stage,
    /// Whom it asks.
    pub engine: &'a dyn Generate,
    /// Who says which parts of pictures a reply rests on. None: nobody can.
    pub attributor: Option<&'a dyn Attribute>,
    /// How the reply is drawn. `n` is taken as 1, and `seed` as the pipeline's.
    pub sampling: &'a Sampling,
    /// A prompt with more tokens loses whole documents until it fits.
    pub max_prompt_tokens: usize,
    /// Whether replies are held to the stage's grammar while they are written, so that all but those
    /// that are cut off can be read.
    pub constrained: bool,
    /// In which order the documents are labelled.
    pub labels: LabelOrder,
    /// Whose order is told.
    pub order: OrderBy,
}

/// In which order the ranker sees the documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelOrder {
    /// Drawn for each question: the place says nothing, as in training.
    #[default]
    Drawn,
    /// As they were retrieved, or came with the question.
    Retrieved,
}

/// Whose order of the documents is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderBy {
    /// The ranker's, which sees all documents together.
    #[default]
    Reply,
    /// The filter's probabilities, one document at a time; without a filter that of retrieval.
    Filter,
}

/// A question to answer.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The question.
    pub question: &'a Question,
    /// The documents it comes with. None: the collection is searched.
    pub candidates: Option<&'a [Arc<Document>]>,
}

/// A question with what was found for it.
#[derive(Clone, Debug)]
pub struct Retrieved<'a> {
    /// The question.
    pub question: &'a Question,
    /// What was found, best first.
    pub hits: Vec<Hit>,
    /// The version of the collection that was searched.
    pub index_version: String,
    /// How long it took.
    pub retrieve_ms: f64,
}

/// What was found, with what the filter said about each.
#[derive(Clone, Debug)]
pub struct Filtered<'a> {
    /// What was found.
    pub retrieved: Retrieved<'a>,
    /// What the filter said about each hit. Absent without a filter, and of unreadable documents.
    pub filtering: Vec<Option<Filtering>>,
    /// The hits that stay, the most helpful first.
    pub kept: Vec<usize>,
    /// The hits that do not.
    pub dropped: Vec<Dropped>,
    /// How long it took.
    pub filter_ms: f64,
}

impl Filtered<'_> {
    /// Keeps a document whatever the filter said of it, because the one who asks wants it shown.
    /// Whether it is among the hits. It comes first, so that a prompt that is too long loses others.
    pub fn keep_anyway(&mut self, id: &DocumentId) -> bool {
        let hits = &self.retrieved.hits;
        let Some(hit) = hits.iter().position(|hit| hit.document.id == *id) else { return false };
        let was_read = |dropped: &Dropped| dropped.at != DroppedAt::Read;
        let is_unreadable = self.dropped.iter().any(|d| d.hit == hit && !was_read(d));
        if is_unreadable {
            return true;
        }
        self.dropped.retain(|dropped| dropped.hit != hit);
        self.kept.retain(|kept| *kept != hit);
        self.kept.insert(0, hit);
        if let Some(filtering) = &mut self.filtering[hit]
            && filtering.verdict == Verdict::Drop
        {
            filtering.verdict = Verdict::Keep;
            filtering.why = format!("{}, but it was asked for", filtering.why);
        }
        true
    }
}

/// A hit that was dropped.
#[derive(Clone, Debug, PartialEq)]
pub struct Dropped {
    /// Which hit.
    pub hit: usize,
    /// By which part.
    pub at: DroppedAt,
    /// Why.
    pub why: String,
}

/// What was kept, with what the ranker replied.
#[derive(Clone, Debug)]
pub struct Answered<'a> {
    /// What was kept. Documents that did not fit are moved from `kept` to `dropped`.
    pub filtered: Filtered<'a>,
    /// What the ranker was shown and wrote. None if no document was left to show.
    pub replied: Option<Replied>,
    /// How long it took.
    pub rank_ms: f64,
}

/// A prompt of the ranker and its reply.
#[derive(Clone, Debug)]
pub struct Replied {
    /// The documents as they were labelled.
    pub shown: Shown,
    /// What the policy wrote.
    pub completion: Completion,
    /// What it says, if it can be read.
    pub reply: Result<Reply, GrammarError>,
    /// The mean probability of the answer's tokens, where the engine tells.
    pub confidence: Option<f64>,
}

impl<'a> Pipeline<'a> {
    /// Answers one question.
    ///
    /// # Errors
    ///
    /// When the collection cannot be searched or an engine fails. A document whose picture cannot
    /// be read is dropped and recorded, and a reply that cannot be read is a [`Fallback`]: neither
    /// is an error.
    ///
    /// [`Fallback`]: crate::explanation::Fallback
    pub fn answer(
        &self,
        question: &'a Question,
        candidates: Option<&'a [Arc<Document>]>,
    ) -> Result<Explanation, RagError> {
        let mut answers = self.answer_batch(&[Ask { question, candidates }]);
        answers.pop().expect("one question has one answer")
    }

    /// Answers many questions: all filter prompts in one call of the engine, all rank prompts in
    /// another. The explanations are those of one by one, timings aside; a question that fails
    /// does not disturb the others.
    pub fn answer_batch(&self, asks: &[Ask<'a>]) -> Vec<Result<Explanation, RagError>> {
        let retrieved = asks.iter().map(|ask| self.retrieve(ask)).collect();
        let filtered = self.filter_all(retrieved);
        let answered = self.rank_all(filtered);
        answered.into_iter().map(|answered| Ok(self.explain(answered?))).collect()
    }

    /// Finds the candidates of a question.
    ///
    /// # Errors
    ///
    /// When the question has no documents and there is no collection, or it cannot be searched.
    pub fn retrieve(&self, ask: &Ask<'a>) -> Result<Retrieved<'a>, RagError> {
        let start = Instant::now();
        let question = ask.question;
        let (hits, index_version) = match (ask.candidates, self.retriever) {
            (Some(documents), _) => {
                let candidates = Candidates { documents };
                (candidates.retrieve(question, documents.len())?, candidates.version())
            }
            (None, Some(retriever)) => {
                (retriever.retrieve(question, self.top_k)?, retriever.version())
            }
            (None, None) => {
                return Err(RagError::NoDocuments { question: question.id.clone() });
            }
        };
        Ok(Retrieved { question, hits, index_version, retrieve_ms: elapsed_ms(start) })
    }
}

fn elapsed_ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
