//! Pictures to patches, as transformers' Qwen2-VL image processor makes them.
//!
//! The file's bytes are decoded, turned upright by their EXIF orientation, converted to RGB by
//! Pillow's rules, resized with Pillow's bicubic filter (8-bit values, fixed-point weights: the
//! same pixels, not similar ones), normalised, and cut into patches in the order in which the
//! vision tower merges them. What the tower makes of them is not this room's business.

use std::fmt;
use std::path::Path;

use mmrag_core::ImageSource;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::config::VisionConfig;
use crate::error::ModelError;
use crate::picture_file::{bytes_of, decode, name_of, upright_size};
use crate::resample::{Filter, RgbImage, resize};
use crate::weights::read_json;

/// Turns pictures into the vision tower's input.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageProcessor {
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Frames in a patch; a still picture is repeated.
    pub temporal_patch_size: usize,
    /// Side in patches of the square that becomes one token.
    pub merge_size: usize,
    /// A smaller picture is enlarged to at least this many pixels.
    pub min_pixels: usize,
    /// A larger picture is shrunk to at most this many pixels.
    pub max_pixels: usize,
    /// Multiplies the 8-bit values.
    pub rescale_factor: f64,
    /// Subtracted from each channel, after rescaling.
    pub mean: [f64; 3],
    /// Divides each channel, after that.
    pub std: [f64; 3],
}

/// A picture as the vision tower takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Pixels {
    /// Patches of `channels * frames * side * side` values each, row by row within the squares
    /// that become one token, square by square.
    pub values: Vec<f32>,
    /// Patches in time, height and width.
    pub grid: [usize; 3],
    /// What the picture is known by in caches.
    pub hash: ImageHash,
}

/// SHA-256 of an image file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageHash(pub [u8; 32]);

