//! The GPU's memory, which is taken from a pool in the order of the work.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::sys::{
    CUmemPool_attribute as Attribute, CUmemoryPool, cuDeviceGetDefaultMemPool,
    cuMemPoolGetAttribute, cuMemPoolSetAttribute,
};
use candle_core::{CudaDevice, Result};

fn pool(device: &CudaDevice) -> Result<CUmemoryPool> {
    let mut pool = std::ptr::null_mut();
    let context = device.cuda_stream().context().clone();
    // SAFETY: the device is open; the pool is written before it is read.
    unsafe { cuDeviceGetDefaultMemPool(&raw mut pool, context.cu_device()) }.result().w()?;
    Ok(pool)
}

/// Keeps what is freed for the next allocation, however much it is.
pub(crate) fn keep_freed(device: &CudaDevice) -> Result<()> {
    let mut all = u64::MAX;
    let attribute = Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    let pool = pool(device)?;
    // SAFETY: this attribute is a number of 64 bits.
    unsafe { cuMemPoolSetAttribute(pool, attribute, (&raw mut all).cast()) }.result().w()
}

/// The most bytes that were allocated at once so far.
pub(crate) fn peak_bytes(device: &CudaDevice) -> Result<u64> {
    let mut bytes = 0u64;
    let attribute = Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
    let pool = pool(device)?;
    // SAFETY: this attribute is a number of 64 bits.
    unsafe { cuMemPoolGetAttribute(pool, attribute, (&raw mut bytes).cast()) }.result().w()?;
    Ok(bytes)
}
