//! The best rows of a search so far.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::Near;

/// Rows for which there is room at once, whatever is wanted.
const ROOM: usize = 4096;

/// The best so far, the worst of them on top.
pub(super) struct Best {
    k: usize,
    heap: BinaryHeap<Worst>,
}

struct Worst(Near);

impl Best {
    pub(super) fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::with_capacity(k.min(ROOM) + 1) }
    }

    /// Whether there are as many as are wanted.
    pub(super) fn is_full(&self) -> bool {
        self.heap.len() >= self.k
    }

    pub(super) fn would_take(&self, score: f32) -> bool {
        self.heap.len() < self.k || self.heap.peek().is_some_and(|worst| score >= worst.0.score)
    }

    pub(super) fn take(&mut self, near: Near) {
        self.heap.push(Worst(near));
        if self.heap.len() > self.k {
            self.heap.pop();
        }
    }

    pub(super) fn merge(mut self, other: Self) -> Self {
        other.heap.into_iter().for_each(|near| self.take(near.0));
        self
    }

    /// The largest scores first, equal ones by their numbers.
    pub(super) fn sorted(self) -> Vec<Near> {
        self.heap.into_sorted_vec().into_iter().map(|worst| worst.0).collect()
    }
}

impl Ord for Worst {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = other.0.score.total_cmp(&self.0.score);
        by_score.then_with(|| self.0.number.cmp(&other.0.number))
    }
}

impl PartialOrd for Worst {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Worst {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Worst {}
