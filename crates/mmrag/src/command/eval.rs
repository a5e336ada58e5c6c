//! `mmrag eval`: a pipeline over a data set, or predictions from elsewhere.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use mmrag_rag::report::write_report;
use serde_json::json;

use super::Ended;
use super::pass::PassCommand;
use super::score::ScoreCommand;
use crate::answerer::{AnswerArgs, Answerer};
use crate::dataset::DatasetArgs;
use crate::evaluating::{
    answer_all, hold_settings, outcomes, shown_examples, single_report, table,
};
use crate::{output, stop};

/// Right and wrong answers that the page shows, of each.
const SHOWN: usize = 4;

/// Evaluates pipelines and predictions.
#[derive(Subcommand)]
pub(crate) enum EvalCommand {
    /// Answer every question of a data set and say how right the answers are
    Run(RunCommand),
    /// Say how often one of several drawn replies is right: is there anything to reinforce?
    Pass(PassCommand),
    /// Score a prediction file of a benchmark by its official metrics
    Score(ScoreCommand),
}

const EXAMPLES: &str = "Example:
  mmrag eval run --dataset atlas --data atlas --split dev --out runs/dev \\
      --filter-adapter runs/filter/adapter --rank-adapter runs/rank/adapter

OUT/explanations.jsonl gets one line a question as it is done; the same command goes on where a
run was stopped. OUT/report.json and OUT/report.html hold the figures.";

/// Answers a data set.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunCommand {
    #[command(flatten)]
    dataset: DatasetArgs,
    /// The folder of the run
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Answer only the first N questions
    #[arg(long, value_name = "N")]
    questions: Option<usize>,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    answer: AnswerArgs,
}

impl EvalCommand {
    /// Does what the command says.
    ///
    /// # Errors
    ///
    /// When something cannot be read or written, or a question cannot be answered.
    pub(crate) fn run(&self) -> anyhow::Result<Ended> {
        match self {
            Self::Run(command) => command.run(),
            Self::Pass(command) => command.run(),
            Self::Score(command) => command.run(),
        }
    }
}

impl RunCommand {
    fn run(&self) -> anyhow::Result<Ended> {
        let stop = stop::on_interrupt()?;
        let engine = self.answer.engine()?;
        let answerer = Answerer::new(&engine, &self.answer)?;
        let examples = self.dataset.examples(self.questions)?;
        let settings = json!({
            "data": self.dataset.data,
            "split": self.dataset.split,
            "hide": self.dataset.hide,
            "answer": self.answer,
            "weights": self.answer.weights()?,
        });
        hold_settings(&self.out, &settings)?;
        let log = self.out.join("explanations.jsonl");
        let answered = answerer.with_pipeline(None, 0, |pipeline| {
            answer_all(pipeline, &examples, &log, "eval", &stop)
        })?;
        let Some(explanations) = answered else { return Ok(Ended::Stopped) };
        let outcomes = outcomes(&examples, &explanations);
        let shown = shown_examples("run", &examples, &explanations, &outcomes, SHOWN);
        let report = single_report("evaluation", outcomes, settings)?;
        write_report(&self.out, &report, &shown).context("failed to write the report")?;
        if self.json {
            output::json(&report.summary)?;
        } else {
            output::line(&format!("{} questions", report.summary.questions))?;
            output::line(&table(&report))?;
            eprintln!("{}", self.out.join("report.html").display());
        }
        Ok(Ended::Done)
    }
}
