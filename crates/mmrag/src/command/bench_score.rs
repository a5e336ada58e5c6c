//! `mmrag bench score`: how long the official scoring of a prediction file takes.

use clap::Args;
use serde_json::Value;

use crate::bench;

/// Times the scoring of a MultimodalQA prediction file, reading included. The files are made in the
/// temporary folder, of drawn words, numbers and lists.
#[derive(Args)]
#[command(after_help = "Example:\n  mmrag bench score --questions 25000")]
pub(crate) struct BenchScoreCommand {
    /// Questions of the files
    #[arg(long, value_name = "N", default_value_t = 25_000, value_parser = super::bench::at_least_one)]
    questions: usize,
    /// How often it is timed, after a first time that does not count; the median is told
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = super::bench::at_least_one)]
    repeats: usize,
}

impl BenchScoreCommand {
    /// The time, as JSON.
    ///
    /// # Errors
    ///
    /// When the files cannot be written or read.
    pub(crate) fn run(&self) -> anyhow::Result<Value> {
        let rounds = bench::Rounds { counted: self.repeats, warm_up: 1 };
        bench::scoring(self.questions, rounds)
    }
}
