//! Frozen encoders that turn texts and pictures into vectors. No gradient is kept.

mod bert;
mod clip;
mod parts;

pub use bert::TextEmbedder;
pub use clip::PictureEmbedder;
