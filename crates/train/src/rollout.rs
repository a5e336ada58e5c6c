//! Rollouts: cases with the replies that were drawn for them and what those are worth.

use mmrag_core::{Completion, Finish, Sampling};
use mmrag_task::{HackFlag, Reward, Stage};
use rayon::prelude::*;
use serde_json::{Map, Value, json};

use crate::advantages::{Aggregation, advantages, deviation, is_zero_variance, mean};
use crate::cases::{Cases, Draw, TrainingCase};
use crate::error::TrainError;
use crate::exact::p_helps;
use crate::learner::Learner;
use crate::metrics::Metrics;
use crate::seed::seed;
use crate::settings::GrpoSettings;

/// One reply and what it is worth.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) completion: Completion,
    pub(crate) reward: Reward,
}

/// One case and the replies to it.
#[derive(Clone, Debug)]
pub(crate) struct Rollout<E> {
    pub(crate) case: TrainingCase,
    pub(crate) prompt: E,
    pub(crate) samples: Vec<Sample>,
}

impl<E> Rollout<E> {
    fn is_flat(&self) -> bool {
        let rewards: Vec<_> = self.samples.iter().map(|s| Some(s.reward.total)).collect();
        is_zero_variance(&rewards)
    }
}

/// The rollouts of a step.
pub(crate) struct Rollouts<E> {
    /// Those the policy learns from.
    pub(crate) kept: Vec<Rollout<E>>,
    /// What was measured on the step's own cases, replaced ones included.
    pub(crate) metrics: Metrics,
    /// Cases that could not be made ready.
    pub(crate) skipped: Vec<TrainError>,
}

/// Draws the replies of a step. With dynamic sampling, cases whose replies are all worth the same
/// are replaced as often as the settings say, and left out if they still are.
pub(crate) fn roll_out<L: Learner>(
    learner: &L,
    stage: &Stage,
    cases: &mut Cases<'_>,
    settings: &GrpoSettings,
    draw: Draw,
) -> Result<Rollouts<L::Encoded>, TrainError> {
    let dynamic = settings.rollout.dynamic_sampling;
    let attempts = if dynamic { settings.rollout.retries + 1 } else { 1 };
    let mut rollouts =
        Rollouts { kept: Vec::new(), metrics: Metrics::default(), skipped: Vec::new() };
    let mut drawn = 0;
    for attempt in 0..attempts {
        let wanted = draw.wanted - rollouts.kept.len();
        if wanted == 0 {
            break;
        }
        let draw = Draw { attempt, wanted, ..draw };
        let found =
            cases.draw(draw, &|cases| p_helps(learner, stage, cases, settings, draw.step))?;
        let ready = encode_all(learner, stage, found, draw.step)?;
        rollouts.skipped.extend(ready.skipped);
        let found = sample(learner, stage, ready.cases, settings, draw)?;
        drawn += found.len();
        if attempt == 0 {
            rollouts.metrics = measure(&found);
        }
        rollouts.kept.extend(found.into_iter().filter(|rollout| !dynamic || !rollout.is_flat()));
    }
    rollouts.metrics.set("dynamic/drawn_groups", drawn as f64);
    rollouts.metrics.set("dynamic/kept_groups", rollouts.kept.len() as f64);
    Ok(rollouts)
}

/// Asks for all replies in one call, and judges them.
fn sample<L: Learner>(
    learner: &L,
    stage: &Stage,
    cases: Vec<(TrainingCase, L::Encoded)>,
    settings: &GrpoSettings,
    draw: Draw,
) -> Result<Vec<Rollout<L::Encoded>>, TrainError> {
    let (cases, prompts): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    let rollout = &settings.rollout;
    let sampling = Sampling {
        temperature: rollout.temperature,
        top_p: rollout.top_p,
        top_k: rollout.top_k,
        max_new_tokens: rollout.max_completion_tokens,
        n: rollout.group_size,
        seed: seed("sample", settings.seed, &[draw.step.into(), draw.attempt.into()]),
    };
    let completions = learner
        .sample(&prompts, &sampling)
        .map_err(TrainError::policy("draw replies", draw.step))?;
    let asked = cases.into_par_iter().zip(prompts).zip(completions);
    let judged = asked.map(|((case, prompt), completions)| {
        let judge = |completion: Completion| {
            let reward = stage.score(&case.case, &case.gold, &completion);
            Sample { completion, reward }
        };
        let samples = completions.into_iter().map(judge).collect();
        Rollout { case, prompt, samples }
    });
    Ok(judged.collect())
}

/// Cases with their prompts made ready, and why others are missing.
pub(crate) struct Ready<E> {
    pub(crate) cases: Vec<(TrainingCase, E)>,
    pub(crate) skipped: Vec<TrainError>,
}

