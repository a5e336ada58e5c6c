//! Settings of a training, all fields visible, and the named presets they come from.
//!
//! - `paper_like`: only what the paper's abstract forces, with the trainers' usual defaults.
//! - `robust`: our choices for real models of billions of parameters.
//! - `demo`: for the built-in small model.

use std::path::PathBuf;

use candle_core::Var;
use mmrag_ops::{AdamW, AdamWOptions};
use mmrag_task::StageName;
use mmrag_task::curriculum::Curriculum;
use serde::{Deserialize, Serialize};

use crate::advantages::{AdvantageRule, Aggregation, Scale};
use crate::error::TrainError;
use crate::loss::{LossKind, LossRule, RatioLevel};
use crate::schedule::{Decay, Schedule};

/// Where the gradient of a reinforcement step comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Estimator {
    /// Replies are drawn and compared.
    Sampled,
    /// The filter's verdict is one of two: the gradient of the expected reward is computed, not
    /// estimated. Filter stage without `<think>` only.
    Exact,
}

/// Which weights the adapter of a stage begins from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// The base model, with a new adapter.
    Base,
    /// The filter stage's adapter.
    Stage1,
    /// The adapter in this folder, as one that supervised fine-tuning made: a cold start. Its rank
    /// and layers stay, whatever the settings say.
    Adapter(PathBuf),
}

/// The low-rank adapter that is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraSettings {
    /// Rank.
    pub r: usize,
    /// The adapter's output is scaled by this over `r`.
    pub alpha: f64,
    /// Names of the linear layers that get one; all of the language model's if empty.
    pub targets: Vec<String>,
}

/// The optimizer's constants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerSettings {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the mean of squares.
    pub eps: f64,
    /// Share of each weight that a step takes off, times the learning rate.
    pub weight_decay: f64,
    /// The longest gradient; a longer one is shortened to it.
    pub clip: Option<f64>,
    /// Steps the weight matrices by Muon instead; embeddings, norms and biases stay with AdamW.
    pub muon: Option<MuonSettings>,
}

/// Muon's constants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MuonSettings {
    /// Decay of the mean of gradients.
    pub momentum: f64,
    /// Matrices with one of these in their names stay with AdamW.
    pub except: Vec<String>,
    /// The learning rate of what stays with AdamW, as a share of the schedule's. AdamW steps every
    /// value as far as it does the commonest ones', which for embeddings of rare tokens is too far.
    pub others: f64,
}

impl OptimizerSettings {
    fn options(&self) -> AdamWOptions {
        let Self { beta1, beta2, eps, weight_decay, .. } = *self;
        AdamWOptions { beta1, beta2, eps, weight_decay }
    }

    /// An optimizer of these variables.
    pub fn of(&self, vars: Vec<(String, Var)>) -> AdamW {
        let optimizer = AdamW::new(vars, self.options());
        match &self.muon {
            None => optimizer,
            Some(MuonSettings { momentum, except, others }) => {
                optimizer.with_muon(*momentum, *others, |name| {
                    !except.iter().any(|part| name.contains(part.as_str()))
                })
            }
        }
    }
}

/// How often things are done, in steps; 0 is never. The last step does each that is not never.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cadence {
    /// The policy is evaluated on the development split.
    pub evaluate: usize,
    /// A checkpoint is written.
    pub checkpoint: usize,
    /// Rollouts are written to `samples/`; the exact estimator has none.
    pub samples: usize,
}

impl Cadence {
    /// How often a training of so many steps is evaluated: before the first step, in between, and
    /// after the last.
    pub fn evaluations(&self, steps: usize) -> usize {
        if self.evaluate == 0 { 0 } else { 1 + steps.div_ceil(self.evaluate) }
    }
}

/// How completions are drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutSettings {
    /// Replies to each prompt.
    pub group_size: usize,
    /// Divides the logits, when sampling and when training.
    pub temperature: f64,
    /// Share of probability that is drawn from.
    pub top_p: f64,
    /// Most probable tokens that are drawn from; 0 for all.
    pub top_k: usize,
    /// A completion ends after this many tokens at the latest.
    pub max_completion_tokens: usize,
    /// Leaves completions out of the loss that reached that length.
    pub mask_truncated: bool,
    /// Replaces groups whose rewards are all equal by groups of other cases, and leaves those out
    /// that are still so in the end. Otherwise they stay in the update, with advantage 0.
    pub dynamic_sampling: bool,
    /// How often a step draws other cases in their place.
    pub retries: usize,
}

