//! Timings of the parts. The first round of each is not counted unless that is asked for; of the
//! others the median is told.

mod answer;
mod decode;
mod group;
mod index;
mod machine;
mod scoring;
mod serve;

use anyhow::Context as _;
use mmrag_core::{ImageSource, Sampling};
use mmrag_model::{Encoded, ImageProcessor, Policy};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

pub(crate) use answer::{CandidateCount, answers};
pub(crate) use decode::decode;
pub(crate) use group::{Training, group};
pub(crate) use index::{IndexSize, index};
pub(crate) use machine::resident_bytes;
pub(crate) use scoring::scoring;
pub(crate) use serve::Load;

/// How often each part is timed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    /// Rounds that count.
    pub(crate) counted: usize,
    /// Rounds before them that do not.
    pub(crate) warm_up: usize,
}

impl Rounds {
    fn all(self) -> usize {
        self.warm_up + self.counted
    }

    /// The median of those that count.
    fn median(self, seconds: impl Iterator<Item = f64>) -> f64 {
        median(seconds.skip(self.warm_up).collect())
    }
}

/// A prompt of random tokens and noise.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct PromptSize {
    /// Tokens of text.
    pub(crate) text: usize,
    /// Pictures.
    pub(crate) images: usize,
    /// Width and height of each picture in pixels.
    pub(crate) image_size: usize,
}

impl PromptSize {
    /// The prompt: each picture between its marks and followed by its share of the text.
    ///
    /// # Errors
    ///
    /// When the model cannot take the pictures.
    pub(crate) fn prompt(self, policy: &Policy, seed: u64) -> anyhow::Result<Encoded> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let config = policy.vlm().config();
        let special = [
            config.tokens.image,
            config.tokens.video.unwrap_or(config.tokens.image),
            config.tokens.vision_start,
            config.tokens.vision_end,
        ];
        let mut word = || loop {
            let token = rng.random_range(0..config.text.vocab_size as u32);
            if !special.contains(&token) && !config.eos.contains(&token) {
                return token;
            }
        };
        let mut tokens = vec![];
        for _ in 0..self.images {
            tokens.extend([config.tokens.vision_start, config.tokens.image]);
            tokens.push(config.tokens.vision_end);
            tokens.extend((0..self.text / self.images).map(|_| word()));
        }
        if self.images == 0 {
            tokens.extend((0..self.text.max(1)).map(|_| word()));
        }
        let images: Vec<ImageSource> =
            (0..self.images).map(|_| noise(self.image_size, &mut rng)).collect::<Result<_, _>>()?;
        policy.encode_tokens(&tokens, &images).context("failed to make the prompt")
    }
}

/// A picture of noise as PNG bytes.
fn noise(side: usize, rng: &mut ChaCha8Rng) -> anyhow::Result<ImageSource> {
    let side = u32::try_from(side).context("the pictures are too large")?;
    let image = image::RgbImage::from_fn(side, side, |_, _| image::Rgb(rng.random()));
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).context("failed to make a picture")?;
    Ok(ImageSource::Bytes(bytes.into_inner().into()))
}

/// Frames, rows and columns of patches of a prompt's pictures.
///
/// # Errors
///
/// When the image processor refuses the size.
pub(crate) fn noise_grid(
    processor: &ImageProcessor,
    size: PromptSize,
) -> anyhow::Result<[usize; 3]> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    processor.grid(&noise(size.image_size, &mut rng)?).context("failed to read a picture")
}

/// How completions are drawn: all tokens, no cut.
pub(crate) fn sampling(n: usize, max_new_tokens: usize) -> Sampling {
    Sampling { temperature: 1.0, top_p: 1.0, top_k: 0, max_new_tokens, n, seed: 0 }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![]), 0.0);
    }
}
