//! How good explanations are, measured by asking again: does the answer rest on what it cites, does
//! it follow an edited document, does it follow its own reasoning, does the order agree with the
//! citations?
//!
//! Every probe is one more greedy reply of the ranker to a question whose documents or reasoning
//! were changed. What is known from the explanation alone needs no probe.

mod agreement;
mod measures;
mod pointing;
mod probe;

use std::collections::BTreeSet;

use mmrag_core::{EngineError, Example, Gold, Modality, QuestionId};
use mmrag_task::{NONE, answer_items, score_answer};
use serde::{Deserialize, Serialize};

use crate::evaluation::Outcome;
use crate::explanation::Explanation;
use crate::pipeline::RankStage;

pub use measures::{Measure, Measures, measures};
pub use pointing::{Picture, Pointed, PointingMeasures, PointingRow, pointing_measures};

/// Shares of the reasoning that are kept where it is cut off, by steps.
pub const THINK_SHARES: [f64; 4] = [0.0, 0.25, 0.5, 0.75];

/// A question with all that is asked about its explanation.
#[derive(Clone, Copy, Debug)]
pub struct Probed<'a> {
    /// The question with its documents.
    pub example: &'a Example,
    /// The question over an edited document, with what is then right, where there is one.
    pub edited: Option<&'a Example>,
    /// The explanation.
    pub explanation: &'a Explanation,
    /// How right the answer is.
    pub outcome: &'a Outcome,
}

/// What was found of one explanation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QualityRow {
    /// The question.
    pub question: QuestionId,
    /// Its type.
    pub kind: String,
    /// The kinds of its gold documents.
    pub modalities: BTreeSet<Modality>,
    /// How many gold documents it has.
    pub documents: usize,
    /// Answer F1.
    pub f1: f64,
    /// Citation precision, recall and F1; absent without gold documents.
    pub cited: Option<[f64; 3]>,
    /// The answer without the cited documents. Absent, as the next two, where the answer cites
    /// nothing or there are fewer uncited documents than cited ones.
    pub without_cited: Option<Again>,
    /// The answer without as many uncited documents.
    pub without_others: Option<Again>,
    /// The answer from the cited documents alone.
    pub cited_only: Option<Again>,
    /// The answer over an edited document that was cited before.
    pub counterfactual: Option<Followed>,
    /// Whether the answer stays if the reasoning is cut off at [`THINK_SHARES`] and the order
    /// given: what is written after it is the answer alone. Empty without two steps.
    pub cut_think: Vec<bool>,
    /// Whether it stays if the steps of the reasoning change places.
    pub shuffled_think: Option<bool>,
    /// Whether the cited documents stand first in the order.
    pub order_agrees: Option<bool>,
    /// How likely a cited document stands before an uncited one.
    pub citation_auc: Option<f64>,
    /// Kendall's τ-b of the filter's probabilities and the ranker's order.
    pub filter_tau: Option<f64>,
    /// Steps of the reasoning.
    pub steps: usize,
    /// Those that name a document.
    pub steps_naming: usize,
    /// Share of the gold documents that the reasoning names.
    pub gold_named: Option<f64>,
}

/// An answer to a question that was asked again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Again {
    /// The answer; empty if the reply could not be read.
    pub answer: String,
    /// Whether it is the answer of before.
    pub same: bool,
    /// Its F1 against gold.
    pub f1: f64,
}

/// An answer over an edited document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Followed {
    /// The answer.
    pub answer: String,
    /// What the edited document tells.
    pub edited: String,
    /// Whether the answer is what the edited document tells.
    pub followed: bool,
    /// Whether it is still the answer of before.
    pub kept: bool,
}

