//! What a user of the crate sees: prompts, replies, rewards and metrics.

mod demonstrations;
mod grammar;
mod metrics;
mod prompts;
mod rewards;
mod world;
