//! The tables in which WebQA's baselines are published: tab-separated, with the columns `Guid`,
//! `Qcate`, `Q`, `A`, `Keywords_A`, `Output_conf` and `Output`. A row is a question with its gold
//! and the outputs of one system.

use std::path::Path;

use serde_json::Value;

use crate::webqa::{self, GoldFile, GoldRow};
use crate::{DataError, text_file};

/// A question with the outputs of one system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The question's id (`Guid`).
    pub id: String,
    /// The question's category (`Qcate`).
    pub category: String,
    /// The reference answers (`A`).
    pub answers: Vec<String>,
    /// The keywords (`Keywords_A`), if they are there and not "TBD".
    pub keywords: Option<String>,
    /// The outputs, best first (`Output`).
    pub outputs: Vec<String>,
}

/// Whether a text begins as such a table does.
pub(crate) fn is_table(text: &str) -> bool {
    text.starts_with("Guid\t")
}

/// The rows with their lines, counted from 1; what is wrong with a row instead of it.
pub(crate) fn rows(text: &str) -> Vec<(usize, Result<Row, String>)> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().trim().split('\t').collect();
    let rows = lines.zip(2..).filter(|(line, _)| !line.trim().is_empty());
    rows.map(|(line, at)| (at, row(&header, line))).collect()
}

/// Reads the gold of such a table: it holds no sources.
///
/// # Errors
///
/// When the file cannot be read or is not UTF-8.
pub fn gold(path: &Path) -> Result<GoldFile, DataError> {
    let text = text_file::read(path)?;
    let mut gold = GoldFile::default();
    let mut seen = std::collections::HashSet::new();
    for (line, row) in rows(&text) {
        match row {
            Ok(row) if seen.insert(row.id.clone()) => gold.rows.push(GoldRow {
                id: row.id,
                category: row.category,
                keywords: row.keywords,
                answers: row.answers,
                sources: Vec::new(),
            }),
            Ok(row) => {
                gold.problems.push(format!("line {line}: question {} stands there twice", row.id));
            }
            Err(what) => gold.problems.push(format!("line {line}: {what}")),
        }
    }
    Ok(gold)
}

fn row(header: &[&str], line: &str) -> Result<Row, String> {
    let cells: Vec<&str> = line.split('\t').collect();
    let cell = |name: &str| {
        let at = header.iter().position(|other| *other == name);
        let at = at.ok_or_else(|| format!("the table has no column {name}"))?;
        cells.get(at).copied().ok_or_else(|| format!("there is no cell in column {name}"))
    };
    let texts = |name: &str| {
        let list: Option<Value> = serde_json::from_str(cell(name)?.trim()).ok();
        let list = list.as_ref().and_then(webqa::answers);
        list.ok_or_else(|| format!("column {name} holds no JSON list of texts"))
    };
    Ok(Row {
        id: cell("Guid")?.to_owned(),
        category: cell("Qcate")?.to_owned(),
        answers: texts("A")?,
        keywords: webqa::keywords(cell("Keywords_A")?),
        outputs: texts("Output")?,
    })
}
