//! Frozen encoders that turn texts and pictures into vectors. No gradient is kept.

mod bert;
mod clip;
mod parts;
mod picture;
mod siglip;
mod tower;
mod view;

pub use bert::TextEmbedder;
pub use parts::EMBEDDER_COMPANIONS;
pub use picture::PictureEmbedder;
