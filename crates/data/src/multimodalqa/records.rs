//! The rows of MultimodalQA's files, as they stand there.

use mmrag_core::{Content, Document, DocumentId, Step, Table};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
pub(super) struct QuestionRow {
    pub(super) qid: String,
    pub(super) question: String,
    #[serde(default)]
    answers: Vec<AnswerRow>,
    #[serde(default)]
    pub(super) metadata: Metadata,
    #[serde(default)]
    pub(super) supporting_context: Vec<SupportRow>,
}

#[derive(Deserialize)]
struct AnswerRow {
    answer: Value,
    #[serde(default)]
    modality: Option<String>,
}

#[derive(Default, Deserialize)]
pub(super) struct Metadata {
    #[serde(default, rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    image_doc_ids: Vec<String>,
    #[serde(default)]
    text_doc_ids: Vec<String>,
    #[serde(default)]
    table_id: Option<String>,
    #[serde(default)]
    table_ids: Vec<String>,
    #[serde(default)]
    candidate_ids: Vec<String>,
    #[serde(default)]
    steps: Vec<SupportRow>,
}

#[derive(Deserialize)]
pub(super) struct SupportRow {
    pub(super) doc_id: String,
    #[serde(default)]
    text: String,
}

#[derive(Deserialize)]
pub(super) struct TextRow {
    id: String,
    title: String,
    text: String,
}

#[derive(Deserialize)]
pub(super) struct ImageRow {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) path: String,
}

#[derive(Deserialize)]
pub(super) struct TableRow {
    id: String,
    title: String,
    table: TableBody,
}

#[derive(Deserialize)]
struct TableBody {
    #[serde(default)]
    table_name: String,
    header: Vec<ColumnRow>,
    table_rows: Vec<Vec<CellRow>>,
}

#[derive(Deserialize)]
struct ColumnRow {
    column_name: String,
}

#[derive(Deserialize)]
struct CellRow {
    text: String,
}

impl QuestionRow {
    /// The items of the answer; numbers as Python writes them, for the official metric reads them
    /// so.
    pub(super) fn answers(&self) -> Result<Vec<String>, String> {
        let text = |row: &AnswerRow| match &row.answer {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) if number.is_f64() => {
                Ok(python_float(number.as_f64().expect("it is a float")))
            }
            Value::Number(number) => Ok(number.to_string()),
            other => Err(format!("answer {other} of question {} is no text or number", self.qid)),
        };
        self.answers.iter().map(text).collect()
    }

    /// Where each item of the answer stands, as far as the file says.
    pub(super) fn modalities(&self) -> impl Iterator<Item = &str> {
        self.answers.iter().filter_map(|row| row.modality.as_deref())
    }
}

impl Metadata {
    /// The ids of the candidates, in order; some may be named twice.
    pub(super) fn candidates(&self) -> impl Iterator<Item = &str> {
        let given = self.candidate_ids.iter();
        let tables = self.table_id.iter().chain(&self.table_ids);
        let parts = tables.chain(&self.text_doc_ids).chain(&self.image_doc_ids);
        let parts = parts.filter(|_| self.candidate_ids.is_empty());
        given.chain(parts).map(String::as_str)
    }

    /// The worked reasoning, if there is one.
    pub(super) fn steps(&self) -> Vec<Step> {
        let step = |row: &SupportRow| Step {
            document: DocumentId::new(&row.doc_id),
            text: row.text.clone(),
        };
        self.steps.iter().map(step).collect()
    }
}

impl TextRow {
    pub(super) fn into_document(self) -> Document {
        let content = Content::Text(self.text);
        Document { id: DocumentId::new(self.id), title: self.title, content }
    }
}

impl TableRow {
    pub(super) fn into_document(self) -> Document {
        let TableBody { table_name, header, table_rows } = self.table;
        let cells = |row: Vec<CellRow>| row.into_iter().map(|cell| cell.text).collect();
        let content = Content::Table(Table {
            name: table_name,
            header: header.into_iter().map(|column| column.column_name).collect(),
            rows: table_rows.into_iter().map(cells).collect(),
        });
        Document { id: DocumentId::new(self.id), title: self.title, content }
    }
}

/// A float as Python's `str` writes it: with a fraction from 1e-4 up to 1e16, else with an
/// exponent of two digits at least.
fn python_float(x: f64) -> String {
    let magnitude = x.abs();
    if magnitude == 0.0 || (1e-4..1e16).contains(&magnitude) {
        return format!("{x:?}");
    }
    let text = format!("{x:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => match exponent.strip_prefix('-') {
            Some(exponent) => format!("{digits}e-{exponent:0>2}"),
            None => format!("{digits}e+{exponent:0>2}"),
        },
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::python_float;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        let check = |x: f64, expected: &str| assert_eq!(python_float(x), expected);
        check(300.0, "300.0");
        check(1.144_000_000_000_000_1, "1.1440000000000001");
        check(0.0001, "0.0001");
        check(0.000_01, "1e-05");
        check(1e16, "1e+16");
        check(-2.5e-7, "-2.5e-07");
        check(123_456_789.0, "123456789.0");
    }
}
