//! The paired bootstrap over training seeds and questions.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::version::digest;

/// Scores of one variant: for each training seed, for each question, in the same order of
/// questions for every variant. A score that does not apply is absent and left out of means.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// `by_seed[s][q]`.
    pub by_seed: Vec<Vec<Option<f64>>>,
}

impl Scores {
    /// The mean over all seeds and questions that have a score; none if none has.
    pub fn mean(&self) -> Option<f64> {
        let (sum, count) = self
            .by_seed
            .iter()
            .flatten()
            .flatten()
            .fold((0.0, 0.0), |(sum, count), score| (sum + score, count + 1.0));
        (count > 0.0).then(|| sum / count)
    }

    /// For each question, its mean over the seeds that have a score.
    pub fn by_question(&self) -> Vec<Option<f64>> {
        let questions = self.by_seed.iter().map(Vec::len).max().unwrap_or(0);
        (0..questions)
            .map(|q| {
                let one = self.by_seed.iter().map(|seed| vec![seed.get(q).copied().flatten()]);
                Self { by_seed: one.collect() }.mean()
            })
            .collect()
    }

    /// `Σ_s Σ_q u_s w_q x_sq / Σ_s Σ_q u_s w_q` over the scores that are present.
    fn weighted_mean(&self, seed_weights: &[u16], question_weights: &[u16]) -> Option<f64> {
        let (mut sum, mut count) = (0.0, 0.0);
        for (scores, &seed_weight) in self.by_seed.iter().zip(seed_weights) {
            if seed_weight == 0 {
                continue;
            }
            let (mut seed_sum, mut seed_count) = (0.0, 0.0);
            for (score, &weight) in scores.iter().zip(question_weights) {
                if let Some(score) = score {
                    seed_sum += f64::from(weight) * score;
                    seed_count += f64::from(weight);
                }
            }
            sum += f64::from(seed_weight) * seed_sum;
            count += f64::from(seed_weight) * seed_count;
        }
        (count > 0.0).then(|| sum / count)
    }
}

/// A value with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The value on the data as it is.
    pub value: f64,
    /// 2.5 % of the resampled values lie below.
    pub low: f64,
    /// 2.5 % of the resampled values lie above.
    pub high: f64,
}

/// Draws of questions with replacement, shared by all figures of a report so that they are paired:
/// in one resample every variant and every metric sees the same questions.
///
/// A resample draws `Q` of the `Q` questions and, independently, `S` of a variant's `S` training
/// seeds, both with replacement; the percentile interval is the 2.5 % and 97.5 % quantiles of the
/// resampled means (Efron and Tibshirani, 1993, chapter 13). Variants with equally many seeds share
/// their draws of seeds too.
pub struct Resamples {
    seed: u64,
    /// `weights[r][q]`: how often resample `r` has question `q`.
    weights: Vec<Vec<u16>>,
}

impl Resamples {
    /// `count` resamples of `questions` questions. Resample `r` draws from a stream of its own, so
    /// the draws do not depend on the number of threads.
    pub fn new(questions: usize, count: usize, seed: u64) -> Self {
        let draw = |r| drawn(questions, "bootstrap questions", seed, r);
        Self { seed, weights: (0..count).into_par_iter().map(draw).collect() }
    }

    /// The mean with its interval; none if no score is present.
    pub fn interval(&self, scores: &Scores) -> Option<Interval> {
        let value = scores.mean()?;
        Some(self.percentiles(value, |seeds, questions| {
            scores.weighted_mean(&seeds(scores.by_seed.len()), questions)
        }))
    }

    /// The difference of means `a - b` with its interval, paired by question and (where there are
    /// equally many) by seed; none if one of them has no score.
    pub fn difference(&self, a: &Scores, b: &Scores) -> Option<Interval> {
        let value = a.mean()? - b.mean()?;
        Some(self.percentiles(value, |seeds, questions| {
            let a = a.weighted_mean(&seeds(a.by_seed.len()), questions)?;
            let b = b.weighted_mean(&seeds(b.by_seed.len()), questions)?;
            Some(a - b)
        }))
    }

