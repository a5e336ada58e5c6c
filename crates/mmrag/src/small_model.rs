//! The built-in small model before it has learned: its shape, its tokenizer, its first weights.

use std::path::Path;

use anyhow::Context as _;
use candle_core::Tensor;
use mmrag_model::{ModelError, Param, Vlm, VlmConfig, save_safetensors, write_small_tokenizer};
use mmrag_task::PromptStyle;
use serde_json::{Value, json};

use crate::notes::Notes;
use crate::{lessons, output};

/// Tokens of the small model's vocabulary.
const VOCABULARY: usize = 2048;

/// Makes a small model with random weights in a new or empty folder, its tokenizer trained on the
/// texts of `n_lessons` lessons.
///
/// # Errors
///
/// When the folder holds something or cannot be written.
pub(crate) fn make(out: &Path, seed: u64, n_lessons: usize) -> anyhow::Result<()> {
    let context = || format!("failed to make a model in {}", out.display());
    let (vocabulary, tokens) = write_tokenizer(out, n_lessons)?;
    let config = config(vocabulary, &tokens);
    output::file(&out.join("config.json"), &format!("{config:#}\n"))?;
    let config = VlmConfig::load(out).with_context(context)?;
    let model = Vlm::random(config, seed, 1.0).with_context(context)?;
    let tensors = initialised(&model).with_context(context)?;
    save_safetensors(out.join("model.safetensors"), &tensors).with_context(context)?;
    Notes { prompts: PromptStyle::Compact, ..Notes::default() }.write(out)
}

/// Writes the small model's tokenizer into a new or empty folder, trained on the texts of
/// `n_lessons` lessons, and says how many tokens it has and which are special.
///
/// # Errors
///
/// When the folder holds something or cannot be written.
pub(crate) fn write_tokenizer(
    out: &Path,
    n_lessons: usize,
) -> anyhow::Result<(usize, SpecialTokens)> {
    let context = || format!("failed to make a model in {}", out.display());
    if std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        anyhow::bail!("{}: the folder is not empty", context());
    }
    let texts = lessons::texts(n_lessons);
    let vocabulary = write_small_tokenizer(out, texts, VOCABULARY).with_context(context)?;
    Ok((vocabulary, special_tokens(out)?))
}

/// The ids that the tokenizer gave the tokens the configuration names.
fn special_tokens(folder: &Path) -> anyhow::Result<SpecialTokens> {
    let path = folder.join("tokenizer.json");
    let context = || format!("failed to read {}", path.display());
    let text = std::fs::read_to_string(&path).with_context(context)?;
    let tokenizer: Value = serde_json::from_str(&text).with_context(context)?;
    let added = tokenizer["added_tokens"].as_array().with_context(context)?;
    let id = |content: &str| {
        added
            .iter()
            .find(|token| token["content"] == content)
            .and_then(|token| u32::try_from(token["id"].as_u64()?).ok())
            .with_context(|| format!("failed to find {content} in {}", path.display()))
    };
    Ok(SpecialTokens {
        image: id("<|image_pad|>")?,
        video: id("<|video_pad|>")?,
        vision_start: id("<|vision_start|>")?,
        vision_end: id("<|vision_end|>")?,
        end_of_turn: id("<|im_end|>")?,
        end_of_text: id("<|endoftext|>")?,
    })
}

/// Ids of the tokens that the model's configuration must name.
pub(crate) struct SpecialTokens {
    /// Stands for a piece of a picture.
    pub(crate) image: u32,
    /// Stands for a piece of a video; the small model is shown none.
    pub(crate) video: u32,
    /// Begins a picture.
    pub(crate) vision_start: u32,
    /// Ends a picture.
    pub(crate) vision_end: u32,
    /// Ends a turn.
    pub(crate) end_of_turn: u32,
    /// Fills up.
    pub(crate) end_of_text: u32,
}

/// A Qwen3-VL configuration of about 3.6 million parameters: six layers of width 192 that read,
/// four of width 96 that see. Pictures of 64 × 64 make 8 × 8 patches and 16 tokens.
fn config(vocab_size: usize, tokens: &SpecialTokens) -> Value {
    json!({
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "model_type": "qwen3_vl",
        "dtype": "float32",
        "tie_word_embeddings": true,
        "image_token_id": tokens.image,
        "video_token_id": tokens.video,
        "vision_start_token_id": tokens.vision_start,
        "vision_end_token_id": tokens.vision_end,
        "eos_token_id": tokens.end_of_turn,
        "pad_token_id": tokens.end_of_text,
        "text_config": text(vocab_size, tokens),
        "vision_config": vision(),
    })
}

