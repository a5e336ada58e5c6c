//! The model type `clip` (Radford et al., 2021): a picture is what its class token has seen, a text
//! what its last token has.

// Dimensions: `t` tokens, `d` width, `p` values of a patch, `e` width of the vectors.

use std::path::Path;

use candle_core::{Device, Tensor};
use mmrag_core::ImageSource;
use tokenizers::Tokenizer;

use super::parts::{Pair, normed, pair, tokenizer, tokens, unit};
use super::tower::{Activation, Shape, Tower};
use super::view::View;
use crate::error::ModelError;
use crate::settings_object::Object;
use crate::weights::Weights;

/// Both towers, each with its projection.
pub(super) struct Clip {
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

impl Clip {
    pub(super) fn load(folder: &Path, config: &Object<'_>) -> Result<Self, ModelError> {
        let part = |key| config.child(key)?.ok_or_else(|| config.missing(key));
        let (text, vision) = (part("text_config")?, part("vision_config")?);
        let weights = Weights::open(folder)?;
        let (text_width, width) = (text.size("hidden_size")?, vision.size("hidden_size")?);
        let (words, places) = (text.size("vocab_size")?, text.size("max_position_embeddings")?);
        let vectors = config.size("projection_dim")?;
        let view = View::cut(folder, vision.size("image_size")?, vision.size("patch_size")?)?;
        let seen = view.n_patches() + 1;
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
            text: Tower::load(&weights, "text_model", shape(&text, true)?)?,
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
            picture: Tower::load(&weights, "vision_model", shape(&vision, false)?)?,
            after: pair(&weights, "vision_model.post_layernorm", &[width])?,
            picture_projection_ed: tensor("visual_projection.weight", &[vectors, width])?,
        })
    }

    pub(super) fn width(&self) -> usize {
        self.text_projection_ed.dims()[0]
    }

    pub(super) fn tokens(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        tokens(&self.tokenizer, text)
    }

    pub(super) fn embed_text(&self, text: &str) -> Result<Vec<f32>, ModelError> {
        let ids = self.tokens(text)?;
        let ids_t = Tensor::new(ids.as_slice(), &Device::Cpu)?;
        let x_td = self.words_vd.index_select(&ids_t, 0)?;
        let x_td = (x_td + self.text_places_td.narrow(0, 0, ids.len())?)?;
        let x_td = self.text.forward(x_td)?;
        let x_td = normed(&x_td, &self.text_norm, self.text.eps)?;
        // The last token ends the text and has seen all of it.
        let last_td = x_td.narrow(0, ids.len() - 1, 1)?;
        vector(&last_td, &self.text_projection_ed)
    }

    pub(super) fn embed_picture(&self, source: &ImageSource) -> Result<Vec<f32>, ModelError> {
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

fn vector(x_td: &Tensor, projection_ed: &Tensor) -> Result<Vec<f32>, ModelError> {
    Ok(unit(x_td.matmul(&projection_ed.t()?)?.get(0)?.to_vec1()?))
}

fn shape(config: &Object<'_>, is_causal: bool) -> Result<Shape, ModelError> {
    let (width, n_heads) = (config.size("hidden_size")?, config.size("num_attention_heads")?);
    if !width.is_multiple_of(n_heads) {
        return Err(config.bad("num_attention_heads", "a divisor of hidden_size"));
    }
    let name = config.str("hidden_act")?;
    let unknown = || config.unsupported(format!("the activation {name}"));
    Ok(Shape {
        width,
        wide: config.size("intermediate_size")?,
        n_heads,
        n_layers: config.size("num_hidden_layers")?,
        eps: config.float("layer_norm_eps")?,
        activation: Activation::named(name).ok_or_else(unknown)?,
        is_causal,
    })
}
