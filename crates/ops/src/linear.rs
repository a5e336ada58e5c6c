//! `y = x Wᵀ (+ b)`.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use crate::gemm::{Matrix, Threads, new_product};
use crate::reference;
use crate::slices::{input, values};

/// `y_tn = x_td w_ndᵀ + bias_n`.
///
/// The gradient of `w_nd` is computed only if a variable stands behind it, so a frozen weight
/// costs nothing in the backward pass.
///
/// # Errors
///
/// When the shapes do not fit.
pub fn linear(x_td: &Tensor, w_nd: &Tensor, bias_n: Option<&Tensor>) -> Result<Tensor> {
    let y_tn = if x_td.device().is_cpu() {
        x_td.contiguous()?.apply_op2(w_nd, Linear)?
    } else {
        reference::linear(x_td, w_nd)?
    };
    match bias_n {
        Some(bias_n) => y_tn.broadcast_add(bias_n),
        None => Ok(y_tn),
    }
}

struct Linear;

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((t, d), (n, d_w)) = (x_layout.shape().dims2()?, w_layout.shape().dims2()?);
        if d != d_w {
            bail!("linear: input is {d} wide, weight takes {d_w}")
        }
        let views =
            (Matrix::new(input(x, x_layout)?, t, d), Matrix::new(input(w, w_layout)?, n, d).t());
        let y = new_product(1.0, views, Threads::All);
        Ok((CpuStorage::F32(y), (t, n).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let dx = x.track_op().then(|| times(&grad, w)).transpose()?;
        let dw = w.track_op().then(|| transposed_times(&grad, x)).transpose()?;
        Ok((dx, dw))
    }
}

/// `a_mk b_kn`.
pub(crate) fn times(a_mk: &Tensor, b_kn: &Tensor) -> Result<Tensor> {
    let ((m, k), (_, n)) = (a_mk.dims2()?, b_kn.dims2()?);
    let (a, b) = (values(a_mk)?, values(b_kn)?);
    let out = new_product(1.0, (Matrix::new(&a, m, k), Matrix::new(&b, k, n)), Threads::All);
    Tensor::from_vec(out, (m, n), a_mk.device())
}

/// `a_kmᵀ b_kn`.
pub(crate) fn transposed_times(a_km: &Tensor, b_kn: &Tensor) -> Result<Tensor> {
    let ((k, m), (_, n)) = (a_km.dims2()?, b_kn.dims2()?);
    let (a, b) = (values(a_km)?, values(b_kn)?);
    let out = new_product(1.0, (Matrix::new(&a, k, m).t(), Matrix::new(&b, k, n)), Threads::All);
    Tensor::from_vec(out, (m, n), a_km.device())
}