fn text(vocab_size: usize, tokens: &SpecialTokens) -> Value {
    json!({
        "model_type": "qwen3_vl_text",
        "vocab_size": vocab_size,
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "attention_bias": false,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": true,
        "use_cache": true,
        "eos_token_id": tokens.end_of_turn,
        "pad_token_id": tokens.end_of_text,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "mrope_section": [6, 5, 5],
            "mrope_interleaved": true,
        },
    })
}

fn vision() -> Value {
    json!({
        "model_type": "qwen3_vl_vision",
        "depth": 4,
        "hidden_size": 96,
        "intermediate_size": 288,
        "num_heads": 3,
        "in_channels": 3,
        "patch_size": 8,
        "temporal_patch_size": 2,
        "spatial_merge_size": 2,
        "out_hidden_size": 192,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [1],
        "hidden_act": "gelu_pytorch_tanh",
        "initializer_range": 0.02,
        "rope_parameters": { "rope_type": "axial", "rope_theta": 10_000.0 },
    })
}

/// The weights that a small model begins with, from weights of deviation 1: matrices shrink with
/// the number of inputs, those that add to the residual stream also with the depth, embeddings to
/// 0.02; norms and biases stay.
///
/// # Errors
///
/// When memory is out.
fn initialised(model: &Vlm) -> Result<Vec<(String, Tensor)>, ModelError> {
    let depth = |name: &str| {
        let config = model.config();
        if name.contains("visual") { config.vision.depth } else { config.text.num_layers }
    };
    let scaled = |param: &Param| {
        let (name, weight) = (param.name(), param.var().as_tensor());
        let tensor = match weight.dims() {
            [_, inputs @ ..] if !inputs.is_empty() => {
                let inputs = inputs.iter().product::<usize>();
                (weight * deviation(name, inputs, depth(name)))?
            }
            // With heads this narrow, queries and keys of length 1 could hardly tell one token
            // from the next.
            _ if name.contains("q_norm") || name.contains("k_norm") => (weight * 1.5)?,
            _ => weight.clone(),
        };
        Ok((name.to_owned(), tensor))
    };
    let mut tensors = model.params().iter().map(scaled).collect::<Result<Vec<_>, ModelError>>()?;
    repeating(&mut tensors, model.config())?;
    Ok(tensors)
}

/// How much of what a head attends to it adds at first.
const REPEATED: f64 = 0.06;

/// Makes the text decoder's heads begin as if they had learned to repeat what they attend to: each
/// gives back what it takes. So a token can be copied before it has been copied often. After
/// mimetic initialisation (Trockman & Kolter 2023, arXiv 2305.09828).
fn repeating(tensors: &mut [(String, Tensor)], config: &VlmConfig) -> Result<(), ModelError> {
    let text = &config.text;
    let (heads, groups, width) = (text.num_heads, text.num_kv_heads, text.head_dim);
    for layer in 0..text.num_layers {
        let place = |part: &str| {
            let end = format!("language_model.layers.{layer}.self_attn.{part}.weight");
            let found = tensors.iter().position(|(name, _)| name.ends_with(&end));
            found.expect("every layer has its projections")
        };
        let (values, outputs) = (place("v_proj"), place("o_proj"));
        let gives = (0..heads).map(|head| {
            let taken = tensors[values].1.narrow(0, head * groups / heads * width, width)?;
            taken.t()? * REPEATED
        });
        let gives = Tensor::cat(&gives.collect::<candle_core::Result<Vec<_>>>()?, 1)?;
        tensors[outputs].1 = (&tensors[outputs].1 + gives)?;
    }
    Ok(())
}

fn deviation(name: &str, inputs: usize, depth: usize) -> f64 {
    const TO_RESIDUAL: [&str; 4] = ["o_proj", "down_proj", "attn.proj", "mlp.linear_fc2"];
    let by_inputs = 0.6 / (inputs as f64).sqrt();
    if name.contains("embed_tokens") || name.contains("pos_embed") {
        0.08
    } else if TO_RESIDUAL.iter().any(|part| name.contains(part)) {
        0.1 * by_inputs / (2.0 * depth as f64).sqrt()
    } else {
        by_inputs
    }
}
