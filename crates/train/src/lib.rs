//! Reinforcement and supervised fine-tuning of the policy.
//!
//! Two loops, [`train_grpo`] and [`train_sft`], over a [`Learner`]. What is pure stands apart and
//! is checked against TRL's numbers: [`advantages`] and [`policy_loss`]. A run writes a
//! [`RunFolder`], from which it resumes to the bytes of a run that was never interrupted; every
//! draw takes a seed derived from (run, step, question, sample).
//!
//! This crate knows no data set and no index: it is given a seekable source of [`Examples`] or
//! [`Lessons`]. It prints nothing: it tells [`Progress`]. Evaluation is the caller's ([`Evaluate`]).

mod advantages;
mod batch;
mod cases;
mod error;
mod exact;
mod grpo;
mod learner;
mod loss;
mod metrics;
mod progress;
mod pupil;
mod rollout;
mod run_folder;
mod schedule;
mod seed;
mod session;
mod settings;
mod sft;
mod source;
mod update;

pub use advantages::{
    AdvantageRule, Aggregation, STD_EPSILON, Scale, advantages, is_zero_variance,
};
pub use batch::split_into_passes;
pub use cases::planned_cases;
pub use error::{SourceError, TrainError};
pub use grpo::train_grpo;
pub use learner::{Learner, ReplyGroup, View};
pub use loss::{
    LossKind, LossOutput, LossRow, LossRule, LossTally, RatioLevel, Totals, policy_loss,
};
pub use metrics::Metrics;
pub use mmrag_ops::TokenScores;
pub use progress::{Best, Evaluate, Evaluation, Event, Outcome, Progress, Run, Silent};
pub use pupil::Pupil;
pub use run_folder::RunFolder;
pub use schedule::{Decay, Schedule};
pub use settings::{
    Cadence, CaseSettings, Estimator, GrpoSettings, Init, LoraSettings, MuonSettings,
    OptimizerSettings, RolloutSettings, SftSettings,
};
pub use sft::{LESSON_BATCHES_READY, train_sft};
pub use source::{Examples, Lesson, Lessons};
pub use update::check_update;
