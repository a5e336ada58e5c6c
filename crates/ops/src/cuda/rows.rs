//! Writing rows into a buffer.

use candle_core::cuda_backend::cudarc::driver::{DeviceRepr, LaunchConfig, PushKernelArg};
use candle_core::{CudaStorage, Layout, Result, bail};

use super::launch::{arguments, kernel, launch};

/// Rows that go along with one launch.
const MOST: usize = 64;

/// Which rows, as the kernel takes them.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Rows {
    index: [u32; MOST],
}

// SAFETY: an array of numbers, laid out as the kernel's structure.
unsafe impl DeviceRepr for Rows {}

/// Overwrites row `rows[i]` of a buffer with row `i` of `new`; all are of `width` values, and the
/// rows lie inside.
pub(crate) fn launch_write(
    (buffer, place): (&mut CudaStorage, &Layout),
    new: (&CudaStorage, &Layout),
    rows: &[usize],
    width: usize,
) -> Result<()> {
    let (Some((to, to_end)), Some((from, from_end))) =
        (place.contiguous_offsets(), new.1.contiguous_offsets())
    else {
        bail!("write_rows: a tensor is not contiguous")
    };
    let inside = rows.iter().all(|row| (row + 1) * width <= to_end - to);
    if !inside || rows.len() * width > from_end - from {
        bail!("write_rows: {} rows of {width} do not fit", rows.len())
    }
    let device = buffer.device.clone();
    let func = kernel(&device, "write_rows")?;
    let wide = width as u32;
    let added = new.0.as_cuda_slice::<f32>()?;
    let values = buffer.as_cuda_slice_mut::<f32>()?;
    for (part, rows) in rows.chunks(MOST).enumerate() {
        let mut index = [0; MOST];
        for (index, &row) in index.iter_mut().zip(rows) {
            *index = row as u32;
        }
        let (index, first) = (Rows { index }, from + part * MOST * width);
        let added = added.slice(first..first + rows.len() * width);
        let mut values = values.slice_mut(to..to_end);
        let args = arguments!(func, &mut values, &added, &index, &wide);
        let (grid_dim, block_dim) = ((rows.len() as u32, 1, 1), (128, 1, 1));
        let config = LaunchConfig { grid_dim, block_dim, shared_mem_bytes: 0 };
        // SAFETY: the rows were seen to lie inside.
        unsafe { launch(args, config) }?;
    }
    Ok(())
}
