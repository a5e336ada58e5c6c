//! Pictures and texts as vectors in one space: the model type `clip` (Radford et al., 2021).

// Dimensions: `t` tokens, `d` width, `p` patches, `e` width of the vectors.

use std::path::Path;

use candle_core::{Device, Tensor};
use mmrag_core::{Content, Document, Embed, EngineError, ImageSource};
use mmrag_ops::gelu;
use rayon::prelude::*;
use tokenizers::Tokenizer;

use super::parts::{Attention, Pair, json, normed, pair, project, tokenizer, tokens, unit};
use crate::error::ModelError;
use crate::picture_file::{bytes_of, decode, name_of};
use crate::resample::resize_bicubic;
use crate::settings_object::Object;
use crate::weights::Weights;

/// An encoder of pictures, and of texts about pictures.
pub struct PictureEmbedder {
    tokenizer: Tokenizer,
    words_vd: Tensor,
    text_places_td: Tensor,
    text: Tower,
    text_norm: Pair,
    text_projection_ed: Tensor,
    view: View,
    patches_dp: Tensor,
    class_d: Tensor,
    picture_places_td: Tensor,
    before: Pair,
    picture: Tower,
    after: Pair,
    picture_projection_ed: Tensor,
}

/// The layers of one side.
struct Tower {
    layers: Vec<Layer>,
    width: usize,
    eps: f64,
    activation: Activation,
}

struct Layer {
    first_norm: Pair,
    attention: Attention,
    second_norm: Pair,
    wide: Pair,
    narrow: Pair,
}

#[derive(Clone, Copy)]
enum Activation {
    Gelu,
    /// `x · σ(1.702 x)`.
    QuickGelu,
}

/// How a picture becomes what the tower sees.
struct View {
    side: usize,
    patch: usize,
    resized: usize,
    mean: [f32; 3],
    deviation: [f32; 3],
}

impl PictureEmbedder {
    /// Loads an encoder's folder.
    ///
    /// # Errors
    ///
    /// When a file is missing, or the encoder is of another family.
    pub fn load(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join("config.json");
        let config = json(&path)?;
        let config = Object::new(&path, "", &config)?;
        let family = config.str("model_type")?;
        if family != "clip" {
            return Err(config.unsupported(format!(
                "pictures are embedded by models of the type clip, not {family}"
            )));
        }
        let part = |key| config.child(key)?.ok_or_else(|| config.missing(key));
        let (text, vision) = (part("text_config")?, part("vision_config")?);
        let weights = Weights::open(folder)?;
        let (text_width, width) = (text.size("hidden_size")?, vision.size("hidden_size")?);
        let (words, places) = (text.size("vocab_size")?, text.size("max_position_embeddings")?);
        let vectors = config.size("projection_dim")?;
        let view = View::load(folder, &vision)?;
        let seen = (view.side / view.patch).pow(2) + 1;
        let patch = [width, 3, view.patch, view.patch];
        let patches = weights.f32("vision_model.embeddings.patch_embedding.weight", &patch)?;
        let tensor = |name: &str, shape: &[usize]| weights.f32(name, shape);
        Ok(Self {
            tokenizer: tokenizer(folder, places)?,
            words_vd: tensor("text_model.embeddings.token_embedding.weight", &[words, text_width])?,
            text_places_td: tensor(
                "text_model.embeddings.position_embedding.weight",
                &[places, text_width],
            )?,
            text: Tower::load(&weights, "text_model", &text, true)?,
            text_norm: pair(&weights, "text_model.final_layer_norm", &[text_width])?,
            text_projection_ed: tensor("text_projection.weight", &[vectors, text_width])?,
            patches_dp: patches.reshape((width, 3 * view.patch * view.patch))?,
            view,
            class_d: tensor("vision_model.embeddings.class_embedding", &[width])?,
            picture_places_td: tensor(
                "vision_model.embeddings.position_embedding.weight",
                &[seen, width],
            )?,
            before: pair(&weights, "vision_model.pre_layrnorm", &[width])?,
            picture: Tower::load(&weights, "vision_model", &vision, false)?,
            after: pair(&weights, "vision_model.post_layernorm", &[width])?,
            picture_projection_ed: tensor("visual_projection.weight", &[vectors, width])?,
        })
    }

