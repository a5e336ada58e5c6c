//! The commands, one file each.

pub(crate) mod ask;
pub(crate) mod bench;
pub(crate) mod data;
pub(crate) mod demo;
pub(crate) mod eval;
pub(crate) mod generate;
pub(crate) mod model;
pub(crate) mod pass;
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
}
