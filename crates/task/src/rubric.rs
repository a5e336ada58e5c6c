//! Rubrics: what a reward is made of, with every weight in sight.

use serde::{Deserialize, Serialize};

use crate::metrics::{discounted_gain, ndcg, reciprocal_rank};
use crate::stage::StageName;

/// How a reply is judged.
///
/// The reward of a reply that parses is, never below 0,
///
/// ```text
/// filter  verdict·[right] + format − overlong·P_len − repetition·P_rep
/// rank    answer·R_ans + rank·R_rank + citations·R_cite + format·R_fmt + bonus·[all exact]
///         − overlong·P_len − repetition·P_rep
/// ```
///
/// and exactly 0 of one that does not. A term that does not apply (the order where no gold
/// document is shown) adds nothing.
///
/// * `R_ans`: 1 if the answer is exact by MultimodalQA's rules, else `partial_answer` times its
///   list F1, hardened: 0 for alternatives, lists of numbers, "yes no", whole contexts, junk; and
///   exact or nothing where the gold is yes, no or a bare number. Times `evidence_gate` where no
///   cited document is gold though one is shown. Where the question has no answer: 1 for `none`
///   without citations, else 0.
/// * `R_rank`: the order's gain by `rank_rule`.
/// * `R_cite`: the F1 of the citations, less `prefix_share` of it unless the cited documents are the
///   first of the order. (As a term of its own that share would pay for citing everything.)
/// * `R_fmt`: 1, less `think_coverage` times the share of labels the reasoning leaves out or makes
///   up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rubric {
    /// The stage whose replies it judges.
    pub stage: StageName,
    /// What each term is worth.
    pub weights: Weights,
    /// How an order is scored.
    pub rank_rule: RankRule,
    /// What an inexact answer with list F1 of 1 is worth, 0 to 1.
    pub partial_answer: f64,
    /// What is left of the answer's term if no cited document is gold, 0 to 1; 1 is off.
    pub evidence_gate: f64,
    /// Whether `none` without citations is right where no gold document is shown.
    pub abstain_without_gold: bool,
    /// The share of the format's term that the mention of every label in the reasoning is worth.
    pub think_coverage: f64,
    /// The share of the citations' term that citing the first of the order is worth.
    pub prefix_share: f64,
    /// When a reply is too long.
    pub overlong: Overlong,
}

/// What each term is worth. Those of the penalties are subtracted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// Filter: the verdict is right.
    pub verdict: f64,
    /// Rank: the answer is right.
    pub answer: f64,
    /// Rank: gold documents come first.
    pub rank: f64,
    /// Rank: gold documents are cited.
    pub citations: f64,
    /// The reply has the form that was asked for.
    pub format: f64,
    /// Rank: answer, citations and form are exact, all at once.
    pub bonus: f64,
    /// Penalty: the reply is longer than it should be.
    pub overlong: f64,
    /// Penalty: the reply repeats itself.
    pub repetition: f64,
}

/// When a reply is too long: not at all up to `max_tokens − buffer_tokens`, fully from
/// `max_tokens`, linear between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overlong {
    /// The length of the full penalty.
    pub max_tokens: usize,
    /// The length over which it grows.
    pub buffer_tokens: usize,
}

/// How an order is scored. All are in 0..=1, and 1 if the gold documents come first (of
/// `ReciprocalRank`: if one of them does).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RankRule {
    /// Binary nDCG with the discount `1 / log2(position + 1)`.
    Ndcg,
    /// The same with the discount `1 / position³`, as MM-R5 rewards.
    Cube,
    /// One over the position of the first gold document.
    ReciprocalRank,
}

impl RankRule {
    /// The score of an order, or nothing if no label is gold.
    pub fn score(self, order: &[usize], gold: &[usize]) -> Option<f64> {
        match self {
            Self::Ndcg => ndcg(order, gold),
            Self::Cube => discounted_gain(order, gold, |position| (position as f64).powi(-3)),
            Self::ReciprocalRank => reciprocal_rank(order, gold),
        }
    }
}

impl Overlong {
    /// The penalty of a reply of this many tokens, 0 to 1.
    pub fn penalty(self, n_tokens: usize) -> f64 {
        let free = self.max_tokens.saturating_sub(self.buffer_tokens);
        let over = n_tokens.saturating_sub(free) as f64;
        if over == 0.0 { 0.0 } else { (over / self.buffer_tokens.max(1) as f64).min(1.0) }
    }
}

