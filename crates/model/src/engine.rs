//! The policy as an engine: prompts in, completions and probabilities out.

use mmrag_core::{Choose, Completion, EngineError, Generate, Guide, Prompt, Sampling, Tell};
use rayon::prelude::*;

use crate::actor::{Actor, Watch};
use crate::encoded::Encoded;
use crate::error::ModelError;

impl Generate for Actor<'_> {
    fn generate(
        &self,
        prompts: &[Prompt],
        sampling: &Sampling,
    ) -> Result<Vec<Vec<Completion>>, EngineError> {
        let encoded = self.encode_all(prompts)?;
        self.sample(&encoded, sampling).map_err(|e| EngineError::caused_by("generate", e))
    }

    fn generate_telling(
        &self,
        prompts: &[Prompt],
        sampling: &Sampling,
        tell: Tell<'_>,
    ) -> Result<Vec<Vec<Completion>>, EngineError> {
        let encoded = self.encode_all(prompts)?;
        let watch = Watch { tell: Some(tell), guides: None };
        let drawn = self.sample_watched(&encoded, sampling, watch);
        drawn.map_err(|e| EngineError::caused_by("generate", e))
    }

    fn generate_guided(
        &self,
        prompts: &[Prompt],
        guides: &[&dyn Guide],
        sampling: &Sampling,
        tell: Tell<'_>,
    ) -> Result<Vec<Vec<Completion>>, EngineError> {
        let encoded = self.encode_all(prompts)?;
        let watch = Watch { tell: Some(tell), guides: Some(guides) };
        let drawn = self.sample_watched(&encoded, sampling, watch);
        drawn.map_err(|e| EngineError::caused_by("generate", e))
    }

    fn count_tokens(&self, prompt: &Prompt) -> Result<usize, EngineError> {
        let encoded = self.policy().encode(prompt);
        Ok(encoded.map_err(|e| EngineError::caused_by(e.to_string(), e))?.len())
    }
}

impl Choose for Actor<'_> {
    fn choose(&self, prompts: &[Prompt], choices: &[&str]) -> Result<Vec<Vec<f64>>, EngineError> {
        let failed = |e: ModelError| EngineError::caused_by(e.to_string(), e);
        let sets = self.policy().tokenizer().choice_ids(choices).map_err(failed)?;
        self.next_token_probabilities(&self.encode_all(prompts)?, &sets).map_err(failed)
    }
}

impl Actor<'_> {
    fn encode_all(&self, prompts: &[Prompt]) -> Result<Vec<Encoded>, EngineError> {
        let encode = |prompt: &Prompt| {
            self.policy().encode(prompt).map_err(|e| EngineError::caused_by(e.to_string(), e))
        };
        prompts.par_iter().map(encode).collect()
    }
}
