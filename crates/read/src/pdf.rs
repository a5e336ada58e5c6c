//! PDF: each page as a picture, and its text with the places of its words.
//!
//! Pages are read by hayro, which is written in Rust without `unsafe`, or by a PDFium library if one
//! is named. Neither reads what is locked by a password.

mod glyphs;
mod lines;
mod pdfium;
mod pure;

use std::path::Path;
use std::sync::Arc;

use image::{ExtendedColorType, ImageEncoder as _, codecs::png::PngEncoder};
use mmrag_core::{Content, ImageSource, Origin, WordBox};

use crate::chunk::{Unit, runs};
use crate::piece::{Options, Piece, ReadError, Reading, title_of};
use glyphs::Letter;
use lines::Line;

/// What reads pages, for who asks which one it was.
pub fn page_reader(options: &Options) -> String {
    match &options.pdfium {
        Some(library) => format!("PDFium ({})", library.display()),
        None => "hayro 0.9".to_owned(),
    }
}

/// The name of a PDFium library as this system calls it, which is looked for where libraries lie.
pub fn pdfium_name() -> String {
    pdfium::name()
}

/// A page as it was read.
struct Page {
    /// A PNG.
    picture: Result<Vec<u8>, ReadError>,
    letters: Vec<Letter>,
}

pub(crate) fn read(path: &Path, options: &Options) -> Result<Reading, ReadError> {
    let (title, mut reading) = (title_of(path), Reading::default());
    let mut add = |number: usize, page: Page| {
        match page.picture {
            Ok(picture) => reading.pieces.push(Piece {
                name: None,
                title: format!("{title}, page {number}"),
                content: Content::Image(ImageSource::Bytes(Arc::from(picture))),
                origin: Origin { page: Some(number), ..Origin::default() },
            }),
            Err(error) => reading.notes.push(format!("page {number}: {error}")),
        }
        let lines = lines::assemble(page.letters);
        reading.pieces.extend(texts(&title, number, &lines, options));
    };
    let n_pages = match &options.pdfium {
        Some(library) => pdfium::pages(library, path, options, &mut add)?,
        None => pure::pages(path, options, &mut add)?,
    };
    if n_pages > options.max_pages {
        reading.notes.push(format!("it has {n_pages} pages; {} are read", options.max_pages));
    }
    if reading.pieces.is_empty() {
        let notes = reading.notes.join("; ");
        return Err(ReadError::new(format!("no page of it can be read: {notes}")));
    }
    Ok(reading)
}

/// What pixels to a point make the longer side as long as asked.
fn scale((width, height): (f32, f32), options: &Options) -> Result<f32, ReadError> {
    let longer = width.max(height);
    let scale = options.page_pixels as f32 / longer;
    let is_page =
        longer.is_finite() && width.min(height) >= 1.0 && width.min(height) * scale >= 1.0;
    let odd = || ReadError::new(format!("it is {width} x {height} points large"));
    is_page.then_some(scale).ok_or_else(odd)
}

/// A PNG of pixels of which the last of four bytes is left out.
fn png(rgba: &[u8], (width, height): (u32, u32)) -> Result<Vec<u8>, ReadError> {
    let opaque: Vec<u8> =
        rgba.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    let mut png = Vec::new();
    PngEncoder::new(&mut png)
        .write_image(&opaque, width, height, ExtendedColorType::Rgb8)
        .map_err(|error| ReadError::new(error.to_string()))?;
    Ok(png)
}

/// The pieces of a page's text, cut between lines.
fn texts(title: &str, page: usize, lines: &[Line], options: &Options) -> Vec<Piece> {
    let unit = |line: &'_ Line| (line.text.clone(), line.opens);
    let owned: Vec<(String, bool)> = lines.iter().map(unit).collect();
    let units: Vec<Unit> =
        owned.iter().map(|(text, opens)| Unit { text, group: 0, opens: *opens }).collect();
    let piece = |run: std::ops::Range<usize>| {
        let (mut text, mut words, mut boxes, mut at) = (String::new(), Vec::new(), Vec::new(), 0);
        for line in &lines[run] {
            if at > 0 {
                text.push_str(if line.opens { "\n\n" } else { "\n" });
                at += if line.opens { 2 } else { 1 };
            }
            text.push_str(&line.text);
            words.extend(line.words.iter().map(|word| WordBox {
                span: [word.span[0] + at, word.span[1] + at],
                area: word.area,
            }));
            boxes.push(line.area);
            at += line.text.chars().count();
        }
        Piece {
            name: None,
            title: format!("{title}, page {page}"),
            content: Content::Text(text),
            origin: Origin { page: Some(page), boxes, words, ..Origin::default() },
        }
    };
    runs(&units, options).into_iter().map(piece).collect()
}
