//! `mmrag ask`: one question, answered and explained.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum as _};
use mmrag_core::{Content, Document, Example, ImageSource, Modality, Question, QuestionId};
use mmrag_data::Pool;
use mmrag_rag::{Ask, Collection, Explanation, Index, verify};

use super::Ended;
use super::index::PLACE;
use crate::answerer::{AnswerArgs, Answerer};
use crate::asking::{Asked, Documents, Replay, why_not};
use crate::attributing::ToldName;
use crate::dataset::{self, DatasetName, SplitName};
use crate::embedding::Finder;
use crate::thumbnail::Way;
use crate::{attributing, output, show};

const EXAMPLES: &str = "Examples:
  mmrag ask \"What is Olm known for?\" --index notes.index --explain
  mmrag ask \"Whose flag is this?\" --image flag.png --index notes.index --verify
  mmrag ask \"Who is mayor of Olm?\" --index notes.index --why-not towns.md
  mmrag ask \"Who is mayor of Olm?\" --index notes.index --json > answer.json
  mmrag ask \"What colour is the tower?\" --index photos.index --attribute
  mmrag ask --replay answer.json
  mmrag ask --dataset atlas --data atlas --split test --qid Q --explain";

/// Answers one question and says on what the answer rests.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AskCommand {
    /// The question, answered from the whole collection
    #[arg(
        value_name = "QUESTION",
        required_unless_present_any = ["qid", "replay"],
        conflicts_with_all = ["qid", "replay"]
    )]
    question: Option<String>,
    /// The index to answer from, as `mmrag index` made it; if absent and no data set is named,
    /// mmrag-index
    #[arg(long, value_name = "PLACE", conflicts_with_all = ["data", "qid"])]
    index: Option<PathBuf>,
    /// The format of the data set that holds the documents
    #[arg(long, value_enum, default_value = "multimodalqa")]
    dataset: DatasetName,
    /// The folder of a data set to answer from
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The part of the data set
    #[arg(long, value_enum, default_value = "dev")]
    split: SplitName,
    /// A question of the data set, answered from the documents that come with it
    #[arg(long, value_name = "ID", requires = "data")]
    qid: Option<String>,
    /// A picture that belongs to the question; may be given several times
    #[arg(long, value_name = "FILE")]
    image: Vec<PathBuf>,
    /// How many documents to find for a question of your own
    #[arg(long, value_name = "K", default_value_t = 12)]
    top_k: usize,
    /// Say what became of this document: its id, or a part of its id or title
    #[arg(long, value_name = "DOC")]
    why_not: Vec<String>,
    /// Ask again without the cited documents, and without as many others
    #[arg(long)]
    verify: bool,
    /// Say which parts of the cited pictures the reply rests on: in telling the answer, or in the
    /// reasoning about each picture; a local model can, an engine behind --policy cannot
    #[arg(
        long,
        value_enum,
        value_name = "TOLD",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "answer"
    )]
    attribute: Option<ToldName>,
    /// Answer again what a file of --json holds, and say whether all is the same but the timings
    #[arg(long, value_name = "FILE", conflicts_with_all = ["index", "data", "image"])]
    replay: Option<PathBuf>,
    #[command(flatten)]
    form: FormArgs,
    #[command(flatten)]
    answer: AnswerArgs,
}

/// In which form the answer is told.
#[derive(Args)]
struct FormArgs {
    /// Show every document that was seen, and what became of it
    #[arg(long)]
    explain: bool,
    /// Print the whole explanation as JSON
    #[arg(long, conflicts_with = "explain")]
    json: bool,
    /// Show no pictures; they are shown where stdout is a terminal that is known to show them
    #[arg(long)]
    no_thumbnails: bool,
}

impl AskCommand {
    /// Answers the question on stdout.
    ///
    /// # Errors
    ///
    /// When documents or model cannot be read, or the question is not in the data set; with
    /// --replay, when the answer is another one.
    pub(crate) fn run(&self) -> anyhow::Result<Ended> {
        let Some(file) = &self.replay else {
            let (asked, pictures) = self.ask(&self.asking()?)?;
            self.print(&asked, &pictures)?;
            return Ok(Ended::Done);
        };
        let before = Asked::read(file)?;
        let asking = before.replay.clone();
        let (now, pictures) = self.ask(&asking)?;
        self.print(&now, &pictures)?;
        now.check_same(&before)?;
        eprintln!("the same as in {}, timings aside", file.display());
        Ok(Ended::Done)
    }

    /// What is asked of what, by the arguments.
    fn asking(&self) -> anyhow::Result<Replay> {
        let mut index = self.index.clone();
        if index.is_none() && self.data.is_none() {
            if !Collection::is_at(PLACE.as_ref()) {
                bail!(
                    "failed to find documents: make an index with `mmrag index DIR`, or name one \
                     with --index, or a data set with --data"
                );
            }
            index = Some(PathBuf::from(PLACE));
        }
        Ok(Replay {
            question: self.question.clone(),
            qid: self.qid.clone(),
            images: self.image.clone(),
            index,
            dataset: self.dataset,
            data: self.data.clone(),
            split: self.split,
            top_k: self.top_k,
            answer: self.answer.clone(),
            attribute: self.attribute,
            weights: self.answer.weights()?,
        })
    }

