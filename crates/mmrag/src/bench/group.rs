//! One group of reinforcement: drawing the replies, and one update.

use std::time::Instant;

use anyhow::Context as _;
use candle_core::{Tensor, Var};
use mmrag_model::{ALL_TARGETS, Adapter, Encoded, Grad, Group, LoraSpec, Policy};
use mmrag_ops::{AdamW, AdamWOptions, backward, peak_gpu_bytes, product_flops};
use serde::Serialize;
use serde_json::{Value, json};

use super::machine::{peak_bytes, product_rate};
use super::{PromptSize, Rounds, sampling};

/// What is trained, and how.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Training {
    /// Replies to the prompt.
    pub(crate) group: usize,
    /// Tokens of each reply.
    pub(crate) new: usize,
    /// All weights instead of an adapter of rank 16 on all maps of the text decoder.
    pub(crate) full: bool,
    /// Every reply gets a copy of the prompt of its own.
    pub(crate) repeat_prompt: bool,
    /// Layers are computed again in the backward pass.
    pub(crate) gradient_checkpointing: bool,
}

/// Seconds of drawing one group and of one update (forward and backward pass and the optimizer's
/// step), with the memory that the process takes.
///
/// # Errors
///
/// When the model cannot be run.
pub(crate) fn group(
    policy: &Policy,
    size: PromptSize,
    training: Training,
    rounds: Rounds,
) -> anyhow::Result<Value> {
    let loaded = peak_bytes();
    let prompt = size.prompt(policy, 0)?;
    let adapter = adapter(policy, training)?;
    let (sample_s, replies, drawn) = sample(policy, adapter.as_ref(), &prompt, training, rounds)?;
    let sampled = peak_bytes();
    let bench = Update { policy, adapter: adapter.as_ref(), training };
    let groups = bench.groups(&prompt, replies);
    let mut optimizer = AdamW::new(bench.vars(), AdamWOptions::default());
    let done: Vec<Round> = (0..rounds.all())
        .map(|_| bench.round(&groups, &mut optimizer))
        .collect::<anyhow::Result<_>>()?;
    let updated = peak_bytes();
    let part = |of: fn(&Round) -> f64| rounds.median(done.iter().map(of));
    let update_s = part(Round::seconds);
    let computed: usize = groups.iter().map(group_tokens).sum();
    let (flops, rate) = (done[0].flops as f64 / update_s, product_rate(policy.device())?);
    Ok(json!({
        "params": parameters(policy),
        "prompt": size,
        "training": training,
        "prompt_tokens": prompt.len(),
        "sample_s": sample_s,
        "new_tokens": drawn,
        "new_tok_s": drawn as f64 / sample_s,
        "update_s": update_s,
        "forward_s": part(|round| round.forward),
        "backward_s": part(|round| round.backward),
        "optimizer_s": part(|round| round.optimizer),
        "update_tokens": computed,
        "update_tok_s": computed as f64 / update_s,
        "update_product_flops": done[0].flops,
        "update_product_flops_s": flops,
        "best_product_flops_s": rate,
        "share_of_best": flops / rate,
        "live_bytes_before_backward": done[0].live_bytes,
        "peak_bytes_loaded": loaded,
        "peak_bytes_sampled": sampled,
        "peak_bytes": updated,
        "peak_gpu_bytes": peak_gpu_bytes(policy.device()),
        "repeats": rounds.counted,
        "device": format!("{:?}", policy.device().location()).to_lowercase(),
        "threads": rayon::current_num_threads(),
    }))
}

fn parameters(policy: &Policy) -> usize {
    policy.vlm().params().iter().map(|param| param.var().elem_count()).sum()
}

fn adapter(policy: &Policy, training: Training) -> anyhow::Result<Option<Adapter>> {
    if training.full {
        return Ok(None);
    }
    let spec = LoraSpec { r: 16, alpha: 32.0, targets: ALL_TARGETS.map(str::to_owned).to_vec() };
    Adapter::new(policy.vlm(), &spec, 0).map(Some).context("failed to make an adapter")
}

