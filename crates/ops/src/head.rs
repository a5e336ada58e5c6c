//! Log-probabilities of given tokens, over the vocabulary in chunks.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::gemm::{Matrix, Threads, product};
use crate::portable;
use crate::simd::{exp, max, vectorised};
use crate::slices::{input, values};
use crate::weight::{Weight, WeightTensor};

/// What the head says of each given token.
#[derive(Clone, Debug)]
pub struct TokenScores {
    /// Natural logarithm of the token's probability, `[t]`. Differentiable.
    pub logprobs_t: Tensor,
    /// Entropy of the distribution the token was drawn from, in nats, `[t]`. Differentiable.
    pub entropy_t: Tensor,
}

/// Scores `targets[i]` under `softmax(h_td[i] w_vdᵀ / temperature)`; a frozen `w_vd` may be of 16-bit
/// numbers.
///
/// The logits are made `chunk` vocabulary entries at a time, in the forward pass and again in the
/// backward pass: a `[t, v]` tensor never exists if `chunk < v`.
///
/// # Errors
///
/// When the shapes do not fit, a target lies outside the vocabulary, or the temperature is not
/// positive.
pub fn logprob_head(
    h_td: &Tensor,
    w_vd: &Tensor,
    targets: &[u32],
    temperature: f64,
    chunk: usize,
) -> Result<TokenScores> {
    let (t, v) = (h_td.dim(0)?, w_vd.dim(0)?);
    if targets.len() != t || temperature <= 0.0 {
        bail!("logprob_head: {} targets for {t} rows, temperature {temperature}", targets.len())
    }
    if let Some(target) = targets.iter().find(|&&target| target as usize >= v) {
        bail!("logprob_head: token {target} of a vocabulary of {v}")
    }
    if t == 0 {
        let none = Tensor::zeros(0, h_td.dtype(), h_td.device())?;
        return Ok(TokenScores { logprobs_t: none.clone(), entropy_t: none });
    }
    if !h_td.device().is_cpu() {
        return portable::logprob_head(h_td, w_vd, targets, temperature, chunk);
    }
    let op = Head {
        targets: targets.to_vec(),
        inverse_temperature: (1.0 / temperature) as f32,
        chunk: chunk.clamp(1, v),
        found: OnceLock::new(),
    };
    let scores_2t = h_td.contiguous()?.apply_op2(w_vd, op)?;
    Ok(TokenScores { logprobs_t: scores_2t.get(0)?, entropy_t: scores_2t.get(1)? })
}

struct Head {
    targets: Vec<u32>,
    inverse_temperature: f32,
    chunk: usize,
    /// What the forward pass found, for the backward pass.
    found: OnceLock<Vec<Running>>,
}

/// Sums over the part of the vocabulary seen so far, relative to the largest logit.
#[derive(Clone, Copy)]
struct Running {
    largest: f32,
    /// Sum of `e^(l - largest)`.
    total: f32,
    /// Sum of `e^(l - largest) (l - largest)`.
    weighted: f32,
}

impl Running {
    const NOTHING: Self = Self { largest: f32::NEG_INFINITY, total: 0.0, weighted: 0.0 };

    #[inline(always)]
    fn add(&mut self, logits: &[f32], scratch: &mut [f32]) {
        let largest = max(logits).max(self.largest);
        if self.total > 0.0 {
            let (shift, scale) = (self.largest - largest, exp(self.largest - largest));
            self.weighted = (self.weighted + self.total * shift) * scale;
            self.total *= scale;
        }
        self.largest = largest;
        for (e, l) in scratch.iter_mut().zip(logits) {
            *e = exp(l - largest);
        }
        self.total += crate::simd::sum(scratch);
        for (e, l) in scratch.iter_mut().zip(logits) {
            *e *= l - largest;
        }
        self.weighted += crate::simd::sum(scratch);
    }

    fn log_total(&self) -> f32 {
        self.largest + self.total.ln()
    }

    /// `H = log(total) - weighted / total`.
    fn entropy(&self) -> f32 {
        self.total.ln() - self.weighted / self.total
    }
}

impl Head {
    /// Calls `each(start, logits)` for each chunk of the vocabulary, with `[t, chunk]` logits.
    fn for_chunks(
        &self,
        h: Matrix<'_>,
        t: usize,
        w: Weight<'_>,
        mut each: impl FnMut(usize, usize, &mut [f32]),
    ) {
        let mut logits = vec![0f32; t * self.chunk];
        for start in (0..w.n).step_by(self.chunk) {
            let n = self.chunk.min(w.n - start);
            let logits = &mut logits[..t * n];
            w.rows(start..start + n).project_into(h, self.inverse_temperature, false, logits);
            each(start, n, logits);
        }
    }

