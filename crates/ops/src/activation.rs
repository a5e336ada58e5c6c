//! Activations, elementwise.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::portable;
use crate::simd::{exp, vectorised};
use crate::slices::{input, values};

/// Values that one task works on.
const BLOCK: usize = 16 * 1024;

/// `silu(gate) * up`, with `silu(x) = x / (1 + e^-x)` (Shazeer 2020).
///
/// # Errors
///
/// When the shapes differ.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if gate.device().is_cuda() {
        return crate::cuda::swiglu(gate, up);
    }
    if !gate.device().is_cpu() {
        return portable::swiglu(gate, up);
    }
    gate.contiguous()?.apply_op2(&up.contiguous()?, SwiGlu)
}

/// `gelu` by its tanh approximation (Hendrycks & Gimpel 2016).
///
/// # Errors
///
/// When the kernel fails.
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return x.gelu();
    }
    x.contiguous()?.apply_op1(GeluTanh)
}

/// `x Φ(x)` exactly, by the error function.
///
/// # Errors
///
/// When the kernel fails.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    x.gelu_erf()
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

struct SwiGlu;

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        if gate_layout.shape() != up_layout.shape() {
            bail!("swiglu: gate {:?}, up {:?}", gate_layout.shape(), up_layout.shape())
        }
        let (gate, up) = (input(gate, gate_layout)?, input(up, up_layout)?);
        let mut y = vec![0f32; gate.len()];
        y.par_chunks_mut(BLOCK).zip(gate.par_chunks(BLOCK).zip(up.par_chunks(BLOCK))).for_each(
            |(y, (gate, up))| {
                vectorised!({
                    for ((y, g), u) in y.iter_mut().zip(gate).zip(up) {
                        *y = g * sigmoid(*g) * u;
                    }
                });
            },
        );
        Ok((CpuStorage::F32(y), gate_layout.shape().clone()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (g_values, u_values, dy) = (values(gate)?, values(up)?, values(&grad)?);
        let (mut dg, mut du) = (vec![0f32; dy.len()], vec![0f32; dy.len()]);
        dg.par_chunks_mut(BLOCK)
            .zip(du.par_chunks_mut(BLOCK))
            .zip(g_values.par_chunks(BLOCK).zip(u_values.par_chunks(BLOCK)))
            .zip(dy.par_chunks(BLOCK))
            .for_each(|(((dg, du), (g, u)), dy)| {
                vectorised!({
                    for i in 0..dy.len() {
                        let s = sigmoid(g[i]);
                        dg[i] = dy[i] * u[i] * s * (1.0 + g[i] * (1.0 - s));
                        du[i] = dy[i] * g[i] * s;
                    }
                });
            });
        let (shape, device) = (gate.shape(), gate.device());
        Ok((Some(Tensor::from_vec(dg, shape, device)?), Some(Tensor::from_vec(du, shape, device)?)))
    }
}

struct GeluTanh;

/// `sqrt(2 / pi)`.
const ROOT: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;

/// `tanh(ROOT (x + CUBIC x³))`.
#[inline(always)]
fn inner_tanh(x: f32) -> f32 {
    let e = exp(-2.0 * ROOT * (x + CUBIC * x * x * x));
    (1.0 - e) / (1.0 + e)
}

impl CustomOp1 for GeluTanh {
    fn name(&self) -> &'static str {
        "gelu_tanh"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = input(x, layout)?;
        let mut y = vec![0f32; x.len()];
        y.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(y, x)| {
            vectorised!({
                for (y, x) in y.iter_mut().zip(x) {
                    *y = 0.5 * x * (1.0 + inner_tanh(*x));
                }
            });
        });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let (x_values, dy) = (values(x)?, values(&grad)?);
        let mut dx = vec![0f32; dy.len()];
        dx.par_chunks_mut(BLOCK)
            .zip(x_values.par_chunks(BLOCK).zip(dy.par_chunks(BLOCK)))
            .for_each(|(dx, (x, dy))| {
                vectorised!({
                    for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
                        let t = inner_tanh(*x);
                        let slope = ROOT * (1.0 + 3.0 * CUBIC * x * x);
                        *dx = dy * 0.5 * (1.0 + t + x * (1.0 - t * t) * slope);
                    }
                });
            });
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}
