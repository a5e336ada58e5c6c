//! Picture files to RGB pixels, as transformers' `load_image` reads them with Pillow: turned upright
//! by their EXIF orientation, then converted to RGB.
//!
//! What is refused is refused by the header, before pixels are decoded.

use std::borrow::Cow;
use std::fs;
use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};
use libjpeg_turbo_rs::{DecodeLimits, Decoder, Image, PixelFormat};
use mmrag_core::{ImageSource, Packed, Packing};

use crate::error::ModelError;
use crate::resample::RgbImage;

/// A picture of more pixels is refused before it is decoded.
pub const MAX_DECODED_PIXELS: u64 = 100_000_000;
/// A picture whose longer side is more than this many times its shorter one is refused.
pub const MAX_ASPECT_RATIO: u32 = 200;
/// A file of more bytes is refused before it is read.
const MAX_FILE_BYTES: u64 = 512 << 20;

/// Scans of a progressive JPEG file, each over all its pixels: real ones have a dozen.
const MAX_SCANS: usize = 100;

/// What an error calls a picture.
pub(crate) fn name_of(source: &ImageSource) -> String {
    match source {
        ImageSource::Path(path) => path.display().to_string(),
        ImageSource::Bytes(bytes) => format!("of {} bytes in memory", bytes.len()),
        ImageSource::Packed(packed) => {
            format!("at byte {} of {}", packed.start, packed.file.display())
        }
    }
}

/// The bytes of a picture's file, unless there are too many.
pub(crate) fn bytes_of(source: &ImageSource) -> Result<Cow<'_, [u8]>, ModelError> {
    let path = match source {
        ImageSource::Bytes(bytes) => return Ok(bytes.as_ref().into()),
        ImageSource::Packed(packed) => return unpacked(packed).map(Cow::Owned),
        ImageSource::Path(path) => path,
    };
    let unread = |source| ModelError::Read { path: path.clone(), source };
    let size = fs::metadata(path).map_err(unread)?.len();
    if size > MAX_FILE_BYTES {
        let reason =
            format!("the file has {size} bytes, more than {MAX_FILE_BYTES}; store it smaller");
        return Err(ModelError::Image { image: name_of(source), reason });
    }
    Ok(fs::read(path).map_err(unread)?.into())
}

fn unpacked(packed: &Packed) -> Result<Vec<u8>, ModelError> {
    let failed = |reason: String| ModelError::Image {
        image: name_of(&ImageSource::Packed(packed.clone())),
        reason,
    };
    let size = match packed.packing {
        Packing::Deflated { size } => size.max(packed.length),
        Packing::Stored | Packing::Base64Line => packed.length,
    };
    if size > MAX_FILE_BYTES {
        return Err(failed(format!("it has {size} bytes, more than {MAX_FILE_BYTES}")));
    }
    let bytes =
        mmrag_map::read(&packed.file, packed.range()).map_err(|error| failed(error.to_string()))?;
    Ok(packed.unpack(&bytes).map_err(|error| failed(error.what))?.into_owned())
}

/// A decoder that has read the header, and the size it tells; what no tower could make sense of is
/// refused.
fn open(bytes: &[u8]) -> Result<(impl ImageDecoder + '_, u32, u32), String> {
    let reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .expect("reading from memory does not fail");
    let decoder = reader.into_decoder().map_err(|error| unreadable(&error))?;
    let (width, height) = decoder.dimensions();
    check_size(width, height).map_err(|why| format!("it is {width}x{height}, {why}"))?;
    Ok((decoder, width, height))
}

/// Says of a size that is refused what is wrong with it, and what to do.
fn check_size(width: u32, height: u32) -> Result<(), String> {
    let (longer, shorter) = (width.max(height), width.min(height));
    if longer <= 1 {
        // Of one pixel, transformers' processors do not know which axis is the colours.
        return Err("which shows nothing; give the picture that it stands for".into());
    }
    if u64::from(width) * u64::from(height) > MAX_DECODED_PIXELS {
        let most = MAX_DECODED_PIXELS / 1_000_000;
        return Err(format!("more than {most} million pixels; make it smaller"));
    }
    if u64::from(longer) > u64::from(shorter) * u64::from(MAX_ASPECT_RATIO) {
        return Err(format!(
            "and one side may be at most {MAX_ASPECT_RATIO} times the other; cut or pad it"
        ));
    }
    Ok(())
}

fn unreadable(error: &image::ImageError) -> String {
    format!("{error}; give a whole JPEG, PNG, WebP, GIF or TIFF file")
}

