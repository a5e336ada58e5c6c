//! What a trainer needs of a policy.

use std::path::Path;

use candle_core::Var;
use mmrag_core::{Completion, EngineError, Prompt, Sampling};
use mmrag_ops::TokenScores;

/// Replies to one prompt, which is computed once for all of them.
#[derive(Clone, Debug)]
pub struct ReplyGroup<E> {
    /// The prompt, ready for the policy.
    pub prompt: E,
    /// The replies' tokens, each with its end of turn if it had one.
    pub replies: Vec<Vec<u32>>,
}

/// Which weights score tokens, and whether gradients are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The weights being trained, differentiably.
    Learning,
    /// The weights being trained.
    Current,
    /// The weights training began with: of an adapter, the base with the adapter off.
    Reference,
}

/// A policy with weights that are being trained.
pub trait Learner: Sync {
    /// A prompt ready for the policy: token ids and pictures.
    type Encoded: Clone + Send + Sync;

    /// Makes a prompt ready.
    ///
    /// # Errors
    ///
    /// When a picture does not decode or the prompt is too long.
    fn encode(&self, prompt: &Prompt) -> Result<Self::Encoded, EngineError>;

    /// Tokens of a prompt that was made ready.
    fn prompt_tokens(&self, prompt: &Self::Encoded) -> usize;

    /// Tokens of a reply, the end of turn included.
    ///
    /// # Errors
    ///
    /// When the text cannot be made into tokens.
    fn encode_reply(&self, text: &str) -> Result<Vec<u32>, EngineError>;

    /// For each prompt, `sampling.n` completions drawn from the weights being trained.
    ///
    /// # Errors
    ///
    /// When a prompt cannot be run.
    fn sample(
        &self,
        prompts: &[Self::Encoded],
        sampling: &Sampling,
    ) -> Result<Vec<Vec<Completion>>, EngineError>;

    /// Log-probability and entropy of every token of every reply of every group, in order, at a
    /// temperature.
    ///
    /// # Errors
    ///
    /// When a group cannot be run, or there is no such view (full training keeps no reference).
    fn scores(
        &self,
        groups: &[ReplyGroup<Self::Encoded>],
        temperature: f64,
        view: View,
    ) -> Result<TokenScores, EngineError>;

    /// The weights being trained, named, in an order that never changes.
    fn vars(&self) -> Vec<(String, Var)>;

    /// Writes the weights being trained into a folder.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    fn save(&self, folder: &Path) -> Result<(), EngineError>;

    /// Takes up weights that [`Learner::save`] wrote.
    ///
    /// # Errors
    ///
    /// When the folder holds no such weights.
    fn restore(&self, folder: &Path) -> Result<(), EngineError>;
}
