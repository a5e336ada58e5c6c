//! The model type `siglip`: SigLIP (Zhai et al., 2023), and SigLIP 2 (Tschannen et al., 2025) of a
//! fixed resolution.
//!
//! A picture is what a learned question to all its patches gives back, a text what its last place
//! has seen: texts are filled up to their full length, as in training, and the filling is seen too.
//!
//! Published configs leave out what has its default, so here a missing key is that default, as the
//! authors' configuration class has it. Tensors of another shape are refused all the same.

// Dimensions: `t` tokens or patches, `d` width, `p` values of a patch.

use std::path::Path;

use candle_core::{Device, Tensor};
use mmrag_core::ImageSource;
use serde_json::Value;
use tokenizers::Tokenizer;

use super::parts::{Attention, Pair, json, normed, pair, project, tokenizer, tokens, unit};
use super::tower::{Activation, Mlp, Shape, Tower};
use super::view::View;
use crate::error::ModelError;
use crate::settings_object::Object;
use crate::weights::Weights;

/// Both towers, each with its head.
pub(super) struct Siglip {
    words: Words,
    words_vd: Tensor,
    text_places_td: Tensor,
    text: Tower,
    text_norm: Pair,
    text_head: Pair,
    view: View,
    patches: Pair,
    picture_places_td: Tensor,
    picture: Tower,
    after: Pair,
    head: Head,
    width: usize,
}

/// How a text becomes as many tokens as there are places.
struct Words {
    tokenizer: Tokenizer,
    style: Style,
    filling: u32,
    places: usize,
}

/// How a text is put before it is cut into tokens.
#[derive(Clone, Copy)]
enum Style {
    /// In lower case, without punctuation, with single spaces: SigLIP.
    Bare,
    /// In lower case: SigLIP 2.
    Lower,
}

/// A learned question to all patches.
struct Head {
    question_td: Tensor,
    attention: Attention,
    norm: Pair,
    mlp: Mlp,
}

impl Siglip {
    pub(super) fn load(folder: &Path, config: &Object<'_>) -> Result<Self, ModelError> {
        let part = |key| config.child(key)?.ok_or_else(|| config.missing(key));
        let (text, vision) = (part("text_config")?, part("vision_config")?);
        if vision.get("vision_use_head").and_then(Value::as_bool) == Some(false) {
            return Err(vision.unsupported("a picture tower without a head".to_owned()));
        }
        let weights = Weights::open(folder)?;
        let (text_shape, shape) = (shape(&text)?, shape(&vision)?);
        let (text_width, width) = (text_shape.width, shape.width);
        let vectors = or(&text, "projection_size", text_width)?;
        if vectors != width {
            return Err(config.unsupported(format!(
                "vectors of {vectors} for texts and of {width} for pictures"
            )));
        }
        let (words, places) =
            (or(&text, "vocab_size", 32_000)?, or(&text, "max_position_embeddings", 64)?);
        let (side, patch) = (or(&vision, "image_size", 224)?, or(&vision, "patch_size", 16)?);
        let view = View::stretched(folder, side, patch)?;
        let tensor = |name: &str, shape: &[usize]| weights.f32(name, shape);
        let patch_shape = [width, 3, patch, patch];
        let (patches_dp, bias_d) =
            pair(&weights, "vision_model.embeddings.patch_embedding", &patch_shape)?;
        Ok(Self {
            words: Words::load(folder, places)?,
            words_vd: tensor("text_model.embeddings.token_embedding.weight", &[words, text_width])?,
            text_places_td: tensor(
                "text_model.embeddings.position_embedding.weight",
                &[places, text_width],
            )?,
            text: Tower::load(&weights, "text_model", text_shape)?,
            text_norm: pair(&weights, "text_model.final_layer_norm", &[text_width])?,
            text_head: pair(&weights, "text_model.head", &[vectors, text_width])?,
            patches: (patches_dp.reshape((width, 3 * patch * patch))?, bias_d),
            picture_places_td: tensor(
                "vision_model.embeddings.position_embedding.weight",
                &[view.n_patches(), width],
            )?,
            view,
            picture: Tower::load(&weights, "vision_model", shape)?,
            after: pair(&weights, "vision_model.post_layernorm", &[width])?,
            head: Head::load(&weights, shape)?,
            width,
        })
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The tokens of a text, without what fills it up.
    pub(super) fn tokens(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        self.words.tokens(text)
    }

    pub(super) fn embed_text(&self, text: &str) -> Result<Vec<f32>, ModelError> {
        let mut ids = self.words.tokens(text)?;
        ids.resize(self.words.places, self.words.filling);
        let ids_t = Tensor::new(ids.as_slice(), &Device::Cpu)?;
        let x_td = (self.words_vd.index_select(&ids_t, 0)? + &self.text_places_td)?;
        let x_td = self.text.forward(x_td)?;
        let last_td = x_td.narrow(0, ids.len() - 1, 1)?;
        let last_td = normed(&last_td, &self.text_norm, self.text.eps)?;
        Ok(unit(project(&last_td, &self.text_head)?.get(0)?.to_vec1()?))
    }

    pub(super) fn embed_picture(&self, source: &ImageSource) -> Result<Vec<f32>, ModelError> {
        let patches_tp = self.view.patches(source)?;
        let x_td = (project(&patches_tp, &self.patches)? + &self.picture_places_td)?;
        let x_td = self.picture.forward(x_td)?;
        let x_td = normed(&x_td, &self.after, self.picture.eps)?;
        Ok(unit(self.head.forward(&x_td, self.picture.eps)?.get(0)?.to_vec1()?))
    }
}

impl Head {
    fn load(weights: &Weights, shape: Shape) -> Result<Self, ModelError> {
        let (name, d) = ("vision_model.head", shape.width);
        // The three projections lie in one tensor.
        let in_dd = weights.f32(&format!("{name}.attention.in_proj_weight"), &[3 * d, d])?;
        let in_d = weights.f32(&format!("{name}.attention.in_proj_bias"), &[3 * d])?;
        let third = |i: usize| -> Result<Pair, ModelError> {
            let part = |tensor: &Tensor| tensor.narrow(0, i * d, d)?.contiguous();
            Ok((part(&in_dd)?, part(&in_d)?))
        };
        let question = weights.f32(&format!("{name}.probe"), &[1, 1, d])?;
        Ok(Self {
            question_td: question.reshape((1, d))?,
            attention: Attention {
                query: third(0)?,
                key: third(1)?,
                value: third(2)?,
                output: pair(weights, &format!("{name}.attention.out_proj"), &[d, d])?,
                n_heads: shape.n_heads,
                is_causal: false,
            },
            norm: pair(weights, &format!("{name}.layernorm"), &[d])?,
            mlp: Mlp::load(weights, &format!("{name}.mlp"), shape)?,
        })
    }

