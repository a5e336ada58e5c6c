//! Official prediction files against official gold files.
//!
//! What does not fit in a file is a problem, told by its key; whatever a question lacks counts 0.

pub(crate) mod multimodalqa;
pub(crate) mod webqa;

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use serde_json::Value;

/// Problems of a kind that are told one by one; the rest is counted.
const TOLD: usize = 10;

/// What does not fit.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Problems {
    /// What was left out of the gold file.
    pub(crate) gold: Vec<String>,
    /// Questions without a prediction, which count 0.
    missing: Vec<String>,
    /// Predictions for questions that the gold file lacks, which do not count.
    extra: Vec<String>,
    /// Questions with several predictions, of which the last counts.
    duplicate: Vec<String>,
    /// What in a prediction has the wrong type, and counts 0.
    wrong: Vec<String>,
}

impl Problems {
    /// Says the problems on stderr.
    pub(crate) fn tell(&self) {
        for (kind, problems) in [
            ("left out of the gold file", &self.gold),
            ("no prediction, counts 0", &self.missing),
            ("prediction for no question of the gold file", &self.extra),
            ("several predictions, the last counts", &self.duplicate),
            ("wrong type, counts 0", &self.wrong),
        ] {
            for problem in problems.iter().take(TOLD) {
                eprintln!("{kind}: {problem}");
            }
            if let Some(more) = problems.len().checked_sub(TOLD).filter(|more| *more > 0) {
                eprintln!("{kind}: {more} more; --json lists all");
            }
        }
    }

    /// The predictions by question, of those that the gold file asks.
    fn sorted<'g>(
        &mut self,
        entries: Vec<(String, Value)>,
        asked: impl Iterator<Item = &'g str>,
    ) -> HashMap<String, Value> {
        let asked: Vec<&str> = asked.collect();
        let known: HashSet<&str> = asked.iter().copied().collect();
        let mut predictions = HashMap::with_capacity(entries.len());
        for (id, prediction) in entries {
            if !known.contains(id.as_str()) {
                self.extra.push(id);
            } else if predictions.insert(id.clone(), prediction).is_some() {
                self.duplicate.push(id);
            }
        }
        let missing = asked.into_iter().filter(|id| !predictions.contains_key(*id));
        self.missing.extend(missing.map(String::from));
        predictions
    }
}

/// What a value is, for a message.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A figure with four decimals, or a dash.
fn shown(figure: Option<f64>) -> String {
    figure.map_or_else(|| "-".into(), |figure| format!("{figure:.4}"))
}
