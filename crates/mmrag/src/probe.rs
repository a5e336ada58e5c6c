//! Seconds that a model's passes take on this machine, without loading the model: models of its
//! widths with few layers are run, and what a further layer adds is counted for all of them. A
//! small model is run with all its layers.

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use candle_core::Var;
use candle_core::backprop::GradStore;
use mmrag_core::Sampling;
use mmrag_model::{
    ALL_TARGETS, Adapter, Cost, Depth, Encoded, Forward, Grad, Group, LoraSpec, Picture, Placement,
    Policy, Trained,
};
use mmrag_ops::{AdamW, AdamWOptions, backward, side_by_side};

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
    /// Pictures of all prompts, seen once.
    pub(crate) vision: f64,
    /// Drawing the replies to all prompts.
    pub(crate) sample: f64,
    /// Forward and backward passes of all groups and the optimizer's step.
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
    let [few, more] = depths(cost);
    let depth = cost.depth();
    let tried = |depth: Depth| -> anyhow::Result<Seconds> {
        let policy = Policy::shaped(model, depth, placement)
            .with_context(|| format!("failed to try layers of {}", model.display()))?;
        Trial::new(&policy, step)?.seconds()
    };
    let more_s = tried(more)?;
    let few_s = if few == more { more_s } else { tried(few)? };
    let whole = |of: fn(&Seconds) -> f64, few: usize, more: usize, all: usize| {
        let (first, last) = (of(&few_s), of(&more_s));
        let each = if more > few { (last - first).max(0.0) / (more - few) as f64 } else { 0.0 };
        first + each * (all - few) as f64
    };
    Ok(Seconds {
        vision: whole(|s| s.vision, few.blocks, more.blocks, depth.blocks),
        sample: whole(|s| s.sample, few.layers, more.layers, depth.layers),
        update: whole(|s| s.update, few.layers, more.layers, depth.layers),
    })
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
    prompt: Encoded,
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
        let tokens = words(policy, step.group.prompt);
        let prompt = policy.encode_tokens(&tokens, &[]).context("failed to make a prompt")?;
        Ok(Self { policy, adapter, step, prompt })
    }

    fn seconds(&self) -> anyhow::Result<Seconds> {
        let seen = if self.step.trained == Trained::Full { 4.0 } else { 1.0 };
        Ok(Seconds {
            vision: seen * timed(|| self.see())?,
            sample: if self.step.draws { self.sample()? } else { 0.0 },
            update: self.update()?,
        })
    }

    /// The pictures of all prompts, each prompt's together.
    fn see(&self) -> anyhow::Result<()> {
        let Some(picture) = self.step.picture(self.policy) else { return Ok(()) };
        let pictures = vec![&picture; self.step.pictures];
        let prompts = vec![(); self.step.groups];
        let pass = Forward::untracked(None);
        let seen = side_by_side(&prompts, self.policy.device(), |()| {
            self.policy.vlm().see(&pass, &pictures).map(drop)
        });
        seen.into_iter().collect::<Result<(), _>>().context("failed to see pictures")
    }

    /// Seconds of drawing replies of full length, from short ones.
    fn sample(&self) -> anyhow::Result<f64> {
        let prompts = vec![self.prompt.clone(); self.step.groups];
        let draw = |new: usize| {
            let n = self.step.group.replies;
            let sampling = Sampling {
                temperature: 1.0,
                top_p: 1.0,
                top_k: 0,
                max_new_tokens: new,
                n,
                seed: 0,
            };
            timed(|| {
                let actor = self.policy.with(self.adapter.as_ref());
                actor.sample(&prompts, &sampling).map(drop).context("failed to draw replies")
            })
        };
        let new = self.step.group.new;
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
        let own = self.step.group.tokens().max(1);
        let a_pass = (tokens / own).clamp(1, self.step.groups);
        let reply = words(self.policy, self.step.group.new);
        let replies = vec![reply; self.step.group.replies];
        let group = Group { prompt: self.prompt.clone(), replies };
        let pass = vec![group; a_pass];
        let passes = self.step.groups.div_ceil(a_pass);
        let wave = vec![pass; at_once.clamp(1, passes)];
        let one = timed(|| {
            let learnt = side_by_side(&wave, self.policy.device(), |pass| self.learn(pass));
            learnt.into_iter().collect()
        })?;
        let waves = passes as f64 / wave.len() as f64;
        let mut optimizer = AdamW::new(self.vars(), AdamWOptions::default());
        let gradients = self.gradients(&wave[0])?;
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
    /// One picture of a prompt, as patches of a square; nothing if there are none.
    fn picture(&self, policy: &Policy) -> Option<Picture> {
        let patches = self.patches / self.pictures.max(1);
        if patches == 0 {
            return None;
        }
        let merge = policy.processor().merge_size;
        let side = ((patches as f64).sqrt() / merge as f64).round().max(1.0) as usize * merge;
        let vision = &policy.vlm().config().vision;
        let width = vision.in_channels * vision.temporal_patch_size * vision.patch_size.pow(2);
        Some(Picture { values: vec![0.1; side * side * width], grid: [1, side, side] })
    }
}
