//! What a model's work takes on this machine in seconds and bytes, without loading the model:
//! models of its widths with few layers do it, and what a further layer adds is counted for all of
//! them. A small model does it with all its layers.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use mmrag_model::{Cost, Depth, Placement, Policy, Precision, Shared, Trained};

use super::outlook::process_bytes;
use super::trial::{Prompts, Trainee, Trial, Work};
use crate::host::host;
use crate::progress::Meter;

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
    /// Adds so many times what `more` takes beyond `few`.
    fn add_beyond(&mut self, few: Self, more: Self, times: f64) {
        self.seconds += times * (more.seconds - few.seconds).max(0.0);
        self.bytes += times * (more.bytes - few.bytes).max(0.0);
        self.process = self.process.max(more.process);
    }
}

/// What a depth's tasks took.
struct Tried {
    told: Vec<Option<Told>>,
    /// Bytes that the process had besides its tensors before them.
    process: u64,
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

    /// Floating-point operations of the update of one group with so many patches of pictures.
    pub(super) fn update_flops(&self, shared: Shared, patches: usize) -> f64 {
        let trained = self.trainee.trained();
        // Of the whole model the tower learns too: a forward pass, and twice that backward.
        let seen = if trained == Trained::Full { 3.0 } else { 0.0 };
        self.cost.update_flops(shared, trained, self.trainee.checkpointing)
            + seen * self.cost.vision_flops(patches)
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
        let first = self.tried(few, tasks, None, |_| true)?;
        let process = first.process;
        let first = first.told;
        let mut whole: Vec<Told> = first.iter().copied().flatten().collect();
        let mut deepen = |depth: Depth, times: f64, grows: &dyn Fn(Work) -> bool| {
            let deeper = self.tried(depth, tasks, Some(process), grows)?.told;
            for ((whole, few), more) in whole.iter_mut().zip(&first).zip(deeper) {
                if let (Some(few), Some(more)) = (few, more) {
                    whole.add_beyond(*few, more, times);
                }
            }
            anyhow::Ok(())
        };
        if more.layers > few.layers {
            let times = (all.layers - few.layers) as f64 / (more.layers - few.layers) as f64;
            let depth = Depth { layers: more.layers, ..few };
            deepen(depth, times, &|work| !matches!(work, Work::Look))?;
        }
        if more.blocks > few.blocks {
            let times = (all.blocks - few.blocks) as f64 / (more.blocks - few.blocks) as f64;
            let depth = Depth { blocks: more.blocks, ..few };
            // Where the tower stays as it is, all other work finds the features in memory.
            let sees_anew = self.trainee.changes_vision();
            deepen(depth, times, &|work| sees_anew || matches!(work, Work::Look))?;
        }
        Ok(whole)
    }

    /// What each of some tasks takes at a depth. `before` is what the process had besides its tensors
    /// when a model was tried first: what it has beyond that at the beginning is left from that.
    fn tried(
        &self,
        depth: Depth,
        tasks: &[(Work, Prompts)],
        before: Option<u64>,
        is_asked: impl Fn(Work) -> bool,
    ) -> anyhow::Result<Tried> {
        let policy = Policy::shaped(&self.folder, depth, &Placement::cpu(self.precision))
            .map(Policy::never_ending)
            .with_context(|| format!("failed to try layers of {}", self.folder.display()))?;
        let trial = Trial::new(&policy, &self.cost, &self.trainee)?;
        let process = process_bytes();
        let left = process.saturating_sub(before.unwrap_or(process));
        let meter = Meter::new("dry run", tasks.len());
        let told = |(nth, (work, prompts)): (usize, &(Work, Prompts))| {
            let told = is_asked(*work).then(|| trial.run(*work, prompts)).transpose();
            meter.at(nth + 1, "");
            let without = |told: Told| Told { process: told.process.saturating_sub(left), ..told };
            told.map(|told| told.map(without))
        };
        let told = tasks.iter().enumerate().map(told).collect::<anyhow::Result<_>>()?;
        Ok(Tried { told, process })
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