    fn forward(&self, x_td: &Tensor, eps: f64) -> Result<Tensor, ModelError> {
        let seen_td = self.attention.attend(&self.question_td, x_td)?;
        let more_td = self.mlp.forward(&normed(&seen_td, &self.norm, eps)?)?;
        Ok((seen_td + more_td)?)
    }
}

impl Words {
    fn load(folder: &Path, places: usize) -> Result<Self, ModelError> {
        let tokenizer = tokenizer(folder, places)?;
        let path = folder.join("tokenizer_config.json");
        let config = json(&path)?;
        let config = Object::new(&path, "", &config)?;
        let style = match config.str("tokenizer_class")? {
            "SiglipTokenizer" => Style::Bare,
            "GemmaTokenizer" | "GemmaTokenizerFast" | "Siglip2Tokenizer" => Style::Lower,
            other => {
                return Err(config.unsupported(format!(
                    "the tokenizer {other}: SigLIP has SiglipTokenizer, SigLIP 2 GemmaTokenizer"
                )));
            }
        };
        if config.get("padding_side").and_then(Value::as_str) == Some("left") {
            return Err(config.unsupported("texts that are filled up at their beginning".into()));
        }
        let filling = config.take("pad_token", "a token", |value| {
            value.as_str().or_else(|| value.get("content")?.as_str())
        })?;
        let unknown = || config.bad("pad_token", "a token of the tokenizer");
        let filling = tokenizer.token_to_id(filling).ok_or_else(unknown)?;
        Ok(Self { tokenizer, style, filling, places })
    }

    fn tokens(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let mut text = text.to_lowercase();
        if let Style::Bare = self.style {
            text.retain(|c| !c.is_ascii_punctuation());
            text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        }
        tokens(&self.tokenizer, &text)
    }
}

fn shape(config: &Object<'_>) -> Result<Shape, ModelError> {
    let (width, n_heads) =
        (or(config, "hidden_size", 768)?, or(config, "num_attention_heads", 12)?);
    if !width.is_multiple_of(n_heads) {
        return Err(config.bad("num_attention_heads", "a divisor of hidden_size"));
    }
    let name = match config.get("hidden_act") {
        Some(_) => config.str("hidden_act")?,
        None => "gelu_pytorch_tanh",
    };
    let eps = match config.get("layer_norm_eps") {
        Some(_) => config.float("layer_norm_eps")?,
        None => 1e-6,
    };
    let unknown = || config.unsupported(format!("the activation {name}"));
    Ok(Shape {
        width,
        wide: or(config, "intermediate_size", 3072)?,
        n_heads,
        n_layers: or(config, "num_hidden_layers", 12)?,
        eps,
        activation: Activation::named(name).ok_or_else(unknown)?,
        is_causal: false,
    })
}

/// The size under a key, or the family's own.
fn or(config: &Object<'_>, key: &str, default: usize) -> Result<usize, ModelError> {
    if config.get(key).is_some() { config.size(key) } else { Ok(default) }
}
