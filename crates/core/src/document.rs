//! Documents: the things a question is answered from.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Packed;

/// The identity of a document within its collection, stable across runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DocumentId(Arc<str>);

impl DocumentId {
    /// An id from the name the data set gives the document.
    pub fn new(name: impl AsRef<str>) -> Self {
        Self(Arc::from(name.as_ref()))
    }

    /// The name the data set gives the document.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One thing to answer from: a title and what stands under it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Its identity.
    pub id: DocumentId,
    /// Its title; of an image, the caption. May be empty.
    pub title: String,
    /// What it holds.
    pub content: Content,
}

impl Document {
    /// Which kind of content it holds.
    pub fn modality(&self) -> Modality {
        match self.content {
            Content::Text(_) => Modality::Text,
            Content::Table(_) => Modality::Table,
            Content::Image(_) => Modality::Image,
        }
    }
}

/// What a document holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// Running text.
    Text(String),
    /// Rows and columns.
    Table(Table),
    /// A picture.
    Image(ImageSource),
}

/// The three kinds of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Modality {
    /// Running text.
    Text,
    /// Rows and columns.
    Table,
    /// A picture.
    Image,
}

impl fmt::Display for Modality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Table => "table",
            Self::Image => "image",
        })
    }
}

/// A table as its cells' texts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// What the table is called, beside the document's title. May be empty.
    pub name: String,
    /// One text a column.
    pub header: Vec<String>,
    /// Rows of cells. A row may be shorter or longer than the header.
    pub rows: Vec<Vec<String>>,
}

/// Where a picture's encoded bytes (PNG, JPEG, …) are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageSource {
    /// In a file.
    Path(PathBuf),
    /// In memory.
    Bytes(Arc<[u8]>),
    /// Inside a larger file.
    Packed(Packed),
}
