//! Pages by hayro.

use std::path::Path;

use hayro::hayro_interpret::InterpreterSettings;
use hayro::hayro_syntax::{LoadPdfError, Pdf, page};
use hayro::vello_cpu::color::palette::css::WHITE;
use hayro::{PixmapSettings, RenderCache, RenderSettings};

use super::{Page, glyphs, png, scale};
use crate::piece::{Options, ReadError};

/// Calls `add` for each page that is wanted, with its number. Says how many there are.
pub(super) fn pages(
    path: &Path,
    options: &Options,
    add: &mut dyn FnMut(usize, Page),
) -> Result<usize, ReadError> {
    let pdf = Pdf::new(std::fs::read(path)?).map_err(|error| match error {
        LoadPdfError::Decryption(_) => ReadError::new("it is locked by a password"),
        LoadPdfError::Invalid => ReadError::new("it is no PDF, or too damaged to be read"),
    })?;
    let (settings, cache) = (InterpreterSettings::default(), RenderCache::new());
    for (i, page) in pdf.pages().iter().take(options.max_pages).enumerate() {
        let picture = picture(page, &cache, &settings, options);
        add(i + 1, Page { picture, letters: glyphs::of_page(page, &settings) });
    }
    Ok(pdf.pages().len())
}

fn picture<'a>(
    page: &'a page::Page<'a>,
    cache: &RenderCache<'a>,
    settings: &InterpreterSettings,
    options: &Options,
) -> Result<Vec<u8>, ReadError> {
    let scale = scale(page.render_dimensions(), options)?;
    let pixels = PixmapSettings { x_scale: scale, y_scale: scale, bg_color: WHITE };
    let drawn = hayro::render(page, cache, settings, &RenderSettings::default(), &pixels);
    png(drawn.data_as_u8_slice(), (u32::from(drawn.width()), u32::from(drawn.height())))
}
