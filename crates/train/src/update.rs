//! One reinforcement update from drawn replies.

mod check;
mod reference;

use candle_core::backprop::GradStore;
use mmrag_core::{Completion, EngineError, Finish};

use crate::batch::{PassScores, PassSettings, gradients, group_tokens, score};
use crate::error::TrainError;
use crate::learner::{Learner, ReplyGroup, View};
use crate::loss::{LossRow, LossTally, Totals, policy_loss};
use crate::metrics::Metrics;
use crate::rollout::Rollout;
use crate::session::Session;
use crate::settings::GrpoSettings;

pub use check::check_update;

/// Everything an update needs that no iteration of it changes.
struct Update<'a, E> {
    settings: &'a GrpoSettings,
    how: PassSettings,
    replies: Replies<E>,
    old: Option<Vec<Vec<f64>>>,
    reference: Option<Vec<Vec<f64>>>,
}

/// The replies of an update, masked ones left out, and what belongs to each.
struct Replies<E> {
    groups: Vec<ReplyGroup<E>>,
    /// Of each reply that is in a group, in order.
    advantages: Vec<f64>,
    sampled: Vec<Vec<f32>>,
    totals: Totals,
}

/// What one iteration of an update gives.
struct Iteration {
    gradients: GradStore,
    loss: f64,
    tally: LossTally,
    mismatch: Mismatch,
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
    let replies = replies(learner, rollouts, advantages, settings)
        .map_err(TrainError::policy("encode a reply", step))?;
    let tokens: usize = replies.groups.iter().map(|group| group_tokens(learner, group)).sum();
    metrics.set("num_tokens", session.count_tokens(tokens));
    if replies.totals.tokens == 0 {
        return Ok(metrics);
    }
    let update = Update::new(learner, replies, settings, step)?;
    let (mut loss, mut tally) = (0.0, settings.loss.tally());
    for nth in 0..settings.iterations {
        let iteration = update.iterate(learner)?;
        let (norm, rate) = session.update(&iteration.gradients)?;
        loss += iteration.loss / settings.iterations as f64;
        tally.merge(&iteration.tally);
        metrics.set("grad_norm", norm);
        metrics.set("learning_rate", rate);
        if nth == 0 {
            iteration.mismatch.write(&mut metrics);
        }
    }
    metrics.set("loss", loss);
    metrics.extend("", &tally.metrics());
    Ok(metrics)
}

impl<'a, E: Clone + Send + Sync> Update<'a, E> {
    fn new<L: Learner<Encoded = E>>(
        learner: &L,
        replies: Replies<E>,
        settings: &'a GrpoSettings,
        step: usize,
    ) -> Result<Self, TrainError> {
        let how = PassSettings {
            tokens_per_pass: settings.tokens_per_pass,
            temperature: settings.rollout.temperature,
            step,
        };
        let scored = |view| score(learner, &replies.groups, &how, view);
        // Before the first of several iterations the policy is still the one that drew the replies;
        // with one the ratio is exactly 1 and needs no pass of its own.
        let old = (settings.iterations > 1).then(|| scored(View::Current)).transpose()?;
        let has_kl = settings.loss.beta != 0.0;
        let reference = has_kl.then(|| scored(View::Reference)).transpose()?;
        Ok(Self { settings, how, replies, old, reference })
    }

    /// The gradient of the loss under the weights as they stand.
    fn iterate<L: Learner<Encoded = E>>(&self, learner: &L) -> Result<Iteration, TrainError> {
        let rule = &self.settings.loss;
        let (mut loss, mut tally, mut mismatch) = (0.0, rule.tally(), Mismatch::default());
        let gradients = gradients(learner, &self.replies.groups, &self.how, |first, scores| {
            let output = policy_loss(rule, &self.rows(first, scores), self.replies.totals);
            loss += output.loss;
            tally.merge(&output.tally);
            mismatch.add(scores, &self.replies.sampled[first..]);
            output.gradients
        })?;
        Ok(Iteration { gradients, loss, tally, mismatch })
    }

    /// The rows of a pass whose first reply has index `first` among all.
    fn rows<'b>(&'b self, first: usize, scores: &'b PassScores) -> Vec<LossRow<'b>> {
        let at = |known: &'b Option<Vec<Vec<f64>>>, index: usize| {
            known.as_ref().map(|rows| rows[index].as_slice())
        };
        let rows = scores.rows().zip(first..).map(|(row, index)| LossRow {
            logprobs: row.logprobs,
            old_logprobs: at(&self.old, index),
            ref_logprobs: at(&self.reference, index),
            entropies: row.entropies,
            advantage: self.replies.advantages[index],
        });
        rows.collect()
    }
}

fn replies<L: Learner>(
    learner: &L,
    rollouts: &[Rollout<L::Encoded>],
    advantages: &[f64],
    settings: &GrpoSettings,
) -> Result<Replies<L::Encoded>, EngineError> {
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
            let tokens = tokens(learner, &sample.completion)?;
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
    Ok(replies)
}

/// The completion's tokens; made of its text if the engine does not tell them.
fn tokens<L: Learner>(learner: &L, completion: &Completion) -> Result<Vec<u32>, EngineError> {
    match completion.tokens.as_slice() {
        [] if completion.text.is_empty() => Ok(Vec::new()),
        [] => learner.encode_reply(&completion.text),
        tokens => Ok(tokens.to_vec()),
    }
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
