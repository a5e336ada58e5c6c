//! The forward pass: blocks of queries against the keys they see, one head at a time.

use std::ops::Range;

use rayon::prelude::*;

use super::plan::{AttentionPlan, Own, QuerySpan};
use super::{Sizes, fork};
use crate::gemm::{Matrix, Threads, product};
use crate::simd::{add_scaled, dot, fetch_row, softmax, vectorised};
use crate::slices::SharedMut;

/// Queries that are worked on together.
pub(super) const BLOCK: usize = 64;

/// Below this many queries, loops over rows beat packing for a matrix product.
const FEW: usize = 4;

/// Keys that are fetched before they are read: those of a head do not lie side by side.
const AHEAD: usize = 8;

/// Multiplications that a thread takes at a time.
const WORK_AT_ONCE: usize = 1 << 17;

/// Some queries of a span with the keys that at least one of them sees.
pub(super) struct Block {
    /// Rows of the queries.
    pub(super) queries: Range<usize>,
    /// Rows of keys, in the order of the score columns.
    pub(super) keys: Vec<Range<usize>>,
    /// Columns that all queries see; after these, query `i` sees `i + 1 + lead` more.
    pub(super) open: usize,
    /// Own keys before the first query of the block.
    pub(super) lead: usize,
    /// Whether own keys follow causally.
    pub(super) causal: bool,
}

impl Block {
    /// Columns of the score matrix.
    pub(super) fn columns(&self) -> usize {
        self.keys.iter().map(Range::len).sum()
    }

    /// Columns that query `row` of the block sees, from the first on.
    pub(super) fn visible(&self, row: usize) -> usize {
        if self.causal { self.open + self.lead + row + 1 } else { self.open }
    }
}

/// Cuts a span into blocks.
pub(super) fn blocks(span: &QuerySpan) -> impl Iterator<Item = Block> + '_ {
    let open: usize = span.seen.iter().map(Range::len).sum();
    (0..span.queries.len()).step_by(BLOCK).map(move |lead| {
        let len = BLOCK.min(span.queries.len() - lead);
        let first = span.queries.start + lead;
        let mut keys: Vec<_> = span.seen.iter().filter(|r| !r.is_empty()).cloned().collect();
        let causal = match span.own {
            Own::None => false,
            Own::Causal(start) => {
                keys.push(start..start + lead + len);
                true
            }
        };
        Block { queries: first..first + len, keys, open, lead, causal }
    })
}

/// The view of one head's rows.
pub(super) fn head_rows<'a>(
    values: &'a [f32],
    rows: &Range<usize>,
    head: usize,
    (heads, width): (usize, usize),
) -> Matrix<'a> {
    let stride = heads * width;
    Matrix::strided(&values[rows.start * stride + head * width..], rows.len(), width, stride)
}

pub(super) fn forward(
    [q, k, v]: [&[f32]; 3],
    sizes: Sizes,
    plan: &AttentionPlan,
    scale: f32,
) -> Vec<f32> {
    let mut out = vec![0f32; sizes.queries * sizes.heads * sizes.width];
    let shared = SharedMut::new(&mut out);
    let work: Vec<Block> = plan.spans().iter().flat_map(blocks).collect();
    let runs = fork::runs(&work);
    let tasks = runs.len() * sizes.heads;
    let tasks_at_once = tasks_at_once(&work, sizes, tasks);
    let tasks = (0..tasks).into_par_iter().with_min_len(tasks_at_once);
    tasks.for_each_init(<(Vec<f32>, Vec<f32>)>::default, |(scores, rows), task| {
        let (run, head) = (&work[runs[task / sizes.heads].clone()], task % sizes.heads);
        let queries = run[0].queries.start..run[run.len() - 1].queries.end;
        rows.resize(queries.len() * sizes.width, 0.0);
        match run {
            [block] if block.queries.len() < FEW => {
                few_queries([q, k, v], sizes, block, (head, scale), scores, rows);
            }
            [block] => {
                let columns = probabilities([q, k], sizes, block, (head, scale), scores);
                weighted_values(v, sizes, block, head, (scores, columns), rows);
            }
            run => fork::attend([q, k, v], sizes, run, (head, scale), scores, rows),
        }
        for (query, row) in queries.zip(rows.chunks_exact(sizes.width)) {
            // SAFETY: spans share no query (checked by the plan), so these places belong to this
            // task alone.
            let place =
                unsafe { shared.range((query * sizes.heads + head) * sizes.width, sizes.width) };
            place.copy_from_slice(row);
        }
    });
    out
}

/// Heads of runs that a thread takes at least: with fewer multiplications than these have, handing
/// work over takes longer than the work.
fn tasks_at_once(work: &[Block], sizes: Sizes, tasks: usize) -> usize {
    let scores: usize = work.iter().map(|block| block.queries.len() * block.columns()).sum();
    let a_task = (2 * scores * sizes.width * sizes.heads).div_ceil(tasks.max(1)).max(1);
    WORK_AT_ONCE.div_ceil(a_task)
}

