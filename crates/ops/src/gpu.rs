//! A GPU's memory.

use candle_core::Device;

/// Has a GPU keep the memory that is freed for what is allocated next. Otherwise it goes back to the
/// system whenever the program waits for the GPU, once a token while replies are drawn, and is taken
/// anew. On the CPU, and on GPUs that have no such pool of memory, this does nothing.
pub fn keep_gpu_memory(device: &Device) {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => drop(crate::cuda::memory::keep_freed(device)),
        _ => {}
    }
}

/// The most bytes that this process has had allocated on a GPU at once, without CUDA's own libraries;
/// nothing for the CPU.
pub fn peak_gpu_bytes(device: &Device) -> Option<u64> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => crate::cuda::memory::peak_bytes(device).ok(),
        _ => None,
    }
}
