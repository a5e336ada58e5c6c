//! The vision-language model: weights, tokenizer, chat template, image processor, adapters, sampling.

mod adapter;
mod config;
mod error;
mod vlm;
mod weights;

pub use adapter::{ALL_TARGETS, Adapter, LoraLayer, LoraSpec};
pub use config::{Family, SpecialIds, TextConfig, VisionConfig, VisionWindows, VlmConfig};
pub use error::ModelError;
pub use weights::{Weights, save_safetensors};
pub use vlm::{
    Cache, Forward, Grad, Packed, Param, Picture, Segment, VisionFeatures, Vlm, image_positions,
    text_positions,
};
