//! What a model's passes will take, from its shape alone: memory and floating-point operations.
//!
//! Counted is what [`crate::Actor`] really does: prompts once a group, replies in the same pass,
//! activations that the layers keep, the head over the vocabulary in chunks. Not counted is what is
//! small or the same for all models: code, tokenizer, thread stacks.

use std::path::Path;

use crate::actor::{CACHE_BYTES, COMPLETIONS_AT_ONCE, PASS_TOKENS};
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

    /// Floats that one layer of the text decoder makes for each token: norms, projections, turned
    /// queries and keys, what is attended to, the gated product, the sums.
    fn layer_floats(&self) -> usize {
        let TextConfig { hidden_size, intermediate_size, head_dim, .. } = self.text;
        let (queries, keys) = (self.text.num_heads * head_dim, self.text.num_kv_heads * head_dim);
        let normed = usize::from(self.text.qk_norm);
        6 * hidden_size + (3 + normed) * queries + (3 + normed) * keys + 3 * intermediate_size
    }

    /// Floats that one vision block makes for each patch.
    fn vision_block_floats(&self) -> usize {
        13 * self.vision.hidden_size + 2 * self.vision.intermediate_size
    }

    /// Bytes that the forward pass of a learning pass leaves for its backward pass.
    pub fn kept_bytes(&self, tokens: usize, checkpointing: bool) -> usize {
        let per_layer = if checkpointing { self.text.hidden_size } else { self.layer_floats() };
        F32 * tokens * (per_layer * self.text.num_layers + 3 * self.text.hidden_size)
    }

    /// Bytes that a learning pass takes at its peak besides the weights: what the forward pass
    /// keeps, and of one layer what the backward pass makes.
    pub fn learning_bytes(&self, tokens: usize, checkpointing: bool) -> usize {
        let again = if checkpointing { self.layer_floats() } else { 0 };
        let gradients = 8 * self.text.intermediate_size + 10 * self.text.hidden_size;
        self.kept_bytes(tokens, checkpointing) + F32 * tokens * (again + gradients)
    }

    /// Bytes of what is trained besides the weights: for an adapter its own values; gradients and
    /// two moments.
    pub fn training_bytes(&self, trained: Trained) -> usize {
        let copies = match trained {
            Trained::Adapter(_) => 4,
            Trained::Full => 3,
        };
        copies * F32 * self.trained_values(trained)
    }

    /// Bytes that drawing replies to some prompts takes at its peak besides the weights: keys and
    /// values, and the pass over prompts or the logits of a step, for as many batches as are run
    /// side by side.
    pub fn sampling_bytes(&self, shared: Shared, prompts: usize, at_once: usize) -> usize {
        let rows = shared.tokens() * self.cache_bytes_per_token();
        let fitting = (COMPLETIONS_AT_ONCE / shared.replies.max(1)).min(CACHE_BYTES / rows.max(1));
        let batch = fitting.clamp(1, prompts.max(1));
        let batches = prompts.div_ceil(batch).clamp(1, at_once.max(1));
        let prefill = self.pass_bytes((batch * shared.prompt).min(PASS_TOKENS.max(shared.prompt)));
        let logits = 3 * F32 * batch * shared.replies * self.text.vocab_size;
        batches * (batch * rows + prefill.max(logits))
    }

    /// Bytes that a pass without gradients over some tokens takes besides the weights.
    fn pass_bytes(&self, tokens: usize) -> usize {
        F32 * tokens * (3 * self.text.intermediate_size + 4 * self.text.hidden_size)
    }

    /// Bytes that the probabilities of what follows some prompts take besides the weights.
    pub fn choosing_bytes(&self, prompt: usize, prompts: usize, at_once: usize) -> usize {
        let pass = (prompts * prompt).min(PASS_TOKENS.max(prompt));
        (prompts * prompt).div_ceil(pass.max(1)).clamp(1, at_once.max(1)) * self.pass_bytes(pass)
    }

    /// Bytes of the features of pictures that are kept in memory.
    pub fn kept_features_bytes(&self, patches: usize) -> usize {
        self.features_bytes(patches).min(CACHED_BYTES)
    }

    fn features_bytes(&self, patches: usize) -> usize {
        let merged = patches / self.vision.spatial_merge_size.pow(2);
        F32 * merged * (1 + self.vision.deepstack_indexes.len()) * self.text.hidden_size
    }

    /// Bytes of the pixels of pictures that are ready for the vision tower.
    pub fn pixels_bytes(&self, patches: usize) -> usize {
        let VisionConfig { in_channels, temporal_patch_size, patch_size, .. } = self.vision;
        F32 * patches * in_channels * temporal_patch_size * patch_size.pow(2)
    }

    /// Bytes that the vision tower takes at its peak for patches of one pass, and the features.
    pub fn vision_bytes(&self, patches: usize) -> usize {
        let block = F32 * patches * (self.vision_block_floats() / 2 + 2 * self.vision.hidden_size);
        block + self.features_bytes(patches)
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

    /// Bytes that the vision tower takes in a learning pass of the whole model.
    pub fn vision_learning_bytes(&self, patches: usize, checkpointing: bool) -> usize {
        let floats =
            if checkpointing { self.vision.hidden_size } else { self.vision_block_floats() };
        F32 * patches * floats * self.vision.depth
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
