//! Products of a few rows with a weight whose rows are contiguous, as in decoding.
//!
//! A general matrix product first packs both factors. For a handful of rows that costs more than
//! the product: here each row of the weight is read once, where it lies.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::gemm::{Matrix, Threads, count_flops};
use crate::simd::arch;
use crate::weight::Weight;

/// With more rows than this, packing pays.
const MOST_ROWS: usize = 32;

/// With shorter rows, adding up the lanes costs more than the products.
const FEWEST_COLUMNS: usize = 64;

/// With more multiplications than this, several threads pay.
const MOST_WORK: usize = 16 << 20;

/// Multiplications that a thread takes at a time.
const WORK_AT_ONCE: usize = 1 << 20;

/// Rows of a 16-bit weight that are widened at a time.
const WIDENED: usize = 16;

/// Rows of the input that are worked on together.
const TILE: usize = 4;

/// Rows of the weight that are worked on together with them, with sixteen vector registers: their
/// sums must stay in the registers.
const FEW: usize = 2;

/// The same with the thirty-two registers of the machines whose vectors hold sixteen values.
const MANY: usize = 4;

/// Whether `a b` is such a product.
pub(crate) fn fits(a: Matrix<'_>, b: Matrix<'_>) -> bool {
    fits_stored(a) && b.row_stride == 1
}

/// Whether a product of `a` with a weight whose rows are contiguous is such a one.
pub(crate) fn fits_stored(a: Matrix<'_>) -> bool {
    a.rows <= MOST_ROWS && a.column_stride == 1 && a.columns >= FEWEST_COLUMNS
}

/// Where the values of a product go. Threads share it because each writes columns of its own.
#[derive(Clone, Copy)]
pub(crate) struct Output {
    pointer: *mut f32,
    stride: usize,
    add: bool,
}

// SAFETY: `multiply` and `multiply_stored` give each column to one thread.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

impl Output {
    /// Values go to `pointer + row * stride + column`, or are added to what is there.
    ///
    /// # Safety
    ///
    /// All places of the product it is used for must be valid for writes (and reads, if `add`), as
    /// long as it is used, and belong to nobody else.
    pub(crate) unsafe fn new(pointer: *mut f32, stride: usize, add: bool) -> Self {
        Self { pointer, stride, add }
    }

    #[inline(always)]
    fn put(&self, row: usize, column: usize, value: f32) {
        // SAFETY: the place is one of the product's, for which the maker of `self` answers.
        unsafe {
            let place = self.pointer.add(row * self.stride + column);
            *place = if self.add { *place + value } else { value };
        }
    }
}

/// `alpha a b` into `out`.
pub(crate) fn multiply(
    alpha: f32,
    (a, b): (Matrix<'_>, Matrix<'_>),
    out: Output,
    threads: Threads,
) {
    in_parts(a.rows * a.columns, b.columns, threads, |columns| {
        let first = columns.start;
        arch().dispatch(Product { alpha, a, b: b.columns(columns), out, first });
    });
}

/// `y = alpha x wᵀ`, or `y += alpha x wᵀ` if `add`.
pub(crate) fn multiply_stored(alpha: f32, x: Matrix<'_>, w: Weight<'_>, add: bool, y: &mut [f32]) {
    assert!(y.len() == x.rows * w.n && x.columns == w.d, "output or weight too small");
    count_flops(x.rows, x.columns, w.n);
    // SAFETY: by the assertion all of `x.rows` rows of `w.n` values lie in `y`, which is borrowed
    // mutably.
    let out = unsafe { Output::new(y.as_mut_ptr(), w.n, add) };
    in_parts(x.rows * x.columns, w.n, Threads::All, |columns| {
        let mut scratch = vec![0f32; WIDENED * w.d];
        for first in columns.clone().step_by(WIDENED) {
            let rows = first..(first + WIDENED).min(columns.end);
            let widened = &mut scratch[..rows.len() * w.d];
            w.rows(rows.clone()).widen(widened);
            let b = Matrix::new(widened, rows.len(), w.d).t();
            arch().dispatch(Product { alpha, a: x, b, out, first });
        }
    });
}

