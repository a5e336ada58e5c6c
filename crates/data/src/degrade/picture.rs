//! Worse pictures.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageFormat, ImageReader, Limits, Rgb, RgbImage};
use mmrag_core::ImageSource;

use super::DegradeKind;
use crate::atlas::draw::Draw;
use crate::picture_bytes;

/// What decoding a picture may take.
const DECODED_BYTES: u64 = 512 << 20;
/// Doublings by which a picture is made smaller at strength 1.
const HALVINGS: f64 = 5.0;

/// The picture made worse, as an encoded file; none if it cannot be read or the kind is not about
/// pictures.
pub(super) fn worse(
    kind: DegradeKind,
    strength: f64,
    source: &ImageSource,
    draw: &mut Draw,
) -> Option<Vec<u8>> {
    let is_about = kind <= DegradeKind::Occlude;
    let mut picture = is_about.then(|| read(source)).flatten()?;
    let (width, height) = picture.dimensions();
    match kind {
        DegradeKind::Blur => {
            let sigma = 0.1 * strength * f64::from(width.max(height));
            picture = imageops::blur(&picture, (sigma as f32).max(0.01));
        }
        DegradeKind::Noise => {
            for value in picture.iter_mut() {
                let noisy = f64::from(*value) + 128.0 * strength * draw.normal();
                *value = noisy.round().clamp(0.0, 255.0) as u8;
            }
        }
        DegradeKind::Jpeg => {
            let quality = (100.0 * (1.0 - strength)).round().max(1.0) as u8;
            let mut bytes = Vec::new();
            let encoder = JpegEncoder::new_with_quality(&mut bytes, quality);
            picture.write_with_encoder(encoder).ok()?;
            return Some(bytes);
        }
        DegradeKind::Downscale => {
            let factor = 2f64.powf(HALVINGS * strength);
            let side = |pixels: u32| ((f64::from(pixels) / factor).round() as u32).max(1);
            let small = imageops::resize(&picture, side(width), side(height), FilterType::Triangle);
            picture = imageops::resize(&small, width, height, FilterType::Triangle);
        }
        DegradeKind::Occlude => occlude(&mut picture, strength, draw),
        _ => return None,
    }
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).ok()?;
    Some(bytes.into_inner())
}

/// A grey rectangle of the picture's shape covers this share of it.
fn occlude(picture: &mut RgbImage, share: f64, draw: &mut Draw) {
    let (width, height) = picture.dimensions();
    let side = |pixels: u32| ((f64::from(pixels) * share.sqrt()).round() as u32).min(pixels);
    let (covered, high) = (side(width), side(height));
    let left = draw.below((width - covered + 1) as usize) as u32;
    let top = draw.below((height - high + 1) as usize) as u32;
    for y in top..top + high {
        for x in left..left + covered {
            picture.put_pixel(x, y, Rgb([128; 3]));
        }
    }
}

fn read(source: &ImageSource) -> Option<RgbImage> {
    let bytes = picture_bytes(source).ok()?;
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().ok()?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(DECODED_BYTES);
    reader.limits(limits);
    reader.decode().ok().map(DynamicImage::into_rgb8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of vertical stripes.
    fn striped() -> ImageSource {
        let stripe =
            |x: u32, _| Rgb(if (x / 4).is_multiple_of(2) { [250, 20, 20] } else { [20, 20, 250] });
        let mut bytes = Cursor::new(Vec::new());
        RgbImage::from_fn(40, 40, stripe).write_to(&mut bytes, ImageFormat::Png).unwrap();
        ImageSource::Bytes(bytes.into_inner().into())
    }

    fn distance(kind: DegradeKind, strength: f64) -> f64 {
        let source = striped();
        let mut draw = Draw::new("test", &[1]);
        let worse = worse(kind, strength, &source, &mut draw).unwrap();
        let after = read(&ImageSource::Bytes(worse.into())).unwrap();
        let before = read(&source).unwrap();
        assert_eq!(before.dimensions(), after.dimensions());
        let differences = before.iter().zip(after.iter());
        let sum: f64 = differences.map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
        sum / before.len() as f64
    }

    #[test]
    fn more_strength_is_farther_from_the_picture() {
        use DegradeKind::{Blur, Downscale, Jpeg, Noise, Occlude};
        for kind in [Blur, Noise, Jpeg, Downscale, Occlude] {
            let distances = [0.05, 0.3, 0.6, 1.0].map(|strength| distance(kind, strength));
            assert!(distances.is_sorted() && distances[3] > 8.0, "{kind}: {distances:?}");
        }
    }

    #[test]
    fn a_covered_share_is_what_was_asked() {
        let mut picture = RgbImage::new(50, 20);
        occlude(&mut picture, 0.25, &mut Draw::new("test", &[2]));
        let grey = picture.pixels().filter(|pixel| pixel.0 == [128; 3]).count();
        assert_eq!(grey, 25 * 10);
    }

    #[test]
    fn what_cannot_be_read_stays() {
        let broken = ImageSource::Bytes(b"no picture"[..].into());
        let mut draw = Draw::new("test", &[]);
        assert_eq!(worse(DegradeKind::Blur, 0.5, &broken, &mut draw), None);
        assert_eq!(worse(DegradeKind::Ocr, 0.5, &striped(), &mut draw), None);
    }
}
