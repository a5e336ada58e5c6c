//! Rotary position embedding on halves of a head (Su et al. 2021; the half-split form).

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::portable;
use crate::simd::vectorised;
use crate::slices::{input, values};

/// Rotates each pair `(x[i], x[i + k/2])` of every head by the angle whose cosine and sine stand in
/// column `i` of the token's row.
///
/// * `x_thk`: any number of heads;
/// * `cos_tp`, `sin_tp`: `[t, k/2]`; which position a column turns by (time, height or width) is
///   the caller's business.
///
/// # Errors
///
/// When the shapes do not fit.
pub fn rope(x_thk: &Tensor, cos_tp: &Tensor, sin_tp: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x_thk.device().is_cuda() {
        return crate::cuda::rope(x_thk, cos_tp, sin_tp);
    }
    if !x_thk.device().is_cpu() {
        return portable::rope(x_thk, cos_tp, sin_tp);
    }
    x_thk.contiguous()?.apply_op3(cos_tp, sin_tp, Rope)
}

struct Rope;

impl CustomOp3 for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        cos: &CpuStorage,
        cos_layout: &Layout,
        sin: &CpuStorage,
        sin_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = x_layout.shape().clone();
        let (t, _, k) = shape.dims3()?;
        if cos_layout.shape().dims2()? != (t, k / 2) || sin_layout.shape().dims2()? != (t, k / 2) {
            bail!("rope: angles {:?} for input {shape:?}", cos_layout.shape())
        }
        let (cos, sin) = (input(cos, cos_layout)?, input(sin, sin_layout)?);
        let y = rotate(input(x, x_layout)?, &shape, cos, sin, 1.0)?;
        Ok((CpuStorage::F32(y), shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        cos: &Tensor,
        sin: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let dx = rotate(&values(&grad)?, x.shape(), &values(cos)?, &values(sin)?, -1.0)?;
        Ok((Some(Tensor::from_vec(dx, x.shape(), x.device())?), None, None))
    }
}

/// The rotation by the angles times `sign`.
fn rotate(x: &[f32], shape: &Shape, cos: &[f32], sin: &[f32], sign: f32) -> Result<Vec<f32>> {
    let (_, h, k) = shape.dims3()?;
    let half = k / 2;
    let mut y = vec![0f32; x.len()];
    y.par_chunks_mut(h * k).zip(x.par_chunks(h * k)).enumerate().with_min_len(64).for_each(
        |(row, (y, x))| {
            let cos = &cos[row * half..(row + 1) * half];
            let sin = &sin[row * half..(row + 1) * half];
            vectorised!({
                for (y, x) in y.chunks_exact_mut(k).zip(x.chunks_exact(k)) {
                    let ((y1, y2), (x1, x2)) = (y.split_at_mut(half), x.split_at(half));
                    for i in 0..half {
                        let s = sin[i] * sign;
                        y1[i] = x1[i] * cos[i] - x2[i] * s;
                        y2[i] = x2[i] * cos[i] + x1[i] * s;
                    }
                }
            });
        },
    );
    Ok(y)
}
