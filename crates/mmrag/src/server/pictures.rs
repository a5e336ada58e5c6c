//! Pictures in requests: data URLs, looked at by their headers before anything decodes them.

use std::io::Cursor;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::ImageReader;
use mmrag_core::ImageSource;

use super::error::ApiError;
use super::limits::Limits;

/// The picture of a data URL.
///
/// # Errors
///
/// When it is another kind of URL (this server fetches nothing), no base64, no picture, or one of
/// too many pixels.
pub(crate) fn from_url(url: &str, limits: &Limits) -> Result<ImageSource, ApiError> {
    let Some(data) = url.strip_prefix("data:") else {
        return Err(ApiError::bad(
            "pictures are given as data URLs (data:image/png;base64,…): this server fetches nothing",
        ));
    };
    let Some((kind, encoded)) = data.split_once(',') else {
        return Err(ApiError::bad("a data URL has no comma before its data"));
    };
    if !kind.to_ascii_lowercase().ends_with(";base64") {
        return Err(ApiError::bad("a data URL of a picture has to be base64"));
    }
    let bytes = STANDARD
        .decode(encoded.trim())
        .map_err(|error| ApiError::bad(format!("a data URL is no base64: {error}")))?;
    from_bytes(bytes, limits)
}

/// The picture of a file's bytes.
///
/// # Errors
///
/// When it is no picture, or one of too many pixels.
pub(crate) fn from_bytes(bytes: Vec<u8>, limits: &Limits) -> Result<ImageSource, ApiError> {
    let reader = ImageReader::new(Cursor::new(&bytes))
        .with_guessed_format()
        .expect("reading from memory does not fail");
    let (width, height) = reader.into_dimensions().map_err(|error| {
        ApiError::bad(format!("a picture is not a JPEG, PNG, WebP, GIF or TIFF file: {error}"))
    })?;
    if u64::from(width) * u64::from(height) > limits.picture_pixels {
        return Err(ApiError::too_large(format!(
            "a picture is {width}x{height}; at most {} pixels are taken",
            limits.picture_pixels
        )));
    }
    Ok(ImageSource::Bytes(Arc::from(bytes)))
}
