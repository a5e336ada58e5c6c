//! Where tokens stand: three numbers each (time, height, width), and the rotations they mean.

use candle_core::{Device, Tensor};

use crate::config::TextConfig;
use crate::error::ModelError;

/// Positions of `len` text tokens from `start` on: the three numbers are the same.
pub fn text_positions(start: u32, len: usize) -> impl Iterator<Item = [u32; 3]> {
    (start..).take(len).map(|at| [at; 3])
}

/// Positions of a picture's tokens from `start` on: time, rows and columns of the merged grid
/// count from there. The next text token stands one after the largest of them.
pub fn image_positions(start: u32, [t, h, w]: [usize; 3]) -> impl Iterator<Item = [u32; 3]> {
    (0..t as u32).flat_map(move |t| {
        (0..h as u32)
            .flat_map(move |h| (0..w as u32).map(move |w| [start + t, start + h, start + w]))
    })
}

/// Cosines and sines `[t, k/2]` for the decoder's heads: column `i` turns by
/// `position / theta^(2i/k)`, where the position's axis belongs to the column.
pub(super) fn rotations(
    config: &TextConfig,
    positions: &[[u32; 3]],
    device: &Device,
) -> Result<(Tensor, Tensor), ModelError> {
    let half = config.head_dim / 2;
    let axes: Vec<usize> = (0..half).map(|column| axis(config, column)).collect();
    let frequencies = frequencies(config.rope_theta, config.head_dim);
    let angles: Vec<f32> = positions
        .iter()
        .flat_map(|position| {
            axes.iter().zip(&frequencies).map(|(&axis, f)| position[axis] as f32 * f)
        })
        .collect();
    cos_sin(&angles, half, device)
}

/// `theta^(-2i/width)` for the first half of a width.
pub(super) fn frequencies(theta: f64, width: usize) -> Vec<f32> {
    let exponent = |i: usize| (2 * i) as f64 / width as f64;
    (0..width / 2).map(|i| (1.0 / theta.powf(exponent(i))) as f32).collect()
}

/// Cosines and sines of angles, `columns` a row.
pub(super) fn cos_sin(
    angles: &[f32],
    columns: usize,
    device: &Device,
) -> Result<(Tensor, Tensor), ModelError> {
    let shape = (angles.len() / columns, columns);
    let cos: Vec<f32> = angles.iter().map(|a| a.cos()).collect();
    let sin: Vec<f32> = angles.iter().map(|a| a.sin()).collect();
    Ok((Tensor::from_vec(cos, shape, device)?, Tensor::from_vec(sin, shape, device)?))
}

/// The axis that turns a column: 0 time, 1 height, 2 width.
fn axis(config: &TextConfig, column: usize) -> usize {
    let [t, h, w] = config.mrope_section;
    if config.mrope_interleaved {
        match column % 3 {
            1 if column < 3 * h => 1,
            2 if column < 3 * w => 2,
            _ => 0,
        }
    } else if column < t {
        0
    } else if column < t + h {
        1
    } else {
        2
    }
}
