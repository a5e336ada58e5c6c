//! Attention of packed sequences that may share prefixes and may lie in a cache.
//!
//! One operation serves prefill, decoding and training: what a query sees is said by an
//! [`AttentionPlan`]. A group of replies to one prompt is a tree in it: the prompt's tokens once,
//! and for each reply a span that sees all of the prompt and its own tokens causally. The backward
//! pass recomputes the probabilities.

mod backward;
mod fork;
mod forward;
mod plan;

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::portable;
use crate::slices::{input, values};

pub use plan::{AttentionPlan, Own, QuerySpan};

/// `softmax(q kᵀ scale) v` for each head, over the keys that `plan` lets each query see.
///
/// * `q_thk`: one row for each query of the plan, `h` heads;
/// * `k_sgk`, `v_sgk`: one row for each key, `g` heads, where `g` divides `h`: heads `i h/g ..
///   (i+1) h/g` share key head `i` (grouped-query attention, Ainslie et al. 2023).
///
/// Returns `[t, h, k]`. Queries that no span names get zeros.
///
/// # Errors
///
/// When the shapes do not fit each other or the plan.
pub fn attention(
    q_thk: &Tensor,
    k_sgk: &Tensor,
    v_sgk: &Tensor,
    plan: &Arc<AttentionPlan>,
    scale: f64,
) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if q_thk.device().is_cuda() {
        return crate::cuda::attention(q_thk, k_sgk, v_sgk, plan, scale);
    }
    if !q_thk.device().is_cpu() {
        return portable::attention(q_thk, k_sgk, v_sgk, plan, scale);
    }
    let op = Attention { plan: Arc::clone(plan), scale: scale as f32 };
    q_thk.contiguous()?.apply_op3(&k_sgk.contiguous()?, &v_sgk.contiguous()?, op)
}

/// The sizes of one call.
#[derive(Clone, Copy)]
struct Sizes {
    queries: usize,
    keys: usize,
    heads: usize,
    key_heads: usize,
    width: usize,
}

impl Sizes {
    fn new(q: &Shape, k: &Shape, v: &Shape, plan: &AttentionPlan) -> Result<Self> {
        let ((queries, heads, width), (keys, key_heads, k_width)) = (q.dims3()?, k.dims3()?);
        if k.dims() != v.dims() || k_width != width || !heads.is_multiple_of(key_heads) {
            bail!("attention: q {q:?}, k {k:?}, v {v:?}")
        }
        if plan.queries() > queries || plan.keys() > keys {
            bail!(
                "attention: plan of {} queries and {} keys for {queries} and {keys}",
                plan.queries(),
                plan.keys()
            )
        }
        Ok(Self { queries, keys, heads, key_heads, width })
    }

    /// The key head that a query head reads.
    fn key_head(&self, head: usize) -> usize {
        head / (self.heads / self.key_heads)
    }
}

struct Attention {
    plan: Arc<AttentionPlan>,
    scale: f32,
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = q_layout.shape().clone();
        let sizes = Sizes::new(&shape, k_layout.shape(), v_layout.shape(), &self.plan)?;
        let qkv = [input(q, q_layout)?, input(k, k_layout)?, input(v, v_layout)?];
        let out = forward::forward(qkv, sizes, &self.plan, self.scale);
        Ok((CpuStorage::F32(out), shape))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let sizes = Sizes::new(q.shape(), k.shape(), v.shape(), &self.plan)?;
        let (q_values, k_values, v_values) = (values(q)?, values(k)?, values(v)?);
        let (out_values, grad_values) = (values(out)?, values(&grad)?);
        let inputs = backward::Inputs {
            q: &q_values,
            k: &k_values,
            v: &v_values,
            out: &out_values,
            grad: &grad_values,
        };
        let gradients = backward::backward(&inputs, sizes, &self.plan, self.scale);
        let device = q.device();
        Ok((
            Some(Tensor::from_vec(gradients.dq, q.shape(), device)?),
            Some(Tensor::from_vec(gradients.dk, k.shape(), device)?),
            Some(Tensor::from_vec(gradients.dv, v.shape(), device)?),
        ))
    }
}
