//! What a reader gives.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use fancy_regex::Regex;
use mmrag_core::{Content, Origin};
use serde::{Deserialize, Serialize};

/// How files are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// A piece of text has about so many characters at most.
    pub chunk_chars: usize,
    /// Pieces of one text have about so many characters in common.
    pub overlap_chars: usize,
    /// A larger file is refused.
    pub max_bytes: u64,
    /// A picture of more pixels is refused.
    pub max_pixels: u64,
    /// Of more pieces in one file only so many are kept.
    pub max_pieces: usize,
    /// Of more pages in one file only so many are read.
    pub max_pages: usize,
    /// A page's picture has so many pixels on its longer side.
    pub page_pixels: u32,
    /// A PDFium library that reads pages of PDF: a path, or a name that the system finds. Without
    /// one they are read by hayro.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pdfium: Option<PathBuf>,
    /// A regular expression: what it matches is taken out of titles, texts and cells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leave_out: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            chunk_chars: 1200,
            overlap_chars: 150,
            max_bytes: 512 << 20,
            max_pixels: 100_000_000,
            max_pieces: 200_000,
            max_pages: 2000,
            page_pixels: 1200,
            pdfium: None,
            leave_out: None,
        }
    }
}

/// A document without an id: something that can be answered from by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Piece {
    /// What the file itself calls it, where it gives ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its title; of a picture, the caption.
    pub title: String,
    /// What it holds.
    pub content: Content,
    /// Where it stood. The source is left empty.
    pub origin: Origin,
}

/// What was read of one file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The pieces, in the file's order.
    pub pieces: Vec<Piece>,
    /// Other files whose contents are among them.
    #[serde(default)]
    pub uses: Vec<PathBuf>,
    /// What was left out, and why.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl Reading {
    /// A reading of these pieces.
    pub(crate) fn of(pieces: Vec<Piece>) -> Self {
        Self { pieces, ..Self::default() }
    }

    pub(crate) fn bound(&mut self, options: &Options) {
        let most = options.max_pieces;
        if self.pieces.len() > most {
            self.notes.push(format!("it has {} pieces; {most} are kept", self.pieces.len()));
            self.pieces.truncate(most);
        }
    }

    /// Takes what is to be left out, out of titles, texts and cells.
    ///
    /// # Errors
    ///
    /// When it is no regular expression, or takes too long on a text.
    pub fn leave_out(&mut self, options: &Options) -> Result<(), ReadError> {
        let Some(pattern) = &options.leave_out else { return Ok(()) };
        let failed = |error: fancy_regex::Error| ReadError::new(error.to_string());
        let pattern = Regex::new(pattern).map_err(failed)?;
        let clean = |text: &mut String| -> Result<(), ReadError> {
            if let Cow::Owned(cleaned) = pattern.try_replacen(text, 0, "").map_err(failed)? {
                *text = cleaned;
            }
            Ok(())
        };
        for piece in &mut self.pieces {
            clean(&mut piece.title)?;
            match &mut piece.content {
                Content::Text(text) => clean(text)?,
                Content::Table(table) => {
                    let cells = table.header.iter_mut().chain(table.rows.iter_mut().flatten());
                    cells.chain([&mut table.name]).try_for_each(clean)?;
                }
                Content::Image(_) => {}
            }
        }
        Ok(())
    }
}

/// A file could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ReadError {
    message: String,
}

impl ReadError {
    /// An error told in one sentence.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

impl From<std::io::Error> for ReadError {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}

/// A title made from a file's name.
pub(crate) fn title_of(path: &Path) -> String {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let words = stem.unwrap_or_default().replace(['_', '-'], " ");
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}
