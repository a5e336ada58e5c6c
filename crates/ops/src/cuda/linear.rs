//! Linear maps.
//!
//! A weight of bf16 numbers is multiplied as it lies: the `f32` factor is written as a sum of bf16
//! numbers, three of which hold all of its 24 bits, and each is multiplied on the tensor cores. A
//! product of two bf16 numbers is exact in `f32`, so what is left of error is that of adding up, as
//! in a product of `f32` factors, at several times its rate and without a wide copy of the weight.
//! Where TF32 is asked for, two terms do, with 16 bits for TF32's 11.

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, LaunchConfig, PushKernelArg};
use candle_core::cuda_backend::gemm_reduced_precision_f32;
use candle_core::{CudaDevice, DType, Result, Tensor, bail};
use half::bf16;

use super::launch::{Input, arguments, device_of, each, kernel, launch, room, tensor};
use super::product::{Factor, Output, Sizes, multiply};
use crate::gemm::count_flops;
use crate::given::given3;

/// Rows of all terms together up to which they are one product: the weight is read once then. With
/// more, reading it again is cheaper than writing all terms' results.
const ONE_PRODUCT: usize = 256;

/// Rows up to which products are those of the kernel for few rows.
const FEW: usize = 16;

/// Rows of a weight that a block of that kernel multiplies, and tokens at a time (`kernels.cu`).
const ROWS: u32 = 4;
const TOKENS: u32 = 8;

/// See [`crate::lora_linear`].
pub(crate) fn lora_linear(
    x_td: &Tensor,
    w_nd: &Tensor,
    a_rd: &Tensor,
    b_nr: &Tensor,
    scale: f64,
) -> Result<Tensor> {
    let w_nd = w_nd.clone();
    let [x, a, b] = [x_td, a_rd, b_nr].map(Tensor::detach);
    let low_tr = project(&x, &a)?;
    let y = if is_few(&x, &w_nd)? {
        few_rows(&x, &w_nd, Some(&Change { low_tr: &low_tr, b_nr: &b, scale }))?
    } else {
        times_weight(&x, &w_nd, true)?.plus(scale, &low_tr, &b, true)?.into_tensor()
    };
    given3("lora_linear", [x_td, a_rd, b_nr], y, move |inputs, grad_tn| {
        let grad_tn = grad_tn.contiguous()?;
        let [x, a, b] = inputs.map(Tensor::detach);
        let [needs_x, needs_a, needs_b] = inputs.map(Tensor::track_op);
        let grad_low_tr = (pull(&grad_tn, &b)? * scale)?;
        let dx = || {
            let through = times_weight(&grad_tn, &w_nd, false)?;
            Ok::<_, candle_core::Error>(through.plus(1.0, &grad_low_tr, &a, false)?.into_tensor())
        };
        let da = || transposed_times(&grad_low_tr, &x);
        let db = || transposed_times(&grad_tn, &(project(&x, &a)? * scale)?);
        Ok([
            needs_x.then(dx).transpose()?,
            needs_a.then(da).transpose()?,
            needs_b.then(db).transpose()?,
        ])
    })
}

/// `y_tn = x_td w_ndᵀ`, without a graph.
pub(crate) fn project(x_td: &Tensor, w_nd: &Tensor) -> Result<Tensor> {
    if is_few(x_td, w_nd)? {
        return few_rows(x_td, w_nd, None);
    }
    Ok(times_weight(x_td, w_nd, true)?.into_tensor())
}

/// What is added to a product: `scale low_tr b_nrᵀ`.
struct Change<'a> {
    low_tr: &'a Tensor,
    b_nr: &'a Tensor,
    scale: f64,
}

/// Whether a product is one of few rows, as in decoding: one kernel reads the weight once for all of
/// them, and multiplies in `f32`. The sums of a row are the same beside any others.
fn is_few(x_td: &Tensor, w_nd: &Tensor) -> Result<bool> {
    let ((t, d), dtype) = (x_td.dims2()?, w_nd.dtype());
    // Eight values are read at a time, from where eight may begin.
    let by_eight = [d, x_td.layout().start_offset(), w_nd.layout().start_offset()];
    Ok((1..=FEW).contains(&t)
        && by_eight.iter().all(|n| n.is_multiple_of(8))
        && matches!(dtype, DType::BF16 | DType::F32))
}

