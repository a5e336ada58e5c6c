//! Reinforcement of a stage: the loop.

use std::time::Instant;

use mmrag_task::{Stage, StageName};

use crate::cases::{Cases, Draw};
use crate::error::TrainError;
use crate::exact::exact_step;
use crate::learner::Learner;
use crate::metrics::Metrics;
use crate::progress::{Outcome, Run};
use crate::rollout::{roll_out, rollout_advantages, sample_lines};
use crate::session::{Plan, Session};
use crate::settings::{Estimator, GrpoSettings};
use crate::source::Examples;
use crate::update::update;

/// Trains a stage by reinforcement until the settings' steps are done or the run is stopped; goes
/// on from the run folder's last checkpoint if it has one.
///
/// A step: examples → cases → prompts → replies → rewards → advantages → loss → update. Cases whose
/// replies are all worth the same teach nothing and are replaced.
///
/// # Errors
///
/// When the settings contradict themselves, an example cannot be had, the policy cannot run a
/// prompt, the gradient is not finite, or the run folder cannot be written.
pub fn train_grpo<L: Learner>(
    learner: &L,
    stage: &Stage,
    examples: &dyn Examples,
    settings: &GrpoSettings,
    run: &mut Run<'_, L>,
) -> Result<Outcome, TrainError> {
    check(stage, settings)?;
    let GrpoSettings { schedule, optimizer, cadence, .. } = settings;
    let plan = Plan { schedule, optimizer, cadence };
    let mut cases = Cases::new(stage.name, examples, settings)?;
    let steps = settings.total_steps(stage.name, examples.len());
    let mut session = Session::begin(learner, run, plan, steps)?;
    session.measure_start()?;
    while let Some(step) = session.next() {
        let began = Instant::now();
        let wanted = settings.prompts_per_step;
        let draw = Draw { step, attempt: 0, wanted, progress: session.progress() };
        let mut timings = Metrics::default();
        let mut metrics = match settings.estimator {
            Estimator::Exact => exact_step(&mut session, stage, &mut cases, settings, draw)?,
            Estimator::Sampled => {
                let rollouts = roll_out(learner, stage, &mut cases, settings, draw)?;
                timings.set("sampling_time", began.elapsed().as_secs_f64());
                let advantages = rollout_advantages(&rollouts.kept, settings);
                if session.wants_samples() {
                    session.write_samples(&sample_lines(step + 1, &rollouts.kept, &advantages))?;
                }
                let mut metrics = rollouts.metrics;
                session.tell_skipped(&rollouts.skipped, &mut metrics);
                metrics.extend(
                    "",
                    &update(&mut session, &rollouts.kept, &advantages, settings, step)?,
                );
                metrics
            }
        };
        let seen = (step + 1) * settings.examples_per_step(stage.name);
        metrics.set("epoch", seen as f64 / examples.len() as f64);
        session.end_step(&metrics, timings, began)?;
    }
    session.end()
}

fn check(stage: &Stage, settings: &GrpoSettings) -> Result<(), TrainError> {
    settings.check(stage.name)?;
    let why = "a verdict after reasoning is not one of two replies";
    if settings.estimator == Estimator::Exact && stage.grammar.think {
        return Err(TrainError::Settings { key: "estimator", value: "exact".into(), why });
    }
    if stage.name == StageName::Filter && settings.cases.mined_negatives > 0 && stage.grammar.think
    {
        let value = settings.cases.mined_negatives.to_string();
        return Err(TrainError::Settings { key: "cases.mined_negatives", value, why });
    }
    Ok(())
}
