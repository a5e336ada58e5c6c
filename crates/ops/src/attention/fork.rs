//! Queries that share most of their keys: replies to one prompt while they are written.
//!
//! The shared keys are read once for all of them, as one matrix product a head.

use std::ops::Range;

use super::Sizes;
use super::forward::{Block, add_values, head_rows, own_scores};
use crate::gemm::{Matrix, Threads, product};
use crate::simd::{softmax, vectorised};

/// With fewer shared keys than this, each query by itself is as fast.
const FEWEST_KEYS: usize = 16;

/// Cuts the work into runs of blocks that follow one another; a run is one block, or several of
/// one query each that begin with the same keys.
pub(super) fn runs(work: &[Block]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::with_capacity(work.len());
    for (index, block) in work.iter().enumerate() {
        let joins = |run: &&mut Range<usize>| {
            let last = &work[run.end - 1];
            let single = last.queries.len() == 1 && block.queries.len() == 1;
            let follows = last.queries.end == block.queries.start;
            let shared = last.keys.first() == block.keys.first();
            single
                && follows
                && shared
                && block.keys.first().is_some_and(|k| k.len() >= FEWEST_KEYS)
        };
        match runs.last_mut().filter(joins) {
            Some(run) => run.end = index + 1,
            None => runs.push(index..index + 1),
        }
    }
    runs
}

/// Attention of one head for the queries of a run of several blocks; `rows` are the head's
/// output, one row for each query.
pub(super) fn attend(
    [q, k, v]: [&[f32]; 3],
    sizes: Sizes,
    run: &[Block],
    (head, scale): (usize, f32),
    scores: &mut Vec<f32>,
    rows: &mut [f32],
) {
    let shared = shared_keys(run);
    let first_own: usize = shared.iter().map(Range::len).sum();
    let stride = run.iter().map(|block| block.visible(0)).max().unwrap_or(0);
    let queries = run[0].queries.start..run[run.len() - 1].queries.end;
    let q_rows = head_rows(q, &queries, head, (sizes.heads, sizes.width));
    let cached = |values, range| {
        head_rows(values, range, sizes.key_head(head), (sizes.key_heads, sizes.width))
    };
    scores.resize(run.len() * stride, 0.0);
    let mut column = 0;
    for range in shared {
        let views = (q_rows, cached(k, range).t());
        product(&mut scores[column..], stride, false, scale, views, Threads::One);
        column += range.len();
    }
    vectorised!({
        for (row, block) in run.iter().enumerate() {
            let scores = &mut scores[row * stride..][..block.visible(0)];
            let own = &block.keys[shared.len()..];
            own_scores(
                [q, k],
                sizes,
                (head, scale),
                block.queries.start,
                own,
                &mut scores[first_own..],
            );
            softmax(scores);
        }
    });
    let mut column = 0;
    for (index, range) in shared.iter().enumerate() {
        let p = Matrix::strided(&scores[column..], run.len(), range.len(), stride);
        product(rows, sizes.width, index > 0, 1.0, (p, cached(v, range)), Threads::One);
        column += range.len();
    }
    vectorised!({
        for (row, block) in run.iter().enumerate() {
            let p = &scores[row * stride..][first_own..block.visible(0)];
            let out = &mut rows[row * sizes.width..][..sizes.width];
            add_values(v, sizes, head, &block.keys[shared.len()..], p, out);
        }
    });
}

/// The key ranges that all blocks begin with.
fn shared_keys(run: &[Block]) -> &[Range<usize>] {
    let first = &run[0].keys;
    let shared = run[1..].iter().fold(first.len(), |shared, block| {
        let equal = first.iter().zip(&block.keys).take(shared).take_while(|(a, b)| a == b);
        equal.count()
    });
    // The last range of a block is its own, even where two look alike.
    &first[..shared.min(first.len() - 1).max(1)]
}