/// Writes the block's probabilities `[queries, columns]` into `p`; returns the columns.
pub(super) fn probabilities(
    [q, k]: [&[f32]; 2],
    sizes: Sizes,
    block: &Block,
    (head, scale): (usize, f32),
    p: &mut Vec<f32>,
) -> usize {
    let (n, columns) = (block.queries.len(), block.columns());
    p.resize(n * columns, 0.0);
    let q_rows = head_rows(q, &block.queries, head, (sizes.heads, sizes.width));
    let mut column = 0;
    for range in &block.keys {
        let k_rows = head_rows(k, range, sizes.key_head(head), (sizes.key_heads, sizes.width));
        product(&mut p[column..], columns, false, scale, (q_rows, k_rows.t()), Threads::One);
        column += range.len();
    }
    vectorised!({
        for (row, scores) in p.chunks_exact_mut(columns).enumerate() {
            let (seen, hidden) = scores.split_at_mut(block.visible(row));
            softmax(seen);
            hidden.fill(0.0);
        }
    });
    columns
}

/// `rows = p v`, for one head.
fn weighted_values(
    v: &[f32],
    sizes: Sizes,
    block: &Block,
    head: usize,
    (p, columns): (&[f32], usize),
    rows: &mut [f32],
) {
    let mut column = 0;
    for (index, range) in block.keys.iter().enumerate() {
        let p = Matrix::strided(&p[column..], block.queries.len(), range.len(), columns);
        let v = head_rows(v, range, sizes.key_head(head), (sizes.key_heads, sizes.width));
        product(rows, sizes.width, index > 0, 1.0, (p, v), Threads::One);
        column += range.len();
    }
}

/// The same for one head of very few queries, as in decoding.
fn few_queries(
    [q, k, v]: [&[f32]; 3],
    sizes: Sizes,
    block: &Block,
    (head, scale): (usize, f32),
    scores: &mut Vec<f32>,
    rows: &mut [f32],
) {
    let width = sizes.width;
    vectorised!({
        for (row, query) in block.queries.clone().enumerate() {
            scores.resize(block.visible(row), 0.0);
            own_scores([q, k], sizes, (head, scale), query, &block.keys, scores);
            softmax(scores);
            let out = &mut rows[row * width..][..width];
            out.fill(0.0);
            add_values(v, sizes, head, &block.keys, scores, out);
        }
    });
}

/// Scores of one query with its keys, as many as there is room for.
#[inline(always)]
pub(super) fn own_scores(
    [q, k]: [&[f32]; 2],
    sizes: Sizes,
    (head, scale): (usize, f32),
    query: usize,
    keys: &[Range<usize>],
    scores: &mut [f32],
) {
    let (width, stride) = (sizes.width, sizes.key_heads * sizes.width);
    let q = &q[(query * sizes.heads + head) * width..][..width];
    let mut at = 0;
    for range in keys {
        let len = range.len().min(scores.len() - at);
        let mut start = range.start * stride + sizes.key_head(head) * width;
        for score in &mut scores[at..at + len] {
            fetch_row(k, start + AHEAD * stride, width);
            *score = dot(q, &k[start..start + width]) * scale;
            start += stride;
        }
        at += len;
    }
}

/// Adds one query's keys' values, weighted, to its output.
#[inline(always)]
pub(super) fn add_values(
    v: &[f32],
    sizes: Sizes,
    head: usize,
    keys: &[Range<usize>],
    weights: &[f32],
    out: &mut [f32],
) {
    let (width, stride) = (sizes.width, sizes.key_heads * sizes.width);
    let mut at = 0;
    for range in keys {
        let len = range.len().min(weights.len() - at);
        let mut start = range.start * stride + sizes.key_head(head) * width;
        for weight in &weights[at..at + len] {
            fetch_row(v, start + AHEAD * stride, width);
            add_scaled(out, *weight, &v[start..start + width]);
            start += stride;
        }
        at += len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_change_nothing() {
        let (prompt, replies) = (600, 8);
        let mut spans = vec![QuerySpan { queries: 0..70, seen: vec![], own: Own::Causal(0) }];
        spans.extend((0..replies).map(|reply| QuerySpan {
            queries: 70 + reply..71 + reply,
            seen: vec![0..prompt / 2, prompt / 2..prompt],
            own: Own::Causal(prompt + reply),
        }));
        let plan = AttentionPlan::new(spans).unwrap();
        let (queries, keys) = (plan.queries(), plan.keys());
        let sizes = Sizes { queries, keys, heads: 6, key_heads: 3, width: 64 };
        let values = |n: usize, by: usize| -> Vec<f32> {
            (0..n).map(|i| ((i * by % 101) as f32 - 50.0) / 31.0).collect()
        };
        let q = values(queries * 6 * 64, 37);
        let (k, v) = (values(keys * 3 * 64, 41), values(keys * 3 * 64, 43));
        let work: Vec<Block> = plan.spans().iter().flat_map(blocks).collect();
        let tasks = fork::runs(&work).len() * sizes.heads;
        assert!(tasks >= 2 * tasks_at_once(&work, sizes, tasks), "too little to be shared out");
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| forward([&q, &k, &v], sizes, &plan, 0.125))
        };
        assert_eq!(with(1), with(3));
    }
}
