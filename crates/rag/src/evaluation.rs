//! An explanation against gold: what one answered question is worth, step by step.

mod benchmark;
mod failure;
mod slice;

use std::collections::BTreeSet;
use std::fmt;

use mmrag_core::{DocumentId, Example, Modality, QuestionId};
use mmrag_task::metrics::{SetScore, ndcg, set_score};
use mmrag_task::score_answer;
use serde::{Deserialize, Serialize};

use crate::explanation::{Candidate, DroppedAt, Explanation};

pub use benchmark::{Benchmark, BenchmarkScores};
pub use failure::Failure;
pub use slice::Slicing;

/// How one question went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Outcome {
    /// The question.
    pub question: QuestionId,
    /// Its words.
    #[serde(default)]
    pub text: String,
    /// What was answered.
    #[serde(default)]
    pub answer: String,
    /// What is right; empty if the question has no answer.
    #[serde(default)]
    pub gold: Vec<String>,
    /// The data set's name for its type.
    pub kind: String,
    /// The documents that support what is right.
    #[serde(default)]
    pub gold_documents: Vec<DocumentId>,
    /// The kinds of its gold documents.
    pub modalities: BTreeSet<Modality>,
    /// Whether it needs a picture: its type says so (`Image`, in any case), or a gold document is
    /// one.
    pub picture_dependent: bool,
    /// Whether it can be answered.
    pub answerable: bool,
    /// Whether it got no answer, other than by a reply that could not be read.
    pub abstained: bool,
    /// Whether the ranker's reply could not be read.
    pub unparsable: bool,
    /// How sure the policy was.
    pub confidence: Option<f64>,
    /// Exact match by MultimodalQA's rules, 0 or 1.
    pub answer_em: f64,
    /// F1 by MultimodalQA's rules.
    pub answer_f1: f64,
    /// Gold among what was retrieved. Like all that follows absent if there is no gold document.
    pub retrieved: Option<SetScore>,
    /// Gold among what the filter kept.
    pub filtered: Option<SetScore>,
    /// Gold among what the ranker was shown.
    #[serde(default)]
    pub ranked: Option<SetScore>,
    /// Gold among what the answer cites.
    pub cited: Option<SetScore>,
    /// nDCG over all candidates: the ranker's order, then the dropped ones by their filter score.
    pub ndcg: Option<f64>,
    /// Whether every gold document reached the ranker.
    pub gold_kept: Option<bool>,
    /// Share of the other candidates that did not. Absent if there are none; present without gold.
    pub distractors_dropped: Option<f64>,
    /// What the rules of the question's benchmark say, where it has its own.
    #[serde(default, skip_serializing_if = "BenchmarkScores::is_empty")]
    pub benchmark: BenchmarkScores,
}

impl Outcome {
    /// Judges an explanation. A gold document that is not among the candidates counts as missed.
    pub fn of(explanation: &Explanation, example: &Example) -> Self {
        let gold: BTreeSet<&DocumentId> = example.gold.documents.iter().collect();
        let gold: Vec<&DocumentId> = gold.into_iter().collect();
        let candidates = &explanation.candidates;
        let ids = |keep: &dyn Fn(&Candidate) -> bool| -> Vec<&DocumentId> {
            candidates.iter().filter(|c| keep(c)).map(|c| &c.document).collect()
        };
        let shown = ids(&|c| c.dropped_at.is_none());
        let passed = ids(&|c| matches!(c.dropped_at, None | Some(DroppedAt::Prompt)));
        let answer = score_answer(&explanation.answer, &example.gold);
        let modalities = modalities(example, &gold);
        Self {
            question: example.question.id.clone(),
            text: example.question.text.clone(),
            answer: explanation.answer.clone(),
            gold: example.gold.answers.clone(),
            kind: example.kind.clone(),
            gold_documents: example.gold.documents.clone(),
            picture_dependent: example.kind.to_lowercase().contains("image")
                || modalities.contains(&Modality::Image),
            modalities,
            answerable: example.gold.is_answerable(),
            abstained: explanation.abstained && !explanation.is_unparsable(),
            unparsable: explanation.is_unparsable(),
            confidence: explanation.confidence,
            answer_em: answer.em,
            answer_f1: answer.f1,
            retrieved: set_score(&ids(&|_| true), &gold),
            filtered: set_score(&passed, &gold),
            ranked: set_score(&shown, &gold),
            cited: set_score(&ids(&|c| c.cited), &gold),
            ndcg: ndcg(&whole_order(candidates), &gold),
            gold_kept: (!gold.is_empty()).then(|| gold.iter().all(|id| shown.contains(id))),
            distractors_dropped: share_dropped(candidates, &gold),
            benchmark: BenchmarkScores::default(),
        }
    }

    /// The answer, if one was given.
    pub fn given_answer(&self) -> Option<&str> {
        (!self.abstained && !self.unparsable).then_some(&*self.answer)
    }
}

