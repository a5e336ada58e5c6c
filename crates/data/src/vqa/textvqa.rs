//! TextVQA's files: question, answers and picture's id in one row.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::questions::{Row, assemble, check_answers, each_item, id};
use crate::json_parts::{Fault, Part};
use crate::picture_files::PictureFiles;
use crate::{DataError, Loaded, Split, files};

#[derive(Deserialize)]
struct QuestionRow {
    question_id: Value,
    image_id: Value,
    question: String,
    #[serde(default)]
    answers: Option<Vec<String>>,
}

fn questions_file(dir: &Path, split: Split) -> Result<PathBuf, DataError> {
    let part = match split {
        Split::Train => "train",
        Split::Dev => "val",
        Split::Test => "test",
    };
    files::find(dir, &format!("TextVQA_0.5.1_{part}.json"))
}

/// The splits of TextVQA whose files a folder holds.
pub fn splits(dir: &Path) -> Vec<Split> {
    Split::ALL.into_iter().filter(|split| questions_file(dir, *split).is_ok()).collect()
}

/// Reads a split of TextVQA: `TextVQA_0.5.1_PART.json` and the pictures in `train_images`, which
/// are those of `val` too, or `test_images`, or a zip archive of that name. Test questions have no
/// answers.
///
/// # Errors
///
/// When a file is missing or cannot be read to its end.
pub fn load(dir: &Path, split: Split) -> Result<Loaded, DataError> {
    let path = questions_file(dir, split)?;
    let mut loaded = Loaded::default();
    let mut rows = Vec::new();
    each_item(&path, "data", &mut loaded, |item| {
        rows.push(row(item, split)?);
        Ok(())
    })?;
    let images = if split == Split::Test { "test_images" } else { "train_images" };
    let pictures = PictureFiles::open(dir, images)?;
    assemble(&path, rows, &pictures, &mut loaded);
    Ok(loaded)
}

fn row(item: &Part<'_>, split: Split) -> Result<Row, Fault> {
    let fault = |what: String| item.fault(what);
    let row: QuestionRow = item.object()?;
    let question = id(&row.question_id).map_err(fault)?;
    let image = id(&row.image_id).map_err(fault)?;
    let answers = row.answers.unwrap_or_default();
    if split != Split::Test {
        check_answers(&question, &answers).map_err(fault)?;
    }
    Ok(Row {
        id: question,
        text: row.question,
        path: format!("{image}.jpg"),
        image,
        answers,
        kind: String::new(),
        line: item.line,
    })
}
