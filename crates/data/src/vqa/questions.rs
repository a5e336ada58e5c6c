//! What both data sets have in common: a question, a picture, ten answers.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use mmrag_core::{Content, Document, DocumentId, Example, Gold, Question, QuestionId};
use serde_json::Value;

use crate::json_parts::{Fault, Part, Parts};
use crate::picture_files::PictureFiles;
use crate::{DataError, Loaded, Place, files};

/// People who answered each question.
const N_ANSWERS: usize = 10;

/// A question as both data sets have it.
pub(super) struct Row {
    pub(super) id: String,
    pub(super) text: String,
    pub(super) image: String,
    /// The picture's path.
    pub(super) path: String,
    /// What people said; none in test files.
    pub(super) answers: Vec<String>,
    pub(super) kind: String,
    pub(super) line: usize,
}

/// An id, which is a number or a text in the files.
pub(super) fn id(value: &Value) -> Result<String, String> {
    match value {
        Value::String(id) => Ok(id.clone()),
        Value::Number(id) if id.is_u64() => Ok(id.to_string()),
        other => Err(format!("{other} is no id")),
    }
}

/// Gives each item of the list under `key` of a file to `take`; what it says is wrong is told.
pub(super) fn each_item(
    path: &Path,
    key: &str,
    loaded: &mut Loaded,
    mut take: impl FnMut(&Part<'_>) -> Result<(), Fault>,
) -> Result<(), DataError> {
    let bytes = files::Bytes::open(path)?;
    let fatal = |Fault { line, what }| DataError::Row { file: path.to_owned(), line, what };
    let place = Arc::new(path.to_owned());
    let mut is_there = false;
    for member in Parts::of(&bytes, 1).map_err(fatal)? {
        let member = member.map_err(fatal)?;
        if member.key != key {
            continue;
        }
        is_there = true;
        let items = member.parts().map_err(fatal)?;
        if items.is_object() {
            return Err(fatal(member.fault(format!("{key} is no list"))));
        }
        for item in items {
            let item = item.map_err(fatal)?;
            if let Err(Fault { line, what }) = take(&item) {
                loaded.problems.push(Place { file: place.clone(), line }.problem(what));
            }
        }
    }
    if is_there { Ok(()) } else { Err(fatal(Fault { line: 1, what: format!("{key} is missing") })) }
}

/// Puts questions and their pictures together.
pub(super) fn assemble(path: &Path, rows: Vec<Row>, pictures: &PictureFiles, loaded: &mut Loaded) {
    let file = Arc::new(path.to_owned());
    let mut documents: HashMap<String, Result<Arc<Document>, String>> = HashMap::new();
    let mut seen = HashSet::new();
    for row in rows {
        let place = Place { file: file.clone(), line: row.line };
        if !seen.insert(row.id.clone()) {
            loaded.problems.push(place.problem(format!("question {} stands there twice", row.id)));
            continue;
        }
        let is_new = !documents.contains_key(&row.image);
        let document = documents
            .entry(row.image.clone())
            .or_insert_with(|| picture(&row.image, &row.path, pictures));
        match document {
            Ok(document) => {
                if is_new {
                    loaded.documents.push(document.clone());
                    loaded.places.push(place);
                }
                let document = document.clone();
                loaded.examples.push(example(row, document));
            }
            Err(what) => {
                let what = format!("question {} is left out: {what}", row.id);
                loaded.problems.push(place.problem(what));
            }
        }
    }
}

fn picture(id: &str, path: &str, pictures: &PictureFiles) -> Result<Arc<Document>, String> {
    let content = Content::Image(pictures.find(path, true)?);
    Ok(Arc::new(Document { id: DocumentId::new(id), title: String::new(), content }))
}

fn example(row: Row, document: Arc<Document>) -> Example {
    Example {
        question: Question { id: QuestionId::new(&row.id), text: row.text, images: Vec::new() },
        gold: Gold {
            documents: vec![document.id.clone()],
            answers: most_said(&row.answers).map(str::to_owned).into_iter().collect(),
            references: row.answers,
            keywords: None,
        },
        candidates: vec![document],
        kind: row.kind,
        steps: Vec::new(),
    }
}

/// What was said most often; of several the first.
fn most_said(answers: &[String]) -> Option<&str> {
    let count = |answer: &String| answers.iter().filter(|other| *other == answer).count();
    // The last of equal maxima is taken, hence backwards.
    answers.iter().rev().max_by_key(|answer| count(answer)).map(String::as_str)
}

/// Says whether there are as many answers as people.
pub(super) fn check_answers(id: &str, answers: &[String]) -> Result<(), String> {
    if answers.len() == N_ANSWERS {
        return Ok(());
    }
    Err(format!("question {id} has {} answers, not {N_ANSWERS}", answers.len()))
}

#[cfg(test)]
mod tests {
    use super::most_said;

    #[test]
    fn the_first_of_what_was_said_most_is_taken() {
        let check = |answers: &[&str], expected: Option<&str>| {
            let answers: Vec<String> = answers.iter().map(ToString::to_string).collect();
            assert_eq!(most_said(&answers), expected);
        };
        check(&["a", "b", "b", "c"], Some("b"));
        check(&["a", "b", "b", "a"], Some("a"));
        check(&[], None);
    }
}