/// The pixels, turned upright.
pub(crate) fn decode(bytes: &[u8]) -> Result<RgbImage, String> {
    let (mut decoder, ..) = open(bytes)?;
    let orientation = orientation_of(&mut decoder);
    // In a damaged file of inks the decoder may miss a plane, and panics.
    let exact = std::panic::catch_unwind(|| as_libjpeg_does(bytes)).ok().flatten();
    let mut image = match exact {
        Some(image) => image,
        None => DynamicImage::from_decoder(decoder).map_err(|error| unreadable(&error))?,
    };
    image.apply_orientation(orientation);
    Ok(to_rgb(&image))
}

/// The pixels of a JPEG file, to the last bit as libjpeg-turbo makes them and so Pillow; other
/// decoders round otherwise. Nothing of other files, and of a file that is cut off or damaged.
fn as_libjpeg_does(bytes: &[u8]) -> Option<DynamicImage> {
    if image::guess_format(bytes).ok()? != ImageFormat::Jpeg {
        return None;
    }
    let limits = DecodeLimits {
        max_pixels: MAX_DECODED_PIXELS,
        max_scans: MAX_SCANS,
        ..DecodeLimits::default()
    };
    let mut decoder = Decoder::new_with_limits(bytes, limits).ok()?;
    let is_ink = decoder.header().components.len() == 4;
    decoder.set_output_format(if is_ink { PixelFormat::Cmyk } else { PixelFormat::Rgb });
    let Image { width, height, data, .. } = decoder.decode_image().ok()?;
    let (width, height) = (u32::try_from(width).ok()?, u32::try_from(height).ok()?);
    let data = if is_ink { data.chunks_exact(4).flat_map(rgb_of_ink).collect() } else { data };
    image::RgbImage::from_raw(width, height, data).map(DynamicImage::ImageRgb8)
}

/// Pillow's RGB of cyan, magenta, yellow and black, which JPEG files hold as what they leave of
/// white: the product of an ink's rest and black's, rounded as Pillow rounds.
fn rgb_of_ink(rests: &[u8]) -> [u8; 3] {
    let black = u32::from(rests[3]);
    [0, 1, 2].map(|ink| {
        let taken = (255 - u32::from(rests[ink])) * black + 128;
        (black - (((taken >> 8) + taken) >> 8)) as u8
    })
}

/// Width and height of the upright picture, from the header alone.
pub(crate) fn upright_size(bytes: &[u8]) -> Result<(usize, usize), String> {
    let (mut decoder, width, height) = open(bytes)?;
    let (width, height) = (width as usize, height as usize);
    let is_turned = turns_sideways(orientation_of(&mut decoder));
    Ok(if is_turned { (height, width) } else { (width, height) })
}

/// A file whose EXIF part is broken is shown as it is stored.
fn orientation_of(decoder: &mut impl ImageDecoder) -> Orientation {
    decoder.orientation().unwrap_or(Orientation::NoTransforms)
}

fn turns_sideways(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}

/// Pillow's `convert("RGB")`: alpha is dropped, not blended; of 16-bit colours the upper byte
/// counts; 16-bit grey is not scaled but cut off at 255.
fn to_rgb(image: &DynamicImage) -> RgbImage {
    let grey = |value: u8| [value; 3];
    let upper = |value: u16| (value >> 8) as u8;
    let (width, height) = (image.width() as usize, image.height() as usize);
    let values = match image {
        DynamicImage::ImageLuma8(image) => image.pixels().flat_map(|p| grey(p.0[0])).collect(),
        DynamicImage::ImageLumaA8(image) => image.pixels().flat_map(|p| grey(p.0[0])).collect(),
        DynamicImage::ImageRgb8(image) => image.as_raw().clone(),
        DynamicImage::ImageRgba8(image) => {
            image.pixels().flat_map(|p| [p.0[0], p.0[1], p.0[2]]).collect()
        }
        DynamicImage::ImageLuma16(image) => {
            image.pixels().flat_map(|p| grey(p.0[0].min(255) as u8)).collect()
        }
        DynamicImage::ImageLumaA16(image) => {
            image.pixels().flat_map(|p| grey(upper(p.0[0]))).collect()
        }
        DynamicImage::ImageRgb16(image) => image.as_raw().iter().map(|v| upper(*v)).collect(),
        DynamicImage::ImageRgba16(image) => {
            image.pixels().flat_map(|p| [p.0[0], p.0[1], p.0[2]].map(upper)).collect()
        }
        other => other.to_rgb8().into_raw(),
    };
    RgbImage { width, height, values }
}
