//! `mmrag eval score`: a prediction file by the official metrics.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use mmrag_data::entries;
use serde::Serialize;

use super::Ended;
use crate::output;
use crate::scoring::{Problems, multimodalqa, webqa};

/// A benchmark with an official metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Benchmark {
    /// EM and F1, on a scale of 100; predictions are {id: "text" or ["text", …]}
    Multimodalqa,
    /// QA-Acc and retrieval F1; predictions are {id: {"sources": […], "answer": "text"}}
    Webqa,
}

const EXAMPLES: &str = "Example:
  mmrag eval score --dataset multimodalqa --gold MMQA_dev.jsonl.gz --predictions answers.json
  mmrag eval score --dataset webqa --gold WebQA_train_val.json --predictions answers.json \\
      --lemmas lemmas.json --json

All questions of the gold file count; one without a prediction counts 0. QA-FL and QA of WebQA
take BART weights and are not computed.";

/// Scores a prediction file.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ScoreCommand {
    /// The benchmark, which settles the formats and the metrics
    #[arg(long, value_enum)]
    dataset: Benchmark,
    /// The official question file, plain or .gz
    #[arg(long, value_name = "FILE")]
    gold: PathBuf,
    /// The official prediction file, plain or .gz
    #[arg(long, value_name = "FILE")]
    predictions: PathBuf,
    /// For WebQA's QA-Acc with lemmas: one JSON object from words to lemmas
    #[arg(long, value_name = "FILE")]
    lemmas: Option<PathBuf>,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    /// Print each question's scores too
    #[arg(long)]
    per_item: bool,
}

impl ScoreCommand {
    /// Does what the command says.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or the gold file holds nothing to score.
    pub(crate) fn run(&self) -> anyhow::Result<Ended> {
        let predictions = entries(&self.predictions).context("failed to read the predictions")?;
        let gold = &self.gold;
        match self.dataset {
            Benchmark::Multimodalqa => {
                ensure!(self.lemmas.is_none(), "--lemmas is for webqa: multimodalqa takes none");
                let gold_file = mmrag_data::multimodalqa::gold(gold).context(READ_GOLD)?;
                hold_gold(gold, gold_file.rows.len(), gold_file.problems.first())?;
                let mut scores = multimodalqa::score(&gold_file, predictions);
                if !self.per_item {
                    scores.items = None;
                }
                self.print(&scores, &scores.problems, scores.lines(), scores.item_lines())
            }
            Benchmark::Webqa => {
                let gold_file = mmrag_data::webqa::gold(gold).context(READ_GOLD)?;
                hold_gold(gold, gold_file.rows.len(), gold_file.problems.first())?;
                let table = self.lemmas.as_deref().map(lemma_table).transpose()?;
                let mut scores = webqa::score(&gold_file, predictions, table.as_ref());
                if !self.per_item {
                    scores.items = None;
                }
                self.print(&scores, &scores.problems, scores.lines(), scores.item_lines())
            }
        }
    }

    fn print(
        &self,
        scores: &impl Serialize,
        problems: &Problems,
        lines: Vec<String>,
        item_lines: Vec<String>,
    ) -> anyhow::Result<Ended> {
        problems.tell();
        if self.json {
            output::json(scores)?;
        } else {
            let lines: Vec<String> = lines.into_iter().chain(item_lines).collect();
            output::line(&lines.join("\n"))?;
        }
        Ok(Ended::Done)
    }
}

const READ_GOLD: &str = "failed to read the gold file";

fn hold_gold(
    path: &Path,
    n_rows: usize,
    problem: Option<&impl std::fmt::Display>,
) -> anyhow::Result<()> {
    let first =
        problem.map_or_else(String::new, |problem| format!("; the first problem: {problem}"));
    ensure!(n_rows > 0, "there is no question with an answer in {}{first}", path.display());
    Ok(())
}

fn lemma_table(path: &Path) -> anyhow::Result<webqa::LemmaTable> {
    let mut table = webqa::LemmaTable::new();
    for (word, lemma) in entries(path).context("failed to read the lemmas")? {
        let lemma = lemma.as_str().map(String::from);
        let lemma = lemma.with_context(|| {
            format!("failed to read {}: the lemma of {word:?} is no text", path.display())
        })?;
        table.insert(word, lemma);
    }
    Ok(table)
}