/// Asks again about each explanation, with one call of the engine for all; in their order. The
/// seed decides which uncited documents leave, and how steps change places.
///
/// # Errors
///
/// When the engine fails.
pub fn probe_all(
    rank: &RankStage<'_>,
    probed: &[Probed<'_>],
    seed: u64,
) -> Result<Vec<QualityRow>, EngineError> {
    let asked: Vec<Vec<probe::Probe>> =
        probed.iter().map(|probed| probe::probes(rank.stage, probed, seed)).collect();
    let prompts: Vec<_> = asked.iter().flatten().map(|probe| probe.prompt.clone()).collect();
    let mut replies = if prompts.is_empty() {
        Vec::new().into_iter()
    } else {
        rank.engine.generate(&prompts, rank.sampling)?.into_iter()
    };
    let mut rows = Vec::with_capacity(probed.len());
    for (probed, probes) in probed.iter().zip(&asked) {
        let mut row = QualityRow::of(probed);
        for probe in probes {
            let completion = replies.next().and_then(|completions| completions.into_iter().next());
            let completion = completion.ok_or_else(|| {
                EngineError::new("the engine gave fewer completions than prompts")
            })?;
            row.add(probed, probe, &probe.answer(rank.stage, &completion.text));
        }
        rows.push(row);
    }
    Ok(rows)
}

impl QualityRow {
    /// What is known without asking again.
    fn of(probed: &Probed<'_>) -> Self {
        let Probed { explanation, outcome, .. } = probed;
        let names = |step: &&crate::explanation::ReasoningStep| !step.documents.is_empty();
        Self {
            question: outcome.question.clone(),
            kind: outcome.kind.clone(),
            modalities: outcome.modalities.clone(),
            documents: outcome.gold_documents.len(),
            f1: outcome.answer_f1,
            cited: outcome.cited.map(|score| [score.precision, score.recall, score.f1]),
            without_cited: None,
            without_others: None,
            cited_only: None,
            counterfactual: None,
            cut_think: Vec::new(),
            shuffled_think: None,
            order_agrees: agreement::order_agrees(explanation),
            citation_auc: agreement::citation_auc(explanation),
            filter_tau: agreement::filter_tau(explanation),
            steps: explanation.reasoning.len(),
            steps_naming: explanation.reasoning.iter().filter(names).count(),
            gold_named: agreement::gold_named(explanation, &outcome.gold_documents),
        }
    }

    fn add(&mut self, probed: &Probed<'_>, probe: &probe::Probe, answer: &str) {
        let before = &probed.explanation.answer;
        let again = || Again {
            answer: answer.to_owned(),
            same: is_same(answer, before),
            f1: score_answer(answer, &probed.example.gold).f1,
        };
        match probe.kind {
            probe::Kind::WithoutCited => self.without_cited = Some(again()),
            probe::Kind::WithoutOthers => self.without_others = Some(again()),
            probe::Kind::CitedOnly => self.cited_only = Some(again()),
            probe::Kind::CutThink => self.cut_think.push(is_same(answer, before)),
            probe::Kind::ShuffledThink => self.shuffled_think = Some(is_same(answer, before)),
            probe::Kind::Counterfactual => {
                let gold = probed.edited.map(|edited| &edited.gold);
                self.counterfactual = gold.map(|gold| Followed {
                    answer: answer.to_owned(),
                    edited: gold.answers.join("; "),
                    followed: score_answer(answer, gold).em > 0.5,
                    kept: is_same(answer, before),
                });
            }
        }
    }
}

/// Whether two answers are the same by MultimodalQA's rules.
fn is_same(answer: &str, before: &str) -> bool {
    if answer.is_empty() || before.is_empty() {
        return answer == before;
    }
    if before.eq_ignore_ascii_case(NONE) || answer.eq_ignore_ascii_case(NONE) {
        return answer.eq_ignore_ascii_case(before);
    }
    let gold = Gold { answers: answer_items(before), ..Gold::default() };
    score_answer(answer, &gold).em > 0.5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_the_same_by_the_metric() {
        assert!(is_same("The red", "red") && is_same("a; b", "b; a"));
        assert!(!is_same("a", "a; b") && !is_same("none", "red") && !is_same("", "red"));
        assert!(is_same("None", "none"));
    }
}
