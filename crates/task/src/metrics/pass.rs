//! pass@k: is at least one of k draws right?

/// The unbiased estimate of the probability that at least one of `k` draws is right, from
/// `samples` draws of which `right` are: `1 - C(samples - right, k) / C(samples, k)`
/// (Chen et al. 2021, arXiv 2107.03374). With fewer draws than `k`, that of all draws.
///
/// ```
/// use mmrag_task::metrics::pass_at_k;
/// assert_eq!(pass_at_k(8, 0, 8), 0.0);
/// assert_eq!(pass_at_k(8, 1, 8), 1.0);
/// assert!((pass_at_k(8, 2, 1) - 0.25).abs() < 1e-12);
/// ```
pub fn pass_at_k(samples: usize, right: usize, k: usize) -> f64 {
    let k = k.min(samples);
    let wrong = samples.saturating_sub(right);
    if wrong < k {
        return 1.0;
    }
    let all_wrong = (0..k).map(|i| (wrong - i) as f64 / (samples - i) as f64);
    1.0 - all_wrong.product::<f64>()
}

#[cfg(test)]
mod tests {
    use super::pass_at_k;

    /// By counting all subsets.
    fn counted(samples: usize, right: usize, k: usize) -> f64 {
        let subsets = (0u32..1 << samples).filter(|set| set.count_ones() as usize == k);
        let (mut all, mut passed) = (0, 0);
        for set in subsets {
            all += 1;
            passed += u32::from(set & ((1 << right) - 1) != 0);
        }
        f64::from(passed) / f64::from(all)
    }

    #[test]
    fn the_estimate_is_the_share_of_subsets() {
        for samples in 1..=7 {
            for right in 0..=samples {
                for k in 1..=samples {
                    let (estimate, share) =
                        (pass_at_k(samples, right, k), counted(samples, right, k));
                    assert!((estimate - share).abs() < 1e-12, "{samples} {right} {k}");
                }
            }
        }
        assert_eq!(pass_at_k(0, 0, 4), 0.0);
    }
}
