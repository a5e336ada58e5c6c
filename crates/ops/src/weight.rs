//! Frozen weights as they are stored: `f32`, or 16-bit numbers that are widened where they are used.
//!
//! Products with 16-bit weights widen a panel of rows at a time to `f32`, which is exact, and add up
//! in `f32`. What is kept of a weight between uses is the 16-bit form alone.

use std::ops::Range;

use candle_core::{CpuStorage, Layout, Result, Storage, StorageRef, Tensor, bail};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use crate::gemm::{Matrix, Threads, new_product, product};
use crate::simd::vectorised;
use crate::skinny;

/// Values that are widened at once in a product with many rows: a panel stays in the cache.
const PANEL: usize = 1 << 19;

/// The rows of a weight `[n, d]`.
#[derive(Clone, Copy)]
pub(crate) struct Weight<'a> {
    values: Stored<'a>,
    pub(crate) n: usize,
    pub(crate) d: usize,
}

#[derive(Clone, Copy)]
enum Stored<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
    F16(&'a [f16]),
}

impl<'a> Weight<'a> {
    /// The weight in one input of a custom operation.
    pub(crate) fn input(storage: &'a CpuStorage, layout: &Layout) -> Result<Self> {
        let (n, d) = layout.shape().dims2()?;
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("expected a contiguous weight, got strides {:?}", layout.stride())
        };
        let values = match storage {
            CpuStorage::F32(values) => Stored::F32(&values[start..end]),
            CpuStorage::BF16(values) => Stored::Bf16(&values[start..end]),
            CpuStorage::F16(values) => Stored::F16(&values[start..end]),
            _ => bail!("expected a weight of type f32, bf16 or f16"),
        };
        Ok(Self { values, n, d })
    }

    /// Some of its rows.
    pub(crate) fn rows(self, rows: Range<usize>) -> Self {
        let range = rows.start * self.d..rows.end * self.d;
        let values = match self.values {
            Stored::F32(values) => Stored::F32(&values[range]),
            Stored::Bf16(values) => Stored::Bf16(&values[range]),
            Stored::F16(values) => Stored::F16(&values[range]),
        };
        Self { values, n: rows.len(), d: self.d }
    }

    /// Where its first value lies.
    pub(crate) fn first(self) -> *const u8 {
        match self.values {
            Stored::F32(values) => values.as_ptr().cast(),
            Stored::Bf16(values) => values.as_ptr().cast(),
            Stored::F16(values) => values.as_ptr().cast(),
        }
    }

    /// Writes its values, row by row.
    pub(crate) fn widen(self, out: &mut [f32]) {
        match self.values {
            Stored::F32(values) => out.copy_from_slice(values),
            Stored::Bf16(values) => vectorised!({
                for (out, value) in out.iter_mut().zip(values) {
                    *out = f32::from_bits(u32::from(value.to_bits()) << 16);
                }
            }),
            Stored::F16(values) => values.convert_to_f32_slice(out),
        }
    }

    /// `x wᵀ`, `[t, n]`.
    pub(crate) fn project(self, x: Matrix<'_>) -> Vec<f32> {
        if let Stored::F32(w) = self.values {
            return new_product(1.0, (x, Matrix::new(w, self.n, self.d).t()), Threads::All);
        }
        let mut y = vec![0f32; x.rows * self.n];
        self.project_into(x, 1.0, false, &mut y);
        y
    }

    /// `y = alpha x wᵀ`, or `y += alpha x wᵀ` if `add`.
    pub(crate) fn project_into(self, x: Matrix<'_>, alpha: f32, add: bool, y: &mut [f32]) {
        if let Stored::F32(w) = self.values {
            let factors = (x, Matrix::new(w, self.n, self.d).t());
            return product(y, self.n, add, alpha, factors, Threads::All);
        }
        if skinny::fits_stored(x) {
            return skinny::multiply_stored(alpha, x, self, add, y);
        }
        self.for_panels(|rows, panel| {
            let factors = (x, Matrix::new(panel, rows.len(), self.d).t());
            product(&mut y[rows.start..], self.n, add, alpha, factors, Threads::All);
        });
    }

    /// `out += g w`, `[t, d]`.
    pub(crate) fn pull(self, g: Matrix<'_>, out: &mut [f32]) {
        if let Stored::F32(w) = self.values {
            let factors = (g, Matrix::new(w, self.n, self.d));
            return product(out, self.d, true, 1.0, factors, Threads::All);
        }
        self.for_panels(|rows, panel| {
            let g = g.columns(rows.clone());
            let factors = (g, Matrix::new(panel, rows.len(), self.d));
            product(out, self.d, true, 1.0, factors, Threads::All);
        });
    }

    /// `g w` in a new vector.
    pub(crate) fn pulled(self, g: Matrix<'_>) -> Vec<f32> {
        if let Stored::F32(w) = self.values {
            return new_product(1.0, (g, Matrix::new(w, self.n, self.d)), Threads::All);
        }
        let mut out = vec![0f32; g.rows * self.d];
        self.pull(g, &mut out);
        out
    }

    /// Calls `each(rows, values)` for consecutive panels of rows, widened.
    fn for_panels(self, mut each: impl FnMut(Range<usize>, &[f32])) {
        let step = (PANEL / self.d.max(1)).clamp(1, self.n.max(1));
        let mut scratch = vec![0f32; step * self.d];
        for start in (0..self.n).step_by(step) {
            let rows = start..(start + step).min(self.n);
            let panel = &mut scratch[..rows.len() * self.d];
            let whole = self.rows(rows.clone());
            let few = 1 + rows.len() / rayon::current_num_threads().max(1);
            panel.par_chunks_mut(few * self.d).enumerate().for_each(|(index, part)| {
                let first = index * few;
                whole.rows(first..first + part.len() / self.d).widen(part);
            });
            each(rows, panel);
        }
    }

    /// The dot product of one of its rows with `x`, in `f32`.
    pub(crate) fn row_dot(self, row: usize, x: &[f32], scratch: &mut Vec<f32>) -> f32 {
        let row = self.rows(row..row + 1);
        if let Stored::F32(w) = row.values {
            return vectorised!(crate::simd::dot(x, w));
        }
        scratch.resize(self.d, 0.0);
        row.widen(scratch);
        vectorised!(crate::simd::dot(x, scratch))
    }
}

/// A weight tensor, borrowed.
pub(crate) struct WeightTensor<'a> {
    storage: StorageRef<'a>,
    layout: &'a Layout,
}

impl<'a> WeightTensor<'a> {
    pub(crate) fn of(tensor: &'a Tensor) -> Self {
        let (storage, layout) = tensor.storage_and_layout();
        Self { storage, layout }
    }

    pub(crate) fn get(&self) -> Result<Weight<'_>> {
        match &*self.storage {
            Storage::Cpu(storage) => Weight::input(storage, self.layout),
            _ => bail!("expected a weight on the CPU"),
        }
    }
}
