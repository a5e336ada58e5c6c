//! A question file alone, without its documents: what a prediction is scored against.

use std::collections::HashSet;
use std::path::Path;

use super::records::QuestionRow;
use crate::{DataError, Problem, json_lines};

/// A question as far as scoring needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoldRow {
    /// The question's id.
    pub id: String,
    /// The items of the answer; at least one.
    pub answers: Vec<String>,
    /// Where the answer stands: "text", "table" or "image"; "unknown" where the file does not say
    /// and "mixed" where its items stand in several.
    pub modality: String,
    /// The question's type, such as "Compose(TextQ,TableQ)".
    pub kind: String,
}

/// The questions of a file.
#[derive(Clone, Debug, Default)]
pub struct GoldFile {
    /// The questions that have answers, in the file's order.
    pub rows: Vec<GoldRow>,
    /// What was left out, by line.
    pub problems: Vec<Problem>,
}

/// Reads a question file, plain or, if its name ends in `.gz`, gzip.
///
/// A question without answers is a problem and left out, as in the official code.
///
/// # Errors
///
/// When the file cannot be read to its end.
pub fn gold(path: &Path) -> Result<GoldFile, DataError> {
    let mut problems = Vec::new();
    let questions = json_lines::read_file::<QuestionRow>(path, &mut problems)?;
    let mut rows = Vec::with_capacity(questions.rows.len());
    let mut seen = HashSet::new();
    for (line, row) in questions.rows {
        let checked = match row.gold() {
            Ok(row) if seen.insert(row.id.clone()) => Ok(row),
            Ok(row) => Err(format!("question {} stands in an earlier line too", row.id)),
            Err(what) => Err(what),
        };
        match checked {
            Ok(row) => rows.push(row),
            Err(what) => problems.push(Problem { file: path.to_owned(), line, what }),
        }
    }
    problems.sort_by_key(|problem| problem.line);
    Ok(GoldFile { rows, problems })
}

impl QuestionRow {
    fn gold(&self) -> Result<GoldRow, String> {
        let answers = self.answers()?;
        if answers.is_empty() {
            return Err(format!("question {} has no answer", self.qid));
        }
        let mut modalities = self.modalities();
        let first = modalities.next().unwrap_or("unknown");
        let modality = if modalities.all(|other| other == first) { first } else { "mixed" };
        Ok(GoldRow {
            id: self.qid.clone(),
            answers,
            modality: modality.to_owned(),
            kind: self.metadata.kind.clone(),
        })
    }
}
