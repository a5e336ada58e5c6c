//! Does an answer stand on what it cites? The question is asked again without the cited documents,
//! and again without as many others, and the answers are compared.

use std::sync::Arc;

use mmrag_core::{Document, DocumentId, Question};
use mmrag_task::metrics::multimodalqa::exact_match;
use serde::{Deserialize, Serialize};

use crate::error::RagError;
use crate::explanation::{Candidate, Explanation};
use crate::pipeline::{Ask, Pipeline};
use crate::retriever::{Hit, Retriever};

/// What became of the answer without some of its documents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// What can be said.
    pub finding: Finding,
    /// In words.
    pub why: String,
    /// Asked without the cited documents. Absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_cited: Option<Again>,
    /// Asked without as many others, those that the ranker put first. Absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_others: Option<Again>,
}

/// What verifying an answer found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Finding {
    /// The answer changes without what it cites and stays without others: it stands on what it
    /// cites.
    Stands,
    /// The answer stays without what it cites: it comes from elsewhere.
    DoesNotDepend,
    /// The answer changes whichever documents are missing: nothing can be said.
    Unsteady,
    /// The answer cites nothing.
    NothingCited,
}

/// A question asked again without some documents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Again {
    /// The documents that were left out.
    pub without: Vec<DocumentId>,
    /// The answer then.
    pub answer: String,
    /// Whether there was none.
    pub abstained: bool,
    /// Whether it is the same answer, spelling aside.
    pub same: bool,
}

/// Asks again without what an explanation cites, and without as many others.
///
/// # Errors
///
/// As [`Pipeline::answer`].
pub fn verify(
    pipeline: &Pipeline<'_>,
    ask: &Ask<'_>,
    explanation: &Explanation,
) -> Result<Verification, RagError> {
    let mut cited: Vec<DocumentId> = Vec::new();
    for citation in &explanation.citations {
        if !cited.contains(&citation.document) {
            cited.push(citation.document.clone());
        }
    }
    if cited.is_empty() {
        let why = "the answer cites nothing".to_owned();
        let finding = Finding::NothingCited;
        return Ok(Verification { finding, why, without_cited: None, without_others: None });
    }
    let mut others: Vec<&Candidate> = explanation
        .candidates
        .iter()
        .filter(|candidate| candidate.rank.is_some() && !cited.contains(&candidate.document))
        .collect();
    others.sort_by_key(|candidate| candidate.rank.as_ref().map(|rank| rank.position));
    let others: Vec<DocumentId> =
        others.iter().take(cited.len()).map(|candidate| candidate.document.clone()).collect();
    let without_cited = again(pipeline, ask, explanation, cited)?;
    let without_others =
        if others.is_empty() { None } else { Some(again(pipeline, ask, explanation, others)?) };
    let others_change = without_others.as_ref().is_some_and(|again| !again.same);
    let (finding, why) = match (without_cited.same, others_change) {
        (true, _) => (
            Finding::DoesNotDepend,
            "the answer stays the same without the documents that it cites",
        ),
        (false, true) => {
            (Finding::Unsteady, "the answer changes also without documents that it does not cite")
        }
        (false, false) if without_others.is_none() => (
            Finding::Stands,
            "the answer changes without what it cites, and nothing else was shown",
        ),
        (false, false) => (
            Finding::Stands,
            "the answer changes without what it cites, and stays without as many others",
        ),
    };
    let without_cited = Some(without_cited);
    Ok(Verification { finding, why: why.to_owned(), without_cited, without_others })
}

fn again(
    pipeline: &Pipeline<'_>,
    ask: &Ask<'_>,
    first: &Explanation,
    without: Vec<DocumentId>,
) -> Result<Again, RagError> {
    let left: Option<Vec<Arc<Document>>> = ask.candidates.map(|candidates| {
        candidates.iter().filter(|document| !without.contains(&document.id)).cloned().collect()
    });
    let retriever = pipeline.retriever.map(|inner| Without { inner, left_out: &without });
    let retriever = retriever.as_ref().map(|retriever| retriever as &dyn Retriever);
    let pipeline = Pipeline { retriever, ..*pipeline };
    let explanation = pipeline.answer(ask.question, left.as_deref())?;
    let items = |answer: &str| -> Vec<String> {
        answer.split(';').map(|item| item.trim().to_owned()).collect()
    };
    let same = first.abstained == explanation.abstained
        && exact_match(&items(&explanation.answer), &items(&first.answer)) == 1.0;
    let Explanation { answer, abstained, .. } = explanation;
    Ok(Again { without, answer, abstained, same })
}

/// What a retriever finds, some documents left out and no others in their place.
struct Without<'a> {
    inner: &'a dyn Retriever,
    left_out: &'a [DocumentId],
}

impl Retriever for Without<'_> {
    fn retrieve(&self, question: &Question, k: usize) -> Result<Vec<Hit>, RagError> {
        let mut hits = self.inner.retrieve(question, k)?;
        hits.retain(|hit| !self.left_out.contains(&hit.document.id));
        Ok(hits)
    }

    fn version(&self) -> String {
        self.inner.version()
    }
}
