//! What a model's work takes on this machine in seconds and bytes, without loading the model:
//! models of its widths with few layers do it, and what a further layer adds is counted for all of
//! them. A small model does it with all its layers.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use mmrag_model::{Cost, Depth, Placement, Policy, Precision};

use super::trial::{Prompts, Trainee, Trial, Work};
use crate::host::host;

/// Bytes of weights that no cache holds.
const UNCACHED_BYTES: usize = 256 << 20;

/// What a task takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// Seconds for each prompt; of pictures for each of them, of the optimizer for a step.
    pub(super) seconds: f64,
    /// The most bytes that it has in use at a time, the weights aside.
    pub(super) bytes: f64,
    /// Bytes that the process had besides its tensors when it had done it.
    pub(super) process: u64,
}

impl Told {
    /// The same with so many times what another depth adds to it.
    fn and_beyond(self, more: Self, times: f64) -> Self {
        let add = |few: f64, more: f64| few + times * (more - few).max(0.0);
        Self {
            seconds: add(self.seconds, more.seconds),
            bytes: add(self.bytes, more.bytes),
            process: self.process.max(more.process),
        }
    }
}

/// A model and what is trained of it, before it is loaded.
pub(super) struct Model {
    folder: PathBuf,
    precision: Precision,
    pub(super) cost: Cost,
    pub(super) trainee: Trainee,
}

impl Model {
    /// Reads the model's shape.
    ///
    /// # Errors
    ///
    /// When a file is missing or damaged, or models run on a GPU.
    pub(super) fn open(folder: &Path, trainee: Trainee) -> anyhow::Result<Self> {
        ensure!(
            host().device.is_cpu(),
            "--dry-run predicts runs on the CPU alone so far: add --device cpu"
        );
        let precision = if trainee.lora.is_some() { Precision::Stored } else { Precision::F32 };
        let cost = Cost::read(folder, precision)
            .with_context(|| format!("failed to read the model {}", folder.display()))?;
        Ok(Self { folder: folder.to_path_buf(), precision, cost, trainee })
    }

    /// What each task takes.
    ///
    /// # Errors
    ///
    /// When a small file is missing, a prompt cannot be made ready, or memory for a few layers is
    /// out.
    pub(super) fn tell(&self, tasks: &[(Work, Prompts)]) -> anyhow::Result<Vec<Told>> {
        let [few, more] = depths(&self.cost);
        let all = self.cost.depth();
        let mut whole = self.tried(few, tasks)?;
        let first = whole.clone();
        let deeper = [
            (
                Depth { layers: more.layers, ..few },
                more.layers - few.layers,
                all.layers - few.layers,
            ),
            (
                Depth { blocks: more.blocks, ..few },
                more.blocks - few.blocks,
                all.blocks - few.blocks,
            ),
        ];
        for (depth, added, missing) in deeper.into_iter().filter(|(_, added, _)| *added > 0) {
            let times = missing as f64 / added as f64;
            let deeper = self.tried(depth, tasks)?;
            for ((whole, few), more) in whole.iter_mut().zip(&first).zip(deeper) {
                let beyond = few.and_beyond(more, times);
                whole.seconds += beyond.seconds - few.seconds;
                whole.bytes += beyond.bytes - few.bytes;
                whole.process = whole.process.max(beyond.process);
            }
        }
        Ok(whole)
    }

    /// What each takes at a depth.
    fn tried(&self, depth: Depth, tasks: &[(Work, Prompts)]) -> anyhow::Result<Vec<Told>> {
        let policy = Policy::shaped(&self.folder, depth, &Placement::cpu(self.precision))
            .map(Policy::never_ending)
            .with_context(|| format!("failed to try layers of {}", self.folder.display()))?;
        let trial = Trial::new(&policy, &self.cost, &self.trainee)?;
        tasks.iter().map(|(work, prompts)| trial.run(*work, prompts)).collect()
    }
}

/// The numbers of layers that are tried: so many that the weights do not stay in the caches, as those
/// of the whole model would not; all where that is as few.
fn depths(cost: &Cost) -> [Depth; 2] {
    let (all, levels) = (cost.depth(), cost.vision_levels());
    let layers = UNCACHED_BYTES.div_ceil(cost.layer_bytes().max(1)).clamp(3, all.layers.max(3));
    let blocks = levels.max(1) + 2;
    let at_most = |few: Depth| Depth {
        layers: few.layers.min(all.layers),
        blocks: few.blocks.min(all.blocks),
    };
    let more = at_most(Depth { layers, blocks });
    let fewer = |tried: usize, all: usize, few: usize| if tried == all { all } else { few };
    let few = Depth {
        layers: fewer(more.layers, all.layers, layers / 2),
        blocks: fewer(more.blocks, all.blocks, blocks - 2),
    };
    [few, more]
}
