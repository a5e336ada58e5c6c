//! What a user of the crate sees: prompts, replies, rewards and metrics.

mod benchmarks;
mod demonstrations;
mod grammar;
mod metrics;
mod prompts;
mod rewards;
mod world;
