//! Normalisation over the last dimension.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::portable;
use crate::simd::{dot, sum, vectorised};
use crate::slices::{input, values};

/// Rows that one task works on.
const ROWS: usize = 32;

/// `y = x / sqrt(mean(x²) + eps) * w` over the last dimension (Zhang & Sennrich 2019).
///
/// # Errors
///
/// When `w_d` is not as long as the last dimension of `x`.
pub fn rms_norm(x: &Tensor, w_d: &Tensor, eps: f64) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() && !w_d.track_op() {
        return crate::cuda::rms_norm(x, w_d, eps);
    }
    if !x.device().is_cpu() {
        return portable::rms_norm(x, w_d, eps);
    }
    x.contiguous()?.apply_op2(w_d, Norm { eps: eps as f32, centred: false })
}

/// `y = (x - mean(x)) / sqrt(var(x) + eps) * w + b` over the last dimension (Ba et al. 2016).
///
/// # Errors
///
/// When `w_d` or `b_d` is not as long as the last dimension of `x`.
pub fn layer_norm(x: &Tensor, w_d: &Tensor, b_d: &Tensor, eps: f64) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return portable::layer_norm(x, w_d, b_d, eps);
    }
    let y = x.contiguous()?.apply_op2(w_d, Norm { eps: eps as f32, centred: true })?;
    y.broadcast_add(b_d)
}

struct Norm {
    eps: f32,
    centred: bool,
}

impl Norm {
    /// Mean to subtract, and the reciprocal of the deviation, of one row.
    #[inline(always)]
    fn moments(&self, row: &[f32]) -> (f32, f32) {
        let scale = 1.0 / row.len() as f32;
        let mean = if self.centred { sum(row) * scale } else { 0.0 };
        let square = dot(row, row) * scale - mean * mean;
        (mean, 1.0 / (square.max(0.0) + self.eps).sqrt())
    }

    #[inline(always)]
    fn forward_row(&self, x: &[f32], w: &[f32], y: &mut [f32]) {
        let (mean, inverse) = self.moments(x);
        for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
            *y = (x - mean) * inverse * w;
        }
    }

    /// With `z = (x - mean) inverse` and `h = grad w`:
    /// `dx = inverse (h - z mean(h z) - [centred] mean(h))`; `dw += grad z`.
    #[inline(always)]
    fn backward_row(&self, row: [&[f32]; 3], dx: &mut [f32], dw: &mut [f32], h: &mut [f32]) {
        let [x, w, grad] = row;
        let (mean, inverse) = self.moments(x);
        for ((h, g), w) in h.iter_mut().zip(grad).zip(w) {
            *h = g * w;
        }
        for ((z, x), (dw, g)) in dx.iter_mut().zip(x).zip(dw.iter_mut().zip(grad)) {
            *z = (x - mean) * inverse;
            *dw += g * *z;
        }
        let scale = 1.0 / x.len() as f32;
        let along = dot(h, dx) * scale;
        let level = if self.centred { sum(h) * scale } else { 0.0 };
        for (dx, h) in dx.iter_mut().zip(h.iter()) {
            *dx = inverse * (h - *dx * along - level);
        }
    }
}

impl CustomOp2 for Norm {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = x_layout.shape().clone();
        let d = w_layout.shape().dims1()?;
        if shape.dims().last() != Some(&d) {
            bail!("norm: weight of {d} for input {shape:?}")
        }
        let (x, w) = (input(x, x_layout)?, input(w, w_layout)?);
        let mut y = vec![0f32; x.len()];
        y.par_chunks_mut(ROWS * d).zip(x.par_chunks(ROWS * d)).for_each(|(y, x)| {
            vectorised!({
                for (y, x) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                    self.forward_row(x, w, y);
                }
            });
        });
        Ok((CpuStorage::F32(y), shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let d = w.dims1()?;
        let (x_values, w_values, g_values) = (values(x)?, values(w)?, values(&grad)?);
        let mut dx = vec![0f32; x_values.len()];
        let partial_dw: Vec<Vec<f32>> = dx
            .par_chunks_mut(ROWS * d)
            .zip(x_values.par_chunks(ROWS * d))
            .zip(g_values.par_chunks(ROWS * d))
            .map(|((dx, x), g)| {
                let (mut dw, mut h) = (vec![0f32; d], vec![0f32; d]);
                vectorised!({
                    let rows = x.chunks_exact(d).zip(g.chunks_exact(d));
                    for (dx, (x, g)) in dx.chunks_exact_mut(d).zip(rows) {
                        self.backward_row([x, &w_values, g], dx, &mut dw, &mut h);
                    }
                });
                dw
            })
            .collect();
        let dx = Tensor::from_vec(dx, x.shape(), x.device())?;
        let dw = w.track_op().then(|| column_sums(&partial_dw, d, w)).transpose()?;
        Ok((x.track_op().then_some(dx), dw))
    }
}

fn column_sums(parts: &[Vec<f32>], d: usize, like: &Tensor) -> Result<Tensor> {
    let mut total = vec![0f32; d];
    for part in parts {
        for (total, part) in total.iter_mut().zip(part) {
            *total += part;
        }
    }
    Tensor::from_vec(total, d, like.device())
}
