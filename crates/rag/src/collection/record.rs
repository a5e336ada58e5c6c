//! What a collection keeps: documents with their origins, and the files they were read from.

use mmrag_core::{Content, Document, DocumentId, ImageSource, Origin};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

use super::PICTURES;

/// A document as a collection keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The document.
    pub document: Document,
    /// Where it was read. Absent of one that was added by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

impl Record {
    /// A document without an origin.
    pub fn new(document: Document) -> Self {
        Self { document, origin: None }
    }
}

/// What is kept of a file that was read, so that it is read again only when it has changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Its name: the absolute path of a file.
    pub name: String,
    /// What it was when it was read.
    pub fingerprint: Fingerprint,
    /// The documents that were read from it.
    pub documents: Vec<DocumentId>,
    /// Files whose contents stand in its documents, such as the pictures that a list of captions
    /// names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uses: Vec<String>,
    /// Why nothing, or not all, could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// By what a change of a file is noticed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was last changed, in nanoseconds since 1970.
    pub modified_ns: u64,
    /// The SHA-256 of what is in it, in hexadecimal.
    pub hash: String,
    /// How it was read: the reader's version and options. Another way of reading reads it again.
    pub reader: String,
}

/// The JSON beside the words: the record, and what the counts need.
#[derive(Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) record: Record,
    pub(super) digest: String,
    pub(super) words: u64,
}

/// Where the picture of a document that came as bytes is put, within the folder.
pub(super) fn picture_name(number: u64) -> String {
    format!("{PICTURES}/{:03}/{number}", number / 1000)
}

/// The picture within the collection's folder that belongs to a stored document.
pub(super) fn own_picture(document: &Document) -> Option<String> {
    match &document.content {
        Content::Image(ImageSource::Path(path)) if path.starts_with(PICTURES) => {
            path.to_str().map(str::to_owned)
        }
        _ => None,
    }
}

/// The document as it is given out: with the whole path of its picture.
pub(super) fn given_out(place: &Path, mut document: Document) -> Document {
    if let Content::Image(ImageSource::Path(path)) = &mut document.content
        && path.starts_with(PICTURES)
    {
        *path = place.join(&*path);
    }
    document
}

/// A path that holds wherever the collection is opened from.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}