/// How examples become cases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseSettings {
    /// Filter: documents of the same question that do not help, beside each one that does.
    pub hard_negatives: usize,
    /// Filter: of the other documents of the question those that the policy, as it stands, thinks
    /// most likely to help, beside each one that helps. Verdicts without `<think>` only.
    pub mined_negatives: usize,
    /// Filter: documents of other questions, beside each one that helps.
    pub easy_negatives: usize,
    /// Filter: weight of the advantages of documents that help.
    pub positive_weight: f64,
    /// Rank: the most documents shown; gold ones are never left out.
    pub max_documents: usize,
    /// Rank: how the number of distractors grows.
    pub curriculum: Curriculum,
    /// Rank: share of the cases whose list lacks one of the gold documents, as when a filter has
    /// dropped it.
    pub lacking: f64,
}

/// Settings of reinforcement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpoSettings {
    /// Seed of every draw.
    pub seed: u64,
    /// Which weights training begins from.
    pub init: Init,
    /// Steps; if not given, as many as `epochs` passes over the examples take.
    pub steps: Option<usize>,
    /// Passes over the examples.
    pub epochs: f64,
    /// Cases of each step.
    pub prompts_per_step: usize,
    /// Updates made with the replies of a step (μ).
    pub iterations: usize,
    /// Tokens that are computed at once; bounds memory, changes no result beyond rounding.
    pub tokens_per_pass: usize,
    /// Whether layers are computed again in the backward pass instead of being kept: far less
    /// memory for about a third more time, and the same gradients.
    pub gradient_checkpointing: bool,
    /// Where the gradient comes from.
    pub estimator: Estimator,
    /// How completions are drawn.
    pub rollout: RolloutSettings,
    /// How examples become cases.
    pub cases: CaseSettings,
    /// How rewards become advantages.
    pub advantage: AdvantageRule,
    /// The loss.
    pub loss: LossRule,
    /// The learning rate.
    pub schedule: Schedule,
    /// The optimizer.
    pub optimizer: OptimizerSettings,
    /// The adapter.
    pub lora: LoraSettings,
    /// How often things are done.
    pub cadence: Cadence,
}

impl GrpoSettings {
    /// What the paper's abstract forces, and for the rest the usual defaults: no floor on the
    /// deviation, no dynamic sampling, no clip-higher, no mining, all distractors from the start.
    pub fn paper_like(stage: StageName) -> Self {
        let robust = Self::robust(stage);
        Self {
            rollout: RolloutSettings { dynamic_sampling: false, retries: 0, ..robust.rollout },
            cases: CaseSettings {
                hard_negatives: 2,
                mined_negatives: 0,
                curriculum: Curriculum::Off,
                lacking: 0.0,
                ..robust.cases
            },
            advantage: AdvantageRule { std_floor: 0.0, ..robust.advantage },
            loss: LossRule { epsilon_high: 0.2, ..robust.loss },
            ..robust
        }
    }

