//! `mmrag eval`: a pipeline over a data set, or predictions from elsewhere.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use mmrag_rag::evaluation::Benchmark;
use mmrag_rag::report::write_report;
use mmrag_rag::{Index, Retriever};

use super::Ended;
use super::attribution::AttributionCommand;
use super::compare::CompareCommand;
use super::curve::CurveCommand;
use super::explain::ExplainCommand;
use super::gate::GateCommand;
use super::pass::PassCommand;
use super::report::ReportCommand;
use super::retrieval::RetrievalCommand;
use super::score::ScoreCommand;
use crate::answerer::{AnswerArgs, Answerer};
use crate::comparing::{read_runs, report_of_run, shown};
use crate::dataset::{Asked, DatasetArgs};
use crate::evaluating::{EvalRun, Search, table};
use crate::scoring::fluency::BartArgs;
use crate::{output, stop};

/// Questions that the page of a run shows, wrong ones first.
const SHOWN: usize = 200;

/// Evaluates pipelines and predictions.
#[derive(Subcommand)]
pub(crate) enum EvalCommand {
    /// Answer every question of a data set and say how right the answers are
    Run(RunCommand),
    /// Say what changed between two runs, and whether it is more than chance
    Compare(CompareCommand),
    /// Judge a run by bounds; the exit code is the verdict
    Gate(GateCommand),
    /// Answer over ever worse documents, and draw each metric against the strength
    Curve(CurveCommand),
    /// Ask again with other documents and other reasoning: how good are a run's explanations?
    Explain(ExplainCommand),
    /// Of pictures of which it is known where the answer stands: does a run's model look there?
    Attribution(AttributionCommand),
    /// Write the page of a run: figures, plots, and every question to open
    Report(ReportCommand),
    /// Say how often one of several drawn replies is right: is there anything to reinforce?
    Pass(PassCommand),
    /// Score a prediction file of a benchmark by its official metrics
    Score(ScoreCommand),
    /// Say how often an index finds the documents that questions are about
    Retrieval(RetrievalCommand),
}

const EXAMPLES: &str = "Example:
  mmrag eval run --dataset atlas --data atlas --split dev --out runs/dev \\
      --filter-adapter runs/filter/adapter --rank-adapter runs/rank/adapter

Answers are judged by EM and F1; those of webqa, vqa2 and textvqa by their benchmark's rules too.
OUT/explanations.jsonl gets one line a question as it is done; the same command goes on where a
run was stopped. OUT/outcomes.jsonl says how right each answer is, OUT/report.json and OUT/report.html
hold the figures. `mmrag eval compare`, `gate` and `report` read the folder.";

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
    /// How many documents to find for each question where a pool is searched
    #[arg(long, value_name = "K", default_value_t = 12)]
    top_k: usize,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    answer: AnswerArgs,
    #[command(flatten, next_help_heading = "Only for webqa")]
    bart: BartArgs,
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
            Self::Compare(command) => command.run(),
            Self::Gate(command) => command.run(),
            Self::Curve(command) => command.run(),
            Self::Explain(command) => command.run(),
            Self::Attribution(command) => command.run(),
            Self::Report(command) => command.run(),
            Self::Pass(command) => command.run(),
            Self::Score(command) => command.run(),
            Self::Retrieval(command) => command.run(),
        }
    }
}

impl RunCommand {
    fn run(&self) -> anyhow::Result<Ended> {
        ensure!(
            !self.bart.is_given() || self.dataset.dataset.benchmark() == Some(Benchmark::WebQa),
            "--bart is for webqa: leave it out"
        );
        let stop = stop::on_interrupt()?;
        let engine = self.answer.engine()?;
        let answerer = Answerer::new(&engine, &self.answer)?;
        let Asked { examples, documents, protocol } = self.dataset.asked(self.questions)?;
        let index = if documents.is_empty() {
            None
        } else {
            Some(Index::in_memory(documents).context("failed to index the pool")?)
        };
        let search = index.as_ref().map(|index| Search {
            retriever: index as &dyn Retriever,
            top_k: self.top_k,
            protocol: protocol.to_string(),
        });
        let run = EvalRun {
            answerer: &answerer,
            data: &self.dataset,
            answer: &self.answer,
            search,
            bart: Some(&self.bart),
            folder: &self.out,
            title: "eval",
            stop: &stop,
        };
        if !run.over(&examples)? {
            return Ok(Ended::Stopped);
        }
        let runs = read_runs(std::slice::from_ref(&self.out))?;
        let report = report_of_run(&runs[0])?;
        let shown = shown(&runs[0], None, None, SHOWN)?;
        write_report(&self.out, &report, &shown).context("failed to write the report")?;
        if self.json {
            output::json(&report.summary)?;
        } else {
            output::line(&protocol.to_string())?;
            output::line(&table(&report))?;
            eprintln!("{}", self.out.join("report.html").display());
        }
        Ok(Ended::Done)
    }
}
