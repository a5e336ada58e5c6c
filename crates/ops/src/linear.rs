//! `y = x Wᵀ (+ b)`.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};

use crate::gemm::{Matrix, Threads, new_product};
use crate::portable;
use crate::simd::{add_scaled, vectorised};
use crate::slices::{input, values};
use crate::weight::{Weight, WeightTensor};

/// `y_tn = x_td w_ndᵀ + bias_n`.
///
/// `w_nd` may be of 16-bit numbers if it is frozen; sums are in `f32` all the same. The gradient of
/// `w_nd` is computed only if a variable stands behind it, so a frozen weight
/// costs nothing in the backward pass.
///
/// # Errors
///
/// When the shapes do not fit.
pub fn linear(x_td: &Tensor, w_nd: &Tensor, bias_n: Option<&Tensor>) -> Result<Tensor> {
    match (bias_n, x_td.device().is_cpu()) {
        (None, true) => x_td.contiguous()?.apply_op2(w_nd, Linear),
        (Some(bias_n), true) => x_td.contiguous()?.apply_op3(w_nd, bias_n, BiasedLinear),
        (_, false) => portable::linear(x_td, w_nd, bias_n),
    }
}

struct BiasedLinear;

impl CustomOp3 for BiasedLinear {
    fn name(&self) -> &'static str {
        "biased_linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, w) = operands((x, x_layout), (w, w_layout))?;
        let (t, n) = (x.rows, w.n);
        if bias_layout.shape().dims() != [n] {
            bail!("linear: bias {:?} for {n} outputs", bias_layout.shape())
        }
        let mut y = input(bias, bias_layout)?.repeat(t);
        w.project_into(x, 1.0, true, &mut y);
        Ok((CpuStorage::F32(y), (t, n).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, dw) = Linear.bwd(x, w, y, grad)?;
        let db = bias.track_op().then(|| column_sums(&grad.contiguous()?)).transpose()?;
        Ok((dx, dw, db))
    }
}

/// The sum of each column.
fn column_sums(x_tn: &Tensor) -> Result<Tensor> {
    let (_, n) = x_tn.dims2()?;
    let x = values(x_tn)?;
    let mut sums = vec![0f32; n];
    vectorised!(x.chunks_exact(n).for_each(|row| add_scaled(&mut sums, 1.0, row)));
    Tensor::from_vec(sums, n, x_tn.device())
}

/// The factors of `x wᵀ`.
fn operands<'a>(
    (x, x_layout): (&'a CpuStorage, &Layout),
    (w, w_layout): (&'a CpuStorage, &Layout),
) -> Result<(Matrix<'a>, Weight<'a>)> {
    let (t, d) = x_layout.shape().dims2()?;
    let w = Weight::input(w, w_layout)?;
    if d != w.d {
        bail!("linear: input is {d} wide, weight takes {}", w.d)
    }
    Ok((Matrix::new(input(x, x_layout)?, t, d), w))
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
        let (x, w) = operands((x, x_layout), (w, w_layout))?;
        Ok((CpuStorage::F32(w.project(x)), (x.rows, w.n).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let dx = x.track_op().then(|| pulled_back(&grad, w)).transpose()?;
        if w.track_op() && w.dtype() != DType::F32 {
            bail!("linear: a weight that is trained must be f32, not {:?}", w.dtype())
        }
        let dw = w.track_op().then(|| transposed_times(&grad, x)).transpose()?;
        Ok((dx, dw))
    }
}

/// `grad_tn w_nd`, what of a gradient reaches the input.
pub(crate) fn pulled_back(grad_tn: &Tensor, w_nd: &Tensor) -> Result<Tensor> {
    let (t, n) = grad_tn.dims2()?;
    let (grad, weight) = (values(grad_tn)?, WeightTensor::of(w_nd));
    let w = weight.get()?;
    Tensor::from_vec(w.pulled(Matrix::new(&grad, t, n)), (t, w.d), grad_tn.device())
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
