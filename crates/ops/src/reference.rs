//! The same operations composed of candle's own differentiable ones: slow, obvious, and the oracle
//! of every fast kernel.

use candle_core::{D, DType, Result, Tensor};

use crate::attention::{AttentionPlan, Own};
use crate::head::TokenScores;

/// See [`crate::linear()`].
///
/// # Errors
///
/// When the shapes do not fit.
pub fn linear(x_td: &Tensor, w_nd: &Tensor) -> Result<Tensor> {
    x_td.matmul(&w_nd.to_dtype(x_td.dtype())?.t()?)
}

/// See [`crate::rms_norm`].
///
/// # Errors
///
/// When the shapes do not fit.
pub fn rms_norm(x: &Tensor, w_d: &Tensor, eps: f64) -> Result<Tensor> {
    let square = x.sqr()?.mean_keepdim(D::Minus1)?;
    x.broadcast_div(&(square + eps)?.sqrt()?)?.broadcast_mul(w_d)
}

/// See [`crate::layer_norm`].
///
/// # Errors
///
/// When the shapes do not fit.
pub fn layer_norm(x: &Tensor, w_d: &Tensor, b_d: &Tensor, eps: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let var = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred.broadcast_div(&(var + eps)?.sqrt()?)?.broadcast_mul(w_d)?.broadcast_add(b_d)
}

/// See [`crate::rope()`].
///
/// # Errors
///
/// When the shapes do not fit.
pub fn rope(x_thk: &Tensor, cos_tp: &Tensor, sin_tp: &Tensor) -> Result<Tensor> {
    let half = x_thk.dim(D::Minus1)? / 2;
    let (x1, x2) = (x_thk.narrow(D::Minus1, 0, half)?, x_thk.narrow(D::Minus1, half, half)?);
    let (cos, sin) = (cos_tp.unsqueeze(1)?, sin_tp.unsqueeze(1)?);
    let y1 = (x1.broadcast_mul(&cos)? - x2.broadcast_mul(&sin)?)?;
    let y2 = (x2.broadcast_mul(&cos)? + x1.broadcast_mul(&sin)?)?;
    Tensor::cat(&[y1, y2], D::Minus1)
}

/// See [`crate::swiglu`].
///
/// # Errors
///
/// When the shapes differ.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.silu()? * up
}

/// See [`crate::attention()`]: a full score matrix with a mask.
///
/// # Errors
///
/// When the shapes do not fit.
pub fn attention(
    q_thk: &Tensor,
    k_sgk: &Tensor,
    v_sgk: &Tensor,
    plan: &AttentionPlan,
    scale: f64,
) -> Result<Tensor> {
    let ((t, h, k), (s, g, _)) = (q_thk.dims3()?, k_sgk.dims3()?);
    let repeat = |x_sgk: &Tensor| -> Result<Tensor> {
        let x = x_sgk.unsqueeze(2)?.expand((s, g, h / g, k))?;
        x.reshape((s, h, k))?.transpose(0, 1)?.contiguous()
    };
    let (keys_hsk, values_hsk) = (repeat(k_sgk)?, repeat(v_sgk)?);
    let queries_htk = q_thk.transpose(0, 1)?.contiguous()?;
    let (mask_ts, live_t) = masks(plan, t, s);
    let mask_ts = Tensor::from_vec(mask_ts, (t, s), q_thk.device())?.to_dtype(q_thk.dtype())?;
    let live_t = Tensor::from_vec(live_t, (1, t, 1), q_thk.device())?.to_dtype(q_thk.dtype())?;
    let scores_hts = (queries_htk.matmul(&keys_hsk.transpose(1, 2)?)? * scale)?;
    let scores_hts = scores_hts.broadcast_add(&mask_ts)?;
    let largest = scores_hts.max_keepdim(D::Minus1)?.detach();
    let weights = scores_hts.broadcast_sub(&largest)?.exp()?;
    let p_hts = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
    let out_htk = p_hts.matmul(&values_hsk)?.broadcast_mul(&live_t)?;
    out_htk.transpose(0, 1)?.contiguous()
}

/// 0 where a query sees a key and a large negative number elsewhere; 1 where a query sees anything.
fn masks(plan: &AttentionPlan, t: usize, s: usize) -> (Vec<f32>, Vec<f32>) {
    let (mut mask, mut live) = (vec![-1e30f32; t * s], vec![0f32; t]);
    for span in plan.spans() {
        for (index, query) in span.queries.clone().enumerate() {
            live[query] = 1.0;
            let own = match span.own {
                Own::None => 0..0,
                Own::Causal(start) => start..start + index + 1,
            };
            for key in span.seen.iter().cloned().flatten().chain(own) {
                mask[query * s + key] = 0.0;
            }
        }
    }
    (mask, live)
}

/// See [`crate::logprob_head`]: with all logits at once.
///
/// # Errors
///
/// When the shapes do not fit.
pub fn logprob_head(
    h_td: &Tensor,
    w_vd: &Tensor,
    targets: &[u32],
    temperature: f64,
) -> Result<TokenScores> {
    let logits_tv = (linear(h_td, w_vd)?.to_dtype(DType::F32)? / temperature)?;
    let largest = logits_tv.max_keepdim(D::Minus1)?.detach();
    let shifted = logits_tv.broadcast_sub(&largest)?;
    let log_total = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let log_p_tv = shifted.broadcast_sub(&log_total)?;
    let targets = Tensor::new(targets, h_td.device())?.unsqueeze(1)?;
    let entropy_t = (log_p_tv.exp()? * &log_p_tv)?.sum(D::Minus1)?.neg()?;
    Ok(TokenScores { logprobs_t: log_p_tv.gather(&targets, 1)?.squeeze(1)?, entropy_t })
}
