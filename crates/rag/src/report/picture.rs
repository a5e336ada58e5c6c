//! Pictures inside the page: thumbnails, so that a page of many questions stays small.

use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageReader, Limits};
use mmrag_core::ImageSource;

use super::heat::overlay;
use crate::explanation::Attribution;
use crate::picture::picture_bytes;

/// The longer side of a thumbnail, in pixels.
const SIDE: u32 = 192;
/// A picture that is no larger than this, in bytes and in pixels, is taken as it is.
const SMALL_BYTES: usize = 12 << 10;
/// A picture of at most so many pixels a side is enlarged without smoothing.
const TINY_SIDE: u32 = 96;
/// Quality of thumbnails, of 100.
const QUALITY: u8 = 78;
/// What decoding a picture may take.
const DECODED_BYTES: u64 = 256 << 20;

/// A picture as an `img` element, with what is drawn over it; none if it cannot be read.
pub(super) fn img(source: &ImageSource, alt: &str, over: Option<&Attribution>) -> Option<String> {
    let bytes = picture_bytes(source)?.into_owned();
    let kind = kind(&bytes)?;
    let mut reader = ImageReader::new(Cursor::new(&bytes)).with_guessed_format().ok()?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(DECODED_BYTES);
    reader.limits(limits);
    let picture = reader.decode().ok()?;
    let longer = picture.width().max(picture.height());
    let (kind, bytes) = if bytes.len() <= SMALL_BYTES && longer <= SIDE {
        (kind, bytes)
    } else {
        ("image/jpeg", thumbnail(&picture)?)
    };
    let class = if longer <= TINY_SIDE { " class=\"tiny\"" } else { "" };
    let shown = format!(
        "<img{class} src=\"data:{kind};base64,{}\" alt=\"{alt}\" loading=\"lazy\">",
        STANDARD.encode(&bytes)
    );
    let Some(attribution) = over else { return Some(shown) };
    let drawn = overlay(attribution, [picture.width(), picture.height()]);
    Some(format!("<div class=\"heat\">{shown}{drawn}</div>"))
}

fn thumbnail(picture: &DynamicImage) -> Option<Vec<u8>> {
    let small = picture.thumbnail(SIDE.min(picture.width()), SIDE.min(picture.height()));
    let mut bytes = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut bytes, QUALITY);
    small.to_rgb8().write_with_encoder(encoder).ok()?;
    Some(bytes)
}

fn kind(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        [b'I', b'I', 0x2a, 0x00, ..] | [b'M', b'M', 0x00, 0x2a, ..] => Some("image/tiff"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use image::{ImageFormat, RgbImage};

    use super::*;

    fn of(bytes: &[u8]) -> Option<String> {
        img(&ImageSource::Bytes(bytes.into()), "a picture", None)
    }

    fn png(side: u32) -> Vec<u8> {
        let noise = |x: u32, y: u32| image::Rgb([(x * 7 + y * 13) as u8, (x * y) as u8, y as u8]);
        let mut bytes = Cursor::new(Vec::new());
        RgbImage::from_fn(side, side, noise).write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn large_pictures_become_small_ones_and_small_ones_stay() {
        let file = png(600);
        let large = of(&file).unwrap();
        assert!(large.contains("data:image/jpeg;base64,") && !large.contains("tiny"));
        assert!(5 * large.len() < file.len(), "{} of {}", large.len(), file.len());
        let small = png(16);
        let shown = of(&small).unwrap();
        assert!(shown.contains("class=\"tiny\"") && shown.contains(&STANDARD.encode(&small)));
    }

    #[test]
    fn only_pictures_are_shown() {
        assert_eq!(of(b"<svg onload=x>"), None);
        assert_eq!(of(b"\x89PNG torn"), None);
        assert_eq!(img(&ImageSource::Path("missing.png".into()), "x", None), None);
    }
}
