//! Elementwise and row-wise arithmetic that the compiler turns into vector instructions.
//!
//! Sums run over sixteen lanes in a fixed order and nothing is contracted into fused
//! multiply-adds, so that the results are the same bits for every instruction set.

use std::sync::OnceLock;

/// Lanes of a sum.
const LANES: usize = 16;

/// Runs an expression compiled for the widest vector instructions this machine has. A macro and no
/// function, because a closure that is not inlined there is compiled for the oldest ones instead.
macro_rules! vectorised {
    ($work:expr) => {
        $crate::simd::dispatch(
            #[inline(always)]
            || $work,
        )
    };
}
pub(crate) use vectorised;

/// See [`vectorised`].
#[inline(always)]
pub(crate) fn dispatch<R>(work: impl FnOnce() -> R) -> R {
    arch().dispatch(work)
}

/// The widest vector instructions this machine has.
#[inline(always)]
pub(crate) fn arch() -> pulp::Arch {
    static ARCH: OnceLock<pulp::Arch> = OnceLock::new();
    *ARCH.get_or_init(pulp::Arch::new)
}

/// Bytes that the memory gives at a time.
pub(crate) const LINE: usize = 64;

/// Has the memory fetch the line of a place, where the machine can be asked to, so that it is there
/// when it is read: what is computed meanwhile hides how long that takes. Any place may be named.
#[inline(always)]
pub(crate) fn fetch(place: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which reads nothing, of any address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(place.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// [`fetch`] for each line of a row that begins so many values behind the first of some.
#[inline(always)]
pub(crate) fn fetch_row(values: &[f32], start: usize, width: usize) {
    let row = values.as_ptr().wrapping_add(start).cast::<u8>();
    for line in 0..(width * size_of::<f32>()).div_ceil(LINE) {
        fetch(row.wrapping_add(line * LINE));
    }
}

/// `e^x`, to within about one unit in the last place; `e^-87` below -87.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer.
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4_f32;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    // The integer stands in the low bits of the shifted number; it becomes the exponent.
    p * f32::from_bits(shifted.to_bits().wrapping_add(127).wrapping_shl(23))
}

/// Sum of products.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    for block in 0..a_blocks.len().min(b_blocks.len()) {
        for lane in 0..LANES {
            lanes[lane] += a_blocks[block][lane] * b_blocks[block][lane];
        }
    }
    let mut rest = 0.0;
    for i in 0..a_rest.len().min(b_rest.len()) {
        rest += a_rest[i] * b_rest[i];
    }
    fold(lanes) + rest
}

/// Sum.
#[inline(always)]
pub(crate) fn sum(a: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (blocks, rest) = a.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            lanes[lane] += block[lane];
        }
    }
    fold(lanes) + rest.iter().sum::<f32>()
}

/// Largest value; negative infinity of nothing.
#[inline(always)]
pub(crate) fn max(a: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (blocks, rest) = a.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            lanes[lane] = if block[lane] > lanes[lane] { block[lane] } else { lanes[lane] };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m })
}

/// `a += s b`.
#[inline(always)]
pub(crate) fn add_scaled(a: &mut [f32], s: f32, b: &[f32]) {
    let (a_blocks, a_rest) = a.as_chunks_mut::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    for block in 0..a_blocks.len().min(b_blocks.len()) {
        for lane in 0..LANES {
            a_blocks[block][lane] += s * b_blocks[block][lane];
        }
    }
    for i in 0..a_rest.len().min(b_rest.len()) {
        a_rest[i] += s * b_rest[i];
    }
}

/// Replaces scores by their softmax.
#[inline(always)]
pub(crate) fn softmax(scores: &mut [f32]) {
    let largest = max(scores);
    for score in scores.iter_mut() {
        *score = exp(*score - largest);
    }
    let scale = 1.0 / sum(scores);
    for score in scores.iter_mut() {
        *score *= scale;
    }
}

#[inline(always)]
fn fold(lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    let mut lanes = lanes;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_the_library() {
        for step in -8700..8800 {
            let x = step as f32 / 100.0;
            let (ours, theirs) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((ours / theirs - 1.0).abs() < 3e-7, "exp({x}) = {ours}, not {theirs}");
        }
    }

    #[test]
    fn dot_and_sum_take_rests_into_account() {
        for len in [0, 1, 15, 16, 17, 48, 50] {
            let a: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let expected: f32 = a.iter().map(|x| x * x).sum();
            assert_eq!(dot(&a, &a), expected);
            assert_eq!(sum(&a), a.iter().sum::<f32>());
        }
    }
}
