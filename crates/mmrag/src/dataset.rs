//! Which data set a command reads, and reading it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use mmrag_core::{Document, Example, QuestionId};
use mmrag_data::{Degrade, Format, Hide, Loaded, Pool, Protocol, Setting, Split};
use mmrag_rag::evaluation::Benchmark;
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
    /// WebQA's files
    Webqa,
    /// VQA v2's files: questions about one picture each
    Vqa2,
    /// TextVQA's files: questions about one picture with writing in it each
    Textvqa,
    /// JSON Lines with pictures by path: the form that `data convert` writes
    Jsonl,
    /// A plain folder of texts, tables and pictures, without questions
    Folder,
}

impl DatasetName {
    /// The form of its files.
    pub(crate) fn format(self) -> Format {
        match self {
            Self::Multimodalqa | Self::Atlas => Format::MultimodalQa,
            Self::Webqa => Format::WebQa,
            Self::Vqa2 => Format::Vqa2,
            Self::Textvqa => Format::TextVqa,
            Self::Jsonl => Format::JsonLines,
            Self::Folder => Format::Folder,
        }
    }

    /// The rules that its answers are judged by besides EM and F1. JSON Lines may hold WebQA's
    /// questions, which their keywords tell.
    pub(crate) fn benchmark(self) -> Option<Benchmark> {
        match self {
            Self::Webqa | Self::Jsonl => Some(Benchmark::WebQa),
            Self::Vqa2 => Some(Benchmark::Vqa2),
            Self::Textvqa => Some(Benchmark::TextVqa),
            Self::Multimodalqa | Self::Atlas | Self::Folder => None,
        }
    }

    /// Its name on the command line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Multimodalqa => "multimodalqa",
            Self::Atlas => "atlas",
            Self::Webqa => "webqa",
            Self::Vqa2 => "vqa2",
            Self::Textvqa => "textvqa",
            Self::Jsonl => "jsonl",
            Self::Folder => "folder",
        }
    }
}

/// From which documents questions are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PoolName {
    /// From the documents that come with each question
    #[default]
    Candidates,
    /// By search over what comes with any question of the split
    Split,
    /// By search over all documents of the data set's files
    Full,
}

impl From<PoolName> for Setting {
    fn from(pool: PoolName) -> Self {
        match pool {
            PoolName::Candidates => Self::Candidates,
            PoolName::Split => Self::SplitPool,
            PoolName::Full => Self::FullPool,
        }
    }
}

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SplitName {
    /// To train on
    Train,
    /// To choose by; also `val`
    #[value(alias = "val")]
    #[serde(alias = "val")]
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
    /// caption_swapped, ocr, cells, gold_replaced, contradict, texts_removed, tables_removed,
    /// images_removed; may be given more than once
    #[arg(long, value_name = "KIND=STRENGTH")]
    #[serde(default)]
    pub(crate) degrade: Vec<Degrade>,
    /// Seed of what is made worse
    #[arg(long, value_name = "S", default_value_t = 0)]
    #[serde(default)]
    pub(crate) degrade_seed: u64,
    /// From which documents questions are answered
    #[arg(long, value_enum, default_value = "candidates")]
    #[serde(default)]
    pub(crate) pool: PoolName,
    /// Stop at the first thing that is wrong in the files, instead of leaving it out
    #[arg(long)]
    #[serde(default)]
    pub(crate) strict: bool,
}

/// Questions, and what they are answered from.
pub(crate) struct Asked {
    /// The questions.
    pub(crate) examples: Vec<Example>,
    /// The documents that are searched; empty where each question comes with its own.
    pub(crate) documents: Vec<Arc<Document>>,
    /// The choices that make figures comparable, as a report states them.
    pub(crate) protocol: Protocol,
}

impl DatasetArgs {
    /// Reads the questions, at most so many, with what is to be hidden gone.
    ///
    /// # Errors
    ///
    /// When a file is missing or cannot be read.
    pub(crate) fn examples(&self, most: Option<usize>) -> anyhow::Result<Vec<Example>> {
        ensure!(
            self.pool == PoolName::Candidates,
            "--pool is for `eval run`: this command shows the documents that come with a question"
        );
        Ok(self.asked(most)?.examples)
    }

    /// Reads the questions, at most so many, and the documents that are searched for them.
    ///
    /// # Errors
    ///
    /// When a file is missing or cannot be read; with `--strict`, when anything in it is wrong.
    pub(crate) fn asked(&self, most: Option<usize>) -> anyhow::Result<Asked> {
        let setting = Setting::from(self.pool);
        ensure!(
            (self.hide.is_none() && self.degrade.is_empty()) || setting.pool().is_none(),
            "--hide and --degrade go with --pool candidates"
        );
        let pool = setting.pool().unwrap_or_default();
        let mut loaded = load(self.dataset, &self.data, self.split, pool, self.strict)?;
        let all = std::mem::take(&mut loaded.examples);
        let asked = &all[..most.unwrap_or(usize::MAX).min(all.len())];
        let mut examples = degraded(&self.degrade, self.degrade_seed, asked, &all);
        if let Some(hide) = self.hide {
            examples = examples.iter().map(|example| hide.of(example)).collect();
        }
        ensure!(
            !examples.is_empty(),
            "there is no question in the {} part of {}",
            Split::from(self.split).as_str(),
            self.data.display()
        );
        let documents = setting.pool().map_or_else(Vec::new, |_| loaded.documents);
        let protocol = Protocol {
            dataset: self.dataset.as_str().to_owned(),
            split: self.split.into(),
            setting,
            questions: examples.len(),
            documents: setting.pool().map(|_| documents.len()),
        };
        Ok(Asked { examples, documents, protocol })
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
/// When a file is missing or cannot be read; where it is strict, when anything in it is wrong.
pub(crate) fn load(
    dataset: DatasetName,
    data: &Path,
    split: SplitName,
    pool: Pool,
    strict: bool,
) -> anyhow::Result<Loaded> {
    let read = || {
        let loaded = dataset.format().load(data, split.into(), pool)?;
        if strict { loaded.strict() } else { Ok(loaded) }
    };
    let loaded = read().context("failed to read the data set")?;
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
