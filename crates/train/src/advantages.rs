//! Advantages: how much better a reply was than its siblings, from the rewards of a step.
//!
//! The rules are those of GRPO as TRL computes them (group-relative, Bessel-corrected deviation,
//! 1e-4 added to it), with reward terms that may not apply to a reply. Everything is `f64`.
//!
//! Dimensions: `n` replies of the step, groups of `g` consecutive replies; `k` reward terms.

use serde::{Deserialize, Serialize};

/// Added to a standard deviation before it divides, as in TRL.
pub const STD_EPSILON: f64 = 1e-4;

/// What an advantage is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// The standard deviation within the reply's group.
    Group,
    /// The standard deviation over all replies of the step.
    Batch,
    /// Nothing.
    None,
}

/// In which order several reward terms become one advantage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// The weighted terms are summed; the sum is compared within the group.
    SumThenNormalize,
    /// Each term is compared within the group, the results are summed and compared over the step
    /// (GDPO). [`Scale`] plays no part.
    NormalizeThenSum,
}

/// How rewards become advantages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdvantageRule {
    /// What an advantage is divided by.
    pub scale: Scale,
    /// In which order terms are summed and normalised.
    pub aggregation: Aggregation,
    /// No deviation below this divides: keeps a difference in one small term from being blown up
    /// to unit variance. 0 is TRL's rule.
    pub std_floor: f64,
}

/// The advantage of each reply.
///
/// `rewards_nk` holds for each reply the value of each term, `None` where the term does not apply;
/// `weights_k` the terms' weights; `group_size` consecutive replies form a group. A reply that no
/// term scores has advantage 0 and takes part in no mean and no deviation, and so has one whose
/// group holds no other scored reply when the group's deviation divides.
///
/// ```
/// use mmrag_train::{Aggregation, AdvantageRule, Scale, advantages};
///
/// let rule = AdvantageRule {
///     scale: Scale::None,
///     aggregation: Aggregation::SumThenNormalize,
///     std_floor: 0.0,
/// };
/// let rewards_nk = [vec![Some(1.0)], vec![Some(0.0)], vec![None]];
/// assert_eq!(advantages(&rewards_nk, &[1.0], 3, &rule), [0.5, -0.5, 0.0]);
/// ```
///
/// # Panics
///
/// When the replies do not divide into groups, or a reply has not one value for each weight.
pub fn advantages(
    rewards_nk: &[Vec<Option<f64>>],
    weights_k: &[f64],
    group_size: usize,
    rule: &AdvantageRule,
) -> Vec<f64> {
    assert!(group_size > 0 && rewards_nk.len().is_multiple_of(group_size), "groups are whole");
    assert!(rewards_nk.iter().all(|r| r.len() == weights_k.len()), "one value for each weight");
    let advantages_n = match rule.aggregation {
        Aggregation::SumThenNormalize => {
            let rewards_n: Vec<_> = rewards_nk.iter().map(|r| weighted_sum(r, weights_k)).collect();
            normalize_sums(&rewards_n, group_size, rule)
        }
        Aggregation::NormalizeThenSum => {
            normalize_then_sum(rewards_nk, weights_k, group_size, rule.std_floor)
        }
    };
    advantages_n.into_iter().map(|a| if a.is_nan() { 0.0 } else { a }).collect()
}

/// Whether every scored reply of the group has the same reward, so that nothing can be learned
/// from comparing them. A group with no more than one scored reply counts as such.
pub fn is_zero_variance(rewards_g: &[Option<f64>]) -> bool {
    let mut scored = rewards_g.iter().flatten();
    let Some(first) = scored.next() else { return true };
    scored.all(|r| (r - first).abs() <= 1e-8 + 1e-5 * first.abs())
}

/// The mean of what is scored; NaN if nothing is.
pub(crate) fn mean(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count();
    values.sum::<f64>() / count as f64
}

/// The Bessel-corrected standard deviation of what is scored; NaN for fewer than two values.
pub(crate) fn deviation(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count();
    if count < 2 {
        return f64::NAN;
    }
    let centre = mean(values.clone());
    (values.map(|v| (v - centre).powi(2)).sum::<f64>() / (count - 1) as f64).sqrt()
}

fn weighted_sum(reward_k: &[Option<f64>], weights_k: &[f64]) -> Option<f64> {
    reward_k
        .iter()
        .zip(weights_k)
        .filter_map(|(value, weight)| value.map(|v| v * weight))
        .fold(None, |sum, term| Some(sum.unwrap_or(0.0) + term))
}

