//! Files of predictions: each with its line, so that a fault can be told where it stands.

use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::text_file;
use crate::{DataError, webqa_table};

/// A prediction as a file has it; what it should be depends on the benchmark.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The line that its value begins in, counted from 1.
    pub line: usize,
    /// The question's id, or why there is none.
    pub id: Result<String, String>,
    /// What is predicted.
    pub value: Value,
}

/// Reads a file of predictions, plain or gzip, in the file's order; of several for one question
/// all. It is
///
/// * one JSON object with an entry for each question,
/// * one JSON list of `{"question_id": …, "answer": …}`, whose ids may be numbers and whose
///   predictions are the answers, or
/// * a table of WebQA's baselines ([`webqa_table`]), whose predictions are `{"answer": …}` with the
///   first of each row's outputs.
///
/// # Errors
///
/// When the file cannot be read, is not UTF-8, or is none of these; the error names the line.
pub fn predictions(path: &Path) -> Result<Vec<Prediction>, DataError> {
    let text = text_file::read(path)?;
    if webqa_table::is_table(&text) {
        return Ok(of_table(&text));
    }
    let Entries(entries) = serde_json::from_str(&text).map_err(|error| DataError::Row {
        file: path.to_owned(),
        line: error.line(),
        what: without_place(&error.to_string()),
    })?;
    Ok(placed(&text, entries))
}

fn of_table(text: &str) -> Vec<Prediction> {
    let rows = webqa_table::rows(text);
    let prediction = |(line, row): (usize, Result<webqa_table::Row, String>)| {
        let (id, value) = match row {
            Ok(row) => (Ok(row.id), serde_json::json!({ "answer": row.outputs.first() })),
            Err(what) => (Err(what), Value::Null),
        };
        Prediction { line, id, value }
    };
    rows.into_iter().map(prediction).collect()
}

/// The entries with the lines that their values begin in.
fn placed(text: &str, entries: Vec<(Option<String>, Value)>) -> Vec<Prediction> {
    let place = |((key, value), line)| match key {
        Some(id) => Prediction { line, id: Ok(id), value },
        None => listed(line, value),
    };
    entries.into_iter().zip(value_lines(text)).map(place).collect()
}

/// For each value of the object or list that a text is, the line that it begins in. The text has
/// to be well-formed.
fn value_lines(text: &str) -> Vec<usize> {
    let (mut lines, mut line, mut depth) = (Vec::new(), 1, 0);
    let mut is_object = false;
    let mut is_value_next = false;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'\n' {
            line += 1;
        }
        if byte.is_ascii_whitespace() {
            continue;
        }
        if is_value_next && byte != b']' {
            lines.push(line);
        }
        is_value_next = false;
        match byte {
            b'{' | b'[' => {
                depth += 1;
                is_object |= depth == 1 && byte == b'{';
                is_value_next = depth == 1 && byte == b'[';
            }
            b'}' | b']' => depth -= 1,
            b':' => is_value_next = depth == 1,
            b',' => is_value_next = depth == 1 && !is_object,
            b'"' => pass_text(&mut bytes),
            _ => {}
        }
    }
    lines
}

/// Goes to behind the quote that ends a text.
fn pass_text(bytes: &mut impl Iterator<Item = u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
}

/// An entry of a list: its id and its answer.
fn listed(line: usize, mut value: Value) -> Prediction {
    let id = match &value["question_id"] {
        Value::String(id) => Ok(id.clone()),
        Value::Number(id) if id.is_u64() => Ok(id.to_string()),
        _ => Err("question_id is missing or no id".into()),
    };
    let answer = value.get_mut("answer").map_or(Value::Null, Value::take);
    Prediction { line, id, value: answer }
}

/// What the parser said, without the line: the error has it already.
fn without_place(told: &str) -> String {
    match told.rfind(" at line ") {
        Some(at) => told[..at].to_owned(),
        None => told.to_owned(),
    }
}

/// The values of an object with their keys, one that stands twice twice, or those of a list.
struct Entries(Vec<(Option<String>, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one object from question ids to predictions, or one list of them")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry()? {
            entries.push((Some(key), value));
        }
        Ok(Entries(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::new();
        while let Some(value) = list.next_element()? {
            entries.push((None, value));
        }
        Ok(Entries(entries))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((any::<String>(), inner), 0..4)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// A line of its own for each entry, whatever stands in it.
        #[test]
        fn every_value_is_found_in_its_line(values in proptest::collection::vec(any_value(), 0..6)) {
            let lines: Vec<usize> = (2..values.len() + 2).collect();
            let rows: Vec<String> = values.iter().map(Value::to_string).collect();
            prop_assert_eq!(value_lines(&format!("[\n{}]", rows.join(",\n"))), lines.clone());
            let rows: Vec<String> =
                rows.iter().map(|row| format!("{}: {row}", json!("a \",:{[\\"))).collect();
            prop_assert_eq!(value_lines(&format!("{{\n{}}}", rows.join("\n,"))), lines);
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>(), whole in any_value()) {
            let folder = tempfile::tempdir().expect("a folder is made");
            let path = folder.path().join("file.json");
            for text in [text, whole.to_string()] {
                std::fs::write(&path, &text).expect("the file is written");
                if let Ok(read) = predictions(&path) {
                    let entries = serde_json::from_str::<Map<String, Value>>(&text);
                    let n_entries = entries.map_or(0, |entries| entries.len());
                    prop_assert!(read.len() >= n_entries);
                }
            }
        }
    }
}
