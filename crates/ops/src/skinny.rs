//! Products of a few rows with a weight whose rows are contiguous, as in decoding.
//!
//! A general matrix product first packs both factors. For a handful of rows that costs more than
//! the product: here each row of the weight is read once, where it lies.

use std::array;
use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::gemm::{Matrix, Threads, count_flops};
use crate::simd::{LINE, arch, fetch};
use crate::weight::Weight;

/// With more rows than this, packing pays.
const MOST_ROWS: usize = 32;

/// With shorter rows, adding up the lanes costs more than the products.
const FEWEST_COLUMNS: usize = 64;

/// With more multiplications than this, several threads pay.
const MOST_WORK: usize = 1 << 18;

/// Multiplications that a thread takes at a time.
const WORK_AT_ONCE: usize = 1 << 17;

/// Columns that a thread takes at least, a multiple of those that are worked on together.
const COLUMNS_AT_ONCE: usize = 24;

/// Rows of the input that are worked on together.
const TILE: usize = 4;

/// Rows of the weight that are worked on together with them, with sixteen vector registers: their
/// sums must stay in the registers.
const FEW: usize = 3;

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
    let w = Factor::Plain(b);
    in_parts(a.rows * a.columns, b.columns, threads, |columns| {
        arch().dispatch(Product { alpha, x: a, w, columns, out });
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
        arch().dispatch(Product { alpha, x, w: Factor::Stored(w), columns, out });
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
    let step = WORK_AT_ONCE / work_per_column.max(1);
    let step = step.next_multiple_of(COLUMNS_AT_ONCE).max(COLUMNS_AT_ONCE);
    (0..columns.div_ceil(step)).into_par_iter().for_each(|part| {
        each(part * step..(part * step + step).min(columns));
    });
}

/// What the input is multiplied with.
#[derive(Clone, Copy)]
enum Factor<'a> {
    /// A matrix, the values of each of whose columns follow one another.
    Plain(Matrix<'a>),
    /// The rows of a weight of 16-bit numbers, widened a few at a time.
    Stored(Weight<'a>),
}

impl Factor<'_> {
    /// Where some columns lie.
    fn place(&self, column: usize) -> Place {
        match *self {
            Self::Plain(b) => {
                let first = b.values.as_ptr().wrapping_add(column * b.column_stride);
                let size = size_of::<f32>();
                Place { first: first.cast(), apart: b.column_stride * size, bytes: b.rows * size }
            }
            Self::Stored(w) => {
                let bytes = w.d * size_of::<u16>();
                Place { first: w.first().wrapping_add(column * bytes), apart: bytes, bytes }
            }
        }
    }
}

/// Where columns lie: `bytes` of each, `apart` bytes from one to the next.
#[derive(Clone, Copy)]
struct Place {
    first: *const u8,
    apart: usize,
    bytes: usize,
}

impl Place {
    /// Fetches a line of each of `C` columns. A place beyond the last column does no harm.
    #[inline(always)]
    fn fetch<const C: usize>(&self, line: usize) {
        for column in 0..C {
            fetch(self.first.wrapping_add(column * self.apart + line * LINE));
        }
    }
}

struct Product<'a> {
    alpha: f32,
    x: Matrix<'a>,
    w: Factor<'a>,
    /// The columns that are computed.
    columns: Range<usize>,
    out: Output,
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
        let mut widened = match self.w {
            Factor::Plain(_) => Vec::new(),
            Factor::Stored(w) => vec![0f32; C * w.d],
        };
        let whole = self.columns.start + self.columns.len() / C * C;
        for column in (self.columns.start..whole).step_by(C) {
            self.some::<S, C>(simd, column, &mut widened);
        }
        for column in whole..self.columns.end {
            self.some::<S, 1>(simd, column, &mut widened);
        }
    }

    /// `C` columns.
    #[inline(always)]
    fn some<S: Simd, const C: usize>(&self, simd: S, column: usize, widened: &mut [f32]) {
        let next = self.w.place(column + C);
        match self.w {
            Factor::Plain(b) => {
                let values = |j| &b.values[(column + j) * b.column_stride..][..b.rows];
                self.rows::<S, C>(simd, column, array::from_fn(values), next);
            }
            Factor::Stored(w) => {
                w.rows(column..column + C).widen(&mut widened[..C * w.d]);
                let values = |j| &widened[j * w.d..][..w.d];
                self.rows::<S, C>(simd, column, array::from_fn(values), next);
            }
        }
    }

    /// All rows of `C` columns, while what is worked on `next` is fetched.
    #[inline(always)]
    fn rows<S: Simd, const C: usize>(
        &self,
        simd: S,
        column: usize,
        values: [&[f32]; C],
        next: Place,
    ) {
        let rows = self.x.rows;
        let whole = rows / TILE * TILE;
        let tiles = (whole / TILE + rows % TILE).max(1);
        let lines = next.bytes.div_ceil(LINE).div_ceil(tiles).max(1);
        for tile in 0..whole / TILE {
            let fetched = Fetched { next, first: tile * lines, lines };
            self.tile::<S, TILE, C>(simd, (tile * TILE, column), values, fetched);
        }
        for row in whole..rows {
            let fetched = Fetched { next, first: (whole / TILE + row - whole) * lines, lines };
            self.tile::<S, 1, C>(simd, (row, column), values, fetched);
        }
    }

    /// The dot products of `R` rows with `C` columns. Every value is summed in the same order
    /// whatever the tile's size, so that a row's result does not depend on its neighbours.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const C: usize>(
        &self,
        simd: S,
        (row, column): (usize, usize),
        values: [&[f32]; C],
        fetched: Fetched,
    ) {
        let of_row = |i| &self.x.values[(row + i) * self.x.row_stride..][..self.x.columns];
        let x: [_; R] = array::from_fn(|i| S::as_simd_f32s(of_row(i)));
        let w: [_; C] = array::from_fn(|j| S::as_simd_f32s(values[j]));
        let blocks = x[0].0.len();
        assert!(w[0].0.len() == blocks, "inner dimensions differ");
        let mut sums = [[simd.splat_f32s(0.0); C]; R];
        let step = blocks.div_ceil(fetched.lines).max(1);
        for (line, from) in (0..blocks).step_by(step).enumerate() {
            fetched.next.fetch::<C>(fetched.first + line);
            for block in from..(from + step).min(blocks) {
                for i in 0..R {
                    for j in 0..C {
                        // SAFETY: all rows of `x` are of one length, and all columns: by the
                        // assertion that has `blocks` blocks.
                        let (x, w) =
                            unsafe { (x[i].0.get_unchecked(block), w[j].0.get_unchecked(block)) };
                        sums[i][j] = simd.mul_add_f32s(*x, *w, sums[i][j]);
                    }
                }
            }
        }
        for i in 0..R {
            for j in 0..C {
                let mut sum = simd.reduce_sum_f32s(sums[i][j]);
                for k in 0..x[i].1.len() {
                    sum += x[i].1[k] * w[j].1[k];
                }
                self.out.put(row + i, column + j, self.alpha * sum);
            }
        }
    }
}

