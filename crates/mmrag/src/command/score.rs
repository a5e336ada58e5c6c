//! `mmrag eval score`: a prediction file by the official metrics.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use mmrag_data::{Prediction, entries, people, predictions, webqa_table};
use mmrag_task::metrics::{ENGLISH_LEMMAS, english_lemmas, vqa as people_rules};
use serde::Serialize;

use super::Ended;
use crate::scoring::fluency::{BartArgs, fluencies};
use crate::scoring::webqa::{Judging, LemmaTable, Matched, Rule};
use crate::scoring::{Problems, multimodalqa, vqa};
use crate::{output, stop};

/// A benchmark with an official metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Benchmark {
    /// EM and F1, on a scale of 100; predictions are {id: "text" or ["text", …]}
    Multimodalqa,
    /// QA-Acc, retrieval F1, QA-FL and QA; predictions are {id: {"sources": […], "answer": "text"}}
    Webqa,
    /// Accuracy of VQA v2, on a scale of 100; predictions are [{"question_id": id, "answer": "text"}]
    Vqa,
    /// Accuracy of TextVQA, on a scale of 100; predictions as for vqa
    Textvqa,
}

const EXAMPLES: &str = "Examples:
  mmrag eval score --dataset multimodalqa --gold MMQA_dev.jsonl.gz --predictions answers.json
  mmrag eval score --dataset webqa --gold WebQA_train_val.json --predictions answers.json --json
  mmrag eval score --dataset webqa --gold WebQA_train_val.json --predictions answers.json \\
      --bart bart-large-cnn --bart-weights bart.pth

All questions of the gold file count; one without a prediction counts 0, and is told. QA-Acc of
WebQA counts the questions that have keywords; it is told without lemmas (none) and with those of a
table of English words (lookup). QA-FL and QA need the folder of facebook/bart-large-cnn and, for
the official figures, the ParaBank weights of BARTScore. WebQA's gold and predictions may also be
the tables (.tsv) and end-to-end files of its baselines.";

/// Scores a prediction file.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ScoreCommand {
    /// The benchmark, which settles the formats and the metrics
    #[arg(long, value_enum)]
    dataset: Benchmark,
    /// The official question file (of vqa and textvqa the annotations), plain or .gz
    #[arg(long, value_name = "FILE")]
    gold: PathBuf,
    /// The official prediction file, plain or .gz
    #[arg(long, value_name = "FILE")]
    predictions: PathBuf,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    /// Print each question's scores too
    #[arg(long)]
    per_item: bool,
    #[command(flatten)]
    webqa: WebqaArgs,
}

/// What only WebQA takes.
#[derive(Args)]
#[command(next_help_heading = "Only for webqa")]
struct WebqaArgs {
    /// What accuracy means; figures by different rules cannot be compared [default: official]
    #[arg(long, value_enum)]
    rule: Option<Rule>,
    /// Another table of lemmas: one JSON object from words to lemmas
    #[arg(long, value_name = "FILE")]
    lemmas: Option<PathBuf>,
    #[command(flatten)]
    bart: BartArgs,
}

impl ScoreCommand {
    /// Does what the command says.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or the gold file holds nothing to score.
    pub(crate) fn run(&self) -> anyhow::Result<Ended> {
        if self.dataset != Benchmark::Webqa {
            self.webqa.refuse()?;
        }
        let predictions =
            predictions(&self.predictions).context("failed to read the predictions")?;
        match self.dataset {
            Benchmark::Multimodalqa => self.multimodalqa(predictions),
            Benchmark::Webqa => self.webqa(predictions),
            Benchmark::Vqa => self.people(predictions, |predicted, answers| {
                people_rules::accuracy(predicted, answers)
            }),
            Benchmark::Textvqa => self.people(predictions, |predicted, answers| {
                people_rules::text_accuracy(predicted, answers)
            }),
        }
    }

    fn multimodalqa(&self, predictions: Vec<Prediction>) -> anyhow::Result<Ended> {
        let gold = mmrag_data::multimodalqa::gold(&self.gold).context(READ_GOLD)?;
        hold_gold(&self.gold, gold.rows.len(), gold.problems.first())?;
        let mut scores = multimodalqa::score(&gold, predictions);
        if !self.per_item {
            scores.items = None;
        }
        self.print(&scores, &scores.problems, scores.lines(), scores.item_lines())
    }

    fn webqa(&self, predictions: Vec<Prediction>) -> anyhow::Result<Ended> {
        let name = self.gold.to_string_lossy();
        let is_table = name.ends_with(".tsv") || name.ends_with(".tsv.gz");
        let read = if is_table { webqa_table::gold } else { mmrag_data::webqa::gold };
        let gold = read(&self.gold).context(READ_GOLD)?;
        hold_gold(&self.gold, gold.rows.len(), gold.problems.first())?;
        let matched = Matched::new(&gold, predictions);
        let own = self.webqa.lemmas.as_deref().map(lemma_table).transpose()?;
        let judging = Judging {
            rule: self.webqa.rule.unwrap_or_default(),
            table_name: match &self.webqa.lemmas {
                Some(path) => path.display().to_string(),
                None => ENGLISH_LEMMAS.to_owned(),
            },
            table: own.as_ref().unwrap_or_else(|| english_lemmas()),
        };
        let fluencies = match self.webqa.bart.fluency(None)? {
            Some(mut bart) => {
                let stop = stop::on_interrupt()?;
                let found = fluencies(&mut bart, &matched.fluency_questions(), &stop)?;
                let Some(found) = found else { return Ok(Ended::Stopped) };
                found
            }
            None => Vec::new(),
        };
        let mut scores = matched.score(&judging, &fluencies);
        if !self.per_item {
            scores.items = None;
        }
        self.print(&scores, &scores.problems, scores.lines(), scores.item_lines())
    }

    fn people(
        &self,
        predictions: Vec<Prediction>,
        accuracy: vqa::Accuracy,
    ) -> anyhow::Result<Ended> {
        let gold = people(&self.gold).context(READ_GOLD)?;
        hold_gold(&self.gold, gold.rows.len(), gold.problems.first())?;
        let mut scores = vqa::score(&gold, predictions, accuracy);
        if !self.per_item {
            scores.items = None;
        }
        self.print(&scores, &scores.problems, scores.lines(), scores.item_lines())
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

impl WebqaArgs {
    /// Refuses to be given for another benchmark.
    fn refuse(&self) -> anyhow::Result<()> {
        for (flag, is_given) in [
            ("--rule", self.rule.is_some()),
            ("--lemmas", self.lemmas.is_some()),
            ("--bart", self.bart.is_given()),
        ] {
            ensure!(!is_given, "{flag} is for webqa: leave it out");
        }
        Ok(())
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

fn lemma_table(path: &Path) -> anyhow::Result<LemmaTable> {
    let mut table = LemmaTable::new();
    for (word, lemma) in entries(path).context("failed to read the lemmas")? {
        let lemma = lemma.as_str().map(String::from);
        let lemma = lemma.with_context(|| {
            format!("failed to read {}: the lemma of {word:?} is no text", path.display())
        })?;
        table.insert(word, lemma);
    }
    Ok(table)
}