impl fmt::Display for ImageHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl ImageProcessor {
    /// Reads `preprocessor_config.json`, or the `image_processor` of a `processor_config.json`, which
    /// comes first, with the bounds as `size.shortest_edge` and
    /// `size.longest_edge` or as `min_pixels` and `max_pixels`.
    ///
    /// `resample`, `rescale_factor` and the `do_*` switches may be left out, as in published
    /// checkpoints; then they are bicubic, 1/255 and on.
    ///
    /// # Errors
    ///
    /// When the file is missing, a key is missing or wrong, or a switch is off.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self, ModelError> {
        let path = dir.as_ref().join("processor_config.json");
        let whole = if path.is_file() { read_json(&path)? } else { Value::Null };
        if let Some(value) = whole.get("image_processor") {
            return Settings { path: &path, value }.processor();
        }
        let path = dir.as_ref().join("preprocessor_config.json");
        let value = read_json(&path)?;
        Settings { path: &path, value: &value }.processor()
    }

    /// Checks that the vision tower takes the patches this makes. `dir` is for the error.
    ///
    /// # Errors
    ///
    /// When a size differs, with both files' words for it.
    pub(crate) fn check_fits(&self, dir: &Path, vision: &VisionConfig) -> Result<(), ModelError> {
        let sizes = [
            ("patch_size", self.patch_size, "patch_size", vision.patch_size),
            ("merge_size", self.merge_size, "spatial_merge_size", vision.spatial_merge_size),
            (
                "temporal_patch_size",
                self.temporal_patch_size,
                "temporal_patch_size",
                vision.temporal_patch_size,
            ),
        ];
        match sizes.into_iter().find(|(_, ours, _, theirs)| ours != theirs) {
            None => Ok(()),
            Some((key, ours, vision_key, theirs)) => Err(ModelError::Unsupported {
                path: dir.join("preprocessor_config.json"),
                what: format!(
                    "its `{key}` is {ours}, and `vision_config.{vision_key}` of config.json is \
                     {theirs}; take both files from one checkpoint"
                ),
            }),
        }
    }

    /// Reads, decodes, resizes and cuts a picture.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or decoded; before decoding, when it is a single pixel, has
    /// more than [`MAX_DECODED_PIXELS`](crate::MAX_DECODED_PIXELS), or is longer than [`MAX_ASPECT_RATIO`](crate::MAX_ASPECT_RATIO) times its width.
    pub fn process(&self, source: &ImageSource) -> Result<Pixels, ModelError> {
        let refused = |reason: String| ModelError::Image { image: name_of(source), reason };
        let bytes = bytes_of(source)?;
        let hash = ImageHash(Sha256::digest(&bytes).into());
        let image = decode(&bytes).map_err(refused)?;
        let (width, height) = self.target_size(image.width, image.height);
        let image = resize(image, Filter::Bicubic, width, height);
        let grid = [1, height / self.patch_size, width / self.patch_size];
        Ok(Pixels { values: self.patches(&image, grid), grid, hash })
    }

    /// The grid of patches a picture gets, without decoding its pixels.
    ///
    /// # Errors
    ///
    /// As [`Self::process`], as far as the file's header tells.
    pub fn grid(&self, source: &ImageSource) -> Result<[usize; 3], ModelError> {
        let refused = |reason: String| ModelError::Image { image: name_of(source), reason };
        let bytes = bytes_of(source)?;
        let (width, height) = upright_size(&bytes).map_err(refused)?;
        let (width, height) = self.target_size(width, height);
        Ok([1, height / self.patch_size, width / self.patch_size])
    }

    /// Tokens that a picture of this grid takes in a prompt.
    pub fn tokens(&self, grid: [usize; 3]) -> usize {
        grid.iter().product::<usize>() / (self.merge_size * self.merge_size)
    }

    /// Width and height after resizing: multiples of a token's side, between the bounds, and as
    /// near as can be to the picture's shape (transformers' `smart_resize`).
    fn target_size(&self, width: usize, height: usize) -> (usize, usize) {
        let factor = self.patch_size * self.merge_size;
        let round = |side: usize, scale: f64, to_whole: fn(f64) -> f64| {
            (to_whole(side as f64 * scale / factor as f64) as usize).max(1) * factor
        };
        let nearest = |side| round(side, 1.0, f64::round_ties_even);
        let area = nearest(width) * nearest(height);
        let (pixels, min, max) =
            ((width * height) as f64, self.min_pixels as f64, self.max_pixels as f64);
        if area > self.max_pixels {
            // Divided rather than multiplied, as the original does: floor is not forgiving.
            let shrink = (pixels / max).sqrt();
            let floor = |side: usize| {
                ((side as f64 / shrink / factor as f64).floor() as usize).max(1) * factor
            };
            (floor(width), floor(height))
        } else if area < self.min_pixels {
            let grow = (min / pixels).sqrt();
            (round(width, grow, f64::ceil), round(height, grow, f64::ceil))
        } else {
            (nearest(width), nearest(height))
        }
    }

    fn patches(&self, image: &RgbImage, [_, rows, columns]: [usize; 3]) -> Vec<f32> {
        let (side, merge) = (self.patch_size, self.merge_size);
        let tables = self.value_tables();
        let mut values = Vec::with_capacity(image.values.len() * self.temporal_patch_size);
        for square_row in 0..rows / merge {
            for square_column in 0..columns / merge {
                for inner in 0..merge * merge {
                    let top = (square_row * merge + inner / merge) * side;
                    let left = (square_column * merge + inner % merge) * side;
                    for (channel, table) in tables.iter().enumerate() {
                        for _ in 0..self.temporal_patch_size {
                            push_patch(&mut values, image, (top, left), side, channel, table);
                        }
                    }
                }
            }
        }
        values
    }

    /// What each 8-bit value becomes in each channel.
    fn value_tables(&self) -> [[f32; 256]; 3] {
        [0, 1, 2].map(|channel| {
            std::array::from_fn(|value| {
                let rescaled = value as f64 * self.rescale_factor;
                ((rescaled - self.mean[channel]) / self.std[channel]) as f32
            })
        })
    }
}

