//! `mmrag demo`: the whole story in one command.

use std::path::PathBuf;

use clap::Args;
use mmrag_data::atlas::FROZEN_SEED;

use super::Ended;
use crate::demo::{Demo, DemoSize, Shown, VariantName};
use crate::evaluating::table;
use crate::loading::{MODEL_HELP, model_folder};
use crate::{output, show, stop};

const EXAMPLES: &str = "Examples:
  mmrag demo
  mmrag demo --out my-demo --seed 2
  mmrag demo --full

Ctrl-C ends the demo at its next safe place; the same command goes on from there.";

/// Trains both stages on the atlas, compares variants, and explains one answer.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DemoCommand {
    /// The folder for everything the demo writes
    #[arg(long, value_name = "DIR", default_value = "mmrag-demo")]
    out: PathBuf,
    /// The first seed of the trainings
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// How many seeds to train with, one after the other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Compare all six variants
    #[arg(long)]
    full: bool,
    /// The model to begin with, as [`MODEL_HELP`] says.
    #[arg(long, value_name = "MODEL", help = MODEL_HELP)]
    model: Option<PathBuf>,
}

impl DemoCommand {
    /// Runs the demo and prints its table, one explained answer, and what to try next.
    ///
    /// # Errors
    ///
    /// When the model cannot be read, a training fails, or the folder cannot be written.
    pub(crate) fn run(&self) -> anyhow::Result<Ended> {
        let stop = stop::on_interrupt()?;
        let model = model_folder(self.model.as_deref())?;
        let seeds: Vec<u64> = (0..self.seeds).map(|nth| self.seed + nth).collect();
        let variants: &[VariantName] =
            if self.full { &VariantName::FULL } else { &VariantName::SHORT };
        let demo = Demo {
            out: &self.out,
            model: &model,
            seeds: &seeds,
            variants,
            size: DemoSize::default(),
            stop: &stop,
        };
        let Some(shown) = demo.run()? else { return Ok(Ended::Stopped) };
        self.print(&shown)?;
        Ok(Ended::Done)
    }

    fn print(&self, shown: &Shown) -> anyhow::Result<()> {
        let Shown { report, answer } = shown;
        output::line(&format!("{} test questions\n", report.summary.questions))?;
        output::line(&table(report))?;
        if let Some(answer) = answer {
            output::line(&format!("\n{}", show::explanation(answer, true)))?;
        }
        let (out, seed) = (self.out.display(), self.seed);
        let question = answer.as_ref().map_or("QUESTION", |answer| answer.question.id.as_str());
        eprintln!(
            "\nreport: {out}/report.html\n\ntry next:\n  \
             mmrag data make atlas --questions 3000 --seed {FROZEN_SEED} --out {out}/atlas\n  \
             mmrag ask --dataset atlas --data {out}/atlas --split test --qid {question} --explain \\\n    \
             --filter-adapter {out}/seed-{seed}/filter/adapter \
             --rank-adapter {out}/seed-{seed}/rank/adapter\n  \
             mmrag demo --full"
        );
        Ok(())
    }
}
