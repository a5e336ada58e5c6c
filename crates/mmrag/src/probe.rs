//! Seconds that a model's passes take on this machine, without loading the model: models of its
//! widths with few layers are run, and what a further layer adds is counted for all of them. A
//! small model is run with all its layers.

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use candle_core::Var;
use candle_core::backprop::GradStore;
use mmrag_model::{
    ALL_TARGETS, Adapter, Cost, Depth, Encoded, Grad, Group, ImageProcessor, LoraSpec, Placement,
    Policy, Shared, Trained,
};
use mmrag_ops::{AdamW, AdamWOptions, backward, side_by_side};

use crate::bench::{PromptSize, sampling};
use crate::predict::Step;

/// Tokens of the short replies that stand for long ones: what the second adds over the first, each
/// further token takes.
const SHORT: (usize, usize) = (4, 20);

/// Bytes of weights that no cache holds.
const UNCACHED_BYTES: usize = 256 << 20;

/// Seconds of trying after which nothing is tried again, once the first round is over.
const PATIENCE: f64 = 2.0;

/// Times that each part is tried if it is quick; the median counts.
const ROUNDS: usize = 5;

/// Seconds of the parts of a step.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seconds {
    /// Drawing the replies to all prompts, their pictures seen among it.
    pub(crate) sample: f64,
    /// Forward and backward passes of all groups and the optimizer's step; of pictures where they
    /// are not seen before.
    pub(crate) update: f64,
}

/// What a step of a model takes.
///
/// # Errors
///
/// When the model's small files cannot be read, or memory for three of its layers is out.
pub(crate) fn seconds(
    model: &Path,
    placement: &Placement,
    cost: &Cost,
    step: &Step,
) -> anyhow::Result<Seconds> {
    of_all_layers(model, placement, cost, step, |trial| {
        let sample = if step.draws { trial.sample()? } else { 0.0 };
        Ok(Seconds { sample, update: trial.update()? })
    })
}

/// Seconds of drawing the replies of a step, whatever is done with them.
///
/// # Errors
///
/// As [`seconds`].
pub(crate) fn drawing(
    model: &Path,
    placement: &Placement,
    cost: &Cost,
    step: &Step,
) -> anyhow::Result<f64> {
    let told = |trial: &Trial<'_>| Ok(Seconds { sample: trial.sample()?, update: 0.0 });
    of_all_layers(model, placement, cost, step, told).map(|seconds| seconds.sample)
}

