//! Reinforcement and supervised fine-tuning of the policy.

mod advantages;
mod loss;
mod metrics;
mod schedule;

pub use advantages::{
    AdvantageRule, Aggregation, STD_EPSILON, Scale, advantages, is_zero_variance,
};
pub use loss::{
    LossKind, LossOutput, LossRow, LossRule, LossTally, RatioLevel, Totals, policy_loss,
};
pub use metrics::Metrics;
pub use schedule::{Decay, Schedule};
