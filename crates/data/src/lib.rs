//! Data set files into words: MultimodalQA, and the built-in atlas, a fictional world that is
//! generated on the fly or written as MultimodalQA's own files. Of WebQA only what scoring needs.
//!
//! This crate knows nothing of a policy, a stage or a reward.

pub mod atlas;
pub mod degrade;
mod entries;
mod error;
mod hide;
pub mod multimodalqa;
mod people;
mod predictions;
mod text_file;
pub mod webqa;
pub mod webqa_table;

pub use degrade::{Degrade, DegradeKind};
pub use entries::entries;
pub use error::DataError;
pub use hide::Hide;
pub use people::{PeopleFile, PeopleRow, people};
pub use predictions::{Prediction, predictions};
