//! WebQA's question file, as far as scoring needs it. Its images and texts are not read here.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;

use crate::{DataError, entries};

/// A question as far as scoring needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoldRow {
    /// The question's id (its key in the file).
    pub id: String,
    /// The question's category (`Qcate`).
    pub category: String,
    /// The keywords of the answer, without the literal quotes; nothing where the file has none or
    /// "TBD".
    pub keywords: Option<String>,
    /// The reference answers (`A`), without the literal quotes; none where the file has none.
    pub answers: Vec<String>,
    /// The ids of the images and texts that answer the question; none where the file does not say.
    pub sources: Vec<String>,
}

/// The questions of a file.
#[derive(Clone, Debug, Default)]
pub struct GoldFile {
    /// The questions, in the file's order.
    pub rows: Vec<GoldRow>,
    /// What was left out, by key.
    pub problems: Vec<String>,
}

/// Reads a question file such as `WebQA_train_val.json`, plain or gzip; of a question that stands
/// twice the first.
///
/// # Errors
///
/// When the file cannot be read or is no JSON object.
pub fn gold(path: &Path) -> Result<GoldFile, DataError> {
    let mut gold = GoldFile::default();
    let mut seen = HashSet::new();
    for (id, record) in entries(path)? {
        match row(&id, &record) {
            Ok(row) if seen.insert(id.clone()) => gold.rows.push(row),
            Ok(_) => gold.problems.push(format!("question {id} stands there twice")),
            Err(what) => gold.problems.push(format!("question {id}: {what}")),
        }
    }
    Ok(gold)
}

/// The id of an image or a text: images have numbers in the files.
///
/// ```
/// use mmrag_data::webqa::source_id;
/// assert_eq!(source_id(&serde_json::json!(30_000_017)).as_deref(), Some("30000017"));
/// assert_eq!(source_id(&serde_json::json!("d5bc_2")).as_deref(), Some("d5bc_2"));
/// assert_eq!(source_id(&serde_json::json!(1.5)), None);
/// ```
pub fn source_id(value: &Value) -> Option<String> {
    match value {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) if id.is_u64() => Some(id.to_string()),
        _ => None,
    }
}

fn row(id: &str, record: &Value) -> Result<GoldRow, String> {
    if !record.is_object() {
        return Err("it is no object".into());
    }
    let category = record["Qcate"].as_str().ok_or("Qcate is missing or no text")?;
    let keywords = match &record["Keywords_A"] {
        Value::Null => None,
        Value::String(text) => keywords(text),
        _ => return Err("Keywords_A is no text".into()),
    };
    let answers = match &record["A"] {
        Value::Null => Vec::new(),
        list => answers(list).ok_or("A is no list of texts")?,
    };
    let mut sources = Vec::new();
    for (facts, key) in [("img_posFacts", "image_id"), ("txt_posFacts", "snippet_id")] {
        let list = match &record[facts] {
            Value::Null => continue,
            Value::Array(list) => list,
            _ => return Err(format!("{facts} is no list")),
        };
        for (at, fact) in list.iter().enumerate() {
            let source = source_id(&fact[key])
                .ok_or_else(|| format!("{facts}[{at}].{key} is missing or no id"))?;
            sources.push(source);
        }
    }
    Ok(GoldRow { id: id.to_owned(), category: category.to_owned(), keywords, answers, sources })
}

/// Keywords without the literal quotes, if they are there yet.
pub(crate) fn keywords(text: &str) -> Option<String> {
    let text = text.replace('"', "");
    (!text.trim().is_empty() && text.trim() != "TBD").then_some(text)
}

/// The texts of a list, without the literal quotes.
pub(crate) fn answers(list: &Value) -> Option<Vec<String>> {
    list.as_array()?.iter().map(|text| Some(text.as_str()?.replace('"', ""))).collect()
}
