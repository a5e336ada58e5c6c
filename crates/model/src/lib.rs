//! The vision-language model: weights, tokenizer, chat template, image processor, adapters, sampling.

mod config;
mod error;
mod weights;

pub use config::{Family, SpecialIds, TextConfig, VisionConfig, VisionWindows, VlmConfig};
pub use error::ModelError;
pub use weights::{Weights, save_safetensors};
