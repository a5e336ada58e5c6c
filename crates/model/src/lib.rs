//! The vision-language model: weights, tokenizer, chat template, image processor, adapters, sampling.

mod actor;
mod adapter;
mod adapter_folder;
mod attribution;
mod bart;
mod bpe;
mod check;
mod config;
mod cost;
mod embedder;
mod encoded;
mod engine;
mod error;
mod feature_store;
mod marks;
mod merge;
mod picture_file;
mod policy;
mod processor;
mod random;
mod resample;
mod sampler;
mod settings_object;
mod special_tokens;
mod template;
mod tokenizer;
mod vlm;
mod weights;

pub use actor::{Actor, Group};
pub use adapter::{ALL_TARGETS, Adapter, LoraLayer, LoraSpec};
pub use adapter_folder::{AdapterFile, LoraPair, TargetModules};
pub use bart::{Bart, BartScorer, TokenPair};
pub use bpe::{LABELS, REPLY_TAGS, SPECIAL_TOKENS, write_small_tokenizer};
pub use check::{Compared, check, reference_prompt};
pub use config::{
    AttentionBias, Family, SpecialIds, TextConfig, VisionConfig, VisionWindows, VlmConfig,
};
pub use cost::{Cost, Shared, Trained};
pub use embedder::{EMBEDDER_COMPANIONS, PictureEmbedder, TextEmbedder};
pub use encoded::{Encoded, EncodedImage};
pub use error::ModelError;
pub use merge::merge;
pub use picture_file::{MAX_ASPECT_RATIO, MAX_DECODED_PIXELS};
pub use policy::{COMPANIONS, Depth, Policy};
pub use processor::{ImageHash, ImageProcessor, Pixels};
pub use random::write_random;
pub use template::{ChatTemplate, RenderOptions};
pub use tokenizer::{ChatTokenizer, PromptTokens};
pub use vlm::{
    Cache, Forward, Grad, Packed, Param, Picture, Segment, Slot, Start, VisionFeatures, Vlm,
    image_positions, text_positions,
};
pub use weights::{Placement, Precision, Weights, save_safetensors};