    /// Our choices for models of billions of parameters.
    pub fn robust(stage: StageName) -> Self {
        let (prompts_per_step, max_completion_tokens) = match stage {
            StageName::Filter => (32, 8),
            StageName::Rank => (16, 1024),
        };
        Self {
            seed: 0,
            init: Init::Base,
            steps: None,
            epochs: 1.0,
            prompts_per_step,
            iterations: 1,
            tokens_per_pass: 8192,
            gradient_checkpointing: true,
            estimator: Estimator::Sampled,
            rollout: RolloutSettings {
                group_size: 8,
                temperature: 1.0,
                top_p: 1.0,
                top_k: 0,
                max_completion_tokens,
                mask_truncated: false,
                dynamic_sampling: true,
                retries: 3,
            },
            cases: CaseSettings {
                hard_negatives: 1,
                mined_negatives: 1,
                easy_negatives: 1,
                positive_weight: 1.0,
                max_documents: 10,
                curriculum: Curriculum::MinMax,
                lacking: 0.0,
            },
            advantage: AdvantageRule {
                scale: Scale::Group,
                aggregation: Aggregation::SumThenNormalize,
                std_floor: 0.05,
            },
            loss: LossRule {
                kind: LossKind::Dapo,
                level: RatioLevel::Token,
                epsilon_low: 0.2,
                epsilon_high: 0.28,
                delta: None,
                cispo_cap: 5.0,
                beta: 0.01,
            },
            schedule: Schedule {
                learning_rate: 1e-5,
                warmup: 0.03,
                hold: 0.0,
                decay: Decay::Cosine,
                floor: 0.0,
            },
            optimizer: OptimizerSettings {
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-8,
                weight_decay: 0.01,
                clip: Some(1.0),
                muon: None,
            },
            lora: LoraSettings { r: 64, alpha: 128.0, targets: Vec::new() },
            cadence: Cadence { evaluate: 20, checkpoint: 20, samples: 10 },
        }
    }

    /// For the built-in small model. Differences from `robust`: 48 (filter) or 32 (rank) prompts a
    /// step; learning rate 1e-3 with a floor of a tenth; adapter of rank 16; no KL (the reference
    /// pass is a third of a step's time); at most 8 (filter) or 176 (rank) new tokens; up to 15
    /// documents and all of them from the start (the base has seen whole lists); one list of ten
    /// lacks a gold document, as do some that the filter leaves (it should be readable what is said
    /// of those too); one retry; hard negatives only, two of them, and gold documents of three times
    /// their weight (which of the look-alikes of a second hop is gold, one document cannot tell);
    /// 1,024 tokens a pass, so that several passes run side by side; the filter's gradient computed
    /// exactly.
    pub fn demo(stage: StageName) -> Self {
        let robust = Self::robust(stage);
        let (estimator, max_completion_tokens, cadence) = match stage {
            StageName::Filter => (Estimator::Exact, 8, 30),
            StageName::Rank => (Estimator::Sampled, 176, 20),
        };
        Self {
            prompts_per_step: match stage {
                StageName::Filter => 48,
                StageName::Rank => 32,
            },
            tokens_per_pass: 1024,
            gradient_checkpointing: false,
            estimator,
            rollout: RolloutSettings { max_completion_tokens, retries: 1, ..robust.rollout },
            cases: CaseSettings {
                hard_negatives: 2,
                mined_negatives: 0,
                easy_negatives: 0,
                positive_weight: 3.0,
                max_documents: 15,
                curriculum: Curriculum::Off,
                lacking: if stage == StageName::Rank { 0.2 } else { 0.0 },
            },
            loss: LossRule { beta: 0.0, ..robust.loss },
            schedule: Schedule { learning_rate: 1e-3, floor: 0.1, ..robust.schedule },
            lora: LoraSettings { r: 16, alpha: 32.0, ..robust.lora },
            cadence: Cadence { evaluate: cadence, checkpoint: cadence, samples: cadence },
            ..robust
        }
    }

    /// Cases that one example gives.
    pub(crate) fn cases_per_example(&self, stage: StageName) -> usize {
        match stage {
            StageName::Filter => {
                let CaseSettings { hard_negatives, mined_negatives, easy_negatives, .. } =
                    self.cases;
                1 + hard_negatives + mined_negatives + easy_negatives
            }
            StageName::Rank => 1,
        }
    }

    /// Examples that the cases of a step are made of.
    pub fn examples_per_step(&self, stage: StageName) -> usize {
        self.prompts_per_step.div_ceil(self.cases_per_example(stage))
    }

    /// Steps of a training on `examples` examples.
    pub fn total_steps(&self, stage: StageName, examples: usize) -> usize {
        self.steps.unwrap_or_else(|| {
            let wanted = self.epochs * examples as f64;
            (wanted / self.examples_per_step(stage) as f64).ceil() as usize
        })
    }

