//! PDF: each page as a picture, and its text with the places of its words.
//!
//! Pages are read by hayro, which is written in Rust without `unsafe`; it does not read what is
//! locked by a password.

mod glyphs;
mod lines;

use std::path::Path;
use std::sync::Arc;

use hayro::hayro_interpret::InterpreterSettings;
use hayro::hayro_syntax::page::Page;
use hayro::hayro_syntax::{LoadPdfError, Pdf};
use hayro::vello_cpu::color::palette::css::WHITE;
use hayro::{PixmapSettings, RenderCache, RenderSettings};
use image::{ExtendedColorType, ImageEncoder as _, codecs::png::PngEncoder};
use mmrag_core::{Content, ImageSource, Origin, WordBox};

use crate::chunk::{Unit, runs};
use crate::piece::{Options, Piece, ReadError, Reading, title_of};
use lines::Line;

/// What reads pages, for who asks which one it was.
pub const PAGE_READER: &str = "hayro 0.9";

pub(crate) fn read(path: &Path, options: &Options) -> Result<Reading, ReadError> {
    let pdf = Pdf::new(std::fs::read(path)?).map_err(|error| match error {
        LoadPdfError::Decryption(_) => ReadError::new("it is locked by a password"),
        LoadPdfError::Invalid => ReadError::new("it is no PDF, or too damaged to be read"),
    })?;
    let (title, settings) = (title_of(path), InterpreterSettings::default());
    let cache = RenderCache::new();
    let mut reading = Reading::default();
    let n_pages = pdf.pages().len();
    for (i, page) in pdf.pages().iter().take(options.max_pages).enumerate() {
        let number = i + 1;
        match picture(page, &cache, &settings, options) {
            Ok(picture) => reading.pieces.push(Piece {
                name: None,
                title: format!("{title}, page {number}"),
                content: Content::Image(ImageSource::Bytes(Arc::from(picture))),
                origin: Origin { page: Some(number), ..Origin::default() },
            }),
            Err(error) => reading.notes.push(format!("page {number}: {error}")),
        }
        let lines = lines::assemble(glyphs::of_page(page, &settings));
        reading.pieces.extend(texts(&title, number, &lines, options));
    }
    if n_pages > options.max_pages {
        reading.notes.push(format!("it has {n_pages} pages; {} are read", options.max_pages));
    }
    if reading.pieces.is_empty() {
        let notes = reading.notes.join("; ");
        return Err(ReadError::new(format!("no page of it can be read: {notes}")));
    }
    Ok(reading)
}

fn picture<'a>(
    page: &'a Page<'a>,
    cache: &RenderCache<'a>,
    settings: &InterpreterSettings,
    options: &Options,
) -> Result<Vec<u8>, ReadError> {
    let (width, height) = page.render_dimensions();
    let longer = width.max(height);
    if !(longer.is_finite() && width.min(height) >= 1.0) {
        return Err(ReadError::new(format!("it is {width} x {height} points large")));
    }
    let scale = options.page_pixels as f32 / longer;
    if (width.min(height) * scale) < 1.0 {
        return Err(ReadError::new(format!("it is {width} x {height} points large")));
    }
    let pixels = PixmapSettings { x_scale: scale, y_scale: scale, bg_color: WHITE };
    let drawn = hayro::render(page, cache, settings, &RenderSettings::default(), &pixels);
    let (width, height) = (u32::from(drawn.width()), u32::from(drawn.height()));
    let opaque: Vec<u8> = drawn
        .data_as_u8_slice()
        .chunks_exact(4)
        .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
        .collect();
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
