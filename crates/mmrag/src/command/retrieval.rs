//! `mmrag eval retrieval`: how often an index finds the documents that questions are about.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use clap::Args;
use fancy_regex::Regex;
use mmrag_core::{DocumentId, Modality, Question, QuestionId};
use mmrag_rag::{Collection, Retriever};
use mmrag_task::metrics::{recall_at_k, reciprocal_rank};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Ended;
use crate::embedding::Finder;
use crate::output;
use crate::progress::Meter;

const EXAMPLES: &str = "Example:
  mmrag index astronomy --index astronomy.index --leave-out '\\[\\[[^\\]]*\\]\\]'
  mmrag eval retrieval --index astronomy.index --queries astronomy/questions.jsonl \\
      --modality image --leave-out '\\[\\[[^\\]]*\\]\\]'

A line of the queries is an object: id, question, and gold, gold_documents or gold_images with the
ids of the documents that are to be found, as the indexed files call them. A document with the id of
the query itself is never a hit.";

/// Measures retrieval.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RetrievalCommand {
    /// The index, as `mmrag index` made it
    #[arg(long, value_name = "PLACE")]
    index: PathBuf,
    /// The questions, an object a line
    #[arg(long, value_name = "FILE")]
    queries: PathBuf,
    /// Count documents of this kind alone: text, table or image
    #[arg(long, value_name = "KIND", value_parser = modality)]
    modality: Option<Modality>,
    /// Take what matches this regular expression out of the questions
    #[arg(long, value_name = "REGEX")]
    leave_out: Option<String>,
    /// Recall is that of the first K
    #[arg(long, value_name = "K", default_value_t = 5)]
    k: usize,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    /// Print each question's place too
    #[arg(long)]
    per_item: bool,
}

fn modality(name: &str) -> Result<Modality, String> {
    serde_json::from_value(name.into()).map_err(|_| "it is one of text, table, image".to_owned())
}

/// A line of the queries.
#[derive(Deserialize)]
struct Query {
    id: String,
    question: String,
    #[serde(default, alias = "gold_documents", alias = "gold_images")]
    gold: Vec<String>,
    #[serde(default)]
    kind: String,
}

/// How well documents are found.
#[derive(Clone, Debug, Default, Serialize)]
struct Figures {
    questions: usize,
    /// Mean share of a question's documents among the first k.
    recall_at_k: f64,
    /// Mean of 1 / the place of the first right one; 0 where none is found.
    mrr: f64,
}

#[derive(Serialize)]
struct Report {
    index_version: String,
    documents: usize,
    k: usize,
    all: Figures,
    kinds: BTreeMap<String, Figures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    items: Option<BTreeMap<String, Value>>,
}

impl RetrievalCommand {
    /// Measures, and prints the figures.
    ///
    /// # Errors
    ///
    /// When the index or the queries cannot be read.
    pub(crate) fn run(&self) -> anyhow::Result<Ended> {
        let collection = Collection::open(&self.index).context("failed to open the index")?;
        let snapshot = collection.snapshot().context("failed to read the index")?;
        let queries = self.queries()?;
        let finder = Finder::new(Arc::clone(&snapshot));
        let retriever = finder.fused();
        let meter = Meter::new("questions", queries.len());
        let (mut all, mut kinds) = (Figures::default(), BTreeMap::<String, Figures>::new());
        let mut items = BTreeMap::new();
        for (i, query) in queries.iter().enumerate() {
            let found = self.search(&retriever, snapshot.len(), query)?;
            let recall = recall_at_k(&found, &query.gold, self.k).unwrap_or(0.0);
            let reciprocal = reciprocal_rank(&found, &query.gold).unwrap_or(0.0);
            all.add(recall, reciprocal);
            kinds.entry(query.kind.clone()).or_default().add(recall, reciprocal);
            let item = serde_json::json!({ "recall": recall, "reciprocal_rank": reciprocal });
            items.insert(query.id.clone(), item);
            meter.at(i + 1, "");
        }
        drop(meter);
        kinds.values_mut().for_each(Figures::average);
        all.average();
        let report = Report {
            index_version: snapshot.version(),
            documents: snapshot.len(),
            k: self.k,
            all,
            kinds,
            items: self.per_item.then_some(items),
        };
        self.print(&report)?;
        Ok(Ended::Done)
    }

    fn queries(&self) -> anyhow::Result<Vec<Query>> {
        let context = || format!("failed to read {}", self.queries.display());
        let text = std::fs::read_to_string(&self.queries).with_context(context)?;
        let pattern = self.leave_out.as_deref().map(Regex::new).transpose();
        let pattern = pattern.context("failed to read --leave-out")?;
        let mut queries = Vec::new();
        for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let mut query: Query = serde_json::from_str(line)
                .with_context(|| format!("{}, line {}", context(), i + 1))?;
            if let Some(pattern) = &pattern {
                query.question = pattern.replace_all(&query.question, "").into_owned();
            }
            queries.push(query);
        }
        ensure!(
            queries.iter().any(|query| !query.gold.is_empty()),
            "{}: no line says which documents are to be found (gold)",
            context()
        );
        Ok(queries)
    }

    /// What the files call the documents that are found, best first: all of the kind that counts.
    fn search(
        &self,
        retriever: &dyn Retriever,
        n: usize,
        query: &Query,
    ) -> anyhow::Result<Vec<String>> {
        let (id, text) = (QuestionId::new(&query.id), query.question.clone());
        let question = Question { id, text, images: Vec::new() };
        let hits = retriever.retrieve(&question, n).context("failed to search")?;
        let counts = |hit: &mmrag_rag::Hit| {
            self.modality.is_none_or(|modality| hit.document.modality() == modality)
        };
        let names = hits.iter().filter(|hit| counts(hit)).map(|hit| own_name(&hit.document.id));
        Ok(names.filter(|name| *name != query.id).map(str::to_owned).collect())
    }

    fn print(&self, report: &Report) -> anyhow::Result<()> {
        if self.json || self.per_item {
            return output::json(report);
        }
        let row = |name: &str, figures: &Figures| {
            let Figures { questions, recall_at_k, mrr } = figures;
            let k = report.k;
            output::line(&format!(
                "{questions:>5}  recall@{k} {recall_at_k:.3}  MRR {mrr:.3}  {name}"
            ))
        };
        row("all questions", &report.all)?;
        if report.kinds.len() > 1 {
            report.kinds.iter().try_for_each(|(kind, figures)| row(kind, figures))?;
        }
        Ok(())
    }
}

/// What the indexed file itself calls a document.
fn own_name(id: &DocumentId) -> &str {
    let id = id.as_str();
    id.split_once('#').map_or(id, |(_, name)| name)
}

impl Figures {
    fn add(&mut self, recall: f64, reciprocal: f64) {
        self.questions += 1;
        self.recall_at_k += recall;
        self.mrr += reciprocal;
    }

    fn average(&mut self) {
        let n = self.questions.max(1) as f64;
        self.recall_at_k /= n;
        self.mrr /= n;
    }
}