    pub(crate) fn check(&self, stage: StageName) -> Result<(), TrainError> {
        at_least_one("prompts_per_step", self.prompts_per_step)?;
        at_least_one("iterations", self.iterations)?;
        at_least_one("rollout.max_completion_tokens", self.rollout.max_completion_tokens)?;
        at_least_one("rollout.group_size", self.rollout.group_size)?;
        let wrong = |key, value: &dyn ToString, why| {
            Err(TrainError::Settings { key, value: value.to_string(), why })
        };
        if self.estimator == Estimator::Exact && stage != StageName::Filter {
            return wrong("estimator", &"exact", "only the filter stage has a verdict of two");
        }
        if self.estimator == Estimator::Sampled && self.rollout.group_size < 2 {
            return wrong("rollout.group_size", &1, "one reply has nothing to be compared with");
        }
        // A divisor of log-probabilities; at 0 every ratio would be of certainties.
        if self.rollout.temperature <= 0.0 {
            return wrong("rollout.temperature", &self.rollout.temperature, "must be above 0");
        }
        if !(0.0..=1.0).contains(&self.cases.lacking) {
            return wrong("cases.lacking", &self.cases.lacking, "is a share, from 0 to 1");
        }
        self.schedule.check()
    }
}

/// Settings of supervised fine-tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SftSettings {
    /// Seed of the order of lessons.
    pub seed: u64,
    /// Steps; if not given, as many as `epochs` passes over the lessons take.
    pub steps: Option<usize>,
    /// Passes over the lessons.
    pub epochs: f64,
    /// Lessons of each step.
    pub lessons_per_step: usize,
    /// Tokens that are computed at once; bounds memory, changes no result beyond rounding.
    pub tokens_per_pass: usize,
    /// Whether layers are computed again in the backward pass instead of being kept: far less
    /// memory for about a third more time, and the same gradients.
    pub gradient_checkpointing: bool,
    /// The learning rate.
    pub schedule: Schedule,
    /// The optimizer.
    pub optimizer: OptimizerSettings,
    /// The adapter; all weights are trained if there is none.
    pub lora: Option<LoraSettings>,
    /// How often things are done.
    pub cadence: Cadence,
}

impl SftSettings {
    /// Fine-tuning of an adapter on demonstrations, for models of billions of parameters: one pass
    /// at 1e-4.
    pub fn robust() -> Self {
        let grpo = GrpoSettings::robust(StageName::Rank);
        Self {
            seed: 0,
            steps: None,
            epochs: 1.0,
            lessons_per_step: 32,
            tokens_per_pass: grpo.tokens_per_pass,
            gradient_checkpointing: grpo.gradient_checkpointing,
            schedule: Schedule { learning_rate: 1e-4, ..grpo.schedule },
            optimizer: grpo.optimizer,
            lora: Some(grpo.lora),
            cadence: Cadence { evaluate: 100, checkpoint: 100, samples: 0 },
        }
    }

    /// Fine-tuning of the built-in small model's adapter: as `robust`, with the `demo` preset's
    /// rank and a learning rate of 2e-3.
    pub fn demo() -> Self {
        let grpo = GrpoSettings::demo(StageName::Rank);
        let robust = Self::robust();
        Self {
            tokens_per_pass: grpo.tokens_per_pass,
            gradient_checkpointing: grpo.gradient_checkpointing,
            schedule: Schedule { learning_rate: 2e-3, floor: 0.05, ..robust.schedule },
            lora: Some(grpo.lora),
            ..robust
        }
    }

    /// Training of all weights of a small model from nothing: a higher learning rate, a shorter
    /// memory of squared gradients, many lessons a step.
    pub fn from_scratch() -> Self {
        let demo = Self::demo();
        Self {
            lessons_per_step: 64,
            schedule: Schedule { learning_rate: 2e-3, warmup: 0.01, ..demo.schedule },
            optimizer: OptimizerSettings { beta2: 0.98, weight_decay: 0.05, ..demo.optimizer },
            lora: None,
            cadence: Cadence { evaluate: 500, checkpoint: 100, samples: 0 },
            ..demo
        }
    }

    /// Steps of a training on `lessons` lessons.
    pub fn total_steps(&self, lessons: usize) -> usize {
        self.steps.unwrap_or_else(|| {
            (self.epochs * lessons as f64 / self.lessons_per_step as f64).ceil() as usize
        })
    }