/// A figure of an outcome. All are fractions, and a mean of them over questions is one too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of answers that match exactly.
    AnswerEm,
    /// Answer F1.
    AnswerF1,
    /// F1 of the cited documents against gold.
    CitedF1,
    /// nDCG over all candidates.
    Ndcg,
    /// Share of questions whose gold documents all reached the ranker.
    GoldKept,
    /// Share of the other candidates that did not.
    DistractorsDropped,
    /// Share of replies that could not be read.
    Unparsable,
    /// WebQA's QA-Acc with looked-up lemmas.
    QaAcc,
    /// WebQA's QA-FL.
    QaFl,
    /// WebQA's QA: their product, question by question.
    Qa,
    /// The agreement with people's answers of VQA v2 or TextVQA.
    VqaAccuracy,
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Metric {
    /// The metric of this name in files.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|metric| metric.name() == name)
    }

    /// Those of every run, in the order of tables.
    pub const CORE: [Self; 7] = [
        Self::AnswerEm,
        Self::AnswerF1,
        Self::CitedF1,
        Self::Ndcg,
        Self::GoldKept,
        Self::DistractorsDropped,
        Self::Unparsable,
    ];

    /// Those that only a benchmark's own rules give.
    const OF_BENCHMARKS: [Self; 4] = [Self::QaAcc, Self::QaFl, Self::Qa, Self::VqaAccuracy];

    /// All, in the order of tables: [`CORE`](Self::CORE), then those of benchmarks.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::CORE.into_iter().chain(Self::OF_BENCHMARKS)
    }

    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::AnswerEm => "answer_em",
            Self::AnswerF1 => "answer_f1",
            Self::CitedF1 => "cited_f1",
            Self::Ndcg => "ndcg",
            Self::GoldKept => "gold_kept",
            Self::DistractorsDropped => "distractors_dropped",
            Self::Unparsable => "unparsable",
            Self::QaAcc => "qa_acc",
            Self::QaFl => "qa_fl",
            Self::Qa => "qa",
            Self::VqaAccuracy => "vqa_accuracy",
        }
    }

    /// Its name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::AnswerEm => "Answer EM",
            Self::AnswerF1 => "Answer F1",
            Self::CitedF1 => "Citation F1",
            Self::Ndcg => "nDCG",
            Self::GoldKept => "Gold kept",
            Self::DistractorsDropped => "Distractors dropped",
            Self::Unparsable => "Unparsable",
            Self::QaAcc => "QA-Acc",
            Self::QaFl => "QA-FL",
            Self::Qa => "QA",
            Self::VqaAccuracy => "VQA accuracy",
        }
    }

    /// Whether less of it is better.
    pub fn less_is_better(self) -> bool {
        self == Self::Unparsable
    }

    /// Its value for one question; none where it does not apply.
    pub fn of(self, outcome: &Outcome) -> Option<f64> {
        match self {
            Self::AnswerEm => Some(outcome.answer_em),
            Self::AnswerF1 => Some(outcome.answer_f1),
            Self::CitedF1 => outcome.cited.map(|score| score.f1),
            Self::Ndcg => outcome.ndcg,
            Self::GoldKept => outcome.gold_kept.map(f64::from),
            Self::DistractorsDropped => outcome.distractors_dropped,
            Self::Unparsable => Some(f64::from(outcome.unparsable)),
            Self::QaAcc => outcome.benchmark.qa_acc,
            Self::QaFl => outcome.benchmark.qa_fl,
            Self::Qa => outcome.benchmark.qa(),
            Self::VqaAccuracy => outcome.benchmark.vqa_accuracy,
        }
    }
}

fn modalities(example: &Example, gold: &[&DocumentId]) -> BTreeSet<Modality> {
    let documents = example.candidates.iter().filter(|document| gold.contains(&&document.id));
    documents.map(|document| document.modality()).collect()
}

/// The ranker's order, then what it was not shown by falling filter score; unscored ones after
/// those, in the order of retrieval.
fn whole_order(candidates: &[Candidate]) -> Vec<&DocumentId> {
    let mut order: Vec<&Candidate> = candidates.iter().collect();
    let score = |c: &Candidate| c.filter.as_ref().and_then(|f| f.p).unwrap_or(-1.0);
    order.sort_by(|a, b| match (&a.rank, &b.rank) {
        (Some(a), Some(b)) => a.position.cmp(&b.position),
        (a_rank, b_rank) => {
            b_rank.is_some().cmp(&a_rank.is_some()).then_with(|| score(b).total_cmp(&score(a)))
        }
    });
    order.into_iter().map(|candidate| &candidate.document).collect()
}

fn share_dropped(candidates: &[Candidate], gold: &[&DocumentId]) -> Option<f64> {
    let others = candidates.iter().filter(|candidate| !gold.contains(&&candidate.document));
    let (mut dropped, mut all) = (0, 0);
    for other in others {
        all += 1;
        dropped += usize::from(other.dropped_at.is_some());
    }
    (all > 0).then(|| dropped as f64 / all as f64)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A right answer to a question about one picture, its document kept and cited.
    pub(crate) fn outcome() -> Outcome {
        let set = |recall: f64| Some(SetScore { precision: 1.0, recall, f1: recall });
        Outcome {
            question: QuestionId::new("q"),
            text: "What colour?".into(),
            answer: "red".into(),
            gold: vec!["red".into()],
            kind: "ImageQ".into(),
            gold_documents: vec![DocumentId::new("flag")],
            modalities: [Modality::Image].into(),
            picture_dependent: true,
            answerable: true,
            abstained: false,
            unparsable: false,
            confidence: Some(0.9),
            answer_em: 1.0,
            answer_f1: 1.0,
            retrieved: set(1.0),
            filtered: set(1.0),
            ranked: set(1.0),
            cited: set(1.0),
            ndcg: Some(1.0),
            gold_kept: Some(true),
            distractors_dropped: Some(0.5),
            benchmark: BenchmarkScores::default(),
        }
    }

    #[test]
    fn slices_are_named_for_people() {
        let outcome = outcome();
        let names = Slicing::ALL.map(|slicing| slicing.of(&outcome));
        let expected = ["ImageQ", "image", "1 document", "needs a picture", "has an answer"];
        assert_eq!(names, expected);
    }

    #[test]
    fn metrics_are_found_by_name() {
        for metric in Metric::all() {
            assert_eq!(Metric::named(metric.name()), Some(metric));
        }
        assert_eq!(Metric::named("bleu"), None);
    }
}