/// The lines that are fetched while a tile is computed.
#[derive(Clone, Copy)]
struct Fetched {
    next: Place,
    first: usize,
    lines: usize,
}

#[cfg(test)]
mod tests {
    use candle_core::{CpuStorage, Layout};
    use half::bf16;

    use super::*;
    use crate::gemm::new_product;

    #[test]
    fn every_shape_is_the_sum_of_products_and_rows_do_not_depend_on_each_other() {
        let values = |n: usize| -> Vec<f32> {
            (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) / 31.0).collect()
        };
        for (m, k, n) in
            [(0, 64, 3), (1, 64, 1), (3, 70, 6), (4, 192, 4), (9, 133, 13), (32, 64, 7)]
        {
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

    #[test]
    fn sixteen_bits_and_threads_change_nothing() {
        // So large that threads share it, with columns left over.
        let (m, k, n) = (9, 200, 301);
        assert!(m * k * n > MOST_WORK);
        let of = |i: usize| bf16::from_f32(((i * 37 % 101) as f32 - 50.0) / 31.0);
        let a: Vec<f32> = (0..m * k).map(|i| of(i + 5).to_f32()).collect();
        let stored: Vec<bf16> = (0..n * k).map(of).collect();
        let widened: Vec<f32> = stored.iter().map(|value| value.to_f32()).collect();
        let (storage, layout) = (CpuStorage::BF16(stored), Layout::contiguous((n, k)));
        let (x, w) = (Matrix::new(&a, m, k), Weight::input(&storage, &layout).unwrap());
        let plain = |threads| new_product(1.0, (x, Matrix::new(&widened, n, k).t()), threads);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let mut narrow = vec![f32::NAN; m * n];
        pool.install(|| multiply_stored(1.0, x, w, false, &mut narrow));
        assert_eq!(plain(Threads::One), narrow);
        assert_eq!(pool.install(|| plain(Threads::All)), narrow);
    }
}
