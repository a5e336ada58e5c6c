//! Muon: momentum whose matrix is made nearly orthogonal before it is taken as a step, so that
//! every direction of a weight learns at one speed.
//!
//! Jordan et al. 2024 (<https://kellerjordan.github.io/posts/muon/>); the scale, which lets it share
//! AdamW's learning rate and decay, is that of Liu et al. 2025 (arXiv 2502.16982).

use candle_core::{Device, Result, Tensor};

use crate::gemm::{Matrix, Threads, new_product};
use crate::simd::{dot, vectorised};

/// Coefficients of the odd polynomial that drives all singular values towards 1.
const QUINTIC: [f32; 3] = [3.4445, -4.7750, 2.0315];

const ITERATIONS: usize = 5;

/// The root mean square of a step's values, in learning rates: about that of AdamW.
const STEP_SIZE: f32 = 0.2;

/// Momentum of a `[rows, columns]` matrix after one more gradient, in place, and the direction of
/// the step: both flat, in row order.
pub(crate) fn direction(
    momentum: &mut [f32],
    gradient: &[f32],
    decay: f32,
    scale: f32,
    (rows, columns): (usize, usize),
) -> Result<Tensor> {
    let mut ahead = vec![0f32; momentum.len()];
    vectorised!({
        for ((ahead, mean), gradient) in ahead.iter_mut().zip(momentum.iter_mut()).zip(gradient) {
            let gradient = gradient * scale;
            *mean = decay * *mean + gradient;
            *ahead = gradient + decay * *mean;
        }
    });
    let step = STEP_SIZE * (rows.max(columns) as f32).sqrt();
    let mut direction = orthogonal(ahead, rows, columns);
    vectorised!(direction.iter_mut().for_each(|value| *value *= step));
    Tensor::from_vec(direction, (rows, columns), &Device::Cpu)
}

/// Nearly `U Vᵀ` of a matrix `U S Vᵀ`, by Newton and Schulz's iteration: singular values end
/// between about 0.7 and 1.2.
fn orthogonal(matrix: Vec<f32>, rows: usize, columns: usize) -> Vec<f32> {
    let is_tall = rows > columns;
    let mut x = matrix;
    let norm = vectorised!(dot(&x, &x)).sqrt() + 1e-7;
    vectorised!(x.iter_mut().for_each(|value| *value /= norm));
    let [a, b, c] = QUINTIC;
    let side = rows.min(columns);
    for _ in 0..ITERATIONS {
        let view = Matrix::new(&x, rows, columns);
        let pair = if is_tall { (view.t(), view) } else { (view, view.t()) };
        let mut factor = new_product(1.0, pair, Threads::One);
        let gram = Matrix::new(&factor, side, side);
        let square = new_product(c, (gram, gram), Threads::One);
        vectorised!({
            for (gram, square) in factor.iter_mut().zip(&square) {
                *gram = b * *gram + square;
            }
        });
        let factor = Matrix::new(&factor, side, side);
        let pair = if is_tall { (view, factor) } else { (factor, view) };
        let bent = new_product(1.0, pair, Threads::One);
        vectorised!({
            for (x, bent) in x.iter_mut().zip(&bent) {
                *x = a * *x + bent;
            }
        });
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values from a small recurrence, in -1..1.
    fn values(n: usize) -> Vec<f32> {
        let mut state = 7u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    #[test]
    fn rows_or_columns_become_nearly_orthonormal() {
        for (rows, columns) in [(6, 20), (20, 6), (9, 9)] {
            let x = orthogonal(values(rows * columns), rows, columns);
            let x = Tensor::from_vec(x, (rows, columns), &Device::Cpu).unwrap();
            let gram =
                if rows < columns { x.matmul(&x.t().unwrap()) } else { x.t().unwrap().matmul(&x) };
            let gram: Vec<Vec<f32>> = gram.unwrap().to_vec2().unwrap();
            let trace: f32 = (0..gram.len()).map(|i| gram[i][i]).sum();
            assert!((0.5..1.5).contains(&(trace / gram.len() as f32)), "{gram:?}");
            if rows != columns {
                let off = gram.iter().enumerate().flat_map(|(i, row)| {
                    row.iter().enumerate().filter(move |(j, _)| i != *j).map(|(_, v)| v.abs())
                });
                assert!(off.fold(0.0, f32::max) < 0.4, "{gram:?}");
            }
        }
    }

    #[test]
    fn the_direction_is_that_of_the_gradient_seen_from_its_singular_vectors() {
        // A diagonal gradient: the direction is diagonal, and its small value counts like the large.
        let gradient = [4.0, 0.0, 0.0, 0.5];
        let mut momentum = [0.0; 4];
        let step = direction(&mut momentum, &gradient, 0.9, 0.5, (2, 2)).unwrap();
        assert_eq!(momentum, [2.0, 0.0, 0.0, 0.25]);
        let step: Vec<f32> = step.flatten_all().unwrap().to_vec1().unwrap();
        let unit = STEP_SIZE * 2f32.sqrt();
        assert!(step[1].abs() < 1e-5 && step[2].abs() < 1e-5, "{step:?}");
        for value in [step[0], step[3]] {
            assert!((0.6..1.3).contains(&(value / unit)), "{step:?}");
        }
    }
}
