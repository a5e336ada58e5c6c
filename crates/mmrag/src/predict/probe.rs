//! What a model's work takes on this machine in seconds and bytes, without loading the model:
//! models of its widths with few layers do it, and what a further layer adds is counted for all of
//! them. A small model does it with all its layers.

use std::path::Path;

use anyhow::Context as _;
use mmrag_model::{Cost, Depth, Placement, Policy};

use super::trial::{Task, Trainee, Trial};

/// Bytes of weights that no cache holds.
const UNCACHED_BYTES: usize = 256 << 20;

/// What a task takes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    /// Seconds for each prompt; of pictures for each of them, of the optimizer for a step.
    pub(crate) seconds: f64,
    /// The most bytes that it has in use at a time, the weights aside.
    pub(crate) bytes: f64,
}

impl Told {
    /// The same with so many times what another depth adds to it.
    fn and_beyond(self, more: Self, times: f64) -> Self {
        let add = |few: f64, more: f64| few + times * (more - few).max(0.0);
        Self { seconds: add(self.seconds, more.seconds), bytes: add(self.bytes, more.bytes) }
    }
}

/// What each task takes with the model in a folder.
///
/// # Errors
///
/// When the model's small files cannot be read, a prompt cannot be made ready, or memory for a few
/// layers is out.
pub(crate) fn tell(
    model: &Path,
    placement: &Placement,
    cost: &Cost,
    trainee: &Trainee,
    tasks: &[Task<'_>],
) -> anyhow::Result<Vec<Told>> {
    let [few, more] = depths(cost);
    let all = cost.depth();
    let tried = |depth: Depth| -> anyhow::Result<Vec<Told>> {
        let policy = Policy::shaped(model, depth, placement)
            .map(Policy::never_ending)
            .with_context(|| format!("failed to try layers of {}", model.display()))?;
        let trial = Trial::new(&policy, cost, trainee)?;
        tasks.iter().map(|task| trial.run(task)).collect()
    };
    let mut whole = tried(few)?;
    let deeper = [
        (Depth { layers: more.layers, ..few }, more.layers - few.layers, all.layers - few.layers),
        (Depth { blocks: more.blocks, ..few }, more.blocks - few.blocks, all.blocks - few.blocks),
    ];
    let first = whole.clone();
    for (depth, added, missing) in deeper.into_iter().filter(|(_, added, _)| *added > 0) {
        let times = missing as f64 / added as f64;
        for ((whole, few), more) in whole.iter_mut().zip(&first).zip(tried(depth)?) {
            let beyond = few.and_beyond(more, times);
            whole.seconds += beyond.seconds - few.seconds;
            whole.bytes += beyond.bytes - few.bytes;
        }
    }
    Ok(whole)
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
