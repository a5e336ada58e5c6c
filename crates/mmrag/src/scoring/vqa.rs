//! Predictions for VQA v2 and TextVQA: a list of `{"question_id": …, "answer": "…"}`.

use std::collections::BTreeMap;

use mmrag_data::{PeopleFile, Prediction};
use serde::Serialize;
use serde_json::Value;

use super::{Problems, type_name};

/// An accuracy over one answer and those of ten people.
pub(crate) type Accuracy = fn(&str, &[String]) -> f64;

/// The mean over questions, on the official scale of 100.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Mean {
    /// Questions.
    n: usize,
    accuracy: f64,
}

/// The means by what questions are like.
#[derive(Debug, Default, Serialize)]
struct Slices {
    answer_type: BTreeMap<String, Mean>,
}

/// One question's score, on a scale of 1.
#[derive(Debug, Serialize)]
pub(crate) struct Item {
    id: String,
    accuracy: f64,
}

/// All figures of a prediction file.
#[derive(Debug, Serialize)]
pub(crate) struct Scores {
    #[serde(flatten)]
    all: Mean,
    by: Slices,
    pub(crate) problems: Problems,
    #[serde(rename = "per_item", skip_serializing_if = "Option::is_none")]
    pub(crate) items: Option<Vec<Item>>,
}

/// Scores predictions against what people answered.
pub(crate) fn score(gold: &PeopleFile, predictions: Vec<Prediction>, accuracy: Accuracy) -> Scores {
    let mut problems = Problems { gold: gold.problems.clone(), ..Problems::default() };
    let predictions = problems.sorted(predictions, gold.rows.iter().map(|row| row.id.as_str()));
    let (mut all, mut by) = (Mean::default(), Slices::default());
    let mut items = Vec::with_capacity(gold.rows.len());
    for row in &gold.rows {
        let scored = predictions.get(&row.id).map_or(0.0, |placed| match &placed.value {
            Value::String(answer) => accuracy(answer, &row.answers),
            other => {
                let what = format!("{} is no text", type_name(other));
                problems.wrong.push(placed.fault(&row.id, what));
                0.0
            }
        });
        all.add(scored);
        if let Some(kind) = &row.answer_kind {
            by.answer_type.entry(kind.clone()).or_default().add(scored);
        }
        items.push(Item { id: row.id.clone(), accuracy: scored });
    }
    for mean in by.answer_type.values_mut().chain([&mut all]) {
        mean.accuracy = mean.accuracy / mean.n as f64 * 100.0;
    }
    Scores { all, by, problems, items: Some(items) }
}

impl Mean {
    fn add(&mut self, accuracy: f64) {
        self.n += 1;
        self.accuracy += accuracy;
    }
}

impl Scores {
    /// The figures as lines of a table.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line =
            |name: &str, mean: &Mean| format!("{name:<10} {:>7}  {:>7.3}", mean.n, mean.accuracy);
        let slices = self.by.answer_type.iter().map(|(name, mean)| line(name, mean));
        std::iter::once(line("all", &self.all)).chain(slices).collect()
    }

    /// The questions' scores as lines.
    pub(crate) fn item_lines(&self) -> Vec<String> {
        let items = self.items.iter().flatten();
        items.map(|item| format!("{}\t{}", item.id, item.accuracy)).collect()
    }
}
