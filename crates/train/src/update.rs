//! One reinforcement update from drawn replies.

use mmrag_core::{Completion, Finish};

use crate::batch::{PassScores, PassSettings, gradients, group_tokens, score};
use crate::error::TrainError;
use crate::learner::{Learner, ReplyGroup, View};
use crate::loss::{LossRow, Totals, policy_loss};
use crate::metrics::Metrics;
use crate::rollout::Rollout;
use crate::session::Session;
use crate::settings::GrpoSettings;

/// The replies of an update, masked ones left out, and what belongs to each.
struct Replies<E> {
    groups: Vec<ReplyGroup<E>>,
    /// Of each reply that is in a group, in order.
    advantages: Vec<f64>,
    sampled: Vec<Vec<f32>>,
    totals: Totals,
}

/// Updates the weights with the replies of a step. Nothing happens if there are none.
pub(crate) fn update<L: Learner>(
    session: &mut Session<'_, '_, L>,
    rollouts: &[Rollout<L::Encoded>],
    advantages: &[f64],
    settings: &GrpoSettings,
    step: usize,
) -> Result<Metrics, TrainError> {
    let mut metrics = Metrics::default();
    let learner = session.learner;
    let replies = replies(learner, rollouts, advantages, settings);
    let tokens: usize = replies.groups.iter().map(|group| group_tokens(learner, group)).sum();
    metrics.set("num_tokens", session.count_tokens(tokens));
    if replies.totals.tokens == 0 {
        return Ok(metrics);
    }
    let how = PassSettings {
        tokens_per_pass: settings.tokens_per_pass,
        temperature: settings.rollout.temperature,
        step,
    };
    // Before the first of several updates the policy is still the one that drew the replies; with
    // one update the ratio is exactly 1 and needs no pass of its own.
    let old = match settings.iterations {
        1 => None,
        _ => Some(score(learner, &replies.groups, &how, View::Current)?),
    };
    let reference = match settings.loss.beta {
        0.0 => None,
        _ => Some(score(learner, &replies.groups, &how, View::Reference)?),
    };
    let (mut loss, mut tally) = (0.0, settings.loss.tally());
    for iteration in 0..settings.iterations {
        let mut mismatch = Mismatch::default();
        let gradients = gradients(learner, &replies.groups, &how, |first, scores| {
            let rows = loss_rows(&replies, old.as_deref(), reference.as_deref(), first, scores);
            let output = policy_loss(&settings.loss, &rows, replies.totals);
            loss += output.loss / settings.iterations as f64;
            tally.merge(&output.tally);
            mismatch.add(scores, &replies.sampled[first..]);
            output.gradients
        })?;
        let (norm, rate) = session.update(&gradients)?;
        metrics.set("grad_norm", norm);
        metrics.set("learning_rate", rate);
        if iteration == 0 {
            mismatch.write(&mut metrics);
        }
    }
    metrics.set("loss", loss);
    metrics.extend("", &tally.metrics());
    Ok(metrics)
}

fn replies<L: Learner>(
    learner: &L,
    rollouts: &[Rollout<L::Encoded>],
    advantages: &[f64],
    settings: &GrpoSettings,
) -> Replies<L::Encoded> {
    let rollout = &settings.rollout;
    let mut replies = Replies {
        groups: Vec::with_capacity(rollouts.len()),
        advantages: Vec::with_capacity(advantages.len()),
        sampled: Vec::with_capacity(advantages.len()),
        totals: Totals {
            rows: advantages.len(),
            tokens: 0,
            max_completion_tokens: rollout.max_completion_tokens,
        },
    };
    let mut advantages = advantages.iter();
    for Rollout { prompt, samples, .. } in rollouts {
        let mut group = ReplyGroup { prompt: prompt.clone(), replies: Vec::new() };
        for sample in samples {
            let advantage = *advantages.next().expect("one advantage a reply");
            let tokens = tokens(learner, &sample.completion);
            let masked = rollout.mask_truncated && sample.completion.finish == Finish::Length;
            if masked || tokens.is_empty() {
                continue;
            }
            replies.totals.tokens += tokens.len();
            group.replies.push(tokens);
            replies.advantages.push(advantage);
            replies.sampled.push(sample.completion.sampled_logprobs.clone());
        }
        if !group.replies.is_empty() {
            replies.groups.push(group);
        }
    }
    replies
}

/// The completion's tokens; made of its text if the engine does not tell them.
fn tokens<L: Learner>(learner: &L, completion: &Completion) -> Vec<u32> {
    match completion.tokens.as_slice() {
        [] if completion.text.is_empty() => Vec::new(),
        [] => learner.encode_reply(&completion.text),
        tokens => tokens.to_vec(),
    }
}

fn loss_rows<'a, E>(
    replies: &'a Replies<E>,
    old: Option<&'a [Vec<f64>]>,
    reference: Option<&'a [Vec<f64>]>,
    first: usize,
    scores: &'a PassScores,
) -> Vec<LossRow<'a>> {
    let rows = scores.rows().enumerate().map(|(offset, row)| {
        let index = first + offset;
        LossRow {
            logprobs: row.logprobs,
            old_logprobs: old.map(|old| old[index].as_slice()),
            ref_logprobs: reference.map(|reference| reference[index].as_slice()),
            entropies: row.entropies,
            advantage: replies.advantages[index],
        }
    });
    rows.collect()
}

/// How far the log-probabilities of training are from those of sampling; both should agree.
#[derive(Default)]
struct Mismatch {
    tokens: usize,
    sum: f64,
    max: f64,
}

impl Mismatch {
    fn add(&mut self, scores: &PassScores, sampled: &[Vec<f32>]) {
        for (row, sampled) in scores.rows().zip(sampled) {
            for (logprob, sampled) in row.logprobs.iter().zip(sampled) {
                let difference = (logprob - f64::from(*sampled)).abs();
                self.tokens += 1;
                self.sum += difference;
                self.max = self.max.max(difference);
            }
        }
    }

    fn write(&self, metrics: &mut Metrics) {
        if self.tokens > 0 {
            let mean = self.sum / self.tokens as f64;
            metrics.set("sampling/sampling_logp_difference/mean", mean);
            metrics.set("sampling/sampling_logp_difference/max", self.max);
        }
    }
}