    /// The unit vector of a text.
    ///
    /// # Errors
    ///
    /// When the text cannot be tokenised.
    pub fn embed_text(&self, text: &str) -> Result<Vec<f32>, ModelError> {
        let ids = tokens(&self.tokenizer, text)?;
        let ids_t = Tensor::new(ids.as_slice(), &Device::Cpu)?;
        let x_td = self.words_vd.index_select(&ids_t, 0)?;
        let x_td = (x_td + self.text_places_td.narrow(0, 0, ids.len())?)?;
        let x_td = self.text.forward(x_td)?;
        let x_td = normed(&x_td, &self.text_norm, self.text.eps)?;
        // The last token ends the text and has seen all of it.
        let last_td = x_td.narrow(0, ids.len() - 1, 1)?;
        vector(&last_td, &self.text_projection_ed)
    }

    /// The unit vector of a picture.
    ///
    /// # Errors
    ///
    /// When the picture cannot be read.
    pub fn embed_picture(&self, source: &ImageSource) -> Result<Vec<f32>, ModelError> {
        let patches_tp = self.view.patches(source)?;
        let x_td = patches_tp.matmul(&self.patches_dp.t()?)?;
        let x_td = Tensor::cat(&[&self.class_d.unsqueeze(0)?, &x_td], 0)?;
        let x_td = (x_td + &self.picture_places_td)?;
        let x_td = normed(&x_td, &self.before, self.picture.eps)?;
        let x_td = self.picture.forward(x_td)?;
        let first_td = normed(&x_td.narrow(0, 0, 1)?, &self.after, self.picture.eps)?;
        vector(&first_td, &self.picture_projection_ed)
    }
}

impl Embed for PictureEmbedder {
    fn width(&self) -> usize {
        self.text_projection_ed.dims()[0]
    }

    fn embed_questions(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EngineError> {
        let failed = |error| EngineError::caused_by("embed a text", error);
        texts.par_iter().map(|text| self.embed_text(text).map_err(failed)).collect()
    }

    /// What pictures show; of other documents, the title.
    fn embed_documents(&self, documents: &[&Document]) -> Result<Vec<Vec<f32>>, EngineError> {
        let embed = |document: &&Document| match &document.content {
            Content::Image(source) => self.embed_picture(source),
            Content::Text(_) | Content::Table(_) => self.embed_text(&document.title),
        };
        let failed = |document: &Document, error| {
            EngineError::caused_by(format!("embed document {}", document.id), error)
        };
        documents.par_iter().map(|d| embed(d).map_err(|error| failed(d, error))).collect()
    }
}

fn vector(x_td: &Tensor, projection_ed: &Tensor) -> Result<Vec<f32>, ModelError> {
    Ok(unit(x_td.matmul(&projection_ed.t()?)?.get(0)?.to_vec1()?))
}

impl Tower {
    fn load(
        weights: &Weights,
        name: &str,
        config: &Object<'_>,
        is_causal: bool,
    ) -> Result<Self, ModelError> {
        let (d, wide) = (config.size("hidden_size")?, config.size("intermediate_size")?);
        let n_heads = config.size("num_attention_heads")?;
        if !d.is_multiple_of(n_heads) {
            return Err(config.bad("num_attention_heads", "a divisor of hidden_size"));
        }
        let activation = match config.str("hidden_act")? {
            "gelu" => Activation::Gelu,
            "quick_gelu" => Activation::QuickGelu,
            other => return Err(config.unsupported(format!("the activation {other}"))),
        };
        let layer = |i: usize| {
            let part = |part: &str, shape: &[usize]| {
                pair(weights, &format!("{name}.encoder.layers.{i}.{part}"), shape)
            };
            Ok::<_, ModelError>(Layer {
                first_norm: part("layer_norm1", &[d])?,
                attention: Attention {
                    query: part("self_attn.q_proj", &[d, d])?,
                    key: part("self_attn.k_proj", &[d, d])?,
                    value: part("self_attn.v_proj", &[d, d])?,
                    output: part("self_attn.out_proj", &[d, d])?,
                    n_heads,
                    is_causal,
                },
                second_norm: part("layer_norm2", &[d])?,
                wide: part("mlp.fc1", &[wide, d])?,
                narrow: part("mlp.fc2", &[d, wide])?,
            })
        };
        let layers = (0..config.size("num_hidden_layers")?).map(layer).collect::<Result<_, _>>()?;
        Ok(Self { layers, width: d, eps: config.float("layer_norm_eps")?, activation })
    }

