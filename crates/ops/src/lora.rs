//! A frozen linear map with a trainable low-rank change beside it (LoRA, Hu et al. 2021).

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::gemm::{Matrix, Threads, new_product, product};
use crate::linear;
use crate::linear::{times, transposed_times};
use crate::slices::{input, values};
use crate::weight::WeightTensor;

/// `y_tn = x_td w_ndᵀ + scale (x_td a_rdᵀ) b_nrᵀ`, where `w_nd` is frozen and may be
/// of 16-bit numbers.
///
/// One operation, so that neither `x a` nor the two halves of `y` are kept for the backward pass.
///
/// # Errors
///
/// When the shapes do not fit, or a variable stands behind `w_nd`.
pub fn lora_linear(
    x_td: &Tensor,
    w_nd: &Tensor,
    a_rd: &Tensor,
    b_nr: &Tensor,
    scale: f64,
) -> Result<Tensor> {
    if w_nd.track_op() {
        bail!("lora_linear: the base weight must be frozen")
    }
    #[cfg(feature = "cuda")]
    if x_td.device().is_cuda() {
        return crate::cuda::lora_linear(x_td, w_nd, a_rd, b_nr, scale);
    }
    if !x_td.device().is_cpu() {
        let low = linear(&linear(x_td, a_rd, None)?, b_nr, None)?;
        return linear(x_td, w_nd, None)? + (low * scale)?;
    }
    let op = LoraLinear { w_nd: w_nd.clone(), scale: scale as f32 };
    x_td.contiguous()?.apply_op3(a_rd, b_nr, op)
}

struct LoraLinear {
    w_nd: Tensor,
    scale: f32,
}

impl CustomOp3 for LoraLinear {
    fn name(&self) -> &'static str {
        "lora_linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((t, d), (r, d_a)) = (x_layout.shape().dims2()?, a_layout.shape().dims2()?);
        let ((n, d_w), (n_b, r_b)) = (self.w_nd.dims2()?, b_layout.shape().dims2()?);
        if d != d_w || d != d_a || r != r_b || n != n_b {
            bail!("lora_linear: x {t}x{d}, w {n}x{d_w}, a {r}x{d_a}, b {n_b}x{r_b}")
        }
        let x = Matrix::new(input(x, x_layout)?, t, d);
        let (w, b) = (WeightTensor::of(&self.w_nd), input(b, b_layout)?);
        let mut y = w.get()?.project(x);
        let a = Matrix::new(input(a, a_layout)?, r, d);
        let low = new_product(self.scale, (x, a.t()), Threads::All);
        let views = (Matrix::new(&low, t, r), Matrix::new(b, n, r).t());
        product(&mut y, n, true, 1.0, views, Threads::All);
        Ok((CpuStorage::F32(y), (t, n).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        a: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let scale = f64::from(self.scale);
        let grad_low = (times(&grad, b)? * scale)?;
        let dx = x.track_op().then(|| self.input_gradient(&grad, &grad_low, a)).transpose()?;
        let da = a.track_op().then(|| transposed_times(&grad_low, x)).transpose()?;
        let db = if b.track_op() {
            let low = (linear(&x.detach(), &a.detach(), None)? * scale)?;
            Some(transposed_times(&grad, &low)?)
        } else {
            None
        };
        Ok((dx, da, db))
    }
}

impl LoraLinear {
    /// `grad w + grad_low a`.
    fn input_gradient(&self, grad: &Tensor, grad_low: &Tensor, a: &Tensor) -> Result<Tensor> {
        let ((t, n), (r, d)) = (grad.dims2()?, a.dims2()?);
        let (g, w) = (values(grad)?, WeightTensor::of(&self.w_nd));
        let mut dx = w.get()?.pulled(Matrix::new(&g, t, n));
        let (g_low, a) = (values(grad_low)?, values(a)?);
        let views = (Matrix::new(&g_low, t, r), Matrix::new(&a, r, d));
        product(&mut dx, d, true, 1.0, views, Threads::All);
        Tensor::from_vec(dx, (t, d), grad.device())
    }
}
