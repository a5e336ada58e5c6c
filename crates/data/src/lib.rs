//! Data set files into words: MultimodalQA, WebQA, VQA v2, TextVQA, own data, and the built-in
//! atlas, a fictional world that is generated on the fly or written as MultimodalQA's own files.
//!
//! This crate knows nothing of a policy, a stage or a reward.

mod archive;
pub mod atlas;
mod corpus;
pub mod degrade;
mod entries;
mod error;
mod files;
pub mod folder;
mod format;
mod hide;
mod inspect;
mod json_lines;
mod json_parts;
pub mod jsonl;
mod loaded;
pub mod multimodalqa;
mod people;
mod picture_files;
mod pictures;
mod predictions;
mod protocol;
mod regions;
mod split;
mod tables;
mod text_file;
pub mod vqa;
pub mod webqa;
pub mod webqa_table;

pub use degrade::{Degrade, DegradeKind};
pub use entries::entries;
pub use error::DataError;
pub use format::{Format, Kinds};
pub use hide::Hide;
pub use inspect::{InspectOptions, Inspection, Look, inspect};
pub use loaded::{Loaded, Place, Problem};
pub use people::{PeopleFile, PeopleRow, people};
pub use pictures::{Seen, look_at, picture_bytes, picture_format};
pub use predictions::{Prediction, predictions};
pub use protocol::{Pool, Protocol, Setting};
pub use regions::{REGIONS_FILE, Region, read_regions};
pub use split::Split;
