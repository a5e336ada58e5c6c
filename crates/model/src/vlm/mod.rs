//! The vision-language model: one forward pass for prefill, decoding and training.
//!
//! Legend of tensor names: `t` tokens of the packed batch, `s` rows of the key/value cache, `d`
//! width, `h` heads, `g` key heads, `k` head width, `p` patches, `m` merged patches (image tokens),
//! `v` vocabulary.

mod cache;
mod pack;
mod params;
mod positions;
mod text;
mod vision;

use candle_core::{DType, Device, Tensor};

pub use cache::Cache;
pub use pack::{Packed, Segment};
pub(crate) use params::stream;
pub use params::{Forward, Grad, Param, Slot, Start};
pub use positions::{image_positions, text_positions};
pub use vision::{Picture, VisionFeatures};

use crate::config::VlmConfig;
use crate::error::ModelError;
use crate::weights::{Placement, Weights};
use params::Params;
use text::TextDecoder;
use vision::VisionTower;

/// The weights of a model and how they are put together.
pub struct Vlm {
    config: VlmConfig,
    vision: VisionTower,
    text: TextDecoder,
    params: Vec<Param>,
}

impl Vlm {
    /// Takes the weights of a checkpoint.
    ///
    /// # Errors
    ///
    /// When a tensor is missing, misshapen, or more than the architecture has a place for; before
    /// any is read.
    pub fn load(
        config: VlmConfig,
        weights: &Weights,
        placement: &Placement,
    ) -> Result<Self, ModelError> {
        let foreseen = Self::build(config, Params::from_headers(weights))?;
        if foreseen.config.tie_word_embeddings {
            weights.skip("lm_head.weight");
        }
        weights.finish()?;
        Self::build(foreseen.config, Params::from_weights(weights, placement))
    }

    /// Draws weights: normal with deviation `scale` for matrices, ones and zeros for norms and
    /// biases. The same seed gives the same weights.
    ///
    /// # Errors
    ///
    /// When there is no room for them.
    pub fn random(config: VlmConfig, seed: u64, scale: f64) -> Result<Self, ModelError> {
        Self::build(config, Params::random(seed, scale))
    }

    /// Fills the weights with small numbers of no meaning, matrices of `dtype`: for measurements.
    ///
    /// # Errors
    ///
    /// When there is no room for them.
    pub fn filled(config: VlmConfig, dtype: DType, device: &Device) -> Result<Self, ModelError> {
        Self::build(config, Params::filled(dtype, device))
    }

    /// The weights that a model of this shape has, without making them.
    ///
    /// # Errors
    ///
    /// When the shape is none.
    pub fn slots(config: &VlmConfig) -> Result<Vec<Slot>, ModelError> {
        let mut params = Params::slots();
        TextDecoder::new(config, &mut params)?;
        VisionTower::new(&config.vision, &mut params)?;
        Ok(params.into_slots())
    }

    fn build(config: VlmConfig, mut params: Params<'_>) -> Result<Self, ModelError> {
        let text = TextDecoder::new(&config, &mut params)?;
        let vision = VisionTower::new(&config.vision, &mut params)?;
        Ok(Self { vision, text, params: params.into_all(), config })
    }

    /// The model's shape.
    pub fn config(&self) -> &VlmConfig {
        &self.config
    }

    /// Where the weights lie.
    pub fn device(&self) -> &Device {
        self.params[0].var().device()
    }

    /// All weights, each once, in a fixed order.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// The features of pictures, each alone.
    ///
    /// # Errors
    ///
    /// When a picture's patches do not fit its grid.
    pub fn see(
        &self,
        pass: &Forward<'_>,
        pictures: &[&Picture],
    ) -> Result<Vec<VisionFeatures>, ModelError> {
        self.vision.forward(pass, pictures)
    }

    /// The final hidden states `[t, d]` of a packed batch, after the last norm.
    ///
    /// With a cache, the keys and values of the batch are written to the rows that the pack
    /// names, and the pack's spans speak of rows of the cache.
    ///
    /// # Errors
    ///
    /// When the number of image tokens is not the number of features.
    pub fn hidden(
        &self,
        pass: &Forward<'_>,
        pack: &Packed,
        features: &[&VisionFeatures],
        cache: Option<&Cache>,
    ) -> Result<Tensor, ModelError> {
        self.text.forward(pass, pack, features, cache)
    }

    /// The weight `[v, d]` of the head.
    pub fn head(&self, pass: &Forward<'_>) -> Tensor {
        self.text.head(pass)
    }
}
