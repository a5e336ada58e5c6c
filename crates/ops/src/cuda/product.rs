//! Matrix products by cuBLAS, batched, over matrices that may lie in wider rows.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::cublas::{result, sys};
use candle_core::cuda_backend::cudarc::driver::{CudaView, CudaViewMut, DevicePtr, DevicePtrMut};
use candle_core::cuda_backend::gemm_reduced_precision_f32;
use candle_core::{CudaDevice, Result, bail};
use half::bf16;

/// What a matrix may be of.
pub(super) trait Element {
    const TYPE: sys::cudaDataType;
}

impl Element for f32 {
    const TYPE: sys::cudaDataType = sys::cudaDataType::CUDA_R_32F;
}

impl Element for bf16 {
    const TYPE: sys::cudaDataType = sys::cudaDataType::CUDA_R_16BF;
}

/// One matrix for each of a batch, row by row, and what is multiplied of it.
pub(super) struct Factor<'a, T> {
    values: CudaView<'a, T>,
    /// From one row to the next.
    row_stride: usize,
    /// From one matrix of the batch to the next.
    batch_stride: usize,
    is_transposed: bool,
}

impl<'a, T> Factor<'a, T> {
    /// Whole matrices with rows of `width` values.
    pub(super) fn rows(values: CudaView<'a, T>, width: usize) -> Self {
        Self { values, row_stride: width, batch_stride: 0, is_transposed: false }
    }

    /// The same for matrices that lie in wider rows, or one after another.
    pub(super) fn strided(values: CudaView<'a, T>, row_stride: usize, batch_stride: usize) -> Self {
        Self { values, row_stride, batch_stride, is_transposed: false }
    }

    /// Its transpose, or not.
    pub(super) fn turned(self, is_transposed: bool) -> Self {
        Self { is_transposed, ..self }
    }

    /// Its transpose.
    pub(super) fn t(self) -> Self {
        self.turned(true)
    }

    fn operation(&self) -> sys::cublasOperation_t {
        if self.is_transposed {
            sys::cublasOperation_t::CUBLAS_OP_T
        } else {
            sys::cublasOperation_t::CUBLAS_OP_N
        }
    }

    /// The values it needs for `rows` of `columns` (as they lie) in a batch.
    fn needs(&self, (rows, columns): (usize, usize), batch: usize) -> usize {
        let (rows, columns) = if self.is_transposed { (columns, rows) } else { (rows, columns) };
        needed((rows, columns), self.row_stride, self.batch_stride, batch)
    }
}

/// Where products go: `out = alpha a b + beta out`.
pub(super) struct Output<'a> {
    pub(super) values: CudaViewMut<'a, f32>,
    pub(super) row_stride: usize,
    pub(super) batch_stride: usize,
    pub(super) alpha: f32,
    pub(super) beta: f32,
}

impl<'a> Output<'a> {
    /// New values, in rows of `width`.
    pub(super) fn rows(values: CudaViewMut<'a, f32>, width: usize) -> Self {
        Self { values, row_stride: width, batch_stride: 0, alpha: 1.0, beta: 0.0 }
    }

    /// The same, times `alpha`, added to what is there.
    pub(super) fn added(values: CudaViewMut<'a, f32>, width: usize, alpha: f32) -> Self {
        Self { alpha, beta: 1.0, ..Self::rows(values, width) }
    }
}

/// The sizes of a batch of products `[m, k] [k, n]`.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) batch: usize,
    pub(super) m: usize,
    pub(super) k: usize,
    pub(super) n: usize,
}

/// Sums are in `f32` (in builds of cuBLAS that are asked for TF32, products of `f32` are in that).
pub(super) fn multiply<T: Element>(
    device: &CudaDevice,
    sizes: Sizes,
    a: &Factor<'_, T>,
    b: &Factor<'_, T>,
    mut out: Output<'_>,
) -> Result<()> {
    let Sizes { batch, m, k, n } = sizes;
    if batch * m * n == 0 {
        return Ok(());
    }
    let written = needed((m, n), out.row_stride, out.batch_stride, batch);
    if a.needs((m, k), batch) > a.values.len()
        || b.needs((k, n), batch) > b.values.len()
        || written > out.values.len()
    {
        bail!("product of {batch} times {m}x{k} and {k}x{n}: a matrix is too short")
    }
    let compute = if T::TYPE == sys::cudaDataType::CUDA_R_32F && gemm_reduced_precision_f32() {
        sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32
    } else {
        sys::cublasComputeType_t::CUBLAS_COMPUTE_32F
    };
    let (stream, blas) = (device.cuda_stream(), device.cublas_handle());
    let (a_at, _a_guard) = a.values.device_ptr(&stream);
    let (b_at, _b_guard) = b.values.device_ptr(&stream);
    let (alpha, beta) = (out.alpha, out.beta);
    let (row_stride, batch_stride) = (out.row_stride, out.batch_stride);
    let (out_at, _out_guard) = out.values.device_ptr_mut(&stream);
    // cuBLAS reads columns: what lies row by row is the transpose to it, and (a b)ᵀ = bᵀ aᵀ.
    // SAFETY: every matrix was seen to be long enough for its strides; `alpha` and `beta` outlive
    // the call, which reads them at once.
    unsafe {
        result::gemm_strided_batched_ex(
            *blas.handle(),
            b.operation(),
            a.operation(),
            n as i32,
            m as i32,
            k as i32,
            std::ptr::from_ref(&alpha).cast(),
            b_at as *const _,
            T::TYPE,
            b.row_stride as i32,
            b.batch_stride as i64,
            a_at as *const _,
            T::TYPE,
            a.row_stride as i32,
            a.batch_stride as i64,
            std::ptr::from_ref(&beta).cast(),
            out_at as *mut _,
            sys::cudaDataType::CUDA_R_32F,
            row_stride as i32,
            batch_stride as i64,
            batch as i32,
            compute,
            sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT_TENSOR_OP,
        )
    }
    .w()
}

/// Values up to the end of the last row of the last matrix.
fn needed(
    (rows, columns): (usize, usize),
    row_stride: usize,
    batch_stride: usize,
    batch: usize,
) -> usize {
    if rows * columns == 0 {
        return 0;
    }
    (batch - 1) * batch_stride + (rows - 1) * row_stride + columns
}
