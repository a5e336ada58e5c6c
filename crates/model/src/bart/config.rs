//! The shape of a BART, from its `config.json`.

use std::path::Path;

use crate::error::ModelError;
use crate::settings_object::Object;
use crate::weights::read_json;

/// What one of the two stacks is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StackConfig {
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) inner_width: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BartConfig {
    pub(super) vocab_size: usize,
    pub(super) width: usize,
    pub(super) max_positions: usize,
    pub(super) encoder: StackConfig,
    pub(super) decoder: StackConfig,
    /// Whether embeddings are multiplied by the root of the width.
    pub(super) scales_embeddings: bool,
    pub(super) begin: u32,
    pub(super) end: u32,
    /// The token that the decoder reads first.
    pub(super) decoder_start: u32,
}

impl BartConfig {
    /// # Errors
    ///
    /// When the file is missing or damaged, lacks a key, or asks for a variant that is not built.
    pub(super) fn load(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join("config.json");
        let value = read_json(&path)?;
        let config = Object::new(&path, "", &value)?;
        let kind = config.str("model_type")?;
        if kind != "bart" {
            return Err(config.unsupported(format!("a model of type {kind:?} is not \"bart\"")));
        }
        let activation = config.str("activation_function")?;
        if activation != "gelu" {
            let what = format!("the activation {activation:?} is not built, only \"gelu\"");
            return Err(config.unsupported(what));
        }
        for key in ["normalize_before", "add_final_layer_norm", "static_position_embeddings"] {
            if config.get(key).is_some() && config.bool(key)? {
                return Err(config.unsupported(format!("`{key}` is true, which is not built")));
            }
        }
        let read = Self {
            vocab_size: config.size("vocab_size")?,
            width: config.size("d_model")?,
            max_positions: config.size("max_position_embeddings")?,
            encoder: StackConfig {
                layers: config.size("encoder_layers")?,
                heads: config.size("encoder_attention_heads")?,
                inner_width: config.size("encoder_ffn_dim")?,
            },
            decoder: StackConfig {
                layers: config.size("decoder_layers")?,
                heads: config.size("decoder_attention_heads")?,
                inner_width: config.size("decoder_ffn_dim")?,
            },
            scales_embeddings: config.bool("scale_embedding")?,
            begin: config.id("bos_token_id")?,
            end: config.id("eos_token_id")?,
            decoder_start: config.id("decoder_start_token_id")?,
        };
        for heads in [read.encoder.heads, read.decoder.heads] {
            if !read.width.is_multiple_of(heads) {
                let what = format!("{heads} heads do not divide `d_model` {}", read.width);
                return Err(config.unsupported(what));
            }
        }
        Ok(read)
    }
}
