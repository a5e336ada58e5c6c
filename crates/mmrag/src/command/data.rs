//! `mmrag data`: make the atlas, look at a data set's files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use mmrag_core::Modality;
use mmrag_data::atlas::{self, Counts};
use mmrag_data::multimodalqa::{self, Loaded};
use serde_json::json;

use super::Ended;
use crate::dataset::DatasetArgs;
use crate::output;

/// Makes and looks at data sets.
#[derive(Subcommand)]
pub(crate) enum DataCommand {
    /// Write a built-in data set
    #[command(subcommand)]
    Make(MakeCommand),
    /// Say what a data set's files hold, and what in them is wrong
    Inspect(InspectCommand),
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
}

/// Counts what a data set's files hold.
#[derive(Args)]
#[command(
    after_help = "Example:\n  mmrag data inspect --dataset multimodalqa --data mmqa --split dev"
)]
pub(crate) struct InspectCommand {
    #[command(flatten)]
    dataset: DatasetArgs,
    /// Print the counts and every problem as JSON
    #[arg(long)]
    json: bool,
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
            Self::Inspect(command) => command.run()?,
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
        output::line(&self.out.display().to_string())?;
        Ok(())
    }
}

impl InspectCommand {
    fn run(&self) -> anyhow::Result<()> {
        let DatasetArgs { data, split, .. } = &self.dataset;
        let loaded = multimodalqa::load(data, (*split).into())
            .with_context(|| format!("failed to read the data set in {}", data.display()))?;
        let counts = Inspected::of(&loaded);
        if self.json {
            let problems: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
            return output::json(&json!({
                "questions": counts.questions,
                "documents": counts.documents,
                "unanswerable": counts.unanswerable,
                "kinds": counts.kinds,
                "modalities": counts.modalities,
                "problems": problems,
            }));
        }
        for line in counts.lines() {
            output::line(&line)?;
        }
        for problem in &loaded.problems {
            eprintln!("problem: {problem}");
        }
        Ok(())
    }
}

/// What a split holds, counted.
struct Inspected {
    questions: usize,
    documents: usize,
    unanswerable: usize,
    kinds: BTreeMap<String, usize>,
    modalities: BTreeMap<Modality, usize>,
}

impl Inspected {
    fn of(loaded: &Loaded) -> Self {
        let mut counts = Self {
            questions: loaded.examples.len(),
            documents: loaded.documents.len(),
            unanswerable: 0,
            kinds: BTreeMap::new(),
            modalities: BTreeMap::new(),
        };
        for example in &loaded.examples {
            counts.unanswerable += usize::from(!example.gold.is_answerable());
            *counts.kinds.entry(example.kind.clone()).or_default() += 1;
        }
        for document in &loaded.documents {
            *counts.modalities.entry(document.modality()).or_default() += 1;
        }
        counts
    }

    fn lines(&self) -> Vec<String> {
        let Self { questions, documents, unanswerable, .. } = self;
        let mut lines =
            vec![format!("{questions:>8} questions, {unanswerable} of them without an answer")];
        lines.extend(self.kinds.iter().map(|(kind, count)| format!("{count:>8}   {kind}")));
        lines.push(format!("{documents:>8} documents"));
        let modalities = self.modalities.iter();
        lines.extend(modalities.map(|(modality, count)| format!("{count:>8}   {modality}")));
        lines
    }
}
