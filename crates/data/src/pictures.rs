//! Looking at pictures: whether a header can be read, whether all of it decodes.

use std::borrow::Cow;
use std::fs;
use std::io::Cursor;

use image::{ImageFormat, ImageReader};
use mmrag_core::ImageSource;

/// A picture of more pixels is not decoded.
const MOST_PIXELS: u64 = 100_000_000;
/// A file of more bytes is not read.
const MOST_BYTES: u64 = 512 << 20;

/// How much of a picture can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// All of it.
    Whole,
    /// It is cut off: what is there can be seen, the rest is grey or black.
    Cut,
}

/// The encoded bytes of a picture, wherever it lies.
///
/// # Errors
///
/// When they cannot be read or unpacked, or are too many; in words.
pub fn picture_bytes(source: &ImageSource) -> Result<Cow<'_, [u8]>, String> {
    match source {
        ImageSource::Bytes(bytes) => Ok(bytes.as_ref().into()),
        ImageSource::Path(path) => {
            let failed = |error| format!("picture {} cannot be opened: {error}", path.display());
            let size = fs::metadata(path).map_err(failed)?.len();
            check_size(size)?;
            Ok(fs::read(path).map_err(failed)?.into())
        }
        ImageSource::Packed(packed) => {
            check_size(packed.length)?;
            let bytes =
                mmrag_map::read(&packed.file, packed.range()).map_err(|error| error.to_string())?;
            Ok(packed.unpack(&bytes).map_err(|error| error.what)?.into_owned().into())
        }
    }
}

fn check_size(size: u64) -> Result<(), String> {
    if size > MOST_BYTES {
        return Err(format!("it has {size} bytes, more than {MOST_BYTES}"));
    }
    Ok(())
}

/// The format of a picture, by its first bytes.
pub fn picture_format(bytes: &[u8]) -> Option<ImageFormat> {
    image::guess_format(bytes).ok()
}

/// Reads a picture's header.
pub(crate) fn check_header(bytes: &[u8]) -> Result<(), String> {
    let reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| error.to_string())?;
    let (width, height) = reader.into_dimensions().map_err(|error| error.to_string())?;
    if u64::from(width) * u64::from(height) > MOST_PIXELS {
        return Err(format!("it is {width}x{height}, more than {MOST_PIXELS} pixels"));
    }
    Ok(())
}

/// Decodes a picture, also one that is cut off.
///
/// # Errors
///
/// When nothing of it can be seen; in words.
pub fn look_at(bytes: &[u8]) -> Result<Seen, String> {
    check_header(bytes)?;
    match image::load_from_memory(bytes) {
        Ok(_) if is_cut(bytes) => Ok(Seen::Cut),
        Ok(_) => Ok(Seen::Whole),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether a JPEG lacks its end: decoders fill up the rest without a word.
fn is_cut(bytes: &[u8]) -> bool {
    const END: [u8; 2] = [0xff, 0xd9];
    picture_format(bytes) == Some(ImageFormat::Jpeg)
        && !bytes.windows(2).rev().take(1 << 16).any(|pair| pair == END)
}
