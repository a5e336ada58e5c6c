//! What a model takes, from its shape alone: bytes of what it holds, and the floating-point
//! operations of its passes.
//!
//! Counted is what [`crate::Actor`] really does: prompts once a group, replies in the same pass. What
//! a pass takes in memory besides is not told here: it is measured on models of few layers.

use std::path::Path;

use crate::actor::{CACHE_BYTES, COMPLETIONS_AT_ONCE};
use crate::config::{TextConfig, VisionConfig, VlmConfig};
use crate::error::ModelError;
use crate::policy::{CACHED_BYTES, Depth};
use crate::vlm::Vlm;
use crate::weights::{Precision, Weights};

/// Bytes of an f32 number.
const F32: usize = 4;

/// The costs of a checkpoint.
#[derive(Clone, Debug)]
pub struct Cost {
    text: TextConfig,
    vision: VisionConfig,
    /// Bytes of all weights in memory.
    weights: usize,
    /// Values of all weights.
    parameters: usize,
    /// Values of the text decoder's linear maps.
    text_maps: usize,
    /// Inputs and outputs of these, added up: an adapter of rank r has r times as many values.
    text_map_sides: usize,
    /// Values of the vision tower's linear maps.
    vision_maps: usize,
}

/// Replies to prompts in one learning pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Tokens of the prompt, computed once.
    pub prompt: usize,
    /// Replies to it.
    pub replies: usize,
    /// Tokens of each reply.
    pub new: usize,
}

impl Shared {
    /// Tokens of the pass.
    pub fn tokens(self) -> usize {
        self.prompt + self.replies * self.new
    }

    /// Keys that all queries see, added up.
    fn pairs(self) -> f64 {
        let prompt = self.prompt as f64;
        let new = (self.replies * self.new) as f64;
        prompt * prompt / 2.0 + new * (prompt + self.new as f64 / 2.0)
    }
}

/// What is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trained {
    /// An adapter of this rank on all maps of the text decoder.
    Adapter(usize),
    /// All weights.
    Full,
}

impl Cost {
    /// The most bytes of picture features that are kept in memory.
    pub const MOST_FEATURES_BYTES: usize = CACHED_BYTES;

    /// Reads a checkpoint's configuration and the headers of its files, no weights.
    ///
    /// # Errors
    ///
    /// When a file is missing or damaged.
    pub fn read(dir: impl AsRef<Path>, precision: Precision) -> Result<Self, ModelError> {
        let dir = dir.as_ref();
        let (config, files) = (VlmConfig::load(dir)?, Weights::open(dir)?);
        let slots = Vlm::slots(&config)?;
        let (mut weights, mut parameters) = (0, 0);
        let (mut text_maps, mut text_map_sides, mut vision_maps) = (0, 0, 0);
        for slot in &slots {
            let values = slot.shape.iter().product::<usize>();
            let is_vector = slot.shape.len() < 2;
            let kept = if is_vector { Precision::F32 } else { precision };
            weights += values * files.bytes_per_value(&slot.name, kept)?;
            parameters += values;
            if slot.name.contains("language_model.layers") && !is_vector {
                text_maps += values;
                text_map_sides += slot.shape.iter().sum::<usize>();
            } else if slot.name.contains("visual") && !is_vector {
                vision_maps += values;
            }
        }
        let VlmConfig { text, vision, .. } = config;
        Ok(Self { text, vision, weights, parameters, text_maps, text_map_sides, vision_maps })
    }

    /// Bytes of the weights in memory.
    pub fn weights_bytes(&self) -> usize {
        self.weights
    }

    /// Values that are trained.
    pub fn trained_values(&self, trained: Trained) -> usize {
        match trained {
            Trained::Adapter(rank) => rank * self.text_map_sides,
            Trained::Full => self.parameters,
        }
    }

    /// Bytes of keys and values of one token.
    pub fn cache_bytes_per_token(&self) -> usize {
        2 * F32 * self.text.num_layers * self.text.num_kv_heads * self.text.head_dim
    }

    /// Bytes that stay of what is trained besides the weights, step after step: two moments, and of
    /// an adapter its own values.
    pub fn training_bytes(&self, trained: Trained) -> usize {
        let copies = match trained {
            Trained::Adapter(_) => 3,
            Trained::Full => 2,
        };
        copies * F32 * self.trained_values(trained)
    }

    /// How many prompts of one length are answered together, of any number.
    pub fn prompts_at_once(&self, shared: Shared) -> usize {
        let rows = shared.tokens() * self.cache_bytes_per_token();
        (COMPLETIONS_AT_ONCE / shared.replies.max(1)).min(CACHE_BYTES / rows.max(1)).max(1)
    }

    /// Bytes of the features of pictures that are kept in memory; nothing if there is no room for
    /// all of them, and they come and go.
    pub fn kept_features_bytes(&self, patches: usize) -> Option<usize> {
        Some(self.features_bytes(patches)).filter(|&bytes| bytes <= CACHED_BYTES)
    }

    /// Bytes of the features of pictures.
    pub fn features_bytes(&self, patches: usize) -> usize {
        let merged = patches / self.vision.spatial_merge_size.pow(2);
        F32 * merged * (1 + self.vision.deepstack_indexes.len()) * self.text.hidden_size
    }

    /// Bytes of the pixels of pictures that are ready for the vision tower.
    pub fn pixels_bytes(&self, patches: usize) -> usize {
        let VisionConfig { in_channels, temporal_patch_size, patch_size, .. } = self.vision;
        F32 * patches * in_channels * temporal_patch_size * patch_size.pow(2)
    }

    fn attention_flops(&self, shared: Shared) -> f64 {
        let queries = (self.text.num_heads * self.text.head_dim) as f64;
        4.0 * queries * shared.pairs() * self.text.num_layers as f64
    }

    /// Floating-point operations of the vision tower's forward pass.
    pub fn vision_flops(&self, patches: usize) -> f64 {
        2.0 * self.vision_maps as f64 * patches as f64
    }

    /// Floating-point operations of the head over all the vocabulary for some tokens.
    pub fn head_flops(&self, tokens: usize) -> f64 {
        2.0 * (self.text.hidden_size * self.text.vocab_size) as f64 * tokens as f64
    }

    /// Floating-point operations of one update: forward and backward pass, with layers computed
    /// again if they are checkpointed.
    pub fn update_flops(&self, shared: Shared, trained: Trained, checkpointing: bool) -> f64 {
        let maps = 2.0 * self.text_maps as f64 * shared.tokens() as f64;
        let (backward, adapter) = match trained {
            Trained::Adapter(_) => (maps, 6.0 * self.trained_values(trained) as f64),
            Trained::Full => (2.0 * maps, 0.0),
        };
        let forwards = if checkpointing { 2.0 } else { 1.0 };
        let attention = self.attention_flops(shared) * (forwards + 2.5);
        let head = self.head_flops(shared.replies * shared.new);
        let head = if trained == Trained::Full { 4.0 * head } else { 3.0 * head };
        maps * forwards + backward + attention + head + adapter * shared.tokens() as f64
    }

    /// Bytes of the weights of one layer of the text decoder.
    pub fn layer_bytes(&self) -> usize {
        self.text_maps / self.text.num_layers.max(1) * self.weights / self.parameters.max(1)
    }

    /// How many blocks of the vision tower speak to the decoder's first layers.
    pub fn vision_levels(&self) -> usize {
        self.vision.deepstack_indexes.len()
    }

    /// How deep the model is.
    pub fn depth(&self) -> Depth {
        Depth { layers: self.text.num_layers, blocks: self.vision.depth }
    }
}
