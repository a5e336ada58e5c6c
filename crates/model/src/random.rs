//! Random checkpoints of any size, written tensor by tensor.

use std::borrow::Cow;
use std::path::Path;

use half::bf16;
use rand::RngExt;
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::View;

use crate::config::VlmConfig;
use crate::error::ModelError;
use crate::vlm::{Slot, Start, Vlm, stream};
use crate::weights::write_atomically;

/// Values that are drawn from one stream.
const STRETCH: usize = 1 << 16;

/// Writes `model.safetensors` with random weights in bf16: matrices are normal with a given
/// deviation, norms 1, biases 0. One tensor is in memory at a time. The same seed gives the same
/// file.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write_random(
    dir: impl AsRef<Path>,
    config: &VlmConfig,
    seed: u64,
    deviation: f32,
) -> Result<(), ModelError> {
    let slots = Vlm::slots(config)?;
    let views = slots.iter().map(|slot| (slot.name.as_str(), Drawn { slot, seed, deviation }));
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    write_atomically(&dir.as_ref().join("model.safetensors"), |temporary| {
        safetensors::serialize_to_file(views, Some(metadata), temporary)
            .map_err(std::io::Error::other)
    })
}

/// A tensor that is drawn when it is written.
struct Drawn<'a> {
    slot: &'a Slot,
    seed: u64,
    deviation: f32,
}

impl Drawn<'_> {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0u8; self.data_len()];
        bytes.par_chunks_mut(2 * STRETCH).enumerate().for_each(|(index, bytes)| {
            let n = bytes.len() / 2;
            let mut put = |at: usize, value: f32| {
                bytes[2 * at..2 * at + 2].copy_from_slice(&bf16::from_f32(value).to_le_bytes());
            };
            match self.slot.start {
                Start::Ones => (0..n).for_each(|at| put(at, 1.0)),
                Start::Zeros => {}
                Start::Normal => {
                    let name = format!("{}#{index}", self.slot.name);
                    let mut rng = stream("random checkpoint", self.seed, &name);
                    // Two normal numbers at a time (Box & Muller 1958).
                    for at in (0..n).step_by(2) {
                        let radius = (-2.0 * (1.0 - rng.random::<f32>()).ln()).sqrt();
                        let (sin, cos) = (std::f32::consts::TAU * rng.random::<f32>()).sin_cos();
                        put(at, radius * cos * self.deviation);
                        if at + 1 < n {
                            put(at + 1, radius * sin * self.deviation);
                        }
                    }
                }
            }
        });
        bytes
    }
}

impl View for Drawn<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::BF16
    }

    fn shape(&self) -> &[usize] {
        &self.slot.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.bytes())
    }

    fn data_len(&self) -> usize {
        2 * self.slot.shape.iter().product::<usize>()
    }
}
