//! Which data set a command reads, and reading it.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use mmrag_core::{Example, QuestionId};
use mmrag_data::multimodalqa::{self, Loaded, Split};
use mmrag_data::{Degrade, Hide};
use serde::{Deserialize, Serialize};

use crate::overlay::nearest;

/// Problems that are told one by one; the rest is counted.
const TOLD: usize = 10;

/// A data set's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DatasetName {
    /// MultimodalQA's files
    Multimodalqa,
    /// The built-in atlas, which is written as MultimodalQA's files
    Atlas,
}

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SplitName {
    /// To train on
    Train,
    /// To choose by
    Dev,
    /// To report on
    Test,
}

impl From<SplitName> for Split {
    fn from(split: SplitName) -> Self {
        match split {
            SplitName::Train => Self::Train,
            SplitName::Dev => Self::Dev,
            SplitName::Test => Self::Test,
        }
    }
}

/// Where questions come from.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DatasetArgs {
    /// The data set's format
    #[arg(long, value_enum)]
    pub(crate) dataset: DatasetName,
    /// The folder that holds its files
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// Which part of it
    #[arg(long, value_enum)]
    pub(crate) split: SplitName,
    /// Hide `documents`, `contents` or `pictures`: what can be answered without them?
    #[arg(long, value_name = "WHAT", value_parser = hide)]
    pub(crate) hide: Option<Hide>,
    /// Make documents worse, from 0 to 1: blur, noise, jpeg, downscale, occlude, caption_removed,
    /// caption_swapped, ocr, cells, gold_replaced, contradict; may be given more than once
    #[arg(long, value_name = "KIND=STRENGTH")]
    #[serde(default)]
    pub(crate) degrade: Vec<Degrade>,
    /// Seed of what is made worse
    #[arg(long, value_name = "S", default_value_t = 0)]
    #[serde(default)]
    pub(crate) degrade_seed: u64,
}

impl DatasetArgs {
    /// Reads the questions, at most so many, with what is to be hidden gone.
    ///
    /// # Errors
    ///
    /// When a file is missing or cannot be read.
    pub(crate) fn examples(&self, most: Option<usize>) -> anyhow::Result<Vec<Example>> {
        let all = load(&self.data, self.split)?.examples;
        let examples = &all[..most.unwrap_or(usize::MAX).min(all.len())];
        let mut examples = degraded(&self.degrade, self.degrade_seed, examples, &all);
        if let Some(hide) = self.hide {
            examples = examples.iter().map(|example| hide.of(example)).collect();
        }
        Ok(examples)
    }
}

/// The examples with their documents made worse, one way after the other.
pub(crate) fn degraded(
    ways: &[Degrade],
    seed: u64,
    examples: &[Example],
    pool: &[Example],
) -> Vec<Example> {
    let worse = |examples: Vec<Example>, way: &Degrade| way.of(&examples, pool, seed);
    ways.iter().fold(examples.to_vec(), worse)
}

fn hide(name: &str) -> Result<Hide, String> {
    serde_json::from_value(name.into())
        .map_err(|_| "it is one of documents, contents, pictures".to_owned())
}

/// Reads a split, and tells on stderr what in its files was skipped and why.
///
/// # Errors
///
/// When a file is missing or cannot be read.
pub(crate) fn load(data: &Path, split: SplitName) -> anyhow::Result<Loaded> {
    let loaded = multimodalqa::load(data, split.into())
        .map_err(|error| anyhow::Error::new(error).context("failed to read the data set"))?;
    for problem in loaded.problems.iter().take(TOLD) {
        eprintln!("skipped: {problem}");
    }
    if let Some(more) = loaded.problems.len().checked_sub(TOLD).filter(|more| *more > 0) {
        eprintln!("skipped: {more} more; `mmrag data inspect` lists all");
    }
    Ok(loaded)
}

/// The example with an id.
///
/// # Errors
///
/// When there is none; the error names the id that is spelled most alike.
pub(crate) fn find<'e>(examples: &'e [Example], id: &str) -> anyhow::Result<&'e Example> {
    let wanted = QuestionId::new(id);
    examples.iter().find(|example| example.question.id == wanted).ok_or_else(|| {
        let ids: Vec<String> = examples.iter().map(|e| e.question.id.to_string()).collect();
        let advice = match nearest(id, &ids) {
            Some(near) => format!("; did you mean {near}?"),
            None => String::new(),
        };
        anyhow::anyhow!("there is no question {id} among {}{advice}", examples.len())
    })
}
