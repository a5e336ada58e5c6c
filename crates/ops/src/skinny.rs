//! Products of a few rows with a weight whose rows are contiguous, as in decoding.
//!
//! A general matrix product first packs both factors. For a handful of rows that costs more than
//! the product: here each row of the weight is read once, where it lies.

use pulp::{Simd, WithSimd};

use crate::gemm::Matrix;
use crate::simd::arch;

/// With more rows than this, packing pays.
const MOST_ROWS: usize = 32;

/// With shorter rows, adding up the lanes costs more than the products.
const FEWEST_COLUMNS: usize = 64;

/// With more multiplications than this, several threads pay; these products run on one.
const MOST_WORK: usize = 16 << 20;

/// Rows of each factor that are worked on together: their sums fill the vector registers.
const TILE: usize = 4;

/// Whether `a b` is such a product.
pub(crate) fn fits(a: Matrix<'_>, b: Matrix<'_>) -> bool {
    let few = a.rows <= MOST_ROWS && a.rows * a.columns * b.columns <= MOST_WORK;
    few && a.column_stride == 1 && b.row_stride == 1 && a.columns >= FEWEST_COLUMNS
}

/// `alpha a b`, each value given to `put(row, column, value)` once.
pub(crate) fn multiply(
    alpha: f32,
    (a, b): (Matrix<'_>, Matrix<'_>),
    put: impl FnMut(usize, usize, f32),
) {
    arch().dispatch(Product { alpha, a, b, put });
}

struct Product<'a, F> {
    alpha: f32,
    a: Matrix<'a>,
    b: Matrix<'a>,
    put: F,
}

impl<F: FnMut(usize, usize, f32)> WithSimd for Product<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let columns = self.b.columns;
        let whole = columns / TILE * TILE;
        for column in (0..whole).step_by(TILE) {
            self.rows::<S, TILE>(simd, column);
        }
        for column in whole..columns {
            self.rows::<S, 1>(simd, column);
        }
    }
}

impl<F: FnMut(usize, usize, f32)> Product<'_, F> {
    /// All rows of `C` columns.
    #[inline(always)]
    fn rows<S: Simd, const C: usize>(&mut self, simd: S, column: usize) {
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
    fn tile<S: Simd, const R: usize, const C: usize>(
        &mut self,
        simd: S,
        row: usize,
        column: usize,
    ) {
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
                (self.put)(row + i, column + j, self.alpha * sum);
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
            let product = |rows: std::ops::Range<usize>| {
                let len = rows.len();
                let x = Matrix::new(&a[rows.start * k..rows.end * k], len, k);
                let w = Matrix::new(&b, n, k).t();
                assert!(fits(x, w));
                let mut out = vec![f32::NAN; len * n];
                multiply(0.5, (x, w), |row, column, value| out[row * n + column] = value);
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