fn few_rows(x_td: &Tensor, w_nd: &Tensor, change: Option<&Change<'_>>) -> Result<Tensor> {
    let (x, w) = (x_td.contiguous()?, w_nd.contiguous()?);
    let ((t, d), (n, width)) = (x.dims2()?, w.dims2()?);
    if d != width {
        bail!("linear: input is {d} wide, weight takes {width}")
    }
    // Without a change nothing is read of the stand-ins.
    let (low, b, scale) = match change {
        Some(change) => {
            (change.low_tr.contiguous()?, change.b_nr.contiguous()?, change.scale as f32)
        }
        None => (x.clone(), x.clone(), 0.0),
    };
    let rank = if change.is_some() { low.dim(1)? } else { 0 };
    count_flops(t, d, n);
    count_flops(t, rank, n);
    let device = device_of(&x)?;
    let inputs = [Input::of(&x)?, Input::of(&low)?, Input::of(&b)?];
    let weight = Input::of(&w)?;
    let [x, low, b] = [inputs[0].f32()?, inputs[1].f32()?, inputs[2].f32()?];
    let mut y = room(&device, t * n)?;
    let [tokens, wide, rows, low_rank] = [t, d, n, rank].map(|size| size as u32);
    let grid_dim = (rows.div_ceil(ROWS), tokens.div_ceil(TOKENS), 1);
    let config = LaunchConfig { grid_dim, block_dim: (128, 1, 1), shared_mem_bytes: 0 };
    if w.dtype() == DType::BF16 {
        let (func, w) = (kernel(&device, "few_rows_bf16")?, weight.bf16()?);
        let args =
            arguments!(func, &x, &w, &low, &b, &mut y, &tokens, &wide, &rows, &low_rank, &scale);
        // SAFETY: rows of a multiple of eight values, so each eight lie on sixteen bytes; every
        // matrix was made of the sizes that are told.
        unsafe { launch(args, config) }?;
    } else {
        let (func, w) = (kernel(&device, "few_rows_f32")?, weight.f32()?);
        let args =
            arguments!(func, &x, &w, &low, &b, &mut y, &tokens, &wide, &rows, &low_rank, &scale);
        // SAFETY: as above.
        unsafe { launch(args, config) }?;
    }
    Ok(tensor(&device, y, (t, n)))
}

/// `grad_tn w_nd`, without a graph.
pub(crate) fn pull(grad_tn: &Tensor, w_nd: &Tensor) -> Result<Tensor> {
    Ok(times_weight(grad_tn, w_nd, false)?.into_tensor())
}

/// A matrix that nobody else has yet.
struct Product {
    device: CudaDevice,
    values: CudaSlice<f32>,
    m: usize,
    n: usize,
}

impl Product {
    fn into_tensor(self) -> Tensor {
        tensor(&self.device, self.values, (self.m, self.n))
    }

    /// Adds `scale a b`, or `scale a bᵀ`.
    fn plus(mut self, scale: f64, a: &Tensor, b: &Tensor, is_transposed: bool) -> Result<Self> {
        let (a, b) = (a.contiguous()?, b.contiguous()?);
        let ((m, k), (_, width)) = (a.dims2()?, b.dims2()?);
        let sizes = Sizes { batch: 1, m, k, n: self.n };
        count_flops(m, k, self.n);
        let (a, b) = (Input::of(&a)?, Input::of(&b)?);
        let right = Factor::rows(b.f32()?, width).turned(is_transposed);
        let out = Output::added(self.values.as_view_mut(), self.n, scale as f32);
        multiply(&self.device, sizes, &Factor::rows(a.f32()?, k), &right, out)?;
        Ok(self)
    }
}

