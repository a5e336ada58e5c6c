//! Data set files into words: MultimodalQA, and the built-in atlas, a fictional world that is
//! generated on the fly or written as MultimodalQA's own files.
//!
//! This crate knows nothing of a policy, a stage or a reward.

pub mod atlas;
mod error;
pub mod multimodalqa;

pub use error::DataError;