fn normalize_sums(rewards_n: &[Option<f64>], group_size: usize, rule: &AdvantageRule) -> Vec<f64> {
    let batch_deviation = deviation(rewards_n.iter().flatten().copied());
    let mut advantages_n = Vec::with_capacity(rewards_n.len());
    for rewards_g in rewards_n.chunks(group_size) {
        let scored = rewards_g.iter().flatten().copied();
        let centre = mean(scored.clone());
        let divisor = match rule.scale {
            Scale::Group => floored(deviation(scored), rule.std_floor),
            Scale::Batch => floored(batch_deviation, rule.std_floor),
            Scale::None => 1.0,
        };
        let advantage = |reward: &Option<f64>| reward.map_or(f64::NAN, |r| (r - centre) / divisor);
        advantages_n.extend(rewards_g.iter().map(advantage));
    }
    advantages_n
}

fn normalize_then_sum(
    rewards_nk: &[Vec<Option<f64>>],
    weights_k: &[f64],
    group_size: usize,
    std_floor: f64,
) -> Vec<f64> {
    let mut sums_n: Vec<Option<f64>> = Vec::with_capacity(rewards_nk.len());
    for rewards_gk in rewards_nk.chunks(group_size) {
        let statistics_k: Vec<(f64, f64)> = (0..weights_k.len())
            .map(|k| {
                let scored = rewards_gk.iter().filter_map(|reward_k| reward_k[k]);
                (mean(scored.clone()), floored(deviation(scored), std_floor))
            })
            .collect();
        sums_n.extend(rewards_gk.iter().map(|reward_k| {
            reward_k.iter().any(Option::is_some).then(|| {
                let terms = reward_k.iter().zip(weights_k).zip(&statistics_k);
                terms
                    .filter_map(|((value, weight), (centre, divisor))| {
                        value.map(|v| weight * (v - centre) / divisor).filter(|z| !z.is_nan())
                    })
                    .sum()
            })
        }));
    }
    let scored = sums_n.iter().flatten().copied();
    let (centre, divisor) = (mean(scored.clone()), deviation(scored) + STD_EPSILON);
    sums_n.iter().map(|sum| sum.map_or(f64::NAN, |s| (s - centre) / divisor)).collect()
}

/// What divides: NaN stays NaN.
fn floored(deviation: f64, floor: f64) -> f64 {
    let divisor = deviation + STD_EPSILON;
    if divisor < floor { floor } else { divisor }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(scale: Scale) -> AdvantageRule {
        AdvantageRule { scale, aggregation: Aggregation::SumThenNormalize, std_floor: 0.0 }
    }

    #[test]
    fn four_numbers_and_a_pencil() {
        let rewards: Vec<_> = [1.0, 0.0, 0.5, 0.5].iter().map(|&r| vec![Some(r)]).collect();
        let found = advantages(&rewards, &[1.0], 4, &rule(Scale::Group));
        let deviation = (0.5_f64 / 3.0).sqrt();
        assert!((found[0] - 0.5 / (deviation + 1e-4)).abs() < 1e-12);
        assert_eq!(found[2], 0.0);
    }

    #[test]
    fn a_lone_scored_reply_and_an_unscored_one_have_no_advantage() {
        let rewards = [vec![Some(1.0)], vec![None]];
        for scale in [Scale::Group, Scale::Batch, Scale::None] {
            assert_eq!(advantages(&rewards, &[1.0], 2, &rule(scale)), [0.0, 0.0]);
        }
    }

    #[test]
    fn the_floor_keeps_small_differences_small() {
        let rewards = [vec![Some(1.0)], vec![Some(0.99)]];
        let floored = AdvantageRule { std_floor: 0.05, ..rule(Scale::Group) };
        assert!((advantages(&rewards, &[1.0], 2, &floored)[0] - 0.1).abs() < 1e-12);
        assert!(advantages(&rewards, &[1.0], 2, &rule(Scale::Group))[0] > 0.6);
    }

    #[test]
    fn equal_rewards_are_zero_variance() {
        assert!(is_zero_variance(&[Some(0.7), Some(0.7), None]));
        assert!(is_zero_variance(&[Some(0.7), None]));
        assert!(is_zero_variance(&[]));
        assert!(!is_zero_variance(&[Some(0.7), Some(0.71)]));
    }
}
