//! Retrieval, the pipeline, its explanation, evaluation, statistics and the report.
//!
//! ```text
//! Question ─Retriever─► Retrieved ─filter─► Filtered ─rank─► Answered ─► Explanation ─► Outcome ─► Report
//! ```
//!
//! The pipeline holds engines by the traits of `mmrag-core` and no model, so that it runs on the
//! local policy, on remote engines and on the scripted [`fakes`] alike. This crate never depends on
//! `mmrag-model`; how a stage asks and how a reply is read and judged is `mmrag-task`'s business.

pub mod bm25;
mod collection;
mod error;
pub mod evaluation;
pub mod explanation;
pub mod fakes;
mod fused;
pub mod gate;
mod index;
mod picture;
pub mod pipeline;
pub mod quality;
pub mod report;
pub mod retriever;
pub mod runs;
pub mod statistics;
pub mod vectors;
mod verification;
mod version;
mod words;

pub use collection::{
    Approximate, Collection, Embedded, Embedder, Fingerprint, Lane, LaneInfo, LaneSearch, Record,
    Snapshot, SourceFile, Writer,
};
pub use error::RagError;
pub use evaluation::{Failure, Metric, Outcome, Slicing};
pub use explanation::{ConfidenceMap, Explanation, answer_confidence};
pub use fused::{Fused, fuse};
pub use index::Index;
pub use picture::picture_bytes;
pub use pipeline::{Ask, FilterStage, LabelOrder, Names, Opinion, OrderBy, Pipeline, RankStage};
pub use retriever::{Candidates, Hit, Retriever, Source, SourceRank};
pub use runs::{AnsweredRun, ExplanationLog, PairedRuns, read_explanations};
pub use verification::{Again, Finding, Verification, verify};
pub use version::contents_version;
pub use words::searched_text;
