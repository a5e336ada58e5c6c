//! How a picture becomes the patches that an encoder sees.

use std::path::Path;

use candle_core::{Device, Tensor};
use mmrag_core::ImageSource;

use super::parts::json;
use crate::error::ModelError;
use crate::picture_file::{bytes_of, decode, name_of};
use crate::resample::{Filter, RgbImage, resize};
use crate::settings_object::Object;

/// What an encoder sees of a picture: a square of `side` pixels, in patches of `patch`.
pub(super) struct View {
    pub(super) side: usize,
    pub(super) patch: usize,
    shaping: Shaping,
    filter: Filter,
    mean: [f32; 3],
    deviation: [f32; 3],
}

/// How any picture becomes a square.
#[derive(Clone, Copy)]
enum Shaping {
    /// The shorter side gets this length, and what stands out at the longer one is left out.
    Cut(usize),
    /// Both sides get the square's length.
    Stretched,
}

impl View {
    /// A view that keeps the shape and leaves the ends of the longer side out, as CLIP has it.
    pub(super) fn cut(folder: &Path, side: usize, patch: usize) -> Result<Self, ModelError> {
        let path = folder.join("preprocessor_config.json");
        let config = json(&path)?;
        let config = Object::new(&path, "", &config)?;
        // Either a number or an object, as the file's age has it.
        let shorter = match config.child("size") {
            Ok(Some(size)) => size.size("shortest_edge")?,
            _ => config.size("size")?,
        };
        let crop = match config.child("crop_size") {
            Ok(Some(size)) => size.size("height")?,
            _ => config.size("crop_size")?,
        };
        if crop != side || shorter < crop {
            return Err(config.unsupported(format!(
                "pictures whose shorter side is {shorter}, cut to {crop}, for a tower that sees {side}"
            )));
        }
        Self::new(&config, side, patch, Shaping::Cut(shorter))
    }

    /// A view that takes in all of a picture, whatever its shape, as SigLIP has it.
    pub(super) fn stretched(folder: &Path, side: usize, patch: usize) -> Result<Self, ModelError> {
        let path = folder.join("preprocessor_config.json");
        let config = json(&path)?;
        let config = Object::new(&path, "", &config)?;
        let size = config.child("size")?.ok_or_else(|| config.missing("size"))?;
        let (height, width) = (size.size("height")?, size.size("width")?);
        if (height, width) != (side, side) {
            return Err(config.unsupported(format!(
                "pictures of {width} x {height} for a tower that sees {side} x {side}"
            )));
        }
        Self::new(&config, side, patch, Shaping::Stretched)
    }

    fn new(
        config: &Object<'_>,
        side: usize,
        patch: usize,
        shaping: Shaping,
    ) -> Result<Self, ModelError> {
        if !side.is_multiple_of(patch) {
            return Err(config.unsupported(format!("a view of {side} in patches of {patch}")));
        }
        // Pillow's numbers.
        let filter = match config.size("resample")? {
            2 => Filter::Bilinear,
            3 => Filter::Bicubic,
            other => {
                let what = format!(
                    "the filter {other}: pictures are resized by 2 (bilinear) or 3 (bicubic)"
                );
                return Err(config.unsupported(what));
            }
        };
        let three = |key: &str| {
            config.take(key, "three numbers", |value| {
                let values = value.as_array()?.iter().map(|x| Some(x.as_f64()? as f32));
                values.collect::<Option<Vec<f32>>>()?.try_into().ok()
            })
        };
        let (mean, deviation) = (three("image_mean")?, three("image_std")?);
        Ok(Self { side, patch, shaping, filter, mean, deviation })
    }

    /// How many patches there are.
    pub(super) fn n_patches(&self) -> usize {
        (self.side / self.patch).pow(2)
    }

    /// The patches, row by row, each as its red, then its green, then its blue values.
    pub(super) fn patches(&self, source: &ImageSource) -> Result<Tensor, ModelError> {
        let unreadable = |reason: String| ModelError::Image { image: name_of(source), reason };
        let image = decode(&bytes_of(source)?).map_err(unreadable)?;
        let image = self.shaped(image);
        let (left, top) = ((image.width - self.side) / 2, (image.height - self.side) / 2);
        let (n, patch) = (self.side / self.patch, self.patch);
        let mut values = Vec::with_capacity(3 * self.side * self.side);
        for (at_row, at_column) in (0..n * n).map(|i| (i / n, i % n)) {
            for channel in 0..3 {
                for (y, x) in (0..patch * patch).map(|i| (i / patch, i % patch)) {
                    let row = top + at_row * patch + y;
                    let column = left + at_column * patch + x;
                    let value = image.values[3 * (row * image.width + column) + channel];
                    let value = f32::from(value) / 255.0;
                    values.push((value - self.mean[channel]) / self.deviation[channel]);
                }
            }
        }
        Ok(Tensor::from_vec(values, (n * n, 3 * patch * patch), &Device::Cpu)?)
    }

    fn shaped(&self, image: RgbImage) -> RgbImage {
        let (width, height) = (image.width, image.height);
        let (to_width, to_height) = match self.shaping {
            Shaping::Stretched => (self.side, self.side),
            Shaping::Cut(shorter) if width <= height => (shorter, shorter * height / width),
            Shaping::Cut(shorter) => (shorter * width / height, shorter),
        };
        resize(image, self.filter, to_width, to_height)
    }
}
