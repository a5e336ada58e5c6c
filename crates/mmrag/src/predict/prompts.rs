//! The prompts of a run that is to be foreseen: how long they are, and some that stand for all.

use std::path::Path;

use anyhow::{Context as _, ensure};
use mmrag_core::{ImageSource, Part, Prompt};
use mmrag_model::{ChatTokenizer, ImageProcessor};

/// Prompts that are read, at most, of all that a run has.
const READ: usize = 256;

/// Makes prompts ready as a model's folder says, without the model.
pub(super) struct Reader {
    tokenizer: ChatTokenizer,
    processor: ImageProcessor,
}

impl Reader {
    pub(super) fn open(model: &Path) -> anyhow::Result<Self> {
        let context = || format!("failed to read the model {}", model.display());
        let tokenizer = ChatTokenizer::load(model).with_context(context)?;
        let processor = ImageProcessor::load(model).with_context(context)?;
        Ok(Self { tokenizer, processor })
    }

    /// Tokens of a reply, the one that ends it among them.
    pub(super) fn reply_tokens(&self, reply: &str) -> anyhow::Result<usize> {
        Ok(self.tokenizer.encode_reply(reply)?.len() + 1)
    }

    /// Tokens that two replies begin with alike.
    pub(super) fn shared_tokens(&self, one: &str, other: &str) -> anyhow::Result<usize> {
        let (one, other) = (self.tokenizer.encode_reply(one)?, self.tokenizer.encode_reply(other)?);
        Ok(one.iter().zip(&other).take_while(|(one, other)| one == other).count())
    }

    fn length(&self, prompt: &Prompt) -> anyhow::Result<Length> {
        let grids = images(prompt).map(|image| self.processor.grid(image));
        let grids: Vec<[usize; 3]> = grids.collect::<Result<_, _>>()?;
        let counts: Vec<usize> = grids.iter().map(|&grid| self.processor.tokens(grid)).collect();
        Ok(Length {
            tokens: self.tokenizer.encode_prompt(prompt, &counts)?.ids.len(),
            pictures: grids.len(),
            patches: grids.iter().map(|grid| grid.iter().product::<usize>()).sum(),
        })
    }
}

/// How long a prompt is.
#[derive(Clone, Copy)]
struct Length {
    tokens: usize,
    pictures: usize,
    patches: usize,
}

/// Prompts evenly taken of all, and how long they are. What cannot be read is left out, as in
/// training.
pub(super) struct Sample(Vec<(Prompt, Length)>);

impl Sample {
    /// Of `count` prompts, which `of` makes.
    pub(super) fn read(
        reader: &Reader,
        count: usize,
        of: impl Fn(usize) -> anyhow::Result<Prompt>,
    ) -> anyhow::Result<Self> {
        ensure!(count > 0, "the data set has no question to train on");
        let (mut read, mut broken) = (Vec::new(), None);
        for index in (0..count).step_by(count.div_ceil(READ)) {
            let prompt = of(index)?;
            match reader.length(&prompt) {
                Ok(length) => read.push((prompt, length)),
                Err(error) => broken = Some(error),
            }
        }
        match broken {
            Some(error) if read.is_empty() => Err(error),
            _ => Ok(Self(read)),
        }
    }

    /// So many prompts as long as all are: evenly taken of them by length, in their own order.
    pub(super) fn typical(&self, count: usize) -> Vec<Prompt> {
        let mut order: Vec<usize> = (0..self.0.len()).collect();
        order.sort_by_key(|&index| self.0[index].1.tokens);
        let place = |nth: usize| order[(2 * nth + 1) * order.len() / (2 * count.max(1))];
        let mut taken: Vec<usize> = (0..count).map(place).collect();
        taken.sort_unstable();
        taken.into_iter().map(|index| self.0[index].0.clone()).collect()
    }

    /// Tokens of a prompt on average.
    pub(super) fn tokens(&self) -> usize {
        self.mean(|length| length.tokens)
    }

    /// Tokens of the longest prompt.
    pub(super) fn longest(&self) -> usize {
        self.0.iter().map(|(_, length)| length.tokens).max().unwrap_or(0)
    }

    /// Patches of a prompt's pictures on average.
    pub(super) fn patches(&self) -> usize {
        self.mean(|length| length.patches)
    }

    /// Pictures of a prompt on average.
    pub(super) fn pictures(&self) -> f64 {
        let sum: usize = self.0.iter().map(|(_, length)| length.pictures).sum();
        sum as f64 / self.0.len().max(1) as f64
    }

    /// Patches of a picture on average.
    pub(super) fn patches_a_picture(&self) -> usize {
        let sum = |of: fn(&Length) -> usize| self.0.iter().map(|(_, l)| of(l)).sum::<usize>();
        sum(|length| length.patches).div_ceil(sum(|length| length.pictures).max(1))
    }

    fn mean(&self, of: fn(&Length) -> usize) -> usize {
        self.0.iter().map(|(_, length)| of(length)).sum::<usize>().div_ceil(self.0.len().max(1))
    }
}

/// The pictures of a prompt.
pub(super) fn images(prompt: &Prompt) -> impl Iterator<Item = &ImageSource> {
    prompt.messages.iter().flat_map(|message| &message.parts).filter_map(|part| match part {
        Part::Image(source) => Some(source),
        Part::Text(_) => None,
    })
}
