//! VQA v2's official files: questions and annotations apart, pictures of COCO.

use std::collections::{HashMap, HashSet};
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
}

#[derive(Deserialize)]
struct AnnotationRow {
    question_id: Value,
    #[serde(default)]
    answer_type: String,
    answers: Vec<AnswerRow>,
}

#[derive(Deserialize)]
struct AnswerRow {
    answer: String,
}

struct Annotation {
    answers: Vec<String>,
    kind: String,
}

fn part(split: Split) -> &'static str {
    match split {
        Split::Train => "train2014",
        Split::Dev => "val2014",
        Split::Test => "test2015",
    }
}

fn questions_file(dir: &Path, split: Split) -> Result<PathBuf, DataError> {
    files::find(dir, &format!("v2_OpenEnded_mscoco_{}_questions.json", part(split)))
}

/// The splits of VQA v2 whose files a folder holds.
pub fn splits(dir: &Path) -> Vec<Split> {
    Split::ALL.into_iter().filter(|split| questions_file(dir, *split).is_ok()).collect()
}

/// Reads a split of VQA v2: `v2_OpenEnded_mscoco_PART_questions.json`,
/// `v2_mscoco_PART_annotations.json` and the pictures in the folder `PART` or in `PART.zip`, where
/// `PART` is `train2014`, `val2014` or `test2015`. Test questions have no annotations. An example's
/// `kind` is the type of its answer.
///
/// # Errors
///
/// When a file is missing or cannot be read to its end.
pub fn load(dir: &Path, split: Split) -> Result<Loaded, DataError> {
    let part_name = part(split);
    let mut loaded = Loaded::default();
    let mut annotations = HashMap::new();
    if split != Split::Test {
        let path = files::find(dir, &format!("v2_mscoco_{part_name}_annotations.json"))?;
        each_item(&path, "annotations", &mut loaded, |item| {
            let (id, annotation) = annotation(item)?;
            match annotations.insert(id.clone(), annotation) {
                None => Ok(()),
                Some(_) => Err(item.fault(format!("question {id} is annotated twice"))),
            }
        })?;
    }
    let path = questions_file(dir, split)?;
    let (mut rows, mut seen) = (Vec::new(), HashSet::new());
    each_item(&path, "questions", &mut loaded, |item| {
        let row: QuestionRow = item.object()?;
        let (question, image) = (id(&row.question_id), id(&row.image_id));
        let (question, image) =
            (question.map_err(|what| item.fault(what))?, image.map_err(|what| item.fault(what))?);
        if !seen.insert(question.clone()) {
            return Err(item.fault(format!("question {question} stands there twice")));
        }
        let annotation = annotations.remove(&question);
        let Annotation { answers, kind } = match annotation {
            Some(annotation) => annotation,
            None if split == Split::Test => Annotation { answers: Vec::new(), kind: String::new() },
            None => {
                let what = format!("question {question} is left out: it has no annotation");
                return Err(item.fault(what));
            }
        };
        let path = format!("COCO_{part_name}_{image:0>12}.jpg");
        rows.push(Row {
            id: question,
            text: row.question,
            image,
            path,
            answers,
            kind,
            line: item.line,
        });
        Ok(())
    })?;
    let pictures = PictureFiles::open(dir, part_name)?;
    assemble(&path, rows, &pictures, &mut loaded);
    Ok(loaded)
}

fn annotation(item: &Part<'_>) -> Result<(String, Annotation), Fault> {
    let row: AnnotationRow = item.object()?;
    let id = id(&row.question_id).map_err(|what| item.fault(what))?;
    let answers: Vec<String> = row.answers.into_iter().map(|answer| answer.answer).collect();
    check_answers(&id, &answers).map_err(|what| item.fault(what))?;
    Ok((id, Annotation { answers, kind: row.answer_type }))
}
