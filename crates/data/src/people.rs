//! What ten people answered about pictures: the annotation files of VQA v2 and TextVQA, as far as
//! scoring needs them.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;

use crate::{DataError, text_file};

/// People asked about each question.
const PEOPLE: usize = 10;

/// A question as far as scoring needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeopleRow {
    /// The question's id.
    pub id: String,
    /// The kind of the answer, such as "yes/no" (`answer_type`), where the file says.
    pub answer_kind: Option<String>,
    /// The answers, one a person.
    pub answers: Vec<String>,
}

/// The questions of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeopleFile {
    /// The questions, in the file's order.
    pub rows: Vec<PeopleRow>,
    /// What was left out, by place in the list.
    pub problems: Vec<String>,
}

/// Reads annotations, plain or gzip: VQA v2's `{"annotations": [{"question_id", "answer_type",
/// "answers": [{"answer"}, …]}]}` or TextVQA's `{"data": [{"question_id", "answers": ["…", …]}]}`. A
/// question without ten answers is a problem and left out, as in the official code.
///
/// # Errors
///
/// When the file cannot be read, or holds neither list.
pub fn people(path: &Path) -> Result<PeopleFile, DataError> {
    let text = text_file::read(path)?;
    let wrong = |line, what| DataError::Row { file: path.to_owned(), line, what };
    let value: Value =
        serde_json::from_str(&text).map_err(|error| wrong(error.line(), error.to_string()))?;
    let list = value["annotations"].as_array().or_else(|| value["data"].as_array());
    let list = list.ok_or_else(|| {
        wrong(
            1,
            "the file is no object with a list `annotations` (VQA v2) or `data` (TextVQA)".into(),
        )
    })?;
    let mut file = PeopleFile::default();
    let mut seen = HashSet::new();
    for (at, record) in list.iter().enumerate() {
        match row(record) {
            Ok(row) if seen.insert(row.id.clone()) => file.rows.push(row),
            Ok(row) => {
                file.problems.push(format!("row {at}: question {} stands there twice", row.id));
            }
            Err(what) => file.problems.push(format!("row {at}: {what}")),
        }
    }
    Ok(file)
}

fn row(record: &Value) -> Result<PeopleRow, String> {
    let id = match &record["question_id"] {
        Value::String(id) => id.clone(),
        Value::Number(id) if id.is_u64() => id.to_string(),
        _ => return Err("question_id is missing or no id".into()),
    };
    let answer = |value: &Value| {
        let text = value.as_str().or_else(|| value["answer"].as_str());
        text.map(String::from)
    };
    let answers = record["answers"].as_array().ok_or("answers is missing or no list")?;
    let answers: Option<Vec<String>> = answers.iter().map(answer).collect();
    let answers = answers.ok_or_else(|| format!("question {id}: an answer is no text"))?;
    if answers.len() != PEOPLE {
        return Err(format!("question {id}: {} answers instead of {PEOPLE}", answers.len()));
    }
    let answer_kind = record["answer_type"].as_str().map(String::from);
    Ok(PeopleRow { id, answer_kind, answers })
}