impl Rubric {
    /// Only what the abstract of MMRAG-RFT (arXiv 2512.17194) forces: rules judge the verdicts of
    /// the filter; order and answer are rewarded together. The weights are ours, as the paper's
    /// were not available. Citations are not rewarded, reasoning and length not judged.
    pub fn paper_like(stage: StageName) -> Self {
        let weights = match stage {
            StageName::Filter => Weights { verdict: 0.9, format: 0.1, ..Weights::default() },
            StageName::Rank => {
                Weights { answer: 0.5, rank: 0.4, format: 0.1, ..Weights::default() }
            }
        };
        Self {
            stage,
            weights,
            rank_rule: RankRule::Ndcg,
            partial_answer: 0.5,
            evidence_gate: 1.0,
            abstain_without_gold: false,
            think_coverage: 0.0,
            prefix_share: 0.0,
            overlong: Overlong { max_tokens: 1024, buffer_tokens: 128 },
        }
    }

    /// Our choices for models of two billion parameters and more.
    pub fn robust(stage: StageName) -> Self {
        let weights = match stage {
            StageName::Filter => Weights { verdict: 0.9, format: 0.1, ..Weights::default() },
            StageName::Rank => Weights {
                answer: 0.5,
                rank: 0.3,
                citations: 0.1,
                format: 0.1,
                overlong: 0.1,
                repetition: 0.1,
                ..Weights::default()
            },
        };
        Self {
            weights,
            evidence_gate: 0.5,
            abstain_without_gold: true,
            think_coverage: 0.5,
            prefix_share: 0.3,
            ..Self::paper_like(stage)
        }
    }

    /// For the small built-in model. Beside `robust`:
    ///
    /// * rank: answer 0.6 and rank 0.2 instead of 0.5 and 0.3: only the answer is hard;
    /// * no penalty of length or repetition: its replies are capped at a few dozen tokens, and
    ///   reasoning over look-alike documents repeats words rightly;
    /// * the reasoning need not mention every label (`think_coverage` 0): short replies;
    /// * citations are judged by their F1 alone (`prefix_share` 0);
    /// * no evidence gate: citations are worth enough by themselves;
    /// * length: 176 tokens with a buffer of 32, for those who turn the penalty on.
    ///
    /// The filter's weights are the same.
    pub fn demo(stage: StageName) -> Self {
        let robust = Self::robust(stage);
        let weights = match stage {
            StageName::Filter => robust.weights,
            StageName::Rank => Weights {
                answer: 0.6,
                rank: 0.2,
                citations: 0.1,
                format: 0.1,
                ..Weights::default()
            },
        };
        Self {
            weights,
            evidence_gate: 1.0,
            think_coverage: 0.0,
            prefix_share: 0.0,
            overlong: Overlong { max_tokens: 176, buffer_tokens: 32 },
            ..robust
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_penalty_of_length_is_soft() {
        let overlong = Overlong { max_tokens: 100, buffer_tokens: 20 };
        let check = |n_tokens, expected| assert_eq!(overlong.penalty(n_tokens), expected);
        check(0, 0.0);
        check(80, 0.0);
        check(90, 0.5);
        check(100, 1.0);
        check(500, 1.0);
    }

    #[test]
    fn orders_are_scored_by_rule() {
        let check = |rule: RankRule, expected: f64| {
            let score = rule.score(&[3, 1, 2], &[1, 3]).unwrap();
            assert_eq!(score, 1.0);
            assert!((rule.score(&[2, 1, 3], &[1]).unwrap() - expected).abs() < 1e-12);
            assert_eq!(rule.score(&[1, 2], &[]), None);
        };
        check(RankRule::Ndcg, 1.0 / 3f64.log2());
        check(RankRule::Cube, 0.125);
        check(RankRule::ReciprocalRank, 0.5);
    }

    #[test]
    fn the_greatest_reward_of_every_preset_is_one() {
        for preset in [Rubric::paper_like, Rubric::robust, Rubric::demo] {
            let filter = preset(StageName::Filter).weights;
            assert!((filter.verdict + filter.format - 1.0).abs() < 1e-12);
            let rank = preset(StageName::Rank).weights;
            let sum = rank.answer + rank.rank + rank.citations + rank.format + rank.bonus;
            assert!((sum - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn a_rubric_is_stored_with_all_its_weights() {
        let rubric = Rubric::robust(StageName::Rank);
        let text = serde_json::to_string(&rubric).unwrap();
        assert_eq!(serde_json::from_str::<Rubric>(&text).unwrap(), rubric);
        assert!(serde_json::from_str::<Rubric>(&text.replace("verdict", "verdikt")).is_err());
    }
}