/// Calls `each` with ranges that make up `0..columns`, on several threads where that pays. What is
/// computed of a column does not depend on its range.
fn in_parts(
    work_per_column: usize,
    columns: usize,
    threads: Threads,
    each: impl Fn(Range<usize>) + Sync,
) {
    let is_little = work_per_column * columns <= MOST_WORK;
    if is_little || threads == Threads::One || rayon::current_num_threads() == 1 {
        return each(0..columns);
    }
    let step = (WORK_AT_ONCE / work_per_column.max(1)).next_multiple_of(WIDENED).max(WIDENED);
    (0..columns.div_ceil(step)).into_par_iter().for_each(|part| {
        each(part * step..(part * step + step).min(columns));
    });
}

struct Product<'a> {
    alpha: f32,
    a: Matrix<'a>,
    b: Matrix<'a>,
    out: Output,
    /// Where the first column of `b` goes.
    first: usize,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::F32_LANES == 16 {
            self.columns::<S, MANY>(simd);
        } else {
            self.columns::<S, FEW>(simd);
        }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn columns<S: Simd, const C: usize>(&self, simd: S) {
        let columns = self.b.columns;
        let whole = columns / C * C;
        for column in (0..whole).step_by(C) {
            self.rows::<S, C>(simd, column);
        }
        for column in whole..columns {
            self.rows::<S, 1>(simd, column);
        }
    }

    /// All rows of `C` columns.
    #[inline(always)]
    fn rows<S: Simd, const C: usize>(&self, simd: S, column: usize) {
        let rows = self.a.rows;
        let whole = rows / TILE * TILE;
        for row in (0..whole).step_by(TILE) {
            self.tile::<S, TILE, C>(simd, row, column);
        }
        for row in whole..rows {
            self.tile::<S, 1, C>(simd, row, column);
        }
    }

    /// The dot products of `R` rows with `C` columns. Every value is summed in the same order
    /// whatever the tile's size, so that a row's result does not depend on its neighbours.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const C: usize>(&self, simd: S, row: usize, column: usize) {
        let (mut x, mut x_rest): ([&[S::f32s]; R], [&[f32]; R]) = ([&[]; R], [&[]; R]);
        let (mut w, mut w_rest): ([&[S::f32s]; C], [&[f32]; C]) = ([&[]; C], [&[]; C]);
        for i in 0..R {
            let values = &self.a.values[(row + i) * self.a.row_stride..][..self.a.columns];
            (x[i], x_rest[i]) = S::as_simd_f32s(values);
        }
        for j in 0..C {
            let values = &self.b.values[(column + j) * self.b.column_stride..][..self.b.rows];
            (w[j], w_rest[j]) = S::as_simd_f32s(values);
        }
        let mut sums = [[simd.splat_f32s(0.0); C]; R];
        for block in 0..x[0].len() {
            for i in 0..R {
                for j in 0..C {
                    sums[i][j] = simd.mul_add_f32s(x[i][block], w[j][block], sums[i][j]);
                }
            }
        }
        for i in 0..R {
            for j in 0..C {
                let mut sum = simd.reduce_sum_f32s(sums[i][j]);
                for k in 0..x_rest[i].len() {
                    sum += x_rest[i][k] * w_rest[j][k];
                }
                self.out.put(row + i, self.first + column + j, self.alpha * sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_the_sum_of_products_and_rows_do_not_depend_on_each_other() {
        let values = |n: usize| -> Vec<f32> {
            (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) / 31.0).collect()
        };
        for (m, k, n) in [(1, 64, 1), (3, 70, 6), (4, 192, 4), (9, 133, 13), (32, 64, 7)] {
            let (a, b) = (values(m * k), values(n * k));
            let product = |rows: Range<usize>| {
                let len = rows.len();
                let x = Matrix::new(&a[rows.start * k..rows.end * k], len, k);
                let w = Matrix::new(&b, n, k).t();
                assert!(fits(x, w));
                let mut out = vec![f32::NAN; len * n];
                // SAFETY: the vector holds `len` rows of `n` values and is used by nobody else.
                let place = unsafe { Output::new(out.as_mut_ptr(), n, false) };
                multiply(0.5, (x, w), place, Threads::All);
                out
            };
            let all = product(0..m);
            for row in 0..m {
                assert_eq!(product(row..row + 1), all[row * n..(row + 1) * n], "{m}x{k}x{n}");
                for column in 0..n {
                    let exact: f64 = (0..k)
                        .map(|i| f64::from(a[row * k + i]) * f64::from(b[column * k + i]))
                        .sum();
                    let found = f64::from(all[row * n + column]);
                    assert!((found - 0.5 * exact).abs() < 1e-4, "{found} {exact}");
                }
            }
        }
    }
}
