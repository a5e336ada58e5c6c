//! What work takes, put together: a run's memory at its peak, and its seconds.

use mmrag_model::{ALL_TARGETS, Cost};
use serde_json::{Value, json};

use mmrag_train::LoraSettings;

use super::plan::{Plan, Seer};
use super::probe::Told;
use super::step::Steps;
use super::trial::Trainee;
use crate::bench::resident_bytes;

/// What a process takes besides weights and tensors where the system does not tell it.
const PROCESS_BYTES: u64 = 70_000_000;

/// How much more memory than its tensors a process holds: blocks are rounded up and kept for reuse.
const ALLOCATED: f64 = 1.25;

/// What the process takes so far.
pub(super) fn process_bytes() -> u64 {
    resident_bytes().unwrap_or(PROCESS_BYTES)
}

/// What a run holds at its peak, besides its weights and what is trained of them.
pub(super) struct Memory {
    /// The process with its data set, before anything of the model is loaded.
    pub(super) base: u64,
    /// Features of the pictures that are kept.
    pub(super) features: usize,
    /// Pixels of prompts that are ready.
    pub(super) ready: usize,
    /// The most that work takes.
    pub(super) work: f64,
}

impl Memory {
    /// As JSON.
    pub(super) fn told(&self, seer: &Seer) -> Value {
        let weights = seer.cost.weights_bytes();
        let trained = seer.cost.training_bytes(seer.trainee.trained());
        let rest = (trained + self.features + self.ready) as f64 + self.work;
        let peak = (self.base + weights as u64) as f64 + ALLOCATED * rest;
        json!({
            "peak_bytes": peak as u64,
            "weights_bytes": weights,
            "memory": {
                "process": self.base,
                "weights": weights,
                "trained": trained,
                "features": self.features,
                "pixels": self.ready,
                "work": self.work as u64,
                "allocated_times": ALLOCATED,
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
        let changes_vision = |lora: &LoraSettings| {
            !lora.targets.iter().all(|target| ALL_TARGETS.contains(&target.as_str()))
        };
        let both = |looked| (looked, looked);
        let (in_steps, in_phases) = match &trainee.lora {
            None => (Looked::InPasses, Looked::All),
            Some(lora) if changes_vision(lora) => both(Looked::InPasses),
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
    /// What the process took before any of them was tried.
    pub(super) base: u64,
}

impl Outlook<'_> {
    /// The prediction.
    pub(super) fn said(&self) -> Value {
        let Self { seer, plan, steps, told, base } = *self;
        let patches = steps.sample.patches_a_picture() * plan.pictures();
        let kept = seer.cost.kept_features_bytes(patches);
        let looks = Looks::of(told[steps.look].seconds, &seer.trainee, kept.is_some());
        let memory = Memory {
            base,
            features: kept.unwrap_or(Cost::MOST_FEATURES_BYTES),
            ready: seer.cost.pixels_bytes(steps.patches_ready()),
            work: told.iter().map(|told| told.bytes).fold(0.0, f64::max),
        };
        let mut said = memory.told(seer);
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
