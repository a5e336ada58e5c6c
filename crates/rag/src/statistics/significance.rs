//! Is a difference more than chance?

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

use crate::version::digest;

/// Up to this many differing questions all sign patterns are tried instead of drawn ones.
const EXACT_UP_TO: usize = 14;
/// Sums that differ by less are the same: what rounding can make of another order.
const ROUNDING: f64 = 1e-9;

/// Two-sided p of the paired permutation test of "which variant made which score is arbitrary".
///
/// With `d_q` the difference of a question, every sign pattern of the `d_q` is equally likely
/// under that hypothesis; p is the share of patterns with `|Σ ± d_q| ≥ |Σ d_q|`. With few
/// differing questions all patterns are counted. With more, `permutations` are drawn and
/// `p = (1 + hits) / (1 + permutations)` (Phipson and Smyth, 2010), so that p is never 0.
/// Without any difference p is 1.
pub fn paired_permutation(differences: &[f64], permutations: usize, seed: u64) -> f64 {
    let nonzero: Vec<f64> = differences.iter().copied().filter(|d| *d != 0.0).collect();
    let observed = nonzero.iter().sum::<f64>().abs() - ROUNDING;
    if nonzero.len() <= EXACT_UP_TO {
        let patterns = 1u64 << nonzero.len();
        let hits = (0..patterns).filter(|p| signed_sum(&nonzero, &[*p]).abs() >= observed).count();
        return hits as f64 / patterns as f64;
    }
    let hits = (0..permutations)
        .into_par_iter()
        .filter(|i| {
            let mut draws = ChaCha8Rng::from_seed(digest("permutation", seed, &i.to_string()));
            let signs: Vec<u64> =
                (0..nonzero.len().div_ceil(64)).map(|_| draws.next_u64()).collect();
            signed_sum(&nonzero, &signs).abs() >= observed
        })
        .count();
    (1 + hits) as f64 / (1 + permutations) as f64
}

/// Two-sided exact p of McNemar's test: of `n = b + c` questions that only one of two variants
/// answers right, `b` and `c` of them each, `p = min(1, 2 Σ_{i ≤ min(b, c)} C(n, i) / 2^n)`.
pub fn mcnemar_exact(only_first: usize, only_second: usize) -> f64 {
    let n = only_first + only_second;
    let fewer = only_first.min(only_second);
    // Terms by their logarithms: 2^-n underflows long before n = 2000.
    let mut ln_term = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = 0.0;
    for i in 0..=fewer {
        tail += ln_term.exp();
        ln_term += ((n - i) as f64).ln() - ((i + 1) as f64).ln();
    }
    (2.0 * tail).min(1.0)
}

/// Holm's step-down correction (1979): p values adjusted so that rejecting those at most α keeps
/// the chance of any false rejection in the family at most α.
///
/// With `p_(1) ≤ … ≤ p_(m)`, the adjusted `p_(i)` is `max_{j ≤ i} min(1, (m - j + 1) p_(j))`.
/// Given and returned in the same order.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut highest = 0.0f64;
    for (rank, &i) in order.iter().enumerate() {
        highest = highest.max((p_values[i] * (p_values.len() - rank) as f64).min(1.0));
        adjusted[i] = highest;
    }
    adjusted
}

/// The sum of the differences, each negated where its bit of `signs` is set.
fn signed_sum(differences: &[f64], signs: &[u64]) -> f64 {
    let negative = |i: usize| signs[i / 64] >> (i % 64) & 1 == 1;
    differences.iter().enumerate().map(|(i, d)| if negative(i) { -d } else { *d }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
    }

    #[test]
    fn few_differences_are_counted_exactly() {
        // Five gains and no loss: only all-plus and all-minus are as far out, 2 of 32 patterns.
        check(paired_permutation(&[1.0, 1.0, 0.0, 1.0, 1.0, 1.0], 10_000, 1), 2.0 / 32.0);
        // 3, 1, 1 has sum 5; of 8 patterns ±5 only: 2.
        check(paired_permutation(&[3.0, 1.0, 1.0], 10, 1), 0.25);
        // One gain, one loss: every pattern has a sum at least 0 away.
        check(paired_permutation(&[1.0, -1.0], 10, 1), 1.0);
        check(paired_permutation(&[], 10, 1), 1.0);
    }

    #[test]
    fn drawn_patterns_agree_with_the_exact_test_of_signs() {
        // 14 gains and 6 losses of 1: the sign test's p is 0.1153.
        let mut differences = vec![1.0; 14];
        differences.extend([-1.0; 6]);
        let found = paired_permutation(&differences, 20_000, 5);
        assert!((found - mcnemar_exact(14, 6)).abs() < 0.01, "{found}");
        assert_eq!(found, paired_permutation(&differences, 20_000, 5));
        assert_ne!(found, paired_permutation(&differences, 20_000, 6));
    }

    #[test]
    fn a_drawn_p_is_never_zero() {
        check(paired_permutation(&[1.0; 100], 999, 2), 1.0 / 1000.0);
    }

    #[test]
    fn mcnemar_by_hand() {
        check(mcnemar_exact(0, 0), 1.0);
        check(mcnemar_exact(0, 5), 2.0 / 32.0);
        // n = 8: 2 (C(8,0) + C(8,1)) / 256.
        check(mcnemar_exact(7, 1), 2.0 * 9.0 / 256.0);
        check(mcnemar_exact(3, 3), 1.0);
        assert!(mcnemar_exact(2000, 1000) > 0.0 && mcnemar_exact(2000, 1000) < 1e-70);
    }

    #[test]
    fn holm_by_hand() {
        let found = holm(&[0.01, 0.04, 0.03, 0.005]);
        // Sorted: 0.005·4 = 0.02, 0.01·3 = 0.03, 0.03·2 = 0.06, 0.04·1 raised to 0.06.
        for (found, expected) in found.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            check(*found, expected);
        }
        assert_eq!(holm(&[0.6, 0.7]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
    }
}
