//! Files into documents: pictures, Markdown, HTML, plain text, CSV, XLSX, JSON Lines and PDF.
//!
//! [`read`] reads one file that is not to be trusted; [`worker`] does so in another process with
//! bounds on time and memory, and [`Pool`] is that process's other end. Text is cut at its
//! structure, tables stay tables, and each piece says where it stood.
//!
//! This crate gives pieces no ids and knows nothing of a collection.

mod chunk;
mod html;
mod kind;
mod local;
mod markdown;
mod pdf;
mod picture;
mod piece;
mod pool;
mod rows;
mod sheet;
mod table;
mod text;
pub mod worker;

use std::path::Path;

pub use kind::Kind;
pub use local::Root;
pub use pdf::{page_reader, pdfium_name};
pub use piece::{Options, Piece, ReadError, Reading};
pub use pool::{Bounds, Pool};

/// Rises when a reader gives other pieces than before.
pub const VERSION: u32 = 1;

/// Reads one file. Files that it names, such as pictures, are looked for within the root alone.
///
/// # Errors
///
/// When the file cannot be read or is not what its name says. What can be read of it without harm
/// is given, with a note on the rest.
pub fn read(path: &Path, kind: Kind, root: &Root, options: &Options) -> Result<Reading, ReadError> {
    let bytes = std::fs::metadata(path).map_err(ReadError::from)?.len();
    if bytes > options.max_bytes {
        return Err(ReadError::new(format!(
            "it has {} MB, more than {}",
            bytes / 1_000_000,
            options.max_bytes / 1_000_000
        )));
    }
    let mut reading = match kind {
        Kind::Picture => picture::read(path, options),
        Kind::Markdown => markdown::read(path, root, options),
        Kind::Html => html::read(path, root, options),
        Kind::Text => text::read(path, options),
        Kind::Csv => table::read(path, options),
        Kind::Sheet => sheet::read(path, options),
        Kind::JsonLines => rows::read_lines(path, root, options),
        Kind::Json => rows::read_array(path, root, options),
        Kind::Pdf => pdf::read(path, options),
    }?;
    reading.bound(options);
    reading.leave_out(options)?;
    Ok(reading)
}
