//! Where in a prompt's pictures a continuation rests.

use std::ops::Range;

use crate::{Completion, EngineError, Prompt};

/// What each patch of a picture, as the policy sees it, adds to what was written.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchShares {
    /// Rows of patches.
    pub rows: usize,
    /// Columns of patches.
    pub columns: usize,
    /// For each patch, row by row, how much of the logarithm of the probability of what was written
    /// it accounts for, in nats; below 0 where it speaks against it.
    pub values: Vec<f32>,
}

/// Says which parts of a prompt's pictures a completion rests on. Only an engine that can look into
/// its own model can.
pub trait Attribute: Send + Sync {
    /// For each picture of the prompt, in order, what each patch adds to the tokens that stand in
    /// `spans` of the completion's text, in bytes. What the completion says elsewhere is taken as
    /// given. A picture that the prompt shows several times has the same numbers each time: those
    /// of all its places together.
    ///
    /// # Errors
    ///
    /// When the prompt cannot be run, or no token stands in the spans.
    fn attribute(
        &self,
        prompt: &Prompt,
        completion: &Completion,
        spans: &[Range<usize>],
    ) -> Result<Vec<PatchShares>, EngineError>;
}
