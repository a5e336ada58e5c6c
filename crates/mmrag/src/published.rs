//! Random models of the shapes of published checkpoints: for measurements, without their weights.
//!
//! Where each figure comes from is said beside it. A checkpoint's own `config.json` decides what
//! that checkpoint is; nothing here is read when one is loaded.

use std::path::Path;

use anyhow::Context as _;
use clap::ValueEnum;
use mmrag_model::{VlmConfig, write_random};
use serde_json::{Value, json};

use crate::output;
use crate::small_model::{SpecialTokens, write_tokenizer};

/// Deviation of random matrices (`initializer_range` of both families).
const DEVIATION: f32 = 0.02;

/// A published checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Published {
    /// Qwen3-VL with 2 billion parameters
    #[value(name = "qwen3-vl-2b")]
    Qwen3Vl2b,
    /// Qwen3-VL with 4 billion parameters
    #[value(name = "qwen3-vl-4b")]
    Qwen3Vl4b,
    /// Qwen2.5-VL with 3 billion parameters
    #[value(name = "qwen2.5-vl-3b")]
    Qwen25Vl3b,
    /// Qwen2.5-VL with 7 billion parameters
    #[value(name = "qwen2.5-vl-7b")]
    Qwen25Vl7b,
}

/// What differs between them: layers, width, inner width, heads, key heads, vocabulary.
struct Shape {
    layers: usize,
    width: usize,
    inner: usize,
    heads: usize,
    key_heads: usize,
    vocabulary: usize,
    tied: bool,
}

impl Published {
    fn is_qwen3(self) -> bool {
        matches!(self, Self::Qwen3Vl2b | Self::Qwen3Vl4b)
    }

    /// From published configurations as far as they were at hand; the 2B and 3B shapes and the 7B's
    /// layers from memory, to be checked against their files.
    fn shape(self) -> Shape {
        let of = |[layers, width, inner, heads, key_heads]: [usize; 5], vocabulary, tied| Shape {
            layers,
            width,
            inner,
            heads,
            key_heads,
            vocabulary,
            tied,
        };
        match self {
            Self::Qwen3Vl2b => of([28, 2048, 6144, 16, 8], 151_936, true),
            Self::Qwen3Vl4b => of([36, 2560, 9728, 32, 8], 151_936, true),
            Self::Qwen25Vl3b => of([36, 2048, 11_008, 16, 2], 151_936, true),
            Self::Qwen25Vl7b => of([28, 3584, 18_944, 28, 4], 152_064, false),
        }
    }

    /// The configuration, with the special tokens of a tokenizer.
    pub(crate) fn config(self, tokens: &SpecialTokens) -> Value {
        let (class, kind) = if self.is_qwen3() {
            ("Qwen3VLForConditionalGeneration", "qwen3_vl")
        } else {
            ("Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl")
        };
        let shape = self.shape();
        json!({
            "architectures": [class],
            "model_type": kind,
            "dtype": "bfloat16",
            "tie_word_embeddings": shape.tied,
            "image_token_id": tokens.image,
            "video_token_id": tokens.video,
            "vision_start_token_id": tokens.vision_start,
            "vision_end_token_id": tokens.vision_end,
            "eos_token_id": tokens.end_of_turn,
            "pad_token_id": tokens.end_of_text,
            "text_config": self.text(&shape, tokens),
            "vision_config": self.vision(shape.width),
        })
    }

    fn text(self, shape: &Shape, tokens: &SpecialTokens) -> Value {
        let (theta, section) =
            if self.is_qwen3() { (5e6, [24, 20, 20]) } else { (1e6, [16, 24, 24]) };
        let mut text = json!({
            "model_type": if self.is_qwen3() { "qwen3_vl_text" } else { "qwen2_5_vl_text" },
            "vocab_size": shape.vocabulary,
            "hidden_size": shape.width,
            "intermediate_size": shape.inner,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.key_heads,
            "head_dim": 128,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-6,
            "max_position_embeddings": 128_000,
            "tie_word_embeddings": shape.tied,
            "eos_token_id": tokens.end_of_turn,
            "pad_token_id": tokens.end_of_text,
            "rope_parameters": { "rope_type": "default", "rope_theta": theta, "mrope_section": section },
        });
        if self.is_qwen3() {
            text["attention_bias"] = false.into();
            text["rope_parameters"]["mrope_interleaved"] = true.into();
        }
        text
    }

