//! Pictures that are files of their own.

use std::path::Path;

use image::{ImageReader, Limits};
use mmrag_core::{Content, ImageSource, Origin};

use crate::piece::{Options, Piece, ReadError, Reading, title_of};

/// The picture stays where it is; its name is its caption.
pub(crate) fn read(path: &Path, options: &Options) -> Result<Reading, ReadError> {
    check(path, options)?;
    Ok(Reading::of(vec![piece(path, title_of(path))]))
}

/// A picture in a file with its caption.
pub(crate) fn piece(path: &Path, caption: String) -> Piece {
    Piece {
        name: None,
        title: caption,
        content: Content::Image(ImageSource::Path(path.to_path_buf())),
        origin: Origin::default(),
    }
}

/// Refuses what is no picture, is broken, or would be too large once it is unpacked.
pub(crate) fn check(path: &Path, options: &Options) -> Result<(), ReadError> {
    let open = || ImageReader::open(path)?.with_guessed_format();
    let unreadable = |error: image::ImageError| ReadError::new(format!("the picture: {error}"));
    let (width, height) = open()?.into_dimensions().map_err(unreadable)?;
    if u64::from(width) * u64::from(height) > options.max_pixels {
        return Err(ReadError::new(format!(
            "the picture has {width} x {height} pixels, more than {} million",
            options.max_pixels / 1_000_000
        )));
    }
    let mut reader = open()?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(options.max_pixels * 8);
    reader.limits(limits);
    reader.decode().map_err(unreadable)?;
    Ok(())
}