    fn forward(&self, mut x_td: Tensor) -> Result<Tensor, ModelError> {
        debug_assert_eq!(x_td.dims()[1], self.width);
        for layer in &self.layers {
            let seen = layer.attention.forward(&normed(&x_td, &layer.first_norm, self.eps)?)?;
            x_td = (x_td + seen)?;
            let wide = project(&normed(&x_td, &layer.second_norm, self.eps)?, &layer.wide)?;
            let wide = match self.activation {
                Activation::Gelu => gelu(&wide)?,
                Activation::QuickGelu => quick_gelu(&wide)?,
            };
            x_td = (x_td + project(&wide, &layer.narrow)?)?;
        }
        Ok(x_td)
    }
}

fn quick_gelu(x: &Tensor) -> Result<Tensor, ModelError> {
    let falling = ((x * -1.702)?.exp()? + 1.0)?;
    Ok((x / falling)?)
}

impl View {
    fn load(folder: &Path, vision: &Object<'_>) -> Result<Self, ModelError> {
        let path = folder.join("preprocessor_config.json");
        let config = json(&path)?;
        let config = Object::new(&path, "", &config)?;
        let (side, patch) = (vision.size("image_size")?, vision.size("patch_size")?);
        // Either a number or an object, as the file's age has it.
        let shorter = match config.child("size") {
            Ok(Some(size)) => size.size("shortest_edge")?,
            _ => config.size("size")?,
        };
        let crop = match config.child("crop_size") {
            Ok(Some(size)) => size.size("height")?,
            _ => config.size("crop_size")?,
        };
        if crop != side || shorter < crop || !side.is_multiple_of(patch) {
            return Err(config.unsupported(format!(
                "pictures whose shorter side is {shorter}, cut to {crop}, for a tower that sees {side}"
            )));
        }
        let three = |key: &str| {
            config.take(key, "three numbers", |value| {
                let values = value.as_array()?.iter().map(|x| Some(x.as_f64()? as f32));
                values.collect::<Option<Vec<f32>>>()?.try_into().ok()
            })
        };
        let (mean, deviation) = (three("image_mean")?, three("image_std")?);
        Ok(Self { side, patch, resized: shorter, mean, deviation })
    }

    /// The patches, row by row, each as its red, then its green, then its blue values.
    fn patches(&self, source: &ImageSource) -> Result<Tensor, ModelError> {
        let unreadable = |reason: String| ModelError::Image { image: name_of(source), reason };
        let image = decode(&bytes_of(source)?).map_err(unreadable)?;
        let (width, height) = (image.width, image.height);
        let longer = |long: usize, short: usize| self.resized * long / short;
        let (to_width, to_height) = if width <= height {
            (self.resized, longer(height, width))
        } else {
            (longer(width, height), self.resized)
        };
        let image = resize_bicubic(image, to_width, to_height);
        let (left, top) = ((to_width - self.side) / 2, (to_height - self.side) / 2);
        let (n, patch) = (self.side / self.patch, self.patch);
        let mut values = Vec::with_capacity(3 * self.side * self.side);
        for (at_row, at_column) in (0..n * n).map(|i| (i / n, i % n)) {
            for channel in 0..3 {
                for (y, x) in (0..patch * patch).map(|i| (i / patch, i % patch)) {
                    let row = top + at_row * patch + y;
                    let column = left + at_column * patch + x;
                    let value = image.values[3 * (row * to_width + column) + channel];
                    let value = f32::from(value) / 255.0;
                    values.push((value - self.mean[channel]) / self.deviation[channel]);
                }
            }
        }
        Ok(Tensor::from_vec(values, (n * n, 3 * patch * patch), &Device::Cpu)?)
    }
}