    pub(crate) fn check(&self) -> Result<(), TrainError> {
        at_least_one("lessons_per_step", self.lessons_per_step)?;
        self.schedule.check()
    }
}

impl Schedule {
    fn check(&self) -> Result<(), TrainError> {
        let wrong =
            |key, value: f64, why| Err(TrainError::Settings { key, value: value.to_string(), why });
        if !self.learning_rate.is_finite() || self.learning_rate < 0.0 {
            return wrong("schedule.learning_rate", self.learning_rate, "must be 0 or more");
        }
        if !(0.0..=1.0).contains(&self.warmup) {
            return wrong("schedule.warmup", self.warmup, "must be a share from 0 to 1");
        }
        if !(0.0..=1.0).contains(&self.hold) {
            return wrong("schedule.hold", self.hold, "must be a share from 0 to 1");
        }
        if self.warmup + self.hold > 1.0 {
            return wrong(
                "schedule.hold",
                self.hold,
                "must leave `warmup` room: both are at most 1",
            );
        }
        Ok(())
    }
}

fn at_least_one(key: &'static str, value: usize) -> Result<(), TrainError> {
    if value > 0 {
        return Ok(());
    }
    Err(TrainError::Settings { key, value: "0".into(), why: "must be at least 1" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_sound_and_survive_being_written() {
        for stage in [StageName::Filter, StageName::Rank] {
            for preset in [GrpoSettings::paper_like, GrpoSettings::robust, GrpoSettings::demo] {
                let settings = preset(stage);
                settings.check(stage).unwrap();
                let text = serde_json::to_string(&settings).unwrap();
                assert_eq!(serde_json::from_str::<GrpoSettings>(&text).unwrap(), settings);
            }
        }
        for settings in [SftSettings::robust(), SftSettings::demo(), SftSettings::from_scratch()] {
            settings.check().unwrap();
            let text = serde_json::to_string(&settings).unwrap();
            assert_eq!(serde_json::from_str::<SftSettings>(&text).unwrap(), settings);
        }
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let mut value = serde_json::to_value(GrpoSettings::demo(StageName::Rank)).unwrap();
        value["rollout"]["groupsize"] = 8.into();
        let error = serde_json::from_value::<GrpoSettings>(value).unwrap_err();
        assert!(error.to_string().contains("groupsize"), "{error}");
    }

    #[test]
    fn what_cannot_be_trained_is_refused_by_its_key() {
        let check = |change: &dyn Fn(&mut GrpoSettings), key: &str| {
            let mut settings = GrpoSettings::demo(StageName::Rank);
            change(&mut settings);
            let error = settings.check(StageName::Rank).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        };
        check(&|s| s.estimator = Estimator::Exact, "estimator");
        check(&|s| s.rollout.group_size = 1, "rollout.group_size");
        check(&|s| s.rollout.temperature = 0.0, "rollout.temperature");
        check(&|s| s.prompts_per_step = 0, "prompts_per_step");
        check(&|s| s.schedule.warmup = 1.5, "schedule.warmup");
        check(&|s| s.schedule.hold = -0.1, "schedule.hold");
        check(&|s| (s.schedule.warmup, s.schedule.hold) = (0.5, 0.6), "schedule.hold");
    }

    #[test]
    fn a_training_is_evaluated_first_and_last_and_in_between() {
        let every = |evaluate| Cadence { evaluate, checkpoint: 0, samples: 0 };
        assert_eq!(every(20).evaluations(60), 4);
        assert_eq!(every(500).evaluations(79), 2);
        assert_eq!(every(0).evaluations(60), 0);
    }

    #[test]
    fn an_epoch_shows_every_example_once() {
        let settings = GrpoSettings { prompts_per_step: 8, ..GrpoSettings::demo(StageName::Rank) };
        assert_eq!(settings.total_steps(StageName::Rank, 17), 3);
        let settings =
            GrpoSettings { prompts_per_step: 6, ..GrpoSettings::demo(StageName::Filter) };
        assert_eq!(settings.total_steps(StageName::Filter, 4), 2);
    }
}
