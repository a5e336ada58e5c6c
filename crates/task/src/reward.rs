//! Rewards: a reply and gold to a number, with its parts.

use std::collections::HashSet;
use std::hash::Hash;

use mmrag_core::{Completion, Gold};
use serde::Serialize;

use crate::answer::{Judged, judge};
use crate::case::Case;
use crate::hack::{HackFlag, copies_prompt, flags_of_error, flags_of_reply};
use crate::label::labels_in;
use crate::metrics::set_score;
use crate::reply::Reply;
use crate::rubric::Rubric;
use crate::stage::{Stage, StageName};

/// What a completion is worth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reward {
    /// The sum of weight times value over the parts that apply, never below 0; exactly 0 for a
    /// completion that does not parse.
    pub total: f64,
    /// The parts, the same names in the same order for every completion of a stage.
    pub parts: Vec<RewardPart>,
    /// The tricks the completion seems to try, each once.
    pub flags: Vec<HackFlag>,
}

/// One term of a reward.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RewardPart {
    /// Its name: `verdict`, `answer`, `rank`, `citations`, `format`, `bonus`, `overlong` or
    /// `repetition`.
    pub name: &'static str,
    /// What a value of 1 adds; negative for penalties.
    pub weight: f64,
    /// In 0..=1, or nothing where the term does not apply.
    pub value: Option<f64>,
}

impl Reward {
    /// The value of a part, if there is one of this name and it applies.
    pub fn part(&self, name: &str) -> Option<f64> {
        self.parts.iter().find(|part| part.name == name)?.value
    }

    fn of(parts: Vec<RewardPart>, mut flags: Vec<HackFlag>) -> Self {
        let sum: f64 = parts.iter().filter_map(|part| Some(part.weight * part.value?)).sum();
        flags.sort_unstable();
        flags.dedup();
        Self { total: sum.max(0.0), parts, flags }
    }
}

/// The terms of one reply.
#[derive(Clone, Copy, Debug, Default)]
struct Terms {
    verdict: Option<f64>,
    answer: Option<f64>,
    rank: Option<f64>,
    citations: Option<f64>,
    format: Option<f64>,
    bonus: Option<f64>,
    overlong: Option<f64>,
    repetition: Option<f64>,
}

impl Terms {
    fn parts(&self, rubric: &Rubric) -> Vec<RewardPart> {
        let weights = &rubric.weights;
        let part = |name, weight, value| RewardPart { name, weight, value };
        let mut parts = match rubric.stage {
            StageName::Filter => vec![part("verdict", weights.verdict, self.verdict)],
            StageName::Rank => vec![
                part("answer", weights.answer, self.answer),
                part("rank", weights.rank, self.rank),
                part("citations", weights.citations, self.citations),
                part("bonus", weights.bonus, self.bonus),
            ],
        };
        parts.extend([
            part("format", weights.format, self.format),
            part("overlong", -weights.overlong, self.overlong),
            part("repetition", -weights.repetition, self.repetition),
        ]);
        parts
    }
}

/// Judges a completion of a stage.
pub(crate) fn score(stage: &Stage, case: &Case, gold: &Gold, completion: &Completion) -> Reward {
    let rubric = &stage.rubric;
    let gold_labels = case.gold_labels(gold);
    let mut flags = Vec::new();
    if copies_prompt(&completion.text, &stage.template) {
        flags.push(HackFlag::CopiedPrompt);
    }
    let reply = match stage.parse(case, &completion.text) {
        Ok(reply) => reply,
        Err(error) => {
            flags.extend(flags_of_error(&completion.text, &error));
            return Reward::of(unparsable(completion, &gold_labels).parts(rubric), flags);
        }
    };
    flags.extend(flags_of_reply(&reply, case.documents.len(), &gold_labels));
    let mut terms = Terms {
        format: Some(format_value(&reply, case, rubric)),
        overlong: overlong(completion, rubric),
        repetition: Some(repetition(completion)),
        ..Terms::default()
    };
    match &reply {
        Reply::Filter { helps, .. } => {
            terms.verdict = Some(f64::from(u8::from(*helps != gold_labels.is_empty())));
        }
        Reply::Rank { order, citations, .. } => {
            let answer = answer_value(&reply, case, gold, rubric);
            flags.extend(answer.flags);
            terms.answer = Some(answer.value);
            terms.rank = rubric.rank_rule.score(order, &gold_labels);
            terms.citations = citations_value(order, citations, &gold_labels, rubric);
            terms.bonus = set_score(citations, &gold_labels).map(|cited| {
                let is_exact = cited.f1 == 1.0 && answer.value == 1.0 && terms.format == Some(1.0);
                f64::from(u8::from(is_exact))
            });
        }
    }
    Reward::of(terms.parts(rubric), flags)
}

