//! Timings of the parts, made on the atlas. The first round of each is not counted.

use std::time::Instant;

use anyhow::Context as _;
use candle_core::Tensor;
use mmrag_core::{Content, Document, Message, Part, Prompt, Role, Sampling};
use mmrag_data::atlas::{self, AtlasOptions, NameSplit};
use mmrag_model::{ALL_TARGETS, Adapter, Encoded, Grad, Group, LoraSpec, Policy};
use mmrag_ops::{AdamW, AdamWOptions};
use serde::Serialize;
use serde_json::{Value, json};

use crate::answerer::Answerer;

/// A group of reinforcement.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct GroupSize {
    /// Tokens of the prompt, pictures included.
    pub(crate) prompt_tokens: usize,
    /// Pictures of the prompt.
    pub(crate) pictures: usize,
    /// Replies.
    pub(crate) replies: usize,
    /// Tokens of each reply.
    pub(crate) new_tokens: usize,
}

/// Seconds of sampling one group and of one update (forward and backward pass, and the optimizer's
/// step), with the memory the update takes.
///
/// # Errors
///
/// When the model cannot be run.
pub(crate) fn group(
    policy: &Policy,
    size: GroupSize,
    repeat_prompt: bool,
    repeats: usize,
) -> anyhow::Result<Value> {
    let prompt = prompt_of(policy, size)?;
    let spec = LoraSpec { r: 16, alpha: 32.0, targets: ALL_TARGETS.map(str::to_owned).to_vec() };
    let adapter = Adapter::new(policy.vlm(), &spec, 0).context("failed to make an adapter")?;
    let (sampling_seconds, replies, sampled) = sample(policy, &adapter, &prompt, size, repeats)?;
    let groups = if repeat_prompt {
        let alone = |reply| Group { prompt: prompt.clone(), replies: vec![reply] };
        replies.into_iter().map(alone).collect()
    } else {
        vec![Group { prompt: prompt.clone(), replies }]
    };
    let mut rounds = Vec::new();
    let mut optimizer = AdamW::new(adapter.vars(), AdamWOptions::default());
    for _ in 0..=repeats {
        rounds.push(update(policy, &adapter, &groups, &mut optimizer)?);
    }
    let live_bytes = rounds[0].live_bytes;
    let seconds = |part: fn(&Round) -> f64| median(rounds[1..].iter().map(part).collect());
    let update_seconds = seconds(|round| round.forward + round.backward + round.optimizer);
    let computed: usize = groups.iter().map(group_tokens).sum();
    let flops = update_flops(policy, computed);
    Ok(json!({
        "size": size,
        "repeat_prompt": repeat_prompt,
        "prompt_tokens": prompt.len(),
        "sampling_seconds": sampling_seconds,
        "sampled_tokens": sampled,
        "sampled_tokens_per_second": sampled as f64 / sampling_seconds,
        "update_seconds": update_seconds,
        "forward_seconds": seconds(|round| round.forward),
        "backward_seconds": seconds(|round| round.backward),
        "optimizer_seconds": seconds(|round| round.optimizer),
        "update_tokens": computed,
        "update_tokens_per_second": computed as f64 / update_seconds,
        "update_flops": flops,
        "update_flops_per_second": flops / update_seconds,
        "flops_counted": "matrix products of the text decoder's linear maps: forward, and backward \
                          to their inputs (the weights are frozen); neither attention nor adapter",
        "live_bytes_before_backward": live_bytes,
        "live_bytes_counted": "tensors of 32 KiB and more that the forward pass left for the backward pass",
        "peak_bytes": memory("VmHWM:"),
        "threads": rayon::current_num_threads(),
    }))
}

/// A prompt of pictures and words of the atlas with the wanted number of tokens, or as few more as
/// the pictures need.
fn prompt_of(policy: &Policy, size: GroupSize) -> anyhow::Result<Encoded> {
    let pictures: Vec<Part> = (0..size.pictures as u64)
        .filter_map(|index| picture(&atlas::description(0, NameSplit::Sft, index).0))
        .collect();
    let words: Vec<String> = atlas::vocabulary_texts(64)
        .flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let encode = |n_words: usize| {
        let text = words.iter().cycle().take(n_words).cloned().collect::<Vec<_>>().join(" ");
        let parts = pictures.iter().cloned().chain([Part::Text(text)]).collect();
        let messages = vec![Message { role: Role::User, parts }];
        policy.encode(&Prompt { messages, reply_prefix: String::new(), reasons: true })
    };
    let (mut fits, mut too_many) = (0, size.prompt_tokens + 1);
    while fits + 1 < too_many {
        let middle = usize::midpoint(fits, too_many);
        let tokens = encode(middle).context("failed to encode the prompt")?.len();
        if tokens <= size.prompt_tokens { fits = middle } else { too_many = middle }
    }
    encode(fits).context("failed to encode the prompt")
}

