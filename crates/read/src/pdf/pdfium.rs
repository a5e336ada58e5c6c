//! Pages by a PDFium library, which is loaded when the first file needs it.

use std::path::Path;

use pdfium_render::prelude::{
    PdfPage, PdfPageTextChar, PdfRenderConfig, Pdfium, PdfiumError, PdfiumInternalError, Pixels,
};

use super::glyphs::{Letter, MOST};
use super::{Page, png, scale};
use crate::piece::{Options, ReadError};

/// Places are told on a page of so many pixels on each side, so as shares to within as much.
const FINE: Pixels = 30_000;

pub(super) fn name() -> String {
    Pdfium::pdfium_platform_library_name().to_string_lossy().into_owned()
}

/// Calls `add` for each page that is wanted, with its number. Says how many there are.
pub(super) fn pages(
    library: &Path,
    path: &Path,
    options: &Options,
    add: &mut dyn FnMut(usize, Page),
) -> Result<usize, ReadError> {
    let pdfium = load(library)?;
    let pdf = pdfium.load_pdf_from_byte_vec(std::fs::read(path)?, None).map_err(|error| {
        ReadError::new(match error {
            PdfiumError::PdfiumLibraryInternalError(PdfiumInternalError::PasswordError) => {
                "it is locked by a password".to_owned()
            }
            _ => "it is no PDF, or too damaged to be read".to_owned(),
        })
    })?;
    for (i, page) in pdf.pages().iter().take(options.max_pages).enumerate() {
        add(i + 1, Page { picture: picture(&page, options), letters: letters(&page) });
    }
    Ok(usize::try_from(pdf.pages().len()).unwrap_or(0))
}

fn load(library: &Path) -> Result<Pdfium, ReadError> {
    match Pdfium::bind_to_library(library) {
        Ok(bindings) => Ok(Pdfium::new(bindings)),
        // It is the one that was loaded before: a process reads by one.
        Err(PdfiumError::PdfiumLibraryBindingsAlreadyInitialized) => Ok(Pdfium::default()),
        Err(error) => {
            let library = library.display();
            Err(ReadError::new(format!("the PDFium library {library} does not load: {error:?}")))
        }
    }
}

fn picture(page: &PdfPage<'_>, options: &Options) -> Result<Vec<u8>, ReadError> {
    let (width, height) = (page.width().value, page.height().value);
    let scale = scale((width, height), options)?;
    let pixels = |points: f32| (points * scale).round().max(1.0) as Pixels;
    let config = PdfRenderConfig::new().set_fixed_size(pixels(width), pixels(height));
    let failed = |error: PdfiumError| ReadError::new(format!("it cannot be drawn: {error:?}"));
    let drawn = page.render_with_config(&config).map_err(failed)?;
    png(&drawn.as_rgba_bytes(), (drawn.width() as u32, drawn.height() as u32))
}

/// The letters of a page, without the blanks and ends of lines that PDFium thinks of.
fn letters(page: &PdfPage<'_>) -> Vec<Letter> {
    let Ok(text) = page.text() else { return Vec::new() };
    let fine = PdfRenderConfig::new().set_fixed_size(FINE, FINE);
    let drawn = text.chars();
    let real = drawn.iter().filter(|letter| !letter.is_generated().unwrap_or(false));
    real.take(MOST).filter_map(|letter| placed(page, &letter, &fine)).collect()
}

fn placed(
    page: &PdfPage<'_>,
    letter: &PdfPageTextChar<'_>,
    fine: &PdfRenderConfig,
) -> Option<Letter> {
    let text = letter.unicode_string()?;
    let bounds = letter.loose_bounds().ok()?;
    let share = |pixels: Pixels| (f64::from(pixels) / f64::from(FINE)).clamp(0.0, 1.0);
    let place = |x, y| {
        let (x, y) = page.points_to_pixels(x, y, fine).ok()?;
        Some((share(x), share(y)))
    };
    let (a, b) = (place(bounds.left(), bounds.top())?, place(bounds.right(), bounds.bottom())?);
    let (x, y) = letter.origin().ok()?;
    let area = [a.0.min(b.0), a.1.min(b.1), a.0.max(b.0), a.1.max(b.1)];
    Some(Letter { text, area, baseline: place(x, y)?.1 })
}
