//! Pictures and texts as vectors in one space, by encoders of several families.

use std::path::Path;

use mmrag_core::{Content, Document, Embed, EngineError, ImageSource};
use rayon::prelude::*;

use super::clip::Clip;
use super::parts::json;
use super::siglip::Siglip;
use crate::error::ModelError;
use crate::settings_object::Object;

/// An encoder of pictures, and of texts about pictures.
pub struct PictureEmbedder(Family);

enum Family {
    Clip(Box<Clip>),
    Siglip(Box<Siglip>),
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
        match config.str("model_type")? {
            "clip" => Ok(Self(Family::Clip(Box::new(Clip::load(folder, &config)?)))),
            "siglip" => Ok(Self(Family::Siglip(Box::new(Siglip::load(folder, &config)?)))),
            "siglip2" => Err(config.unsupported(
                "pictures of any shape (SigLIP 2 NaFlex, the type siglip2) are not embedded; SigLIP 2 \
                 of a fixed resolution (the type siglip) is, such as google/siglip2-base-patch16-224"
                    .to_owned(),
            )),
            other => Err(config.unsupported(format!(
                "pictures are embedded by models of the types clip and siglip, not {other}"
            ))),
        }
    }

    /// The unit vector of a text.
    ///
    /// # Errors
    ///
    /// When the text cannot be tokenised.
    pub fn embed_text(&self, text: &str) -> Result<Vec<f32>, ModelError> {
        match &self.0 {
            Family::Clip(clip) => clip.embed_text(text),
            Family::Siglip(siglip) => siglip.embed_text(text),
        }
    }

    /// The unit vector of a picture.
    ///
    /// # Errors
    ///
    /// When the picture cannot be read.
    pub fn embed_picture(&self, source: &ImageSource) -> Result<Vec<f32>, ModelError> {
        match &self.0 {
            Family::Clip(clip) => clip.embed_picture(source),
            Family::Siglip(siglip) => siglip.embed_picture(source),
        }
    }

    /// The tokens of a text, those that only fill it up aside.
    ///
    /// # Errors
    ///
    /// When the text cannot be tokenised.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        match &self.0 {
            Family::Clip(clip) => clip.tokens(text),
            Family::Siglip(siglip) => siglip.tokens(text),
        }
    }
}

impl Embed for PictureEmbedder {
    fn width(&self) -> usize {
        match &self.0 {
            Family::Clip(clip) => clip.width(),
            Family::Siglip(siglip) => siglip.width(),
        }
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

    fn count_tokens(&self, text: &str) -> Result<usize, EngineError> {
        let ids = self.tokens(text);
        ids.map(|ids| ids.len()).map_err(|error| EngineError::caused_by("read a text", error))
    }
}