    fn percentiles(
        &self,
        value: f64,
        statistic: impl Fn(&dyn Fn(usize) -> Vec<u16>, &[u16]) -> Option<f64> + Sync,
    ) -> Interval {
        let mut values: Vec<f64> = self
            .weights
            .par_iter()
            .enumerate()
            .filter_map(|(r, questions)| {
                let seeds = |n: usize| match n {
                    1 => vec![1],
                    n => drawn(n, "bootstrap seeds", self.seed, r),
                };
                statistic(&seeds, questions)
            })
            .collect();
        values.sort_by(f64::total_cmp);
        let at = |share| quantile(&values, share).unwrap_or(value);
        Interval { value, low: at(0.025), high: at(0.975) }
    }
}

/// The `share` quantile of sorted values, linear between neighbours: at place `share · (n - 1)`.
/// None of no values.
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = share.clamp(0.0, 1.0) * last as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    let between = place - below as f64;
    Some(sorted[below] * (1.0 - between) + sorted[above] * between)
}

/// How often each of `n` things comes in `n` draws with replacement.
fn drawn(n: usize, purpose: &str, seed: u64, resample: usize) -> Vec<u16> {
    let mut draws = ChaCha8Rng::from_seed(digest(purpose, seed, &format!("{resample}/{n}")));
    let mut counts = vec![0u16; n];
    for _ in 0..n {
        let pick = (u128::from(draws.next_u64()) * n as u128) >> 64;
        counts[pick as usize] = counts[pick as usize].saturating_add(1);
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(by_seed: &[&[f64]]) -> Scores {
        let by_seed = by_seed.iter().map(|s| s.iter().map(|&x| Some(x)).collect()).collect();
        Scores { by_seed }
    }

    #[test]
    fn quantiles_are_linear_between_neighbours() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.5), Some(2.0));
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), Some(3.0));
        assert_eq!(quantile(&[1.0, 2.0], 0.975), Some(1.975));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn absent_scores_are_left_out() {
        let scores = Scores { by_seed: vec![vec![Some(1.0), None], vec![Some(0.0), Some(0.5)]] };
        assert_eq!(scores.mean(), Some(0.5));
        assert_eq!(scores.by_question(), [Some(0.5), Some(0.5)]);
        assert_eq!(Scores::default().mean(), None);
    }

    /// Of a mean of n coin flips with share p, the interval's half width is 1.96 √(p (1 - p) / n):
    /// 0.0693 for p = 0.5 and n = 200.
    #[test]
    fn the_interval_of_coin_flips_is_the_binomial_one() {
        let flips: Vec<f64> = (0..200).map(|i| f64::from(i % 2)).collect();
        let found = Resamples::new(200, 4000, 7).interval(&scores(&[&flips])).unwrap();
        assert_eq!(found.value, 0.5);
        assert!((found.low - (0.5 - 0.0693)).abs() < 0.006, "{found:?}");
        assert!((found.high - (0.5 + 0.0693)).abs() < 0.006, "{found:?}");
    }

    #[test]
    fn a_constant_gain_has_no_spread_because_the_draws_are_paired() {
        let a: Vec<f64> = (0..50).map(|i| f64::from(i % 3)).collect();
        let b: Vec<f64> = a.iter().map(|x| x - 0.25).collect();
        let found = Resamples::new(50, 300, 1).difference(&scores(&[&a]), &scores(&[&b])).unwrap();
        for bound in [found.value, found.low, found.high] {
            assert!((bound - 0.25).abs() < 1e-12, "{found:?}");
        }
    }

    #[test]
    fn seeds_that_differ_widen_the_interval() {
        let questions = [0.5; 40];
        let resamples = Resamples::new(40, 2000, 3);
        let same = resamples.interval(&scores(&[&questions, &questions])).unwrap();
        assert_eq!((same.low, same.high), (0.5, 0.5));
        let apart = resamples.interval(&scores(&[&[0.4; 40], &[0.6; 40]])).unwrap();
        // Both seeds the same one in a quarter of the resamples each: the quantiles are the ends.
        assert!((apart.low - 0.4).abs() < 1e-9 && (apart.high - 0.6).abs() < 1e-9, "{apart:?}");
    }

    #[test]
    fn the_seed_decides_and_nothing_else() {
        let values: Vec<f64> = (0..30).map(|i| f64::from(i * i % 7)).collect();
        let with = |seed| Resamples::new(30, 500, seed).interval(&scores(&[&values])).unwrap();
        assert_eq!(with(1), with(1));
        assert_ne!(with(1), with(2));
    }
}
