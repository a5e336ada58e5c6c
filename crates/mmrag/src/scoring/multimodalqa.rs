//! MultimodalQA's predictions: one object from question ids to a text or a list of texts.

use std::collections::BTreeMap;

use mmrag_data::Prediction;
use mmrag_data::multimodalqa::{GoldFile, GoldRow};
use mmrag_task::metrics::multimodalqa::{exact_match, f1};
use serde::Serialize;
use serde_json::Value;

use super::{Problems, type_name};

/// The types of questions that take one step.
const SINGLE_HOP: [&str; 4] = ["TextQ", "TableQ", "ImageQ", "ImageListQ"];

/// Means over questions, on the official scale of 100.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Means {
    /// Questions.
    n: usize,
    em: f64,
    f1: f64,
}

/// The means by what questions are like.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Slices {
    modality: BTreeMap<String, Means>,
    hops: BTreeMap<String, Means>,
    #[serde(rename = "type")]
    kind: BTreeMap<String, Means>,
}

/// One question's scores, on a scale of 1 as the official code has them.
#[derive(Debug, Serialize)]
pub(crate) struct Item {
    id: String,
    em: f64,
    f1: f64,
}

/// All figures of a prediction file.
#[derive(Debug, Serialize)]
pub(crate) struct Scores {
    #[serde(flatten)]
    all: Means,
    by: Slices,
    pub(crate) problems: Problems,
    #[serde(rename = "per_item", skip_serializing_if = "Option::is_none")]
    pub(crate) items: Option<Vec<Item>>,
}

/// Scores predictions against a gold file.
pub(crate) fn score(gold: &GoldFile, predictions: Vec<Prediction>) -> Scores {
    let mut problems = Problems {
        gold: gold.problems.iter().map(ToString::to_string).collect(),
        ..Problems::default()
    };
    let predictions = problems.sorted(predictions, gold.rows.iter().map(|row| row.id.as_str()));
    let mut scores = Scores { all: Means::default(), by: Slices::default(), problems, items: None };
    let mut items = Vec::with_capacity(gold.rows.len());
    for row in &gold.rows {
        let placed = predictions.get(&row.id);
        let spans = placed.and_then(|placed| {
            let wrong = |what| scores.problems.wrong.push(placed.fault(&row.id, what));
            spans(&placed.value).map_err(wrong).ok()
        });
        let (em, f1) = spans.map_or((0.0, 0.0), |spans| {
            (exact_match(&spans, &row.answers), f1(&spans, &row.answers))
        });
        scores.count(row, em, f1);
        items.push(Item { id: row.id.clone(), em, f1 });
    }
    scores.all.finish();
    let Slices { modality, hops, kind } = &mut scores.by;
    for means in modality.values_mut().chain(hops.values_mut()).chain(kind.values_mut()) {
        means.finish();
    }
    Scores { items: Some(items), ..scores }
}

fn spans(prediction: &Value) -> Result<Vec<&str>, String> {
    match prediction {
        Value::String(span) => Ok(vec![span]),
        Value::Array(spans) => spans
            .iter()
            .map(|span| {
                span.as_str().ok_or_else(|| format!("{} in the list of texts", type_name(span)))
            })
            .collect(),
        other => Err(format!("{} is neither a text nor a list of texts", type_name(other))),
    }
}

impl Scores {
    fn count(&mut self, row: &GoldRow, em: f64, f1: f64) {
        let is_single = SINGLE_HOP.contains(&row.kind.as_str());
        let hops = if is_single { "Single-hop" } else { "Multi-hop" };
        self.all.add(em, f1);
        self.by.modality.entry(row.modality.clone()).or_default().add(em, f1);
        self.by.hops.entry(hops.to_owned()).or_default().add(em, f1);
        self.by.kind.entry(row.kind.clone()).or_default().add(em, f1);
    }

    /// The figures as lines of a table.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |name: &str, means: &Means| {
            format!("{name:<50} {:>6}  EM {:>7.3}  F1 {:>7.3}", means.n, means.em, means.f1)
        };
        let Slices { modality, hops, kind } = &self.by;
        let slices = modality.iter().chain(hops).chain(kind);
        let mut lines = vec![line("all", &self.all)];
        lines.extend(slices.map(|(name, means)| line(name, means)));
        lines
    }

    /// The questions' scores as lines.
    pub(crate) fn item_lines(&self) -> Vec<String> {
        let items = self.items.iter().flatten();
        items.map(|item| format!("{}\t{}\t{}", item.id, item.em, item.f1)).collect()
    }
}

impl Means {
    fn add(&mut self, em: f64, f1: f64) {
        self.n += 1;
        self.em += em;
        self.f1 += f1;
    }

    /// Turns sums into means.
    fn finish(&mut self) {
        self.em = self.em / self.n as f64 * 100.0;
        self.f1 = self.f1 / self.n as f64 * 100.0;
    }
}