fn push_patch(
    values: &mut Vec<f32>,
    image: &RgbImage,
    (top, left): (usize, usize),
    side: usize,
    channel: usize,
    table: &[f32; 256],
) {
    for y in top..top + side {
        let start = (y * image.width + left) * 3;
        let row = &image.values[start..start + side * 3];
        values.extend(row.chunks_exact(3).map(|pixel| table[pixel[channel] as usize]));
    }
}

/// `preprocessor_config.json`, and where it is, for errors.
struct Settings<'a> {
    path: &'a Path,
    value: &'a Value,
}

impl Settings<'_> {
    fn processor(&self) -> Result<ImageProcessor, ModelError> {
        for switch in ["do_resize", "do_rescale", "do_normalize", "do_convert_rgb"] {
            if self.get(switch).is_some_and(|value| value == &Value::Bool(false)) {
                return Err(self.unsupported(format!("`{switch}: false` is not built")));
            }
        }
        if self.get("resample").is_some_and(|value| value.as_u64() != Some(3)) {
            return Err(self.unsupported("only `resample: 3` (bicubic) is built".into()));
        }
        let processor = ImageProcessor {
            patch_size: self.size("patch_size")?,
            temporal_patch_size: self.size("temporal_patch_size")?,
            merge_size: self.size("merge_size")?,
            min_pixels: self.bound("min_pixels", "shortest_edge")?,
            max_pixels: self.bound("max_pixels", "longest_edge")?,
            rescale_factor: match self.get("rescale_factor") {
                Some(_) => self.number("rescale_factor", Value::as_f64)?,
                None => 1.0 / 255.0,
            },
            mean: self.number("image_mean", triple)?,
            std: self.number("image_std", triple)?,
        };
        let token_pixels = (processor.patch_size * processor.merge_size).pow(2);
        if processor.max_pixels < token_pixels.max(processor.min_pixels) {
            return Err(self.unsupported(format!(
                "the most pixels, {}, are fewer than the least, {}, or than one token's, {token_pixels}",
                processor.max_pixels, processor.min_pixels
            )));
        }
        Ok(processor)
    }

    /// A bound under its own name, which wins, or in `size`.
    fn bound(&self, key: &str, size_key: &str) -> Result<usize, ModelError> {
        if self.get(key).is_some() {
            return self.size(key);
        }
        // The oldest files have the first names within `size`.
        let size = self.get("size");
        let found = [size_key, key].into_iter().find_map(|key| size?.get(key)?.as_u64());
        found.map(|found| found as usize).ok_or_else(|| ModelError::MissingKey {
            path: self.path.to_owned(),
            key: format!("{key}` or `size.{size_key}"),
        })
    }

    fn size(&self, key: &str) -> Result<usize, ModelError> {
        self.number(key, |value| {
            value.as_u64().filter(|n| (1..1 << 32).contains(n)).map(|n| n as usize)
        })
    }

    fn number<T>(&self, key: &str, read: impl Fn(&Value) -> Option<T>) -> Result<T, ModelError> {
        let path = || self.path.to_owned();
        let value = self
            .get(key)
            .ok_or_else(|| ModelError::MissingKey { path: path(), key: key.to_owned() })?;
        read(value).ok_or_else(|| ModelError::BadKey {
            path: path(),
            key: key.to_owned(),
            expected: "a number, or three for the channels".into(),
            found: value.to_string(),
        })
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.value.get(key).filter(|value| !value.is_null())
    }

    fn unsupported(&self, what: String) -> ModelError {
        ModelError::Unsupported { path: self.path.to_owned(), what }
    }
}

fn triple(value: &Value) -> Option<[f64; 3]> {
    let values: Option<Vec<f64>> = value.as_array()?.iter().map(Value::as_f64).collect();
    values?.try_into().ok()
}
