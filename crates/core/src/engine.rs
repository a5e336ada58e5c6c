//! What a policy can be asked to do: continue prompts, choose between short continuations, embed.
//!
//! The pipeline holds these traits and not a model, so that it runs on scripted fakes, on the
//! local model and on remote engines alike.

use serde::{Deserialize, Serialize};

use crate::{Document, Guide, Prompt};

/// How to draw completions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Divides the logits before the softmax. 0 takes the most probable token each time.
    pub temperature: f64,
    /// Draws from the smallest set of tokens whose probability reaches this; 1 draws from all.
    pub top_p: f64,
    /// Draws from this many most probable tokens; 0 draws from all.
    pub top_k: usize,
    /// A completion ends after this many tokens at the latest.
    pub max_new_tokens: usize,
    /// Completions for each prompt.
    pub n: usize,
    /// Seed of the draws. The `i`-th completion of the `j`-th prompt draws from its own stream
    /// derived from (seed, j, i), so that no completion depends on what else is in the batch.
    pub seed: u64,
}

impl Sampling {
    /// One completion a prompt, the most probable token each time.
    pub fn greedy(max_new_tokens: usize) -> Self {
        Self { temperature: 0.0, top_p: 1.0, top_k: 0, max_new_tokens, n: 1, seed: 0 }
    }
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// The policy ended its turn.
    Stop,
    /// `max_new_tokens` was reached.
    Length,
}

/// What a policy wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The text, without special tokens and without the prompt's `reply_prefix`. Where the chat
    /// template itself opens `<think>` and leaves it to the reply, the text begins with that tag,
    /// so that it reads as it would from any other template.
    pub text: String,
    /// The tokens, the ending one included if there was one. Empty from engines that do not tell.
    pub tokens: Vec<u32>,
    /// Natural logarithm of each token's probability when it was drawn, at the sampling
    /// temperature (at temperature 0: at temperature 1). Empty from engines that do not tell.
    pub sampled_logprobs: Vec<f32>,
    /// Why it ended.
    pub finish: Finish,
}

/// An engine could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    message: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl EngineError {
    /// An error told in one sentence.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }

    /// An error that another one caused.
    pub fn caused_by(
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { message: message.into(), source: Some(source.into()) }
    }
}

/// Is told what has been written so far: the index of what is being replied to, and the text.
pub type Tell<'a> = &'a (dyn Fn(usize, &str) + Sync);

/// Continues prompts.
pub trait Generate: Send + Sync {
    /// For each prompt, `sampling.n` completions, in the prompts' order.
    ///
    /// # Errors
    ///
    /// When a prompt cannot be run: a picture does not decode, the prompt is too long, an engine
    /// does not answer.
    fn generate(
        &self,
        prompts: &[Prompt],
        sampling: &Sampling,
    ) -> Result<Vec<Vec<Completion>>, EngineError>;

    /// As [`generate`](Self::generate), and tells each prompt's first completion while it is being
    /// written: `tell` is given the prompt's index and the whole text so far, again and again,
    /// possibly from several threads. Engines that cannot write piece by piece tell it once, whole.
    ///
    /// # Errors
    ///
    /// As [`generate`](Self::generate); what was told until then counts for nothing.
    fn generate_telling(
        &self,
        prompts: &[Prompt],
        sampling: &Sampling,
        tell: Tell<'_>,
    ) -> Result<Vec<Vec<Completion>>, EngineError> {
        let completions = self.generate(prompts, sampling)?;
        for (index, completions) in completions.iter().enumerate() {
            if let Some(first) = completions.first() {
                tell(index, &first.text);
            }
        }
        Ok(completions)
    }

    /// As [`generate_telling`](Self::generate_telling), and holds each completion to a form while it
    /// is being written: to that of the prompt's guide. A completion that ends by its length may
    /// still be cut off. The probabilities told are those without a guide.
    ///
    /// # Errors
    ///
    /// As [`generate`](Self::generate), and of engines that cannot do so.
    fn generate_guided(
        &self,
        prompts: &[Prompt],
        guides: &[&dyn Guide],
        sampling: &Sampling,
        tell: Tell<'_>,
    ) -> Result<Vec<Vec<Completion>>, EngineError> {
        let _ = (prompts, guides, sampling, tell);
        Err(EngineError::new("this engine cannot hold replies to a form: leave --constrained out"))
    }

    /// Number of tokens the prompt takes, pictures included.
    ///
    /// # Errors
    ///
    /// When a picture of the prompt does not decode.
    fn count_tokens(&self, prompt: &Prompt) -> Result<usize, EngineError>;
}

/// Says how probable each of a few short continuations is.
pub trait Choose: Send + Sync {
    /// For each prompt, for each of `choices`, the probability that the reply (after the prompt's
    /// `reply_prefix`) begins with that choice. Spellings that differ in case or a leading space
    /// are counted together. The probabilities of one prompt sum to at most 1; what is missing is
    /// the probability of saying something else.
    ///
    /// Prompts that begin alike are computed once up to where they differ.
    ///
    /// # Errors
    ///
    /// As [`Generate::generate`].
    fn choose(&self, prompts: &[Prompt], choices: &[&str]) -> Result<Vec<Vec<f64>>, EngineError>;
}

/// Turns texts and documents into vectors whose inner product says how alike they are.
pub trait Embed: Send + Sync {
    /// Length of the vectors.
    fn width(&self) -> usize;

    /// One unit vector a question text.
    ///
    /// # Errors
    ///
    /// When the engine cannot embed the text.
    fn embed_questions(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EngineError>;

    /// One unit vector a document.
    ///
    /// # Errors
    ///
    /// When a picture does not decode.
    fn embed_documents(&self, documents: &[&Document]) -> Result<Vec<Vec<f32>>, EngineError>;

    /// Number of tokens that are read of a question of this text: of a long one, those that are
    /// not cut off.
    ///
    /// # Errors
    ///
    /// When the engine cannot read the text.
    fn count_tokens(&self, text: &str) -> Result<usize, EngineError>;
}