    fn running(&self, h: &[f32], t: usize, w: Weight<'_>) -> Vec<Running> {
        let mut running = vec![Running::NOTHING; t];
        self.for_chunks(Matrix::new(h, t, w.d), t, w, |_, n, logits| {
            running.par_iter_mut().zip(logits.par_chunks(n)).with_min_len(8).for_each_init(
                || vec![0f32; n],
                |scratch, (running, logits)| vectorised!(running.add(logits, scratch)),
            );
        });
        running
    }

    /// The logit of each row's target.
    fn target_logits(&self, h: &[f32], w: Weight<'_>) -> Vec<f32> {
        let rows = h.par_chunks_exact(w.d).zip(&self.targets).with_min_len(64);
        rows.map_init(Vec::new, |scratch, (h, &target)| {
            w.row_dot(target as usize, h, scratch) * self.inverse_temperature
        })
        .collect()
    }

    /// Turns logits into their gradient: with `p` the probabilities, `g` and `e` the gradients of
    /// log-probability and entropy: `g (1[target] - p) - e p (log p + H)`, over the temperature.
    fn logit_gradients(
        &self,
        (start, n): (usize, usize),
        logits: &mut [f32],
        running: &[Running],
        [g, e]: [&[f32]; 2],
    ) {
        let inverse = self.inverse_temperature;
        logits.par_chunks_mut(n).enumerate().with_min_len(8).for_each(|(row, logits)| {
            let (lse, entropy) = (running[row].log_total(), running[row].entropy());
            let (g, e) = (g[row] * inverse, e[row] * inverse);
            vectorised!({
                for l in logits.iter_mut() {
                    let log_p = *l - lse;
                    *l = -exp(log_p) * (g + e * (log_p + entropy));
                }
            });
            let target = self.targets[row] as usize;
            if (start..start + n).contains(&target) {
                logits[target - start] += g;
            }
        });
    }
}

impl CustomOp2 for Head {
    fn name(&self) -> &'static str {
        "logprob_head"
    }

    fn cpu_fwd(
        &self,
        h: &CpuStorage,
        h_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (t, d) = h_layout.shape().dims2()?;
        let (h, w) = (input(h, h_layout)?, Weight::input(w, w_layout)?);
        if d != w.d {
            bail!("logprob_head: hidden width {d}, weight width {}", w.d)
        }
        let running = self.found.get_or_init(|| self.running(h, t, w));
        let targets = self.target_logits(h, w);
        let logprobs = targets.iter().zip(running).map(|(l, running)| l - running.log_total());
        let mut out: Vec<f32> = logprobs.collect();
        out.extend(running.iter().map(Running::entropy));
        Ok((CpuStorage::F32(out), (2, t).into()))
    }

    fn bwd(
        &self,
        h: &Tensor,
        w: &Tensor,
        _scores: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let ((t, d), v) = (h.dims2()?, w.dim(0)?);
        let (h_values, weight, grad) = (values(h)?, WeightTensor::of(w), values(&grad)?);
        let w_values = weight.get()?;
        if w.track_op() && w.dtype() != DType::F32 {
            bail!("logprob_head: a head that is trained must be f32, not {:?}", w.dtype())
        }
        let running = self.found.get_or_init(|| self.running(&h_values, t, w_values));
        let mut dh = vec![0f32; t * d];
        let mut dw = w.track_op().then(|| vec![0f32; v * d]);
        let h_rows = Matrix::new(&h_values, t, d);
        self.for_chunks(h_rows, t, w_values, |start, n, logits| {
            self.logit_gradients((start, n), logits, running, [&grad[..t], &grad[t..]]);
            let logits = Matrix::new(logits, t, n);
            w_values.rows(start..start + n).pull(logits, &mut dh);
            if let Some(dw) = &mut dw {
                let rows = &mut dw[start * d..(start + n) * d];
                product(rows, d, false, 1.0, (logits.t(), h_rows), Threads::All);
            }
        });
        let dw = dw.map(|dw| Tensor::from_vec(dw, (v, d), w.device())).transpose()?;
        let dh = h.track_op().then(|| Tensor::from_vec(dh, (t, d), h.device())).transpose()?;
        Ok((dh, dw))
    }
}