/// `x w`, or `x wᵀ`.
fn times_weight(x: &Tensor, w_nd: &Tensor, is_transposed: bool) -> Result<Product> {
    let (x, w) = (x.contiguous()?, w_nd.contiguous()?);
    let w = if w.dtype() == DType::F16 { w.to_dtype(DType::F32)? } else { w };
    let ((m, k), (rows, columns)) = (x.dims2()?, w.dims2()?);
    let (inner, n) = if is_transposed { (columns, rows) } else { (rows, columns) };
    if k != inner {
        bail!("linear: input is {k} wide, weight takes {inner}")
    }
    count_flops(m, k, n);
    let (device, sizes) = (device_of(&x)?, Sizes { batch: 1, m, k, n });
    let (x, weight) = (Input::of(&x)?, Input::of(&w)?);
    let values = if w.dtype() == DType::BF16 {
        let weight = Factor::rows(weight.bf16()?, columns).turned(is_transposed);
        times_sixteen_bits(&device, sizes, &x.f32()?, &weight)?
    } else {
        let weight = Factor::rows(weight.f32()?, columns).turned(is_transposed);
        let mut y = room(&device, m * n)?;
        let out = Output::rows(y.as_view_mut(), n);
        multiply(&device, sizes, &Factor::rows(x.f32()?, k), &weight, out)?;
        y
    };
    Ok(Product { device, values, m, n })
}

/// `x w` for a weight of bf16 numbers.
fn times_sixteen_bits(
    device: &CudaDevice,
    sizes: Sizes,
    x: &CudaView<'_, f32>,
    weight: &Factor<'_, bf16>,
) -> Result<CudaSlice<f32>> {
    let Sizes { m, k, n, .. } = sizes;
    let terms = if gemm_reduced_precision_f32() { 2 } else { 3 };
    let parts = split(device, x, m * k, terms)?;
    let mut y = room(device, m * n)?;
    if terms * m <= ONE_PRODUCT {
        let mut all = room(device, terms * m * n)?;
        let out = Output::rows(all.as_view_mut(), n);
        let sizes = Sizes { m: terms * m, ..sizes };
        multiply(device, sizes, &Factor::rows(parts.as_view(), k), weight, out)?;
        let (count, number) = ((m * n) as u64, terms as u32);
        let func = kernel(device, "add_terms")?;
        let args = arguments!(func, &all, &mut y, &count, &number);
        // SAFETY: `all` holds `terms` times as many values as `y`, which holds `count`.
        unsafe { launch(args, each(m * n)) }?;
        return Ok(y);
    }
    for term in (0..terms).rev() {
        let part = parts.slice(term * m * k..(term + 1) * m * k);
        let beta = if term + 1 == terms { 0.0 } else { 1.0 };
        let out = Output { beta, ..Output::rows(y.as_view_mut(), n) };
        multiply(device, sizes, &Factor::rows(part, k), weight, out)?;
    }
    Ok(y)
}

/// `count` values as sums of bf16 numbers: all first terms, then all second ones.
fn split(
    device: &CudaDevice,
    x: &CudaView<'_, f32>,
    count: usize,
    terms: usize,
) -> Result<CudaSlice<bf16>> {
    let mut parts = room(device, terms * count)?;
    let (n, number) = (count as u64, terms as u32);
    let func = kernel(device, "split_bf16")?;
    let args = arguments!(func, x, &mut parts, &n, &number);
    // SAFETY: `x` holds `count` values, `parts` `terms` times as many.
    unsafe { launch(args, each(count)) }?;
    Ok(parts)
}

/// `a_kmᵀ b_kn`.
fn transposed_times(a_km: &Tensor, b_kn: &Tensor) -> Result<Tensor> {
    let (a, b) = (a_km.contiguous()?, b_kn.contiguous()?);
    let ((k, m), (_, n)) = (a.dims2()?, b.dims2()?);
    count_flops(m, k, n);
    let device = device_of(&a)?;
    let (a, b) = (Input::of(&a)?, Input::of(&b)?);
    let mut out = room(&device, m * n)?;
    let (left, right) = (Factor::rows(a.f32()?, m).t(), Factor::rows(b.f32()?, n));
    let sizes = Sizes { batch: 1, m, k, n };
    multiply(&device, sizes, &left, &right, Output::rows(out.as_view_mut(), n))?;
    Ok(tensor(&device, out, (m, n)))
}