/// Median seconds, the replies at their full length, and how many tokens were really drawn.
fn sample(
    policy: &Policy,
    adapter: Option<&Adapter>,
    prompt: &Encoded,
    training: Training,
    rounds: Rounds,
) -> anyhow::Result<(f64, Vec<Vec<u32>>, usize)> {
    let (mut seconds, mut completions) = (Vec::new(), Vec::new());
    for _ in 0..rounds.all() {
        let start = Instant::now();
        policy.forget_pictures();
        completions = policy
            .with(adapter)
            .sample(std::slice::from_ref(prompt), &sampling(training.group, training.new))
            .context("failed to draw completions")?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    let drawn: Vec<Vec<u32>> =
        completions.into_iter().flatten().map(|completion| completion.tokens).collect();
    let count = drawn.iter().map(Vec::len).sum();
    let full = |reply: Vec<u32>| -> Vec<u32> {
        reply.iter().copied().cycle().take(training.new).collect()
    };
    Ok((rounds.median(seconds.into_iter()), drawn.into_iter().map(full).collect(), count))
}

/// What an update is made of.
struct Update<'a> {
    policy: &'a Policy,
    adapter: Option<&'a Adapter>,
    training: Training,
}

/// Seconds of one update, and what it took.
struct Round {
    forward: f64,
    backward: f64,
    optimizer: f64,
    live_bytes: usize,
    flops: u64,
}

impl Round {
    fn seconds(&self) -> f64 {
        self.forward + self.backward + self.optimizer
    }
}

/// A rate so small that every round is of the same weights.
const RATE: f64 = 1e-12;

impl Update<'_> {
    fn vars(&self) -> Vec<(String, Var)> {
        self.adapter.map_or_else(|| self.policy.vars(), Adapter::vars)
    }

    fn groups(&self, prompt: &Encoded, replies: Vec<Vec<u32>>) -> Vec<Group> {
        let group = |replies| Group { prompt: prompt.clone(), replies };
        if self.training.repeat_prompt {
            return replies.into_iter().map(|reply| group(vec![reply])).collect();
        }
        vec![group(replies)]
    }

    /// The gradient of the policy loss where the policy is the one that drew the replies, so that
    /// every ratio is 1: the log-probabilities weighted by the replies' advantages.
    fn round(&self, groups: &[Group], optimizer: &mut AdamW) -> anyhow::Result<Round> {
        let grad = if self.training.full { Grad::Full } else { Grad::Adapter };
        let before = crate::ALLOCATOR.live_bytes();
        let (start, flops) = (Instant::now(), product_flops());
        let scores = self
            .policy
            .with(self.adapter)
            .with_checkpointing(self.training.gradient_checkpointing)
            .logprobs(groups, 1.0, grad)
            .context("failed to score the replies")?;
        let (n, new) = (scores.logprobs_t.dims1()?, self.training.new);
        let advantage = |at: usize| if (at / new).is_multiple_of(2) { 1.0 } else { -1.0f32 };
        let slopes: Vec<f32> = (0..n).map(|at| advantage(at) / n as f32).collect();
        let slopes_t = Tensor::from_vec(slopes, n, scores.logprobs_t.device())?;
        let loss = (scores.logprobs_t * &slopes_t)?.sum_all()?;
        self.policy.device().synchronize()?;
        let forward = start.elapsed().as_secs_f64();
        let live_bytes = crate::ALLOCATOR.live_bytes().saturating_sub(before);
        let start = Instant::now();
        let mut gradients = backward(&loss).context("failed to backpropagate")?;
        gradients.remove(&slopes_t);
        drop(loss);
        self.policy.device().synchronize()?;
        let backward = start.elapsed().as_secs_f64();
        let start = Instant::now();
        optimizer.step(&gradients, RATE, Some(1.0)).context("failed to update the weights")?;
        self.policy.device().synchronize()?;
        let optimizer = start.elapsed().as_secs_f64();
        Ok(Round { forward, backward, optimizer, live_bytes, flops: product_flops() - flops })
    }
}

fn group_tokens(group: &Group) -> usize {
    group.prompt.len() + group.replies.iter().map(Vec::len).sum::<usize>()
}
