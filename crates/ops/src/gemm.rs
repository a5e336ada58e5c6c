//! Matrix products on strided views, behind a safe face.

use std::sync::atomic::{AtomicU64, Ordering};

use gemm::Parallelism;

use crate::skinny;

/// Floating-point operations of all matrix products so far.
static FLOPS: AtomicU64 = AtomicU64::new(0);

/// Floating-point operations of the matrix products that this process has made so far, an addition
/// and a multiplication each counted as one: what a computation has done is the difference.
pub fn product_flops() -> u64 {
    FLOPS.load(Ordering::Relaxed)
}

/// Counts a product of `m k n` multiplications.
pub(crate) fn count_flops(m: usize, k: usize, n: usize) {
    FLOPS.fetch_add(2 * (m * k * n) as u64, Ordering::Relaxed);
}

/// A matrix that lies in a slice: row `i`, column `j` at `i * row_stride + j * column_stride`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row_stride: usize,
    pub(crate) column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows that follow one another.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(values, rows, columns, columns)
    }

    /// Rows of `columns` values that begin `row_stride` apart.
    pub(crate) fn strided(
        values: &'a [f32],
        rows: usize,
        columns: usize,
        row_stride: usize,
    ) -> Self {
        let needed = if rows == 0 { 0 } else { (rows - 1) * row_stride + columns };
        assert!(values.len() >= needed, "matrix {rows}x{columns} needs {needed} values");
        Self { values, rows, columns, row_stride, column_stride: 1 }
    }

    /// Some of its columns.
    pub(crate) fn columns(self, columns: std::ops::Range<usize>) -> Self {
        let start = columns.start * self.column_stride;
        Self { values: &self.values[start..], columns: columns.len(), ..self }
    }

    /// The same values with rows and columns exchanged.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// Whether a product may use all threads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// The calling thread alone.
    One,
    /// All of the pool.
    All,
}

/// `alpha a b` in a new vector, row by row.
pub(crate) fn new_product(
    alpha: f32,
    (a, b): (Matrix<'_>, Matrix<'_>),
    threads: Threads,
) -> Vec<f32> {
    let len = a.rows * b.columns;
    if a.columns == 0 {
        return vec![0.0; len];
    }
    let mut out: Vec<f32> = Vec::with_capacity(len);
    assert_eq!(a.columns, b.rows, "inner dimensions differ");
    if len > 0 {
        // SAFETY: the vector has room for `len` values.
        unsafe { multiply(out.as_mut_ptr(), b.columns, false, alpha, (a, b), threads) };
    }
    // SAFETY: the product has written each of the `len` values.
    unsafe { out.set_len(len) };
    out
}

/// `out = alpha a b`, or `out += alpha a b` if `add`; rows of `out` begin `out_stride` apart.
pub(crate) fn product(
    out: &mut [f32],
    out_stride: usize,
    add: bool,
    alpha: f32,
    (a, b): (Matrix<'_>, Matrix<'_>),
    threads: Threads,
) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert_eq!(k, b.rows, "inner dimensions differ");
    if m == 0 || n == 0 {
        return;
    }
    assert!(out.len() >= (m - 1) * out_stride + n && out_stride >= n, "output too small");
    // SAFETY: the assertion above keeps all writes within `out`, which is borrowed mutably, so it
    // overlaps neither input.
    unsafe { multiply(out.as_mut_ptr(), out_stride, add, alpha, (a, b), threads) }
}

/// The product itself; `a` and `b` fit each other and neither is empty.
///
/// # Safety
///
/// `out` must be valid for writes (and reads, if `add`) of `a.rows` rows of `b.columns` values that
/// begin `out_stride` apart, and overlap neither input.
unsafe fn multiply(
    out: *mut f32,
    out_stride: usize,
    add: bool,
    alpha: f32,
    (a, b): (Matrix<'_>, Matrix<'_>),
    threads: Threads,
) {
    count_flops(a.rows, a.columns, b.columns);
    if skinny::fits(a, b) {
        // SAFETY: the caller answers for `a.rows` rows of `b.columns` values.
        let out = unsafe { skinny::Output::new(out, out_stride, add) };
        return skinny::multiply(alpha, (a, b), out, threads);
    }
    let parallelism = match threads {
        Threads::All if rayon::current_num_threads() > 1 => {
            Parallelism::Rayon(rayon::current_num_threads())
        }
        _ => Parallelism::None,
    };
    // SAFETY: `Matrix` keeps reads within its slices; the caller answers for the writes.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out,
            1,
            out_stride as isize,
            add,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            alpha,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_the_same_bits_on_any_number_of_threads() {
        for (m, k, n) in
            [(1, 192, 512), (3, 48, 300), (64, 192, 192), (777, 512, 192), (2, 9, 2048)]
        {
            let a: Vec<f32> = (0..m * k).map(|i| ((i * 37 % 101) as f32 - 50.0) / 31.0).collect();
            let b: Vec<f32> = (0..n * k).map(|i| ((i * 53 % 97) as f32 - 48.0) / 29.0).collect();
            let run = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let mut out = vec![0f32; m * n];
                pool.install(|| {
                    let views = (Matrix::new(&a, m, k), Matrix::new(&b, n, k).t());
                    product(&mut out, n, false, 1.0, views, Threads::All);
                });
                out
            };
            let one = run(1);
            for threads in [2, 3, 16] {
                assert_eq!(one, run(threads), "{m}x{k}x{n} on {threads} threads");
            }
            let row: f32 = (0..k).map(|i| a[i] * b[i]).sum();
            assert!((one[0] - row).abs() < 1e-2 * row.abs().max(1.0));
        }
    }
}
