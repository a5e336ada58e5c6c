//! What work takes, put together: a run's memory at its peak, and its seconds.

use mmrag_model::Cost;
use serde_json::{Value, json};

use super::plan::{Plan, Seer};
use super::probe::{Model, Told};
use super::step::Steps;
use super::trial::Trainee;
use crate::bench::resident_bytes;

/// What a process has besides its tensors where the system does not tell it.
const PROCESS_BYTES: u64 = 70_000_000;

/// How much more memory than its tensors a process holds: blocks are rounded up and kept for reuse.
const ALLOCATED: f64 = 1.25;

/// The same of small blocks that stay, as those of features mostly are.
const SMALL: f64 = 1.125;

/// What the process has besides its tensors: code, the data set, the many small blocks of a
/// computation, what its allocator keeps of these.
pub(super) fn process_bytes() -> u64 {
    let tensors = crate::ALLOCATOR.held_bytes().max(crate::ALLOCATOR.live_bytes());
    resident_bytes().map_or(PROCESS_BYTES, |all| all.saturating_sub(tensors as u64))
}

/// What a run holds at its peak, besides its weights and what is trained of them.
pub(super) struct Memory {
    /// What the process has besides its tensors.
    process: u64,
    /// Features of the pictures that are kept.
    features: usize,
    /// Pixels of prompts that are ready.
    ready: usize,
    /// The most that work takes.
    work: f64,
}

impl Memory {
    /// With the most that any task takes.
    pub(super) fn of(told: &[Told], features: usize, ready: usize) -> Self {
        let process = told.iter().map(|told| told.process).max().unwrap_or(0);
        let work = told.iter().map(|told| told.bytes).fold(0.0, f64::max);
        Self { process, features, ready, work }
    }

    /// As JSON.
    pub(super) fn told(&self, model: &Model) -> Value {
        let weights = model.cost.weights_bytes();
        let trained = model.cost.training_bytes(model.trainee.trained());
        let rest = (trained + self.ready) as f64 + self.work;
        let features = SMALL * self.features as f64;
        let peak = (self.process + weights as u64) as f64 + features + ALLOCATED * rest;
        json!({
            "peak_bytes": peak as u64,
            "weights_bytes": weights,
            "memory": {
                "process": self.process,
                "weights": weights,
                "trained": trained,
                "features": self.features,
                "pixels": self.ready,
                "work": self.work as u64,
                "allocated_times": { "features": SMALL, "the rest": ALLOCATED },
            },
        })
    }
}

/// Which pictures the tower looks at in a part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looked {
    /// Those that come for the first time: features are kept.
    New,
    /// All, each time.
    All,
    /// None: they are seen in the passes that use them.
    InPasses,
}

impl Looked {
    /// Of so many pictures and so many new ones among them.
    pub(super) fn of(self, (all, new): (usize, usize)) -> usize {
        match self {
            Self::New => new,
            Self::All => all,
            Self::InPasses => 0,
        }
    }
}

/// What looking at pictures takes.
pub(super) struct Looks {
    /// Seconds for each.
    pub(super) a_picture: f64,
    pub(super) in_steps: Looked,
    pub(super) in_phases: Looked,
}

impl Looks {
    fn of(a_picture: f64, trainee: &Trainee, have_room: bool) -> Self {
        let both = |looked| (looked, looked);
        let (in_steps, in_phases) = match &trainee.lora {
            None => (Looked::InPasses, Looked::All),
            Some(_) if trainee.changes_vision() => both(Looked::InPasses),
            Some(_) if have_room => both(Looked::New),
            Some(_) => both(Looked::All),
        };
        Self { a_picture, in_steps, in_phases }
    }
}

/// A run whose work was tried.
pub(super) struct Outlook<'a> {
    pub(super) seer: &'a Seer,
    pub(super) plan: &'a Plan,
    pub(super) steps: &'a Steps<'a>,
    /// What each task takes.
    pub(super) told: &'a [Told],
}

impl Outlook<'_> {
    /// The prediction.
    pub(super) fn said(&self) -> Value {
        let Self { seer, plan, steps, told } = *self;
        let patches = steps.sample.patches_a_picture() * plan.pictures();
        let kept = seer.model.cost.kept_features_bytes(patches);
        let looks = Looks::of(told[steps.look].seconds, &seer.model.trainee, kept.is_some());
        let features = kept.unwrap_or(Cost::MOST_FEATURES_BYTES);
        let ready = seer.model.cost.pixels_bytes(steps.patches_ready());
        let memory = Memory::of(told, features, ready);
        let mut said = memory.told(&seer.model);
        let (sample_s, update_s) = steps.seconds(told, &looks);
        let steps_s = steps.count as f64 * (sample_s + update_s);
        let (phases, phases_s) = plan.seconds(told, &looks);
        said["sample_s"] = sample_s.into();
        said["update_s"] = update_s.into();
        said["update_flops"] = steps.flops(seer).into();
        said["prompt_tokens"] =
            json!({ "mean": steps.sample.tokens(), "longest": steps.sample.longest() });
        said["steps"] = steps.count.into();
        said["all_steps_s"] = steps_s.into();
        said["phases"] = phases.into();
        said["all_s"] = (steps_s + phases_s).into();
        said
    }
}