/// Makes the prompts of cases ready. What cannot be, as where a picture is broken, is left out; it
/// is an error only if nothing is left.
pub(crate) fn encode_all<L: Learner>(
    learner: &L,
    stage: &Stage,
    cases: Vec<TrainingCase>,
    step: usize,
) -> Result<Ready<L::Encoded>, TrainError> {
    let encoded: Vec<_> = cases.par_iter().map(|case| encode(learner, stage, case, step)).collect();
    let mut ready = Ready { cases: Vec::with_capacity(cases.len()), skipped: Vec::new() };
    for (case, encoded) in cases.into_iter().zip(encoded) {
        match encoded {
            Ok(prompt) => ready.cases.push((case, prompt)),
            Err(error) => ready.skipped.push(error),
        }
    }
    match ready.skipped.pop() {
        Some(error) if ready.cases.is_empty() => Err(error),
        last => {
            ready.skipped.extend(last);
            Ok(ready)
        }
    }
}

/// Makes a case's prompt ready; an error names the question.
fn encode<L: Learner>(
    learner: &L,
    stage: &Stage,
    case: &TrainingCase,
    step: usize,
) -> Result<L::Encoded, TrainError> {
    let what = format!("question {}", case.case.question.id);
    learner.encode(&stage.prompt(&case.case)).map_err(TrainError::encode(what, step))
}

/// The advantage of every reply of every rollout, weighted by its case.
pub(crate) fn rollout_advantages<E>(rollouts: &[Rollout<E>], settings: &GrpoSettings) -> Vec<f64> {
    let samples: Vec<&Sample> = rollouts.iter().flat_map(|r| &r.samples).collect();
    let Some(first) = samples.first() else { return Vec::new() };
    let (rewards, weights): (Vec<Vec<Option<f64>>>, Vec<f64>) = match settings.advantage.aggregation
    {
        Aggregation::SumThenNormalize => {
            (samples.iter().map(|s| vec![Some(s.reward.total)]).collect(), vec![1.0])
        }
        Aggregation::NormalizeThenSum => (
            samples
                .iter()
                .map(|s| s.reward.parts.iter().map(|part| part.value).collect())
                .collect(),
            first.reward.parts.iter().map(|part| part.weight).collect(),
        ),
    };
    let group_size = settings.rollout.group_size;
    let advantages = advantages(&rewards, &weights, group_size, &settings.advantage);
    let case_weights = rollouts.iter().flat_map(|r| vec![r.case.weight; r.samples.len()]);
    advantages.into_iter().zip(case_weights).map(|(advantage, weight)| advantage * weight).collect()
}

/// Lengths, rewards by part and tricks, under TRL's names.
fn measure<E>(rollouts: &[Rollout<E>]) -> Metrics {
    let mut metrics = Metrics::default();
    let samples: Vec<&Sample> = rollouts.iter().flat_map(|r| &r.samples).collect();
    let length = |s: &&&Sample| s.completion.tokens.len() as f64;
    let ended = |s: &&&Sample| s.completion.finish == Finish::Stop;
    metrics.spread("completions/*_length", &samples.iter().map(|s| length(&s)).collect::<Vec<_>>());
    let terminated: Vec<f64> = samples.iter().filter(ended).map(|s| length(&s)).collect();
    metrics.spread("completions/*_terminated_length", &terminated);
    let clipped = 1.0 - terminated.len() as f64 / samples.len().max(1) as f64;
    metrics.set("completions/clipped_ratio", clipped);
    for (k, part) in samples.first().map_or(&[][..], |s| &s.reward.parts).iter().enumerate() {
        let values = samples.iter().filter_map(|s| s.reward.parts[k].value);
        metrics.set(format!("rewards/{}/mean", part.name), mean(values.clone()));
        metrics.set(format!("rewards/{}/std", part.name), deviation(values));
    }
    let totals = samples.iter().map(|s| s.reward.total);
    metrics.set("reward", mean(totals));
    let spreads = rollouts.iter().map(|r| deviation(r.samples.iter().map(|s| s.reward.total)));
    metrics.set("reward_std", mean(spreads));
    let flat = rollouts.iter().filter(|r| r.is_flat()).count();
    metrics.set("frac_reward_zero_std", flat as f64 / rollouts.len().max(1) as f64);
    for flag in HackFlag::ALL {
        let flagged = samples.iter().filter(|s| s.reward.flags.contains(&flag)).count();
        metrics.set(flag.name(), flagged as f64 / samples.len().max(1) as f64);
    }
    metrics
}

/// One line for each reply, as people read them: TRL's table of completions.
pub(crate) fn sample_lines<E>(
    step: usize,
    rollouts: &[Rollout<E>],
    advantages: &[f64],
) -> Vec<Value> {
    let mut advantages = advantages.iter();
    let mut lines = Vec::new();
    for rollout in rollouts {
        let documents: Vec<&str> =
            rollout.case.case.documents.iter().map(|d| d.id.as_str()).collect();
        for sample in &rollout.samples {
            let parts: Map<String, Value> =
                sample.reward.parts.iter().map(|p| (p.name.into(), p.value.into())).collect();
            let flags: Vec<&str> = sample.reward.flags.iter().map(|flag| flag.name()).collect();
            lines.push(json!({
                "step": step,
                "question_id": rollout.case.case.question.id.as_str(),
                "question": rollout.case.case.question.text,
                "documents": documents,
                "completion": sample.completion.text,
                "finish": sample.completion.finish,
                "reward": sample.reward.total,
                "parts": parts,
                "flags": flags,
                "advantage": advantages.next(),
            }));
        }
    }
    lines
}
