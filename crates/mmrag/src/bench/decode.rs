//! Decoding: how fast tokens come after the prompt.

use std::time::Instant;

use anyhow::Context as _;
use mmrag_model::Policy;
use mmrag_ops::peak_gpu_bytes;
use serde_json::{Value, json};

use super::machine::peak_bytes;
use super::{PromptSize, Rounds, sampling};

/// Seconds to the first token, pictures included (what one filter verdict takes), and for each step after it, for each number of completions at once.
///
/// # Errors
///
/// When the model cannot be run.
pub(crate) fn decode(
    policy: &Policy,
    size: PromptSize,
    batches: &[usize],
    new: usize,
    rounds: Rounds,
) -> anyhow::Result<Value> {
    let prompt = size.prompt(policy, 0)?;
    let seconds = |n: usize, new: usize| -> anyhow::Result<f64> {
        let mut seconds = Vec::new();
        for _ in 0..rounds.all() {
            let start = Instant::now();
            policy.forget_pictures();
            policy
                .with(None)
                .sample(std::slice::from_ref(&prompt), &sampling(n, new))
                .context("failed to draw completions")?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        Ok(rounds.median(seconds.into_iter()))
    };
    let mut rows = Vec::new();
    for &n in batches {
        let (first, all) = (seconds(n, 1)?, seconds(n, new)?);
        let step = (all - first) / (new - 1) as f64;
        rows.push(json!({
            "completions": n,
            "first_token_s": first,
            "step_s": step,
            "new_tok_s": n as f64 / step,
        }));
    }
    Ok(json!({
        "prompt": size,
        "prompt_tokens": prompt.len(),
        "new": new,
        "batches": rows,
        "peak_bytes": peak_bytes(),
        "peak_gpu_bytes": peak_gpu_bytes(policy.device()),
        "repeats": rounds.counted,
        "threads": rayon::current_num_threads(),
    }))
}
