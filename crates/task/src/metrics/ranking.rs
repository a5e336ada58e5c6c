//! Metrics of orders and sets. Where nothing is relevant they do not apply and give nothing.

use serde::{Deserialize, Serialize};

/// Binary nDCG over the whole order: each relevant item gains `1 / log2(position + 1)`, divided by
/// what the best order gains. Relevant items that the order lacks gain nothing.
///
/// In 0..=1; nothing if no item is relevant.
///
/// ```
/// use mmrag_task::metrics::ndcg;
/// assert_eq!(ndcg(&[2, 1, 3], &[2]), Some(1.0));
/// assert_eq!(ndcg(&[1, 2, 3], &[2]), Some(1.0 / 3f64.log2()));
/// assert_eq!(ndcg(&[1, 2, 3], &[]), None);
/// ```
pub fn ndcg<T: PartialEq>(order: &[T], relevant: &[T]) -> Option<f64> {
    discounted_gain(order, relevant, |position| 1.0 / ((position + 1) as f64).log2())
}

/// The gain of the relevant items of an order, `discount(position)` each with positions from 1,
/// over that of the best order.
pub(crate) fn discounted_gain<T: PartialEq>(
    order: &[T],
    relevant: &[T],
    discount: impl Fn(usize) -> f64,
) -> Option<f64> {
    let relevant = distinct(relevant);
    if relevant.is_empty() {
        return None;
    }
    let found = distinct(order);
    let hits = found.iter().enumerate().filter(|(_, item)| relevant.contains(item));
    let gain: f64 = hits.map(|(index, _)| discount(index + 1)).sum();
    let best: f64 = (1..=relevant.len()).map(&discount).sum();
    Some(gain / best)
}

/// One over the position of the first relevant item; 0 if the order has none. Its mean over
/// questions is MRR. Nothing if no item is relevant.
pub fn reciprocal_rank<T: PartialEq>(order: &[T], relevant: &[T]) -> Option<f64> {
    if relevant.is_empty() {
        return None;
    }
    let first = order.iter().position(|item| relevant.contains(item));
    Some(first.map_or(0.0, |index| 1.0 / (index + 1) as f64))
}

/// The share of the relevant items among the first `k` of the order. Nothing if no item is
/// relevant.
pub fn recall_at_k<T: PartialEq>(order: &[T], relevant: &[T], k: usize) -> Option<f64> {
    set_score(&order[..k.min(order.len())], relevant).map(|score| score.recall)
}

/// How well a set matches the relevant one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetScore {
    /// The share of the found items that are relevant; 0 if nothing was found.
    pub precision: f64,
    /// The share of the relevant items that were found.
    pub recall: f64,
    /// The harmonic mean of the two; 0 if both are.
    pub f1: f64,
}

/// Precision, recall and F1 of the items found, repeats aside. Nothing if no item is relevant.
pub fn set_score<T: PartialEq>(found: &[T], relevant: &[T]) -> Option<SetScore> {
    let (found, relevant) = (distinct(found), distinct(relevant));
    if relevant.is_empty() {
        return None;
    }
    let hits = found.iter().filter(|item| relevant.contains(item)).count() as f64;
    let precision = if found.is_empty() { 0.0 } else { hits / found.len() as f64 };
    let f1 = 2.0 * hits / (found.len() + relevant.len()) as f64;
    Some(SetScore { precision, recall: hits / relevant.len() as f64, f1 })
}

fn distinct<T: PartialEq>(items: &[T]) -> Vec<&T> {
    let mut distinct = Vec::with_capacity(items.len());
    for item in items {
        if !distinct.contains(&item) {
            distinct.push(item);
        }
    }
    distinct
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn orders_score_by_where_the_relevant_items_stand() {
        let best = 1.0 + 1.0 / 3f64.log2();
        assert_eq!(ndcg(&[1, 2, 3, 4], &[1, 3]), Some((1.0 + 0.5) / best));
        assert_eq!(ndcg(&[3, 1], &[1, 3]), Some(1.0));
        assert_eq!(ndcg(&[1], &[1, 3]), Some(1.0 / best));
        assert_eq!(ndcg(&[1, 1, 3], &[1, 3, 3]), Some(1.0));
        assert_eq!(reciprocal_rank(&[4, 3, 1], &[1, 3]), Some(0.5));
        assert_eq!(reciprocal_rank(&[4], &[1]), Some(0.0));
        assert_eq!(recall_at_k(&[4, 3, 1], &[1, 3], 2), Some(0.5));
        assert_eq!(recall_at_k(&[4, 3, 1], &[1, 3], 9), Some(1.0));
        assert_eq!(recall_at_k::<u8>(&[], &[], 9), None);
    }

    #[test]
    fn sets_score_by_overlap() {
        let check = |found: &[u8], relevant: &[u8], expected: [f64; 3]| {
            let score = set_score(found, relevant).unwrap();
            let actual = [score.precision, score.recall, score.f1];
            assert!(actual.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{score:?}");
        };
        check(&[1, 2], &[2, 1], [1.0, 1.0, 1.0]);
        check(&[1, 2, 2, 3], &[2], [1.0 / 3.0, 1.0, 0.5]);
        check(&[], &[2], [0.0, 0.0, 0.0]);
        check(&[1], &[2], [0.0, 0.0, 0.0]);
        assert_eq!(set_score::<u8>(&[1], &[]), None);
    }

    proptest! {
        #[test]
        fn moving_a_relevant_item_up_never_lowers_ndcg(
            order in Just((0..8).collect::<Vec<u8>>()).prop_shuffle(),
            relevant in proptest::collection::vec(0u8..8, 1..4),
            at in 1usize..8,
        ) {
            prop_assume!(relevant.contains(&order[at]));
            let mut better = order.clone();
            better.swap(at, at - 1);
            let (before, after) = (ndcg(&order, &relevant).unwrap(), ndcg(&better, &relevant).unwrap());
            prop_assert!((0.0..=1.0 + 1e-12).contains(&after));
            prop_assert!(after >= before - 1e-12);
        }
    }
}
