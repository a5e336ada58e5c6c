//! The backward pass: probabilities are computed again, block by block.

use std::ops::Range;

use rayon::prelude::*;

use super::Sizes;
use super::forward::{Block, blocks, head_rows, probabilities};
use super::plan::AttentionPlan;
use crate::gemm::{Matrix, Threads, product};
use crate::simd::{dot, vectorised};
use crate::slices::SharedMut;

/// What the forward pass read and wrote, and the gradient of its result.
pub(super) struct Inputs<'a> {
    pub(super) q: &'a [f32],
    pub(super) k: &'a [f32],
    pub(super) v: &'a [f32],
    pub(super) out: &'a [f32],
    pub(super) grad: &'a [f32],
}

/// Gradients of the three inputs.
pub(super) struct Gradients {
    pub(super) dq: Vec<f32>,
    pub(super) dk: Vec<f32>,
    pub(super) dv: Vec<f32>,
}

/// Per thread: probabilities and their gradient.
#[derive(Default)]
struct Scratch {
    p: Vec<f32>,
    ds: Vec<f32>,
}

/// Where one head of one component adds its gradients.
struct Sinks {
    dq: SharedMut,
    /// `[heads, keys, width]`: each query head has its own, summed over groups afterwards.
    dk: SharedMut,
    dv: SharedMut,
}

pub(super) fn backward(
    inputs: &Inputs<'_>,
    sizes: Sizes,
    plan: &AttentionPlan,
    scale: f32,
) -> Gradients {
    let mut dq = vec![0f32; inputs.q.len()];
    let mut dk_heads = vec![0f32; sizes.heads * sizes.keys * sizes.width];
    let mut dv_heads = vec![0f32; sizes.heads * sizes.keys * sizes.width];
    let sinks = Sinks {
        dq: SharedMut::new(&mut dq),
        dk: SharedMut::new(&mut dk_heads),
        dv: SharedMut::new(&mut dv_heads),
    };
    let units: Vec<(usize, usize)> = (0..plan.components().len())
        .flat_map(|component| (0..sizes.heads).map(move |head| (component, head)))
        .collect();
    units.par_iter().for_each_init(Scratch::default, |scratch, &(component, head)| {
        for &span in &plan.components()[component] {
            for block in blocks(&plan.spans()[span]) {
                block_gradients(inputs, sizes, &block, (head, scale), &sinks, scratch);
            }
        }
    });
    let dk = sum_groups(&dk_heads, sizes);
    let dv = sum_groups(&dv_heads, sizes);
    Gradients { dq, dk, dv }
}

/// With `P` the probabilities and `dO` the gradient of the output:
/// `dV += Pᵀ dO`, `dS = P (dO Vᵀ - rowsum(dO O)) scale`, `dQ = dS K`, `dK += dSᵀ Q`.
fn block_gradients(
    inputs: &Inputs<'_>,
    sizes: Sizes,
    block: &Block,
    (head, scale): (usize, f32),
    sinks: &Sinks,
    scratch: &mut Scratch,
) {
    let (n, width) = (block.queries.len(), sizes.width);
    let columns = probabilities([inputs.q, inputs.k], sizes, block, (head, scale), &mut scratch.p);
    score_gradients(inputs, sizes, block, (head, scale), scratch);
    let q = head_rows(inputs.q, &block.queries, head, (sizes.heads, width));
    let grad = head_rows(inputs.grad, &block.queries, head, (sizes.heads, width));
    let mut dq_rows = vec![0f32; n * width];
    let mut column = 0;
    for (index, range) in block.keys.iter().enumerate() {
        let p = Matrix::strided(&scratch.p[column..], n, range.len(), columns);
        let ds = Matrix::strided(&scratch.ds[column..], n, range.len(), columns);
        let k = head_rows(inputs.k, range, sizes.key_head(head), (sizes.key_heads, width));
        product(&mut dq_rows, width, index > 0, 1.0, (ds, k), Threads::One);
        let (start, len) = ((head * sizes.keys + range.start) * width, range.len() * width);
        // SAFETY: the head's part of the buffer, and in it the component's keys, which no other
        // component shares, are written by this unit alone; the two slices are of two buffers.
        let (dk, dv) = unsafe { (sinks.dk.range(start, len), sinks.dv.range(start, len)) };
        product(dk, width, true, 1.0, (ds.t(), q), Threads::One);
        product(dv, width, true, 1.0, (p.t(), grad), Threads::One);
        column += range.len();
    }
    for (row, dq_row) in dq_rows.chunks_exact(width).enumerate() {
        let start = ((block.queries.start + row) * sizes.heads + head) * width;
        // SAFETY: this unit alone writes this head of its component's queries.
        unsafe { sinks.dq.range(start, width) }.copy_from_slice(dq_row);
    }
}

/// Fills `scratch.ds` with the gradient of the scores before scaling by `q kᵀ`.
fn score_gradients(
    inputs: &Inputs<'_>,
    sizes: Sizes,
    block: &Block,
    (head, scale): (usize, f32),
    scratch: &mut Scratch,
) {
    let (n, width, columns) = (block.queries.len(), sizes.width, block.columns());
    scratch.ds.resize(n * columns, 0.0);
    let grad = head_rows(inputs.grad, &block.queries, head, (sizes.heads, width));
    let mut column = 0;
    for range in &block.keys {
        let v = head_rows(inputs.v, range, sizes.key_head(head), (sizes.key_heads, width));
        product(&mut scratch.ds[column..], columns, false, 1.0, (grad, v.t()), Threads::One);
        column += range.len();
    }
    let row_range = |row: usize| -> Range<usize> {
        let start = ((block.queries.start + row) * sizes.heads + head) * width;
        start..start + width
    };
    vectorised!({
        let rows = scratch.ds.chunks_exact_mut(columns).zip(scratch.p.chunks_exact(columns));
        for (row, (ds, p)) in rows.enumerate() {
            let along = dot(&inputs.grad[row_range(row)], &inputs.out[row_range(row)]);
            for (ds, p) in ds.iter_mut().zip(p) {
                *ds = p * (*ds - along) * scale;
            }
        }
    });
}

/// `[heads, keys, width]` to `[keys, key heads, width]`, adding the heads of each group.
fn sum_groups(per_head: &[f32], sizes: Sizes) -> Vec<f32> {
    let (width, group) = (sizes.width, sizes.heads / sizes.key_heads);
    let mut total = vec![0f32; sizes.keys * sizes.key_heads * width];
    total.par_chunks_mut(sizes.key_heads * width).enumerate().with_min_len(64).for_each(
        |(key, rows)| {
            for head in 0..sizes.heads {
                let start = (head * sizes.keys + key) * width;
                let sum = &mut rows[head / group * width..][..width];
                for (sum, part) in sum.iter_mut().zip(&per_head[start..start + width]) {
                    *sum += part;
                }
            }
        },
    );
    total
}