    fn vision(self, width: usize) -> Value {
        if self.is_qwen3() {
            return json!({
                "model_type": "qwen3_vl_vision",
                "depth": 24,
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_heads": 16,
                "in_channels": 3,
                "patch_size": 16,
                "temporal_patch_size": 2,
                "spatial_merge_size": 2,
                "out_hidden_size": width,
                "num_position_embeddings": 2304,
                "deepstack_visual_indexes": [5, 11, 17],
                "hidden_act": "gelu_pytorch_tanh",
                "rope_parameters": { "rope_type": "axial", "rope_theta": 10_000.0 },
            });
        }
        json!({
            "model_type": "qwen2_5_vl_vision",
            "depth": 32,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "in_channels": 3,
            "patch_size": 14,
            "temporal_patch_size": 2,
            "spatial_merge_size": 2,
            "out_hidden_size": width,
            "window_size": 112,
            "fullatt_block_indexes": [7, 15, 23, 31],
            "hidden_act": "silu",
            "rope_parameters": { "rope_type": "axial", "rope_theta": 10_000.0 },
        })
    }

    /// The image processor's settings: bounds in pixels, means and deviations of the channels.
    fn preprocessor(self) -> Value {
        let (patch, [least, most], mean, std) = if self.is_qwen3() {
            (16, [65_536, 16_777_216], [0.5; 3], [0.5; 3])
        } else {
            let mean = [0.481_454_66, 0.457_827_5, 0.408_210_73];
            (14, [3_136, 12_845_056], mean, [0.268_629_54, 0.261_302_58, 0.275_777_11])
        };
        json!({
            "image_processor_type": "Qwen2VLImageProcessor",
            "do_convert_rgb": true,
            "do_resize": true,
            "do_rescale": true,
            "do_normalize": true,
            "resample": 3,
            "rescale_factor": 1.0 / 255.0,
            "size": { "shortest_edge": least, "longest_edge": most },
            "patch_size": patch,
            "temporal_patch_size": 2,
            "merge_size": 2,
            "image_mean": mean,
            "image_std": std,
        })
    }
}

/// Writes a random model of a published shape in bf16, with the built-in tokenizer, trained on the
/// texts of `n_lessons` lessons.
///
/// # Errors
///
/// When the folder holds something or cannot be written.
pub(crate) fn make(like: Published, out: &Path, seed: u64, n_lessons: usize) -> anyhow::Result<()> {
    let context = || format!("failed to make a model in {}", out.display());
    let (_, tokens) = write_tokenizer(out, n_lessons)?;
    output::file(&out.join("config.json"), &format!("{:#}\n", like.config(&tokens)))?;
    let preprocessor = format!("{:#}\n", like.preprocessor());
    output::file(&out.join("preprocessor_config.json"), &preprocessor)?;
    let config = VlmConfig::load(out).with_context(context)?;
    write_random(out, &config, seed, DEVIATION).with_context(context)
}

#[cfg(test)]
mod tests {
    use mmrag_model::{AttentionBias, Vlm};

    use super::*;

    #[test]
    fn shapes_have_as_many_parameters_as_their_names_say() {
        let folder = tempfile::tempdir().unwrap();
        let (_, tokens) = write_tokenizer(folder.path(), 60).unwrap();
        for (like, least, most) in [
            (Published::Qwen3Vl2b, 2.0e9, 2.3e9),
            (Published::Qwen3Vl4b, 4.2e9, 4.6e9),
            (Published::Qwen25Vl3b, 3.5e9, 4.0e9),
            (Published::Qwen25Vl7b, 8.0e9, 8.5e9),
        ] {
            let config = like.config(&tokens).to_string();
            std::fs::write(folder.path().join("config.json"), config).unwrap();
            let config = VlmConfig::load(folder.path()).unwrap();
            assert_eq!(config.text.attention_bias == AttentionBias::None, like.is_qwen3());
            let parameters: usize = Vlm::slots(&config)
                .unwrap()
                .iter()
                .map(|slot| slot.shape.iter().product::<usize>())
                .sum();
            assert!((least..most).contains(&(parameters as f64)), "{like:?}: {parameters}");
        }
    }
}
