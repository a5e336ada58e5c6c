//! What every training does around its steps: resume, log, evaluate, checkpoint, stop.

use std::time::Instant;

use candle_core::backprop::GradStore;
use mmrag_ops::AdamW;
use serde_json::Value;

use crate::error::TrainError;
use crate::learner::Learner;
use crate::metrics::Metrics;
use crate::progress::{Best, Event, Outcome, Run};
use crate::run_folder::{Saved, State};
use crate::schedule::Schedule;
use crate::settings::{Cadence, OptimizerSettings};

/// A training between two of its steps.
pub(crate) struct Session<'a, 'r, L> {
    pub(crate) learner: &'a L,
    pub(crate) steps: usize,
    run: &'a mut Run<'r, L>,
    plan: Plan<'a>,
    optimizer: AdamW,
    state: State,
    saved: Option<usize>,
}

/// The settings every training has.
#[derive(Clone, Copy)]
pub(crate) struct Plan<'a> {
    pub(crate) schedule: &'a Schedule,
    pub(crate) optimizer: &'a OptimizerSettings,
    pub(crate) cadence: &'a Cadence,
}

impl<'a, 'r, L: Learner> Session<'a, 'r, L> {
    /// Begins, or goes on from the last checkpoint.
    pub(crate) fn begin(
        learner: &'a L,
        run: &'a mut Run<'r, L>,
        plan: Plan<'a>,
        steps: usize,
    ) -> Result<Self, TrainError> {
        let mut optimizer = plan.optimizer.of(learner.vars());
        let mut state = State::default();
        let mut saved = None;
        if let Some(Saved { state: known, moments }) = run.folder.last()? {
            let step = known.step;
            learner
                .restore(&run.folder.weights(step))
                .map_err(TrainError::policy("take up the checkpoint", step))?;
            optimizer
                .load_state(known.optimizer_steps, &moments)
                .map_err(TrainError::tensor("take up the checkpoint", step))?;
            (state, saved) = (known, Some(step));
        }
        run.folder.cut(saved)?;
        run.progress.tell(&Event::Began { done: state.step, steps });
        Ok(Self { learner, steps, run, plan, optimizer, state, saved })
    }

    /// Measures and saves the policy as it comes, so that the best checkpoint is never worse than
    /// what the training began with.
    pub(crate) fn measure_start(&mut self) -> Result<(), TrainError> {
        let is_new = self.saved.is_none() && !self.run.is_stopped();
        if is_new && self.plan.cadence.evaluate > 0 && self.evaluate()? {
            self.save()?;
        }
        Ok(())
    }

    /// Steps done, if there are more to do.
    pub(crate) fn next(&self) -> Option<usize> {
        (self.state.step < self.steps && !self.run.is_stopped()).then_some(self.state.step)
    }

    /// Share of the training that is done.
    pub(crate) fn progress(&self) -> f64 {
        self.state.step as f64 / self.steps.max(1) as f64
    }

    /// Counts tokens and says how many there were so far.
    pub(crate) fn count_tokens(&mut self, tokens: usize) -> f64 {
        self.state.num_tokens += tokens as u64;
        self.state.num_tokens as f64
    }

    /// Takes one step of the optimizer. Returns the gradient's norm and the learning rate.
    pub(crate) fn update(&mut self, gradients: &GradStore) -> Result<(f64, f64), TrainError> {
        let rate = self.plan.schedule.at(self.state.step, self.steps);
        let norm = self
            .optimizer
            .step(gradients, rate, self.plan.optimizer.clip)
            .map_err(TrainError::tensor("update the weights", self.state.step))?;
        Ok((norm, rate))
    }

    /// Tells of what was left out of a step, and counts it.
    pub(crate) fn tell_skipped(&self, errors: &[TrainError], metrics: &mut Metrics) {
        for error in errors {
            self.run.progress.tell(&Event::Skipped { error });
        }
        if !errors.is_empty() {
            metrics.set("skipped", errors.len() as f64);
        }
    }

    /// Whether the samples of the step that is about to end are to be written.
    pub(crate) fn wants_samples(&self) -> bool {
        self.is_due(self.plan.cadence.samples, self.state.step + 1)
    }

    /// Writes samples of the step that is about to end.
    pub(crate) fn write_samples(&self, lines: &[Value]) -> Result<(), TrainError> {
        self.run.folder.write_samples(self.state.step + 1, lines)
    }

    /// Ends a step: logs, evaluates, saves.
    pub(crate) fn end_step(
        &mut self,
        metrics: &Metrics,
        mut timings: Metrics,
        began: Instant,
    ) -> Result<(), TrainError> {
        self.state.step += 1;
        self.state.optimizer_steps = self.optimizer.steps();
        let step = self.state.step;
        timings.set("step_time", began.elapsed().as_secs_f64());
        self.run.folder.append("metrics.jsonl", &metrics.to_json(step))?;
        self.run.folder.append("timings.jsonl", &timings.to_json(step))?;
        self.run.progress.tell(&Event::Stepped {
            step,
            steps: self.steps,
            metrics,
            timings: &timings,
        });
        let improved = self.is_due(self.plan.cadence.evaluate, step) && self.evaluate()?;
        if improved || self.is_due(self.plan.cadence.checkpoint, step) {
            self.save()?;
        }
        Ok(())
    }

    /// Ends the training, at its end or because it was stopped.
    pub(crate) fn end(mut self) -> Result<Outcome, TrainError> {
        if self.saved != Some(self.state.step) && self.state.step > 0 {
            self.save()?;
        }
        let best = self.state.best;
        let place = |step: usize| self.run.folder.checkpoint(step);
        Ok(Outcome {
            step: self.state.step,
            finished: self.state.step >= self.steps,
            best,
            last_checkpoint: self.saved.map(place),
            best_checkpoint: best.map(|best| best.step).or(self.saved).map(place),
        })
    }

    fn is_due(&self, every: usize, step: usize) -> bool {
        every > 0 && (step.is_multiple_of(every) || step == self.steps)
    }

    /// Whether the policy is better than ever before.
    fn evaluate(&mut self) -> Result<bool, TrainError> {
        let step = self.state.step;
        let Some(evaluate) = self.run.evaluate.as_deref_mut() else { return Ok(false) };
        let evaluation = evaluate
            .evaluate(self.learner, step)
            .map_err(|source| TrainError::Evaluation { step, source })?;
        let improved = self.state.best.is_none_or(|best| evaluation.score > best.score);
        if improved {
            self.state.best = Some(Best { step, score: evaluation.score });
        }
        let mut metrics = Metrics::default();
        metrics.set("eval_score", evaluation.score);
        metrics.extend("eval_", &evaluation.metrics);
        self.run.folder.append("metrics.jsonl", &metrics.to_json(step))?;
        let event = Event::Evaluated { step, evaluation: &evaluation, best: improved };
        self.run.progress.tell(&event);
        Ok(improved)
    }

    fn save(&mut self) -> Result<(), TrainError> {
        let step = self.state.step;
        let moments =
            self.optimizer.state().map_err(TrainError::tensor("save the optimizer", step))?;
        let path = self.run.folder.save(&self.state, &moments, |folder| {
            self.learner.save(folder).map_err(TrainError::policy("save the weights", step))
        })?;
        self.saved = Some(step);
        self.run.progress.tell(&Event::Saved { step, path });
        Ok(())
    }
}
