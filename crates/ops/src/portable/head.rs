//! Log-probabilities of given tokens, a chunk of the vocabulary at a time.

use candle_core::{D, DType, Result, Tensor, bail};

use super::{project, pull, widened};
use crate::gemm::count_flops;
use crate::given::given2;
use crate::head::TokenScores;

/// See [`crate::logprob_head`].
///
/// # Errors
///
/// When the shapes do not fit.
pub fn logprob_head(
    h_td: &Tensor,
    w_vd: &Tensor,
    targets: &[u32],
    temperature: f64,
    chunk: usize,
) -> Result<TokenScores> {
    let targets_t = Tensor::new(targets, h_td.device())?;
    let head = Head { chunk: chunk.max(1), temperature, targets_t };
    let (h, w) = (h_td.detach(), w_vd.detach());
    let found = head.sums(&h, &w)?;
    let target_logits = (h * widened(&w.index_select(&head.targets_t, 0)?)?)?.sum(D::Minus1)?;
    let logprobs_t = ((target_logits / temperature)? - &found.log_total_t)?;
    let y_2t = Tensor::stack(&[&logprobs_t, &found.entropy_t], 0)?;
    let scores_2t = given2("logprob_head", [h_td, w_vd], y_2t, move |[h_td, w_vd], grad_2t| {
        if w_vd.track_op() && w_vd.dtype() != DType::F32 {
            bail!("logprob_head: a head that is trained must be f32, not {:?}", w_vd.dtype())
        }
        head.gradients([&h_td.detach(), &w_vd.detach()], &found, grad_2t, w_vd.track_op())
    })?;
    Ok(TokenScores { logprobs_t: scores_2t.get(0)?, entropy_t: scores_2t.get(1)? })
}

struct Head {
    chunk: usize,
    temperature: f64,
    targets_t: Tensor,
}

/// What the whole vocabulary says of each row.
struct Found {
    /// Logarithm of the sum of the exponentials of all logits, `[t]`.
    log_total_t: Tensor,
    /// `[t]`.
    entropy_t: Tensor,
}

impl Head {
    /// Calls `each(weights, logits)` for each chunk of `n` entries: `[n, d]` and `[t, n]`.
    fn for_chunks(
        &self,
        h_td: &Tensor,
        w_vd: &Tensor,
        mut each: impl FnMut(&Tensor, Tensor) -> Result<()>,
    ) -> Result<()> {
        let v = w_vd.dim(0)?;
        for start in (0..v).step_by(self.chunk) {
            let w_nd = w_vd.narrow(0, start, self.chunk.min(v - start))?;
            let logits_tn = (project(h_td, &w_nd)? / self.temperature)?;
            each(&w_nd, logits_tn)?;
        }
        Ok(())
    }

    fn sums(&self, h_td: &Tensor, w_vd: &Tensor) -> Result<Found> {
        // Largest logit so far, sum of e^(l - largest), sum of e^(l - largest) (l - largest).
        let mut running: Option<[Tensor; 3]> = None;
        self.for_chunks(h_td, w_vd, |_, logits_tn| {
            let mut largest = logits_tn.max_keepdim(D::Minus1)?;
            if let Some([before, ..]) = &running {
                largest = largest.maximum(before)?;
            }
            let shifted = logits_tn.broadcast_sub(&largest)?;
            let weights = shifted.exp()?;
            let mut total = weights.sum_keepdim(D::Minus1)?;
            let mut weighted = (weights * shifted)?.sum_keepdim(D::Minus1)?;
            if let Some([before, old_total, old_weighted]) = &running {
                let shift = (before - &largest)?;
                let scale = shift.exp()?;
                weighted = (weighted + ((old_weighted + (old_total * &shift)?)? * &scale)?)?;
                total = (total + (old_total * scale)?)?;
            }
            running = Some([largest, total, weighted]);
            Ok(())
        })?;
        let Some([largest, total, weighted]) = running else {
            bail!("logprob_head: an empty vocabulary")
        };
        let log_total = total.log()?;
        Ok(Found {
            log_total_t: (largest + &log_total)?.squeeze(1)?,
            entropy_t: (log_total - (weighted / total)?)?.squeeze(1)?,
        })
    }

    /// With `p` the probabilities, `g` and `e` the gradients of log-probability and entropy, that of
    /// a logit is `g (1[target] - p) - e p (log p + H)`, over the temperature.
    fn gradients(
        &self,
        [h_td, w_vd]: [&Tensor; 2],
        found: &Found,
        grad_2t: &Tensor,
        trains_head: bool,
    ) -> Result<[Option<Tensor>; 2]> {
        let grad_2t = (grad_2t / self.temperature)?;
        let (g, e) = (grad_2t.get(0)?.unsqueeze(1)?, grad_2t.get(1)?.unsqueeze(1)?);
        let log_total = found.log_total_t.unsqueeze(1)?;
        let constant = (&g + (&e * found.entropy_t.unsqueeze(1)?)?)?;
        let chosen_td = widened(&w_vd.index_select(&self.targets_t, 0)?)?;
        let mut dh_td = chosen_td.broadcast_mul(&g)?;
        let mut dw = vec![];
        self.for_chunks(h_td, w_vd, |w_nd, logits_tn| {
            let log_p = logits_tn.broadcast_sub(&log_total)?;
            let slope = log_p.broadcast_mul(&e)?.broadcast_add(&constant)?;
            let grad_tn = (log_p.exp()? * slope)?.neg()?;
            let (t, n, d) = (h_td.dim(0)?, w_nd.dim(0)?, w_nd.dim(1)?);
            dh_td = (&dh_td + pull(&grad_tn, w_nd)?)?;
            if trains_head {
                dw.push(grad_tn.t()?.matmul(h_td)?);
                count_flops(n, t, d);
            }
            Ok(())
        })?;
        let dw_vd = if trains_head {
            let all = Tensor::cat(&dw, 0)?;
            Some(all.index_add(&self.targets_t, &h_td.broadcast_mul(&g)?, 0)?)
        } else {
            None
        };
        Ok([Some(dh_td), dw_vd])
    }
}
