//! `mmrag ask`: one question, answered and explained.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum as _};
use mmrag_core::{Question, QuestionId};
use mmrag_rag::{Explanation, Index};

use super::Ended;
use crate::answerer::{AnswerArgs, Answerer};
use crate::dataset::{self, DatasetName, SplitName};
use crate::{output, show};

const EXAMPLES: &str = "Examples:
  mmrag ask --dataset atlas --data atlas --split test --qid Q --explain
  mmrag ask \"Which colour has the banner of Toma?\" --dataset atlas --data atlas --split test";

/// Answers one question and says on what the answer rests.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AskCommand {
    /// The question, answered from the whole collection
    #[arg(value_name = "QUESTION", required_unless_present = "qid", conflicts_with = "qid")]
    question: Option<String>,
    /// The format of the data set that holds the documents
    #[arg(long, value_enum, default_value = "multimodalqa")]
    dataset: DatasetName,
    /// The folder of the data set
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The part of the data set
    #[arg(long, value_enum, default_value = "dev")]
    split: SplitName,
    /// A question of the data set, answered from the documents that come with it
    #[arg(long, value_name = "ID")]
    qid: Option<String>,
    /// How many documents to find for a question of your own
    #[arg(long, value_name = "K", default_value_t = 12)]
    top_k: usize,
    /// Show every document that was seen, and what became of it
    #[arg(long)]
    explain: bool,
    /// Print the whole explanation as JSON
    #[arg(long, conflicts_with = "explain")]
    json: bool,
    #[command(flatten)]
    answer: AnswerArgs,
}

impl AskCommand {
    /// Answers the question on stdout.
    ///
    /// # Errors
    ///
    /// When data set or model cannot be read, or the question is not in it.
    pub(crate) fn run(&self) -> anyhow::Result<Ended> {
        let engine = self.answer.engine()?;
        let answerer = Answerer::new(&engine, &self.answer)?;
        let loaded = dataset::load(&self.data, self.split)?;
        let explanation = match (&self.qid, &self.question) {
            (Some(id), _) => {
                let example = dataset::find(&loaded.examples, id)?;
                answerer.with_pipeline(None, self.top_k, |pipeline| {
                    pipeline.answer(&example.question, Some(&example.candidates))
                })
            }
            (None, Some(text)) => {
                let index =
                    Index::in_memory(loaded.documents).context("failed to index the documents")?;
                let question = own_question(text);
                answerer.with_pipeline(Some(&index), self.top_k, |pipeline| {
                    pipeline.answer(&question, None)
                })
            }
            (None, None) => bail!("there is no question"),
        };
        self.print(&explanation.context("failed to answer")?)?;
        Ok(Ended::Done)
    }

    fn print(&self, explanation: &Explanation) -> anyhow::Result<()> {
        if self.json {
            return output::json(explanation);
        }
        output::line(&show::explanation(explanation, self.explain))?;
        if !self.explain
            && let Some(id) = &self.qid
        {
            let name = self.dataset.to_possible_value();
            let name = name.as_ref().map_or("", |value| value.get_name());
            eprintln!("(--explain shows every document of {name} question {id})");
        }
        Ok(())
    }
}

fn own_question(text: &str) -> Question {
    Question { id: QuestionId::new("ask"), text: text.to_owned(), images: Vec::new() }
}