/// The terms of a completion that does not parse: each that applies is 0.
fn unparsable(completion: &Completion, gold_labels: &[usize]) -> Terms {
    let if_gold = (!gold_labels.is_empty()).then_some(0.0);
    Terms {
        verdict: Some(0.0),
        answer: Some(0.0),
        rank: if_gold,
        citations: if_gold,
        format: Some(0.0),
        bonus: if_gold,
        overlong: (!completion.tokens.is_empty()).then_some(0.0),
        repetition: Some(0.0),
    }
}

fn answer_value(reply: &Reply, case: &Case, gold: &Gold, rubric: &Rubric) -> Judged {
    let Reply::Rank { answer, citations, .. } = reply else {
        unreachable!("only a reply of the rank stage holds an answer")
    };
    let is_answerable =
        if rubric.abstain_without_gold { case.is_answerable(gold) } else { gold.is_answerable() };
    if !is_answerable && reply.abstains() {
        let value = f64::from(u8::from(citations.is_empty()));
        return Judged { value, flags: Vec::new() };
    }
    if !gold.is_answerable() {
        return Judged { value: 0.0, flags: Vec::new() };
    }
    let mut judged = judge(answer, gold, rubric.partial_answer);
    let gold_labels = case.gold_labels(gold);
    let cites_gold = citations.iter().any(|label| gold_labels.contains(label));
    if !gold_labels.is_empty() && !cites_gold {
        if judged.value == 1.0 {
            judged.flags.push(HackFlag::Unsupported);
        }
        judged.value *= rubric.evidence_gate;
    }
    judged
}

fn citations_value(
    order: &[usize],
    citations: &[usize],
    gold: &[usize],
    rubric: &Rubric,
) -> Option<f64> {
    let f1 = set_score(citations, gold)?.f1;
    let are_first = order.iter().take(citations.len()).all(|label| citations.contains(label));
    Some(if are_first { f1 } else { f1 * (1.0 - rubric.prefix_share) })
}

/// 1, less the rubric's share of the labels that the reasoning leaves out or makes up. Reasoning
/// on a single document need not name it.
fn format_value(reply: &Reply, case: &Case, rubric: &Rubric) -> f64 {
    let (Some(think), Reply::Rank { .. }) = (reply.think(), reply) else { return 1.0 };
    let shown: HashSet<usize> = (1..=case.documents.len()).collect();
    let named: HashSet<usize> = labels_in(think).into_iter().collect();
    let n_right = shown.intersection(&named).count() as f64;
    let covered = n_right / shown.union(&named).count().max(1) as f64;
    1.0 - rubric.think_coverage * (1.0 - covered)
}

/// Nothing where the engine tells no tokens.
fn overlong(completion: &Completion, rubric: &Rubric) -> Option<f64> {
    let n_tokens = completion.tokens.len();
    (n_tokens > 0).then(|| rubric.overlong.penalty(n_tokens))
}

/// The share of repeats among the completion's runs of three tokens; of three words where the
/// engine tells no tokens.
fn repetition(completion: &Completion) -> f64 {
    if completion.tokens.is_empty() {
        let words: Vec<&str> = completion.text.split_whitespace().collect();
        repeated_runs(&words)
    } else {
        repeated_runs(&completion.tokens)
    }
}

fn repeated_runs<T: Eq + Hash>(items: &[T]) -> f64 {
    let n_runs = items.len().saturating_sub(2);
    if n_runs == 0 {
        return 0.0;
    }
    let distinct: HashSet<&[T]> = items.windows(3).collect();
    1.0 - distinct.len() as f64 / n_runs as f64
}
