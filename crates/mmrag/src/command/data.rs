//! `mmrag data`: make the atlas, look at a data set's files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use mmrag_data::atlas::{self, Counts};
use mmrag_data::jsonl::{Conversion, convert};
use mmrag_data::{Format, InspectOptions, Inspection, Kinds, Look, Pool, Split, inspect};
use serde_json::{Value, json};

use super::Ended;
use crate::dataset::{DatasetName, SplitName};
use crate::output;
use crate::progress::LateMeter;

const CONVERT_EXAMPLES: &str = "Example:
  mmrag data convert --dataset webqa --data webqa --split val --out webqa-val";

const INSPECT_EXAMPLES: &str = "Examples:
  mmrag data inspect --dataset multimodalqa --data mmqa
  mmrag data inspect --dataset webqa --data webqa --split val --headers --json";

/// Makes and looks at data sets.
#[derive(Subcommand)]
pub(crate) enum DataCommand {
    /// Write a built-in data set
    #[command(subcommand)]
    Make(MakeCommand),
    /// Say what a data set's files hold, and what in them is wrong
    Inspect(InspectCommand),
    /// Write a data set as JSON Lines with pictures by path
    Convert(ConvertCommand),
}

/// The data sets that can be made.
#[derive(Subcommand)]
pub(crate) enum MakeCommand {
    /// The atlas: questions about a fictional world, in MultimodalQA's own files
    Atlas(AtlasCommand),
}

/// Writes the atlas.
#[derive(Args)]
#[command(after_help = "Example:\n  mmrag data make atlas --questions 5000 --seed 1 --out atlas")]
pub(crate) struct AtlasCommand {
    /// Questions in all: three fifths to train on, a fifth each for dev and test
    #[arg(long, value_name = "N")]
    questions: usize,
    /// The seed: the same seed gives the same bytes
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// The folder to write, new or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Write regions.jsonl too: where in its pictures stands what each question asks for
    #[arg(long)]
    regions: bool,
}

/// Counts what a data set's files hold.
#[derive(Args)]
#[command(after_help = INSPECT_EXAMPLES)]
pub(crate) struct InspectCommand {
    /// The data set's format
    #[arg(long, value_enum)]
    dataset: DatasetName,
    /// The folder that holds its files
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// One part of it, and the documents it comes with; without this, all that the files hold
    #[arg(long, value_enum)]
    split: Option<SplitName>,
    /// Read only the headers of pictures, not their pixels
    #[arg(long)]
    headers: bool,
    /// Fail if anything is wrong
    #[arg(long)]
    strict: bool,
    /// Print the counts and every problem as JSON
    #[arg(long)]
    json: bool,
}

/// Writes a data set in the canonical form.
#[derive(Args)]
#[command(after_help = CONVERT_EXAMPLES)]
pub(crate) struct ConvertCommand {
    /// The data set's format
    #[arg(long, value_enum)]
    dataset: DatasetName,
    /// The folder that holds its files
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// One part of it; without this, every part whose files are there
    #[arg(long, value_enum)]
    split: Option<SplitName>,
    /// Write all documents of the files, not only those that the questions come with
    #[arg(long)]
    all_documents: bool,
    /// Fail if anything in the files is wrong, instead of leaving it out
    #[arg(long)]
    strict: bool,
    /// The folder to write, new or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl DataCommand {
    /// Does what the command says.
    ///
    /// # Errors
    ///
    /// When files cannot be read or written.
    pub(crate) fn run(&self) -> anyhow::Result<Ended> {
        match self {
            Self::Make(MakeCommand::Atlas(command)) => command.run()?,
            Self::Inspect(command) => return command.run(),
            Self::Convert(command) => command.run()?,
        }
        Ok(Ended::Done)
    }
}

impl AtlasCommand {
    fn run(&self) -> anyhow::Result<()> {
        let fifth = self.questions / 5;
        let counts = Counts { train: self.questions - 2 * fifth, dev: fifth, test: fifth };
        eprintln!(
            "writing {} train, {} dev and {} test questions",
            counts.train, counts.dev, counts.test
        );
        atlas::write(&self.out, counts, self.seed)
            .with_context(|| format!("failed to make the atlas in {}", self.out.display()))?;
        if self.regions {
            atlas::write_regions(&self.out, counts, self.seed)
                .context("failed to write where things stand in the pictures")?;
        }
        output::line(&self.out.display().to_string())?;
        Ok(())
    }
}

