//! The model of this project as a learner: an adapter on it, or all of its weights.

use std::path::Path;

use candle_core::Var;
use mmrag_core::{Completion, EngineError, Prompt, Sampling};
use mmrag_model::{Actor, Adapter, Encoded, Grad, Group, ModelError, Policy, Weights};
use mmrag_ops::TokenScores;

use crate::learner::{Learner, ReplyGroup, View};

/// A policy of which an adapter, or the whole, is being trained.
///
/// With an adapter, the reference policy is the base with the adapter off, also where training
/// began from an adapter that was trained before. Full training has no reference policy: it would
/// be a second copy of the model.
#[derive(Clone, Copy)]
pub struct Pupil<'a> {
    policy: &'a Policy,
    adapter: Option<&'a Adapter>,
    checkpointing: bool,
}

impl<'a> Pupil<'a> {
    /// Trains an adapter.
    pub fn adapter(policy: &'a Policy, adapter: &'a Adapter) -> Self {
        Self { policy, adapter: Some(adapter), checkpointing: false }
    }

    /// Trains all weights.
    pub fn full(policy: &'a Policy) -> Self {
        Self { policy, adapter: None, checkpointing: false }
    }

    /// The same, with activation checkpointing on or off.
    #[must_use]
    pub fn with_checkpointing(self, checkpointing: bool) -> Self {
        Self { checkpointing, ..self }
    }

    /// The policy as it stands, for evaluation: it generates and chooses.
    pub fn actor(&self) -> Actor<'a> {
        self.policy.with(self.adapter).with_checkpointing(self.checkpointing)
    }
}

impl Learner for Pupil<'_> {
    type Encoded = Encoded;

    fn encode(&self, prompt: &Prompt) -> Result<Encoded, EngineError> {
        self.policy.encode(prompt).map_err(told("encode a prompt"))
    }

    fn prompt_tokens(&self, prompt: &Encoded) -> usize {
        prompt.len()
    }

    fn encode_reply(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        self.policy.encode_reply(text).map_err(told("encode a reply"))
    }

    fn sample(
        &self,
        prompts: &[Encoded],
        sampling: &Sampling,
    ) -> Result<Vec<Vec<Completion>>, EngineError> {
        self.actor().sample(prompts, sampling).map_err(told("draw replies"))
    }

    fn scores(
        &self,
        groups: &[ReplyGroup<Encoded>],
        temperature: f64,
        view: View,
    ) -> Result<TokenScores, EngineError> {
        let (actor, grad) = match (view, self.adapter) {
            (View::Learning, Some(_)) => (self.actor(), Grad::Adapter),
            (View::Learning, None) => (self.actor(), Grad::Full),
            (View::Current, _) => (self.actor(), Grad::None),
            (View::Reference, Some(_)) => (self.policy.with(None), Grad::None),
            (View::Reference, None) => {
                return Err(EngineError::new(
                    "score replies: full training keeps no reference policy; set loss.beta to 0 \
                     or train an adapter",
                ));
            }
        };
        let groups: Vec<Group> = groups
            .iter()
            .map(|group| Group { prompt: group.prompt.clone(), replies: group.replies.clone() })
            .collect();
        actor.logprobs(&groups, temperature, grad).map_err(told("score replies"))
    }

    fn vars(&self) -> Vec<(String, Var)> {
        self.adapter.map_or_else(|| self.policy.vars(), Adapter::vars)
    }

    fn save(&self, folder: &Path) -> Result<(), EngineError> {
        let base = self.policy.dir().file_name().map(|name| name.to_string_lossy());
        match self.adapter {
            Some(adapter) => adapter.save(folder, base.as_deref().unwrap_or_default()),
            None => self.policy.save(folder),
        }
        .map_err(told("save the weights"))
    }

    fn restore(&self, folder: &Path) -> Result<(), EngineError> {
        self.take(folder).map_err(told("take up saved weights"))
    }
}

impl Pupil<'_> {
    fn take(&self, folder: &Path) -> Result<(), ModelError> {
        if self.adapter.is_some() {
            let saved = Adapter::load(folder, self.policy.vlm())?.vars();
            let ours = self.vars();
            if !ours.iter().map(|(name, _)| name).eq(saved.iter().map(|(name, _)| name)) {
                return Err(ModelError::Adapter {
                    path: folder.to_path_buf(),
                    reason: "it changes other modules than the adapter that is trained".into(),
                });
            }
            for ((_, var), (_, saved)) in ours.iter().zip(&saved) {
                var.set(saved.as_tensor())?;
            }
            return Ok(());
        }
        let weights = Weights::open(folder)?;
        for (name, var) in self.vars() {
            var.set(&weights.f32(&name, var.dims())?.to_device(var.device())?)?;
        }
        Ok(())
    }
}

fn told(doing: &'static str) -> impl Fn(ModelError) -> EngineError {
    move |error| EngineError::caused_by(doing, error)
}
