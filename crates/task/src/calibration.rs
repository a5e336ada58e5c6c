//! The filter's threshold, chosen on dev, and what it keeps.

/// The largest threshold that keeps every gold document for `share` of the questions, where each
/// document that scores at least the threshold is kept.
///
/// Each entry of `least_gold_scores` is a question's smallest score among its gold documents;
/// questions without gold are left out by the caller. With no question, 0 (everything is kept).
///
/// ```
/// use mmrag_task::calibration::threshold;
/// assert_eq!(threshold(&[0.9, 0.2, 0.8, 0.7], 0.75), 0.7);
/// assert_eq!(threshold(&[0.9, 0.2, 0.8, 0.7], 1.0), 0.2);
/// ```
pub fn threshold(least_gold_scores: &[f64], share: f64) -> f64 {
    let mut scores = least_gold_scores.to_vec();
    scores.sort_by(f64::total_cmp);
    let n = scores.len();
    // The small number keeps 0.99 of 100 at 99 questions in spite of rounding.
    let n_kept = (share.clamp(0.0, 1.0) * n as f64 - 1e-9).ceil().max(1.0) as usize;
    scores.get(n - n_kept.min(n)).copied().unwrap_or(0.0)
}

/// The indices of the candidates that a filter keeps, best score first, ties in the order given:
/// those that score at least `threshold`, but no fewer than `k_min` and no more than `k_max` (the
/// latter wins). A score that is no number (the filter could not tell) counts as the threshold.
///
/// ```
/// use mmrag_task::calibration::keep;
/// assert_eq!(keep(&[0.1, 0.9, 0.4], 0.5, 2, 10), [1, 2]);
/// ```
pub fn keep(scores: &[f64], threshold: f64, k_min: usize, k_max: usize) -> Vec<usize> {
    let score = |index: usize| if scores[index].is_nan() { threshold } else { scores[index] };
    let mut kept: Vec<usize> = (0..scores.len()).collect();
    kept.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
    let n_over = kept.iter().filter(|&&index| score(index) >= threshold).count();
    kept.truncate(n_over.max(k_min).min(k_max));
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn corners_of_the_threshold() {
        assert_eq!(threshold(&[], 0.99), 0.0);
        assert_eq!(threshold(&[0.4], 0.99), 0.4);
        let hundred: Vec<f64> = (0..100).map(f64::from).collect();
        assert_eq!(threshold(&hundred, 0.99), 1.0);
        assert_eq!(threshold(&hundred, 0.991), 0.0);
        assert_eq!(threshold(&hundred, 0.0), 99.0);
    }

    #[test]
    fn corners_of_what_is_kept() {
        assert_eq!(keep(&[0.5, 0.5, 0.6], 0.5, 0, 2), [2, 0]);
        assert_eq!(keep(&[0.1, f64::NAN], 0.5, 0, 9), [1]);
        assert_eq!(keep(&[0.1, 0.2], 0.5, 9, 9), [1, 0]);
        assert_eq!(keep(&[0.9, 0.2], 0.5, 3, 0), [0; 0]);
        assert_eq!(keep(&[], 0.5, 1, 2), [0; 0]);
    }

    proptest! {
        #[test]
        fn the_threshold_is_the_largest_that_keeps_the_share(
            scores in proptest::collection::vec(0u8..50, 1..60),
            percent in 1u32..=100,
        ) {
            let scores: Vec<f64> = scores.into_iter().map(f64::from).collect();
            let share = f64::from(percent) / 100.0;
            let kept = |threshold: f64| {
                scores.iter().filter(|&&score| score >= threshold).count() as f64
            };
            let wanted = share * scores.len() as f64 - 1e-9;
            let chosen = threshold(&scores, share);
            prop_assert!(kept(chosen) >= wanted);
            prop_assert!(kept(chosen + 0.5) < wanted);
        }
    }
}
