//! Official prediction files against official gold files.
//!
//! What does not fit in a file is a problem, told with its line; whatever a question lacks counts 0.

pub(crate) mod fluency;
pub(crate) mod multimodalqa;
pub(crate) mod score_log;
pub(crate) mod vqa;
pub(crate) mod webqa;

use std::collections::{HashMap, HashSet};
use std::fmt;

use mmrag_data::Prediction;
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
    extra: Vec<Fault>,
    /// Questions with several predictions, of which the last counts.
    duplicate: Vec<Fault>,
    /// What in a prediction has the wrong type, and counts 0.
    pub(crate) wrong: Vec<Fault>,
}

/// Something in a prediction file that does not fit.
#[derive(Debug, Serialize)]
pub(crate) struct Fault {
    /// The line, counted from 1.
    line: usize,
    /// The question's id, if one is named.
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<String>,
}

/// A prediction for a question that the gold file asks.
pub(crate) struct Placed {
    line: usize,
    value: Value,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        for part in [&self.id, &self.what].into_iter().flatten() {
            write!(f, ": {part}")?;
        }
        Ok(())
    }
}

impl Placed {
    /// What is wrong with this prediction.
    fn fault(&self, id: &str, what: String) -> Fault {
        Fault { line: self.line, id: Some(id.to_owned()), what: Some(what) }
    }
}

impl Problems {
    /// Says the problems on stderr.
    pub(crate) fn tell(&self) {
        let shown = |faults: &[Fault]| faults.iter().map(ToString::to_string).collect::<Vec<_>>();
        for (kind, problems) in [
            ("left out of the gold file", self.gold.clone()),
            ("no prediction, counts 0", self.missing.clone()),
            ("prediction for no question of the gold file", shown(&self.extra)),
            ("several predictions, the last counts", shown(&self.duplicate)),
            ("wrong, counts 0", shown(&self.wrong)),
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
        predictions: Vec<Prediction>,
        asked: impl Iterator<Item = &'g str>,
    ) -> HashMap<String, Placed> {
        let asked: Vec<&str> = asked.collect();
        let known: HashSet<&str> = asked.iter().copied().collect();
        let mut sorted = HashMap::with_capacity(predictions.len());
        for Prediction { line, id, value } in predictions {
            let id = match id {
                Ok(id) => id,
                Err(what) => {
                    self.wrong.push(Fault { line, id: None, what: Some(what) });
                    continue;
                }
            };
            let fault = Fault { line, id: Some(id.clone()), what: None };
            if !known.contains(id.as_str()) {
                self.extra.push(fault);
            } else if sorted.insert(id, Placed { line, value }).is_some() {
                self.duplicate.push(fault);
            }
        }
        let missing = asked.into_iter().filter(|id| !sorted.contains_key(*id));
        self.missing.extend(missing.map(String::from));
        sorted
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
