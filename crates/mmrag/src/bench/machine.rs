//! What the machine gives: memory taken, and the best rate of a matrix product.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use mmrag_ops::linear;
use rayon::prelude::*;

/// Shapes (rows, inner, columns) of which the fastest is the machine's rate.
const SHAPES: [(usize, usize, usize); 3] =
    [(512, 1024, 1024), (1024, 1024, 1024), (1024, 2048, 2048)];

/// The same for GPUs, which smaller ones do not fill.
const LARGE: (usize, usize, usize) = (8192, 8192, 8192);

/// How often each shape is timed.
const ROUNDS: usize = 5;

/// Floating-point operations a second of the fastest f32 matrix product on the device.
///
/// # Errors
///
/// When memory is out.
pub(super) fn product_rate(device: &Device) -> anyhow::Result<f64> {
    let mut best = 0.0f64;
    let large = (!device.is_cpu()).then_some(LARGE);
    for (m, k, n) in SHAPES.into_iter().chain(large) {
        let x = Tensor::ones((m, k), DType::F32, device)?;
        let w = Tensor::ones((n, k), DType::F32, device)?;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            linear(&x, &w, None)?;
            device.synchronize()?;
            best = best.max(2.0 * (m * k * n) as f64 / start.elapsed().as_secs_f64());
        }
    }
    Ok(best)
}

/// Bytes that are read to find how fast memory is: more than any cache holds.
const READ: usize = 1 << 29;

/// Bytes a second of memory that all threads read once.
pub(super) fn read_rate() -> f64 {
    let values: Vec<u64> = (0..READ as u64 / 8).collect();
    let mut best = 0.0f64;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let parts = values.par_chunks(1 << 16);
        let sum = parts.map(|part| part.iter().fold(0, |sum: u64, x| sum.wrapping_add(*x)));
        std::hint::black_box(sum.reduce(|| 0, u64::wrapping_add));
        best = best.max(READ as f64 / start.elapsed().as_secs_f64());
    }
    best
}

/// The largest memory the process has had resident so far, in bytes; nothing where the system does
/// not tell it.
pub(super) fn peak_bytes() -> Option<u64> {
    memory("VmHWM:")
}

/// The memory the process has resident now, in bytes; nothing where the system does not tell it.
pub(crate) fn resident_bytes() -> Option<u64> {
    memory("VmRSS:")
}

/// A figure of the process's memory in bytes.
fn memory(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes * 1024)
}
