//! The paired bootstrap over training seeds and questions.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::version::digest;

/// The most training seeds a variant may have.
pub const MOST_SEEDS: usize = 16;

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

    fn dense(&self) -> Vec<DenseSeed> {
        self.by_seed.iter().map(|scores| DenseSeed::new(scores)).collect()
    }
}

/// The scores of one seed without branches: an absent score is 0 and counts 0.
struct DenseSeed {
    scores: Vec<f64>,
    /// 1 where there is a score; none if there is one everywhere, as is usual.
    present: Option<Vec<f64>>,
}

impl DenseSeed {
    fn new(scores: &[Option<f64>]) -> Self {
        let has_gaps = scores.iter().any(Option::is_none);
        let present = || scores.iter().map(|score| f64::from(score.is_some())).collect();
        Self {
            scores: scores.iter().map(|score| score.unwrap_or(0.0)).collect(),
            present: has_gaps.then(present),
        }
    }
}

/// `Σ_s Σ_q u_s w_q x_sq / Σ_s Σ_q u_s w_q` over the scores that are present.
fn weighted_mean(seeds: &[DenseSeed], draw: &Draw) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0.0);
    for (seed, &seed_weight) in seeds.iter().zip(draw.seeds(seeds.len()).iter()) {
        if seed_weight > 0 {
            let drawn = match &seed.present {
                Some(present) => dot(present, &draw.questions),
                None => draw.questions.len() as f64,
            };
            sum += f64::from(seed_weight) * dot(&seed.scores, &draw.questions);
            count += f64::from(seed_weight) * drawn;
        }
    }
    (count > 0.0).then(|| sum / count)
}

/// `Σ_q w_q x_q`, in eight sums side by side: one would wait for itself.
fn dot(values: &[f64], weights: &[u16]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0; LANES];
    let (values, values_rest) = values.as_chunks::<LANES>();
    let (weights, weights_rest) = weights.as_chunks::<LANES>();
    for (values, weights) in values.iter().zip(weights) {
        for lane in 0..LANES {
            sums[lane] += values[lane] * f64::from(weights[lane]);
        }
    }
    let rest =
        values_rest.iter().zip(weights_rest).map(|(value, weight)| value * f64::from(*weight));
    sums.iter().sum::<f64>() + rest.sum::<f64>()
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
    draws: Vec<Draw>,
}

/// One resample: how often it has each question, and each of a number of seeds.
struct Draw {
    questions: Vec<u16>,
    /// `seeds[n]` of a variant with `n` seeds.
    seeds: Vec<Vec<u16>>,
}

impl Draw {
    fn seeds(&self, n: usize) -> &[u16] {
        &self.seeds[n.min(MOST_SEEDS)]
    }
}

impl Resamples {
    /// `count` resamples of `questions` questions. Resample `r` draws from a stream of its own, so
    /// the draws do not depend on the number of threads.
    pub fn new(questions: usize, count: usize, seed: u64) -> Self {
        let draw = |r: usize| {
            let stream = digest("bootstrap", seed, &r.to_string());
            let mut stream = ChaCha8Rng::from_seed(stream);
            let seeds = (0..=MOST_SEEDS).map(|n| drawn(n, &mut stream)).collect();
            Draw { seeds, questions: drawn(questions, &mut stream) }
        };
        Self { draws: (0..count).into_par_iter().map(draw).collect() }
    }

    /// The mean with its interval; none if no score is present.
    ///
    /// # Panics
    ///
    /// If there are more than [`MOST_SEEDS`] seeds.
    pub fn interval(&self, scores: &Scores) -> Option<Interval> {
        let dense = checked(scores);
        Some(self.percentiles(scores.mean()?, |draw| weighted_mean(&dense, draw)))
    }

    /// The difference of means `a - b` with its interval, paired by question and (where there are
    /// equally many) by seed; none if one of them has no score.
    ///
    /// # Panics
    ///
    /// If there are more than [`MOST_SEEDS`] seeds.
    pub fn difference(&self, a: &Scores, b: &Scores) -> Option<Interval> {
        let value = a.mean()? - b.mean()?;
        let (a, b) = (checked(a), checked(b));
        let difference = |draw: &Draw| Some(weighted_mean(&a, draw)? - weighted_mean(&b, draw)?);
        Some(self.percentiles(value, difference))
    }

    fn percentiles(&self, value: f64, statistic: impl Fn(&Draw) -> Option<f64> + Sync) -> Interval {
        let mut values: Vec<f64> = self.draws.par_iter().filter_map(&statistic).collect();
        values.sort_by(f64::total_cmp);
        let at = |share| quantile(&values, share).unwrap_or(value);
        Interval { value, low: at(0.025), high: at(0.975) }
    }
}

fn checked(scores: &Scores) -> Vec<DenseSeed> {
    let seeds = scores.by_seed.len();
    assert!(seeds <= MOST_SEEDS, "{seeds} seeds are more than {MOST_SEEDS}");
    scores.dense()
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
fn drawn(n: usize, stream: &mut ChaCha8Rng) -> Vec<u16> {
    let mut counts = vec![0u16; n];
    for _ in 0..n {
        let pick = (u128::from(stream.next_u64()) * n as u128) >> 64;
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