fn of_all_layers(
    model: &Path,
    placement: &Placement,
    cost: &Cost,
    step: &Step,
    told: impl Fn(&Trial<'_>) -> anyhow::Result<Seconds>,
) -> anyhow::Result<Seconds> {
    let [few, more] = depths(cost);
    let depth = cost.depth();
    let tried = |layers: usize, blocks: usize| -> anyhow::Result<Seconds> {
        let policy = Policy::shaped(model, Depth { layers, blocks }, placement)
            .map(Policy::never_ending)
            .with_context(|| format!("failed to try layers of {}", model.display()))?;
        told(&Trial::new(&policy, step)?)
    };
    let first = tried(few.layers, few.blocks)?;
    // What a layer adds, and what a block.
    let beyond = |few: usize, more: usize, all: usize, last: Seconds| -> Seconds {
        let each = |first: f64, last: f64| {
            (last - first).max(0.0) / (more - few) as f64 * (all - few) as f64
        };
        Seconds { sample: each(first.sample, last.sample), update: each(first.update, last.update) }
    };
    let mut whole = first;
    if more.layers > few.layers {
        let last = tried(more.layers, few.blocks)?;
        whole.add(beyond(few.layers, more.layers, depth.layers, last));
    }
    if more.blocks > few.blocks {
        let last = tried(few.layers, more.blocks)?;
        whole.add(beyond(few.blocks, more.blocks, depth.blocks, last));
    }
    Ok(whole)
}

impl Seconds {
    fn add(&mut self, other: Self) {
        self.sample += other.sample;
        self.update += other.update;
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

/// A step on a model of few layers.
struct Trial<'a> {
    policy: &'a Policy,
    adapter: Option<Adapter>,
    step: &'a Step,
    /// As many as the step has, each with pictures of its own.
    prompts: Vec<Encoded>,
}

impl<'a> Trial<'a> {
    fn new(policy: &'a Policy, step: &'a Step) -> anyhow::Result<Self> {
        let adapter = match step.trained {
            Trained::Full => None,
            Trained::Adapter(r) => {
                let targets = ALL_TARGETS.map(str::to_owned).to_vec();
                let spec = LoraSpec { r, alpha: 2.0 * r as f64, targets };
                Some(Adapter::new(policy.vlm(), &spec, 0).context("failed to make an adapter")?)
            }
        };
        let size = step.prompt(policy.processor());
        let prompts = (0..step.groups.max(1) as u64).map(|seed| size.prompt(policy, seed));
        let prompts = prompts.collect::<anyhow::Result<_>>()?;
        Ok(Self { policy, adapter, step, prompts })
    }

    /// Seconds of drawing replies of full length, from short ones.
    fn sample(&self) -> anyhow::Result<f64> {
        let draw = |new: usize| {
            let sampling = sampling(self.step.group.replies, new);
            timed(|| {
                self.policy.forget_pictures();
                let actor = self.policy.with(self.adapter.as_ref());
                actor.sample(&self.prompts, &sampling).map(drop).context("failed to draw replies")
            })
        };
        let new = self.step.expected;
        if new <= SHORT.1 {
            return draw(new);
        }
        let (short, long) = (draw(SHORT.0)?, draw(SHORT.1)?);
        let each = (long - short).max(0.0) / (SHORT.1 - SHORT.0) as f64;
        Ok(short + each * (new - SHORT.0) as f64)
    }

    /// Seconds of the update: as many passes at a time as the step has, and again until all groups
    /// are done.
    fn update(&self) -> anyhow::Result<f64> {
        let (at_once, tokens) = self.step.passes;
        let own = Shared { new: self.step.expected, ..self.step.group }.tokens().max(1);
        let a_pass = (tokens / own).clamp(1, self.step.groups);
        let reply = words(self.policy, self.step.expected);
        let replies = vec![reply; self.step.group.replies];
        let group = |prompt: &Encoded| Group { prompt: prompt.clone(), replies: replies.clone() };
        let groups: Vec<Group> = self.prompts.iter().map(group).collect();
        let passes = groups.len().div_ceil(a_pass);
        let wave: Vec<&[Group]> = groups.chunks(a_pass).take(at_once.max(1)).collect();
        let one = timed(|| {
            if !self.step.draws {
                self.policy.forget_pictures();
            }
            let learnt = side_by_side(&wave, self.policy.device(), |pass| self.learn(pass));
            learnt.into_iter().collect()
        })?;
        let waves = passes as f64 / wave.len() as f64;
        let mut optimizer = AdamW::new(self.vars(), AdamWOptions::default());
        let gradients = self.gradients(wave[0])?;
        let stepped = timed(|| {
            optimizer.step(&gradients, 1e-12, Some(1.0)).context("failed to step")?;
            Ok(self.policy.device().synchronize()?)
        })?;
        Ok(waves * one + stepped)
    }

    fn vars(&self) -> Vec<(String, Var)> {
        self.adapter.as_ref().map_or_else(|| self.policy.vars(), Adapter::vars)
    }

    fn learn(&self, pass: &[Group]) -> anyhow::Result<()> {
        self.gradients(pass)?;
        Ok(self.policy.device().synchronize()?)
    }

    fn gradients(&self, pass: &[Group]) -> anyhow::Result<GradStore> {
        let grad = if self.adapter.is_some() { Grad::Adapter } else { Grad::Full };
        let scores = self
            .policy
            .with(self.adapter.as_ref())
            .with_checkpointing(self.step.checkpointing)
            .logprobs(pass, 1.0, grad)
            .context("failed to score replies")?;
        backward(&scores.logprobs_t.sum_all()?).context("failed to backpropagate")
    }
}

/// Tokens that are words.
fn words(policy: &Policy, n: usize) -> Vec<u32> {
    let vocabulary = policy.vlm().config().text.vocab_size as u32;
    let image = policy.tokenizer().image_token();
    let word = |at: u32| (at * 37) % vocabulary;
    (0..n.max(1) as u32).map(|at| if word(at) == image { 0 } else { word(at) }).collect()
}

/// Seconds of a piece of work: the median of some rounds after one that is not counted, or that one
/// alone if it takes very long.
fn timed(mut work: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let mut once = || -> anyhow::Result<f64> {
        let start = Instant::now();
        work()?;
        Ok(start.elapsed().as_secs_f64())
    };
    let first = once()?;
    if first > 4.0 * PATIENCE {
        return Ok(first);
    }
    let mut rounds = vec![once()?];
    let began = Instant::now();
    while rounds.len() < ROUNDS && began.elapsed().as_secs_f64() < PATIENCE {
        rounds.push(once()?);
    }
    rounds.sort_by(f64::total_cmp);
    Ok(rounds[rounds.len() / 2])
}

impl Step {
    /// A prompt as long as those of the step, with as many pictures, which are squares.
    fn prompt(&self, processor: &ImageProcessor) -> PromptSize {
        let merge = processor.merge_size.max(1);
        let side = (self.patches as f64 / self.pictures.max(1) as f64).sqrt() / merge as f64;
        let images = if self.patches == 0 { 0 } else { self.pictures };
        let side = side.round().max(1.0) as usize;
        let text = self.group.prompt.saturating_sub(images * (2 + side * side));
        PromptSize { text: text.max(1), images, image_size: side * merge * processor.patch_size }
    }
}
