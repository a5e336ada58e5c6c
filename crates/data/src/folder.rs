//! A plain folder as documents: texts, tables and pictures, each a file.
//!
//! `.txt` and `.md` are texts, `.csv` and `.tsv` tables whose first row is the header, and
//! pictures are files of the kinds that can be decoded. The id of a document is its path in the
//! folder, its title the file's name without the ending. Hidden files, and those of other kinds,
//! are passed over. There are no questions.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use image::ImageFormat;
use mmrag_core::{Content, Document, DocumentId, ImageSource, Table};
use rayon::prelude::*;
use walkdir::{DirEntry, WalkDir};

use crate::pictures::{check_header, picture_bytes};
use crate::tables::irregularities;
use crate::{DataError, Loaded, Place, Problem};

/// What the ending of a file's name says that it holds.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    /// With this between the cells.
    Table(u8),
    Image,
}

/// Reads all files of a folder and the folders in it, ordered by path.
///
/// # Errors
///
/// When the folder cannot be read.
pub fn load(dir: &Path) -> Result<Loaded, DataError> {
    let mut files = Vec::new();
    let shown = |entry: &DirEntry| {
        entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".")
    };
    for entry in WalkDir::new(dir).sort_by_file_name().into_iter().filter_entry(shown) {
        let entry = entry.map_err(|error| DataError::File {
            path: error.path().unwrap_or(dir).to_owned(),
            source: error.into(),
        })?;
        if let (true, Some(kind)) = (entry.file_type().is_file(), kind(entry.path())) {
            files.push((entry.into_path(), kind));
        }
    }
    let read = |(path, kind): &(std::path::PathBuf, Kind)| read(dir, path, *kind);
    let read: Vec<_> = files.par_iter().map(read).collect();
    let mut loaded = Loaded::default();
    for ((path, _), document) in files.into_iter().zip(read) {
        match document {
            Ok(document) => {
                let place = Place { file: Arc::new(path), line: 1 };
                if let Content::Table(table) = &document.content {
                    let odd = irregularities(document.id.as_str(), table);
                    loaded.problems.extend(odd.map(|what| place.problem(what)));
                }
                loaded.documents.push(Arc::new(document));
                loaded.places.push(place);
            }
            Err((line, what)) => loaded.problems.push(Problem { file: path, line, what }),
        }
    }
    Ok(loaded)
}

fn kind(path: &Path) -> Option<Kind> {
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    match &*ending {
        "txt" | "md" => Some(Kind::Text),
        "csv" => Some(Kind::Table(b',')),
        "tsv" => Some(Kind::Table(b'\t')),
        _ => ImageFormat::from_extension(&ending)
            .filter(ImageFormat::reading_enabled)
            .map(|_| Kind::Image),
    }
}

fn read(dir: &Path, path: &Path, kind: Kind) -> Result<Document, (usize, String)> {
    let whole = |what: String| (1, what);
    let name = path.strip_prefix(dir).unwrap_or(path);
    let parts: Vec<_> = name.iter().map(|part| part.to_string_lossy()).collect();
    let content = match kind {
        Kind::Text => Content::Text(text(path)?),
        Kind::Table(between) => Content::Table(table(&text(path)?, between)?),
        Kind::Image => {
            let source = ImageSource::Path(path.to_owned());
            picture_bytes(&source)
                .and_then(|bytes| check_header(&bytes))
                .map_err(|what| whole(format!("the picture is broken: {what}")))?;
            Content::Image(source)
        }
    };
    let title = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Document { id: DocumentId::new(parts.join("/")), title, content })
}

fn text(path: &Path) -> Result<String, (usize, String)> {
    let bytes = fs::read(path).map_err(|error| (1, format!("it cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + memchr::memchr_iter(b'\n', good).count();
        (line, "it is not UTF-8 from here on; save it as UTF-8".to_owned())
    })
}

fn table(text: &str, between: u8) -> Result<Table, (usize, String)> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(between)
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| {
            let line = error.position().map_or(1, csv::Position::line);
            (line as usize, format!("the table is broken: {error}"))
        })?;
        rows.push(record.iter().map(str::to_owned).collect::<Vec<_>>());
    }
    let mut rows = rows.into_iter();
    let header = rows.next().ok_or((1, "the table is empty".to_owned()))?;
    Ok(Table { name: String::new(), header, rows: rows.collect() })
}
