//! Inner products of rows of half floats with a query of `f32`.
//!
//! A half float whose bits are moved to where an `f32` has its own is its value times 2^-112. The
//! query is multiplied by 2^112 once, so a row needs no multiplication to be widened, and its
//! products come out to the last bit.

#![expect(clippy::inline_always, reason = "what is dispatched must be compiled with it")]

use half::f16;
use pulp::Arch;

/// Sums side by side.
const LANES: usize = 16;

/// 2^112.
const LIFT: f32 = f32::from_bits((127 + 112) << 23);

/// Queries with larger values than this are made smaller first.
const MOST: f32 = 16384.0;

/// A query, ready for rows of half floats.
pub(super) struct Lifted {
    arch: Arch,
    values: Vec<f32>,
    /// What a result is multiplied by, a power of two.
    back: f32,
}

impl Lifted {
    pub(super) fn new(query: &[f32]) -> Self {
        let most = query.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let back = if most > MOST { (most / MOST).log2().ceil().exp2() } else { 1.0 };
        let values = query.iter().map(|value| value / back * LIFT).collect();
        Self { arch: Arch::new(), values, back }
    }

    /// The inner product with a row of as many values.
    pub(super) fn dot(&self, row: &[f16]) -> f32 {
        // The closure is inlined where it is compiled for this machine's instructions.
        self.arch.dispatch(
            #[inline(always)]
            || products(row, &self.values),
        ) * self.back
    }
}

#[inline(always)]
fn products(row: &[f16], lifted: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (row_blocks, row_rest) = row.as_chunks::<LANES>();
    let (blocks, rest) = lifted.as_chunks::<LANES>();
    for (row, query) in row_blocks.iter().zip(blocks) {
        for i in 0..LANES {
            sums[i] += moved(row[i]) * query[i];
        }
    }
    let rest: f32 = row_rest.iter().zip(rest).map(|(row, query)| moved(*row) * query).sum();
    sums.iter().sum::<f32>() + rest
}

/// The value times 2^-112: sign, exponent and mantissa where an `f32` has them.
#[inline(always)]
fn moved(value: f16) -> f32 {
    let bits = i32::from(value.to_bits() as i16) << 13;
    f32::from_bits(bits as u32 & 0x8fff_ffff)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn products_are_those_of_the_wide_values(
            pairs in prop::collection::vec((-2.0f32..2.0, -2.0f32..2.0), 1..100),
            scale in prop::sample::select(vec![1.0f32, 1e-7, 1e-3, 3e4, 1e9]),
        ) {
            let row: Vec<f16> = pairs.iter().map(|(x, _)| f16::from_f32(*x)).collect();
            let query: Vec<f32> = pairs.iter().map(|(_, q)| q * scale).collect();
            let exact: f64 =
                row.iter().zip(&query).map(|(x, q)| f64::from(*x) * f64::from(*q)).sum();
            let size: f64 =
                row.iter().zip(&query).map(|(x, q)| (f64::from(*x) * f64::from(*q)).abs()).sum();
            let found = f64::from(Lifted::new(&query).dot(&row));
            prop_assert!((found - exact).abs() <= 1e-6 * size, "{found} instead of {exact}");
        }
    }

    #[test]
    fn the_smallest_halves_count_too() {
        let row = [f16::from_bits(1), f16::from_bits(0x8001), f16::from_bits(0x3ff)];
        let query = [1.0, 0.5, 2.0];
        let exact: f32 = row.iter().zip(query).map(|(x, q)| x.to_f32() * q).sum();
        assert_eq!(Lifted::new(&query).dot(&row), exact);
    }
}
