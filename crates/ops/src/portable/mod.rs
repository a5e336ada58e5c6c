//! The operations on devices for which no kernel of ours is written, such as GPUs: candle's own
//! operations without a graph, and gradients by hand.
//!
//! In contrast to [`mod@crate::reference`] nothing is kept for the backward pass but what went in: a
//! frozen weight costs no gradient, attention makes its probabilities again, a block of queries at a
//! time, and the head its logits, a chunk of the vocabulary at a time. They run on the CPU too,
//! where this crate's tests hold them to the kernels.

mod attention;
mod head;

use candle_core::{DType, Result, Tensor, Var, bail};

pub(crate) use attention::Blocks;
pub use attention::attention;
#[cfg(feature = "cuda")]
pub(crate) use attention::{Block, blocks};
pub use head::logprob_head;

use crate::gemm::count_flops;
use crate::given::{given2, given3};
use crate::reference;

/// See [`crate::linear()`].
///
/// # Errors
///
/// When the shapes do not fit.
pub fn linear(x_td: &Tensor, w_nd: &Tensor, bias_n: Option<&Tensor>) -> Result<Tensor> {
    let ((t, d), (n, _)) = (x_td.dims2()?, w_nd.dims2()?);
    let y = project(&x_td.detach(), &w_nd.detach())?;
    let y = given2("linear", [x_td, w_nd], y, move |[x_td, w_nd], grad_tn| {
        let grad_tn = grad_tn.contiguous()?;
        let dx = x_td.track_op().then(|| pull(&grad_tn, &w_nd.detach())).transpose()?;
        if w_nd.track_op() && w_nd.dtype() != DType::F32 {
            bail!("linear: a weight that is trained must be f32, not {:?}", w_nd.dtype())
        }
        let dw = || {
            count_flops(n, t, d);
            grad_tn.t()?.matmul(&x_td.detach())
        };
        Ok([dx, w_nd.track_op().then(dw).transpose()?])
    })?;
    match bias_n {
        Some(bias_n) => y.broadcast_add(bias_n),
        None => Ok(y),
    }
}

/// See [`crate::rms_norm`].
///
/// # Errors
///
/// When the shapes do not fit.
pub fn rms_norm(x: &Tensor, w_d: &Tensor, eps: f64) -> Result<Tensor> {
    again2("rms_norm", [x, w_d], move |[x, w_d]| reference::rms_norm(x, w_d, eps))
}

/// See [`crate::layer_norm`].
///
/// # Errors
///
/// When the shapes do not fit.
pub fn layer_norm(x: &Tensor, w_d: &Tensor, b_d: &Tensor, eps: f64) -> Result<Tensor> {
    again3("layer_norm", [x, w_d, b_d], move |[x, w_d, b_d]| {
        reference::layer_norm(x, w_d, b_d, eps)
    })
}

/// See [`crate::rope()`].
///
/// # Errors
///
/// When the shapes do not fit.
pub fn rope(x_thk: &Tensor, cos_tp: &Tensor, sin_tp: &Tensor) -> Result<Tensor> {
    let y = reference::rope(&x_thk.detach(), cos_tp, sin_tp)?;
    // A rotation's transpose is the rotation back.
    given3("rope", [x_thk, cos_tp, sin_tp], y, |[_, cos_tp, sin_tp], grad_thk| {
        Ok([Some(reference::rope(grad_thk, cos_tp, &sin_tp.neg()?)?), None, None])
    })
}

/// See [`crate::swiglu`].
///
/// # Errors
///
/// When the shapes differ.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    again2("swiglu", [gate, up], |[gate, up]| reference::swiglu(gate, up))
}

/// `x_td w_ndᵀ` without a graph, for a weight as it is stored.
fn project(x_td: &Tensor, w_nd: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x_td.device().is_cuda() {
        return crate::cuda::project(x_td, w_nd);
    }
    count_flops(x_td.dim(0)?, w_nd.dim(1)?, w_nd.dim(0)?);
    reference::linear(x_td, w_nd)
}

/// `grad_tn w_nd`, in the same way.
fn pull(grad_tn: &Tensor, w_nd: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if grad_tn.device().is_cuda() {
        return crate::cuda::pull(grad_tn, w_nd);
    }
    count_flops(grad_tn.dim(0)?, w_nd.dim(0)?, w_nd.dim(1)?);
    grad_tn.matmul(&widened(w_nd)?)
}

/// A weight in `f32`, without a graph.
fn widened(w: &Tensor) -> Result<Tensor> {
    w.detach().to_dtype(DType::F32)
}

/// `forward(inputs)` of which nothing is kept: the backward pass computes it again.
fn again2(
    name: &'static str,
    inputs: [&Tensor; 2],
    forward: impl Fn([&Tensor; 2]) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    let [a, b] = inputs.map(Tensor::detach);
    let y = forward([&a, &b])?;
    given2(name, inputs, y, move |inputs, grad| {
        let [a, b] = variables(inputs)?;
        let y = forward([a.as_tensor(), b.as_tensor()])?;
        let mut gradients = (y * grad)?.sum_all()?.backward()?;
        let [needs_a, needs_b] = inputs.map(Tensor::track_op);
        Ok([gradients.remove(&a).filter(|_| needs_a), gradients.remove(&b).filter(|_| needs_b)])
    })
}

/// The same of three inputs.
fn again3(
    name: &'static str,
    inputs: [&Tensor; 3],
    forward: impl Fn([&Tensor; 3]) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    let [a, b, c] = inputs.map(Tensor::detach);
    let y = forward([&a, &b, &c])?;
    given3(name, inputs, y, move |inputs, grad| {
        let [a, b, c] = variables(inputs)?;
        let y = forward([a.as_tensor(), b.as_tensor(), c.as_tensor()])?;
        let mut gradients = (y * grad)?.sum_all()?.backward()?;
        let [needs_a, needs_b, needs_c] = inputs.map(Tensor::track_op);
        Ok([
            gradients.remove(&a).filter(|_| needs_a),
            gradients.remove(&b).filter(|_| needs_b),
            gradients.remove(&c).filter(|_| needs_c),
        ])
    })
}

/// Variables of their own with these values.
fn variables<const N: usize>(inputs: [&Tensor; N]) -> Result<[Var; N]> {
    let vars: Vec<Var> =
        inputs.iter().map(|x| Var::from_tensor(&x.detach())).collect::<Result<_>>()?;
    Ok(vars.try_into().expect("as many as there are inputs"))
}
