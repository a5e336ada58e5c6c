//! Reading tensors as slices, and making tensors of vectors.

use std::ops::Deref;

use candle_core::{CpuStorage, Layout, Result, Storage, StorageRef, Tensor, bail};

/// The values of a contiguous `f32` tensor on the CPU, borrowed.
pub(crate) struct Values<'a> {
    storage: StorageRef<'a>,
    start: usize,
    len: usize,
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.start..self.start + self.len],
            _ => unreachable!("`values` checked the storage"),
        }
    }
}

/// Borrows the values of `tensor`, which is contiguous, `f32` and on the CPU.
pub(crate) fn values(tensor: &Tensor) -> Result<Values<'_>> {
    let (storage, layout) = tensor.storage_and_layout();
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("expected a contiguous tensor, got strides {:?}", layout.stride())
    };
    match &*storage {
        Storage::Cpu(CpuStorage::F32(_)) => {}
        _ => bail!("expected an f32 tensor on the CPU, got {:?}", tensor.dtype()),
    }
    Ok(Values { storage, start, len: end - start })
}

/// The values of one input of a custom operation.
pub(crate) fn input<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("expected a contiguous tensor, got strides {:?}", layout.stride())
    };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// A pointer that threads may share because each writes rows of its own.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut {
    pointer: *mut f32,
    len: usize,
}

// SAFETY: every use goes through `SharedMut::range`, whose caller promises disjoint ranges.
unsafe impl Send for SharedMut {}
// SAFETY: as above.
unsafe impl Sync for SharedMut {}

impl SharedMut {
    /// Shares `values` among threads for as long as the caller keeps it borrowed.
    pub(crate) fn new(values: &mut [f32]) -> Self {
        Self { pointer: values.as_mut_ptr(), len: values.len() }
    }

    /// The values `start..start + len`.
    ///
    /// # Safety
    ///
    /// The slice given to [`SharedMut::new`] must still be borrowed mutably by the caller, and no
    /// two ranges that are alive at once may overlap.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn range<'a>(&self, start: usize, len: usize) -> &'a mut [f32] {
        assert!(start + len <= self.len, "range {start}+{len} outside {}", self.len);
        // SAFETY: in bounds by the assertion; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.add(start), len) }
    }
}