    /// The answer, and the cited pictures where they can be shown.
    fn ask(&self, asking: &Replay) -> anyhow::Result<(Asked, Vec<Thumbnail>)> {
        ensure!(
            asking.attribute.is_none() || asking.answer.policy.is_none(),
            "failed to say where pictures helped: the engine behind --policy does not show the \
             inside of its model; leave --attribute out, or ask a local model"
        );
        asking.check_weights()?;
        let engine = asking.answer.engine()?;
        let answerer = Answerer::new(&engine, &asking.answer)?;
        let (documents, example) = documents(asking)?;
        let question = match &example {
            Some(example) => example.question.clone(),
            None => own_question(asking)?,
        };
        let candidates = example.as_ref().map(|example| &*example.candidates);
        let ask = Ask { question: &question, candidates };
        documents.with_retriever(|retriever| {
            answerer.with_pipeline(retriever, asking.top_k, |pipeline| {
                let explanation = match asking.attribute {
                    Some(told) => pipeline.answer_attributing(&ask, told.into()),
                    None => pipeline.answer(&question, candidates),
                };
                let explanation = explanation.context("failed to answer")?;
                let verification = self.verify.then(|| verify(pipeline, &ask, &explanation));
                let verification = verification.transpose().context("failed to ask again")?;
                let why =
                    |named: &String| why_not(pipeline, &documents, &question, &explanation, named);
                let why_not = self.why_not.iter().map(why).collect::<anyhow::Result<Vec<_>>>()?;
                let candidates = candidates.unwrap_or_default();
                let pictures = self.thumbnails(&explanation, candidates, &documents)?;
                let replay = asking.clone();
                Ok((Asked { explanation, verification, why_not, replay }, pictures))
            })
        })
    }

    /// The cited pictures as the terminal shows them; none where it does not, or was told not to.
    fn thumbnails(
        &self,
        explanation: &Explanation,
        candidates: &[Arc<Document>],
        documents: &Documents,
    ) -> anyhow::Result<Vec<Thumbnail>> {
        let is_shown = !self.form.json && !self.form.no_thumbnails && io::stdout().is_terminal();
        let way = is_shown.then(|| Way::of(|name| std::env::var(name).ok())).flatten();
        let Some(way) = way else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for citation in explanation.citations.iter().filter(|c| c.modality == Modality::Image) {
            let given = candidates.iter().find(|document| document.id == citation.document);
            let document = match given {
                Some(document) => Some(Arc::clone(document)),
                None => documents.get(&citation.document)?,
            };
            let Some(Content::Image(picture)) = document.as_ref().map(|d| &d.content) else {
                continue;
            };
            found.extend(way.show(picture).map(|text| Thumbnail { label: citation.label, text }));
        }
        Ok(found)
    }

    fn print(&self, asked: &Asked, pictures: &[Thumbnail]) -> anyhow::Result<()> {
        if self.form.json {
            return output::json(asked);
        }
        output::line(&show::explanation(&asked.explanation, self.form.explain))?;
        for Thumbnail { label, text } in pictures {
            output::line(&format!("picture   [{label}]\n{text}"))?;
        }
        for found in asked.explanation.attribution.iter().flatten() {
            output::line(&attributing::shown(found))?;
        }
        if let Some(verification) = &asked.verification {
            output::line(&show::verification(verification))?;
        }
        for why in &asked.why_not {
            output::line(&show::why_not(why))?;
        }
        self.advise(&asked.explanation);
        Ok(())
    }

    fn advise(&self, explanation: &Explanation) {
        if self.form.explain || !self.why_not.is_empty() {
            return;
        }
        if let Some(id) = &self.qid {
            let name = self.dataset.to_possible_value();
            let name = name.as_ref().map_or("", |value| value.get_name());
            eprintln!("(--explain shows every document of {name} question {id})");
        } else {
            let n = explanation.candidates.len();
            eprintln!(
                "(--explain shows all {n} documents that were found, and what became of each)"
            );
        }
    }
}

/// A cited picture as the terminal shows it.
struct Thumbnail {
    /// The citation's label.
    label: usize,
    /// What the terminal is sent.
    text: String,
}

/// What is searched, and the question of the data set if it is one of its own.
fn documents(asking: &Replay) -> anyhow::Result<(Documents, Option<Example>)> {
    if let Some(place) = &asking.index {
        let collection = Collection::open(place).context("failed to open the index")?;
        let snapshot = collection.snapshot().context("failed to read the index")?;
        return Ok((Documents::Collection(Finder::new(snapshot)), None));
    }
    let data = asking.data.as_ref().context("there are no documents")?;
    let loaded = dataset::load(asking.dataset, data, asking.split, Pool::Whole, false)?;
    if let Some(id) = &asking.qid {
        let example = dataset::find(&loaded.examples, id)?.clone();
        return Ok((Documents::WithQuestion, Some(example)));
    }
    let index = Index::in_memory(loaded.documents).context("failed to index the documents")?;
    Ok((Documents::Memory(index), None))
}

fn own_question(asking: &Replay) -> anyhow::Result<Question> {
    let text = asking.question.clone().context("there is no question")?;
    for image in &asking.images {
        if !image.is_file() {
            bail!("failed to find the picture {}", image.display());
        }
    }
    let images = asking.images.iter().cloned().map(ImageSource::Path).collect();
    Ok(Question { id: QuestionId::new("ask"), text, images })
}