fn picture(document: &Document) -> Option<Part> {
    match &document.content {
        Content::Image(source) => Some(Part::Image(source.clone())),
        Content::Text(_) | Content::Table(_) => None,
    }
}

/// Median seconds, the replies at their full length, and how many tokens were really drawn.
fn sample(
    policy: &Policy,
    adapter: &Adapter,
    prompt: &Encoded,
    size: GroupSize,
    repeats: usize,
) -> anyhow::Result<(f64, Vec<Vec<u32>>, usize)> {
    let sampling = Sampling {
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        max_new_tokens: size.new_tokens,
        n: size.replies,
        seed: 0,
    };
    let actor = policy.with(Some(adapter));
    let (mut seconds, mut completions) = (Vec::new(), Vec::new());
    for _ in 0..=repeats {
        let start = Instant::now();
        completions = actor
            .sample(std::slice::from_ref(prompt), &sampling)
            .context("failed to draw completions")?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    let drawn: Vec<Vec<u32>> =
        completions.into_iter().flatten().map(|completion| completion.tokens).collect();
    let sampled = drawn.iter().map(Vec::len).sum();
    let full = |reply: Vec<u32>| -> Vec<u32> {
        reply.iter().copied().cycle().take(size.new_tokens).collect()
    };
    Ok((median(seconds.split_off(1)), drawn.into_iter().map(full).collect(), sampled))
}

/// Seconds of one update.
struct Round {
    forward: f64,
    backward: f64,
    optimizer: f64,
    live_bytes: usize,
}

/// A rate so small that every round is of the same weights.
const RATE: f64 = 1e-12;

fn update(
    policy: &Policy,
    adapter: &Adapter,
    groups: &[Group],
    optimizer: &mut AdamW,
) -> anyhow::Result<Round> {
    let before = crate::ALLOCATOR.live_bytes();
    let start = Instant::now();
    let scores = policy
        .with(Some(adapter))
        .logprobs(groups, 1.0, Grad::Adapter)
        .context("failed to score the replies")?;
    let loss: Tensor = scores.logprobs_t.sum_all()?;
    let forward = start.elapsed().as_secs_f64();
    let live_bytes = crate::ALLOCATOR.live_bytes().saturating_sub(before);
    let start = Instant::now();
    let gradients = loss.backward().context("failed to backpropagate")?;
    let backward = start.elapsed().as_secs_f64();
    let start = Instant::now();
    optimizer.step(&gradients, RATE, Some(1.0)).context("failed to update the adapter")?;
    let optimizer = start.elapsed().as_secs_f64();
    Ok(Round { forward, backward, optimizer, live_bytes })
}

fn group_tokens(group: &Group) -> usize {
    group.prompt.len() + group.replies.iter().map(Vec::len).sum::<usize>()
}

fn update_flops(policy: &Policy, tokens: usize) -> f64 {
    let linear: usize = policy
        .vars()
        .iter()
        .filter(|(name, var)| name.contains("language_model.layers") && var.dims().len() == 2)
        .map(|(_, var)| var.elem_count())
        .sum();
    // A multiplication and an addition for each weight and token, forward and backward.
    4.0 * linear as f64 * tokens as f64
}

/// Milliseconds of explained answers to dev questions, one by one.
///
/// # Errors
///
/// When a question cannot be answered.
pub(crate) fn answers(
    answerer: &Answerer<'_>,
    candidates: usize,
    repeats: usize,
) -> anyhow::Result<Value> {
    let options = AtlasOptions { candidates: candidates..=candidates, kinds: None };
    let mut explanations = Vec::new();
    for index in 0..=repeats as u64 {
        let example = atlas::example(0, NameSplit::Dev, index, &options);
        let answered = answerer.with_pipeline(None, 0, |pipeline| {
            pipeline.answer(&example.question, Some(&example.candidates))
        });
        explanations.push(answered.context("failed to answer")?);
    }
    let counted = &explanations[1..];
    let part = |of: fn(&mmrag_rag::explanation::Timings) -> f64| {
        median(counted.iter().map(|explanation| of(&explanation.timings_ms)).collect())
    };
    Ok(json!({
        "candidates": candidates,
        "answers": counted.len(),
        "retrieve_ms": part(|timings| timings.retrieve),
        "filter_ms": part(|timings| timings.filter),
        "rank_ms": part(|timings| timings.rank),
        "total_ms": part(|timings| timings.total),
        "peak_bytes": memory("VmHWM:"),
        "threads": rayon::current_num_threads(),
    }))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// A figure of the process's memory in bytes; nothing where the system does not tell it so.
fn memory(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![]), 0.0);
    }
}