impl InspectCommand {
    fn run(&self) -> anyhow::Result<Ended> {
        let format = self.dataset.format();
        let splits = parts(self.dataset, &self.data, self.split)?;
        let options = InspectOptions {
            format,
            dir: &self.data,
            splits: &splits,
            pool: if self.split.is_some() { Pool::Split } else { Pool::Whole },
            look: if self.headers { Look::Headers } else { Look::Pixels },
        };
        let meter = LateMeter::new("pictures");
        let inspection = inspect(&options, &|done, total| meter.at(done, total))
            .with_context(|| format!("failed to read the data set in {}", self.data.display()))?;
        drop(meter);
        if self.json {
            output::json(&as_json(&inspection, format.kinds()))?;
        } else {
            for line in lines(&inspection, format.kinds()) {
                output::line(&line)?;
            }
            for problem in &inspection.problems {
                eprintln!("problem: {problem}");
            }
        }
        ensure!(
            !self.strict || inspection.problems.is_empty(),
            "{} problems in {}",
            inspection.problems.len(),
            self.data.display()
        );
        Ok(Ended::Done)
    }
}

impl ConvertCommand {
    fn run(&self) -> anyhow::Result<()> {
        let splits = parts(self.dataset, &self.data, self.split)?;
        let whole = self.all_documents || self.dataset.format() == Format::Folder;
        let conversion = Conversion {
            format: self.dataset.format(),
            from: &self.data,
            to: &self.out,
            pool: if whole { Pool::Whole } else { Pool::Split },
            strict: self.strict,
        };
        let meter = LateMeter::new("documents");
        let written = convert(&conversion, &splits, &mut |done, total| meter.at(done, total))
            .with_context(|| {
                format!("failed to convert the data set in {}", self.data.display())
            })?;
        drop(meter);
        for problem in &written.problems {
            eprintln!("left out: {problem}");
        }
        eprintln!(
            "wrote {} questions, {} documents and {} pictures",
            written.questions, written.documents, written.images
        );
        output::line(&self.out.display().to_string())?;
        Ok(())
    }
}

/// The part that was asked for, or all whose files are there.
fn parts(
    dataset: DatasetName,
    data: &Path,
    split: Option<SplitName>,
) -> anyhow::Result<Vec<Split>> {
    let splits = match split {
        Some(split) => vec![split.into()],
        None if dataset == DatasetName::Folder => vec![Split::Dev],
        None => dataset.format().splits(data),
    };
    ensure!(
        !splits.is_empty(),
        "failed to read the data set in {}: there is no question file of {}",
        data.display(),
        dataset.as_str()
    );
    Ok(splits)
}

fn as_json(inspection: &Inspection, kinds: Kinds) -> Value {
    let problems: Vec<String> = inspection.problems.iter().map(ToString::to_string).collect();
    let none = BTreeMap::new();
    let (types, categories) = match kinds {
        Kinds::Types => (&inspection.by_kind, &none),
        Kinds::Categories => (&none, &inspection.by_kind),
    };
    json!({
        "questions": inspection.questions,
        "unanswerable": inspection.unanswerable,
        "texts": inspection.texts,
        "tables": inspection.tables,
        "images": inspection.images,
        "cut_images": inspection.cut_images,
        "by": {
            "split": inspection.by_split,
            "type": types,
            "modality": inspection.by_modality,
            "category": categories,
        },
        "problems": problems,
    })
}

fn lines(inspection: &Inspection, kinds: Kinds) -> Vec<String> {
    let Inspection { questions, unanswerable, texts, tables, images, cut_images, .. } = inspection;
    let mut lines =
        vec![format!("{questions:>8} questions, {unanswerable} of them without an answer")];
    let mut part = |title: &str, counts: Vec<(&str, usize)>| {
        lines.push(format!("{:>8} by {title}", ""));
        lines.extend(counts.iter().map(|(name, count)| format!("{count:>8}   {name}")));
    };
    part("split", inspection.by_split.iter().map(|(s, n)| (s.as_str(), *n)).collect());
    let title = match kinds {
        Kinds::Types => "type",
        Kinds::Categories => "category",
    };
    part(title, inspection.by_kind.iter().map(|(k, n)| (&**k, *n)).collect());
    part("modality", inspection.by_modality.iter().map(|(m, n)| (&**m, *n)).collect());
    lines.push(format!("{texts:>8} texts"));
    lines.push(format!("{tables:>8} tables"));
    lines.push(format!("{images:>8} images that decode, {cut_images} of them cut off"));
    lines.push(format!("{:>8} problems", inspection.problems.len()));
    lines
}
