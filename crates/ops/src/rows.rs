//! Writing rows into a buffer that lives across calls: the key/value cache.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, bail};

use crate::slices::input;

/// Overwrites row `rows[i]` of `buffer` with row `i` of `new`. Rows are everything but the first
/// dimension. No gradient flows through it.
///
/// # Errors
///
/// When the shapes do not fit or a row lies outside.
pub fn write_rows(buffer: &Tensor, new: &Tensor, rows: &[usize]) -> Result<()> {
    if buffer.dims()[1..] != new.dims()[1..] || new.dim(0)? != rows.len() {
        bail!("write_rows: {:?} into {:?}, {} rows", new.dims(), buffer.dims(), rows.len())
    }
    if let Some(row) = rows.iter().find(|&&row| row >= buffer.dims()[0]) {
        bail!("write_rows: row {row} of {}", buffer.dims()[0])
    }
    if buffer.device().is_cpu() || buffer.device().is_cuda() {
        let width = buffer.dims()[1..].iter().product();
        return buffer.inplace_op2(&new.contiguous()?, &WriteRows { rows, width });
    }
    // One copy for each run of rows that follow one another.
    let mut index = 0;
    for run in rows.chunk_by(|a, b| a + 1 == *b) {
        buffer.slice_set(&new.narrow(0, index, run.len())?.contiguous()?, 0, run[0])?;
        index += run.len();
    }
    Ok(())
}

struct WriteRows<'a> {
    rows: &'a [usize],
    width: usize,
}

impl InplaceOp2 for WriteRows<'_> {
    fn name(&self) -> &'static str {
        "write_rows"
    }

    fn cpu_fwd(
        &self,
        buffer: &mut CpuStorage,
        buffer_layout: &Layout,
        new: &CpuStorage,
        new_layout: &Layout,
    ) -> Result<()> {
        let new = input(new, new_layout)?;
        let Some((start, end)) = buffer_layout.contiguous_offsets() else {
            bail!("write_rows: the buffer is not contiguous")
        };
        let CpuStorage::F32(values) = buffer else { bail!("write_rows: the buffer is not f32") };
        let values = &mut values[start..end];
        for (&row, new) in self.rows.iter().zip(new.chunks_exact(self.width)) {
            values[row * self.width..(row + 1) * self.width].copy_from_slice(new);
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        buffer: &mut CudaStorage,
        buffer_layout: &Layout,
        new: &CudaStorage,
        new_layout: &Layout,
    ) -> Result<()> {
        let (buffer, new) = ((buffer, buffer_layout), (new, new_layout));
        crate::cuda::launch_write(buffer, new, self.rows, self.width)
    }
}
