//! Values on a GPU, and the launching of kernels over them.

use std::sync::{Arc, OnceLock};

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, CudaStream, CudaView, DeviceRepr, LaunchArgs, LaunchConfig,
};
use candle_core::cuda_backend::cudarc::nvrtc::{CompileError, compile_ptx};
use candle_core::op::BackpropOp;
use candle_core::{
    CudaDevice, CudaStorage, Device, Result, Shape, Storage, StorageRef, Tensor, bail,
};
use half::bf16;

const SOURCE: &str = include_str!("kernels.cu");

/// Threads of a block where each value is one thread's work.
const THREADS: u32 = 256;

/// The GPU a tensor lies on.
pub(super) fn device_of(tensor: &Tensor) -> Result<CudaDevice> {
    match tensor.device() {
        Device::Cuda(device) => Ok(device.clone()),
        _ => bail!("expected a tensor on a GPU"),
    }
}

/// A contiguous tensor on a GPU, borrowed.
pub(super) struct Input<'a> {
    storage: StorageRef<'a>,
    start: usize,
    end: usize,
}

impl<'a> Input<'a> {
    pub(super) fn of(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("expected a contiguous tensor, got strides {:?}", layout.stride())
        };
        Ok(Self { storage, start, end })
    }

    fn storage(&self) -> Result<&CudaStorage> {
        match &*self.storage {
            Storage::Cuda(storage) => Ok(storage),
            _ => bail!("expected a tensor on a GPU"),
        }
    }

    pub(super) fn f32(&self) -> Result<CudaView<'_, f32>> {
        Ok(self.storage()?.as_cuda_slice::<f32>()?.slice(self.start..self.end))
    }

    pub(super) fn bf16(&self) -> Result<CudaView<'_, bf16>> {
        Ok(self.storage()?.as_cuda_slice::<bf16>()?.slice(self.start..self.end))
    }
}

/// Room for `n` values, which hold anything until a kernel has written them.
pub(super) fn room<T: DeviceRepr>(device: &CudaDevice, n: usize) -> Result<CudaSlice<T>> {
    // SAFETY: all callers have every value written by the kernel or product they make room for.
    unsafe { device.alloc(n.max(1)) }
}

/// These values as a tensor without a graph.
pub(super) fn tensor(
    device: &CudaDevice,
    values: CudaSlice<f32>,
    shape: impl Into<Shape>,
) -> Tensor {
    let storage = CudaStorage::wrap_cuda_slice(values, device.clone());
    Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false)
}

/// A kernel of `kernels.cu`.
pub(super) struct Kernel {
    function: CudaFunction,
    stream: Arc<CudaStream>,
}

impl Kernel {
    /// A launch without arguments yet.
    pub(super) fn builder(&self) -> LaunchArgs<'_> {
        self.stream.launch_builder(&self.function)
    }
}

/// The kernel of that name.
pub(super) fn kernel(device: &CudaDevice, name: &str) -> Result<Kernel> {
    static COMPILED: OnceLock<std::result::Result<String, CompileError>> = OnceLock::new();
    match COMPILED.get_or_init(|| compile_ptx(SOURCE).map(|ptx| ptx.to_src())) {
        Ok(ptx) => {
            let function = device.get_or_load_custom_func(name, "mmrag_ops", ptx)?;
            Ok(Kernel { function: function.into_cuda_function(), stream: device.cuda_stream() })
        }
        Err(error) => bail!("the kernels for GPUs do not compile: {error}"),
    }
}

/// One thread for each of `n` values.
pub(super) fn each(n: usize) -> LaunchConfig {
    let blocks = (n as u64).div_ceil(u64::from(THREADS)) as u32;
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 }
}

/// One block for each of some rows of `width` values.
pub(super) fn by_row(rows: usize, width: usize) -> LaunchConfig {
    let threads = if width <= 128 { 32 } else { THREADS };
    LaunchConfig { grid_dim: (rows as u32, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 }
}

/// Launches what has its arguments.
///
/// # Safety
///
/// The arguments must be those of the kernel, each as long as it reads or writes.
pub(super) unsafe fn launch(mut args: LaunchArgs<'_>, config: LaunchConfig) -> Result<()> {
    if config.grid_dim.0 == 0 {
        return Ok(());
    }
    // SAFETY: as the caller answers for.
    unsafe { args.launch(config) }.w()?;
    Ok(())
}

/// Pushes arguments in order.
macro_rules! arguments {
    ($func:expr, $($arg:expr),+ $(,)?) => {{
        let mut builder = $func.builder();
        $(builder.arg($arg);)+
        builder
    }};
}
pub(super) use arguments;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_compile() {
        // No GPU is needed for it.
        compile_ptx(SOURCE).unwrap();
    }
}
