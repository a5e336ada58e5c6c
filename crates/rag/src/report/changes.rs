//! Questions that one of two variants answers better than the other.

use mmrag_core::QuestionId;
use serde::Serialize;

use super::{ReportInput, Variant};
use crate::evaluation::{Failure, Outcome};

/// A question that two variants answer differently well: from the second of the compared pair,
/// which is the one before, to the first, the one after.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The question.
    pub question: QuestionId,
    /// Its words.
    pub text: String,
    /// Its type.
    pub kind: String,
    /// Exact match after, minus before, as means over runs.
    pub em: f64,
    /// The same of F1.
    pub f1: f64,
    /// What is right.
    pub gold: Vec<String>,
    /// The answer before, of the first run.
    pub before: String,
    /// The answer after, of the first run.
    pub after: String,
    /// Why the answer before is wrong; absent if it is right.
    pub failure_before: Option<Failure>,
    /// Why the answer after is wrong; absent if it is right.
    pub failure_after: Option<Failure>,
}

impl Change {
    /// Whether it got worse.
    pub fn is_regression(&self) -> bool {
        self.em < 0.0 || self.em == 0.0 && self.f1 < 0.0
    }
}

/// Every changed question of the one comparison there is, the largest regression first; of equal
/// ones in the order of the questions. Nothing if there are more comparisons or none.
pub(super) fn of(input: &ReportInput) -> Vec<Change> {
    let [(after, before)] = &input.comparisons[..] else { return Vec::new() };
    let find = |name: &str| input.variants.iter().find(|variant| variant.name == name);
    let (Some(after), Some(before)) = (find(after), find(before)) else { return Vec::new() };
    let questions = before.runs.first().map_or(0, |run| run.outcomes.len());
    let mut changes: Vec<Change> =
        (0..questions).filter_map(|place| change(before, after, place)).collect();
    changes.sort_by(|a, b| a.em.total_cmp(&b.em).then(a.f1.total_cmp(&b.f1)));
    changes
}

fn change(before: &Variant, after: &Variant, place: usize) -> Option<Change> {
    let mean = |variant: &Variant, value: fn(&Outcome) -> f64| {
        let values: Vec<f64> = variant.runs.iter().map(|run| value(&run.outcomes[place])).collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    let gain = |value| mean(after, value) - mean(before, value);
    let (em, f1) = (gain(|o| o.answer_em), gain(|o| o.answer_f1));
    let first = |variant: &Variant| variant.runs.first().map(|run| run.outcomes[place].clone());
    let (was, is) = (first(before)?, first(after)?);
    (em != 0.0 || f1 != 0.0).then(|| Change {
        question: was.question.clone(),
        text: was.text.clone(),
        kind: was.kind.clone(),
        em,
        f1,
        gold: was.gold.clone(),
        failure_before: Failure::of(&was),
        failure_after: Failure::of(&is),
        before: was.answer,
        after: is.answer,
    })
}
