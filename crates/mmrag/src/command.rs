//! The commands, one file each.

pub(crate) mod ablate;
pub(crate) mod ask;
pub(crate) mod attribution;
pub(crate) mod bench;
pub(crate) mod bench_score;
pub(crate) mod compare;
pub(crate) mod curve;
pub(crate) mod data;
pub(crate) mod demo;
pub(crate) mod eval;
pub(crate) mod explain;
pub(crate) mod gate;
pub(crate) mod generate;
pub(crate) mod index;
pub(crate) mod model;
pub(crate) mod pass;
pub(crate) mod report;
pub(crate) mod retrieval;
pub(crate) mod score;
pub(crate) mod serve;
pub(crate) mod train;

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// All was done.
    Done,
    /// The user stopped it; the same command goes on.
    Stopped,
    /// What was to be judged is not good enough.
    Refused,
    /// It could not be judged.
    NotJudged,
}
