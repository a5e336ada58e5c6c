//! Reading the canonical files.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use mmrag_core::{
    Content, Document, DocumentId, Example, Gold, ImageSource, Question, QuestionId, Step, Table,
};
use rayon::prelude::*;

use super::rows::{DocumentRow, QuestionRow, TableRow};
use crate::corpus::{Corpus, Shown};
use crate::picture_files::PictureFiles;
use crate::tables::irregularities;
use crate::{DataError, Loaded, Place, Problem, Split, files, json_lines};

pub(super) const DOCUMENTS: &str = "documents.jsonl";

/// The splits whose files a folder holds.
pub fn splits(dir: &Path) -> Vec<Split> {
    let has = |split: &Split| files::find(dir, &questions_file(*split)).is_ok();
    Split::ALL.into_iter().filter(has).collect()
}

pub(super) fn questions_file(split: Split) -> String {
    format!("{}.jsonl", split.as_str())
}

/// Reads a split's questions and all documents.
///
/// Headers of pictures are read. A question whose gold document or own picture is missing or
/// broken is left out; another missing candidate is left out of its question.
///
/// # Errors
///
/// When a file is missing or cannot be read to its end.
pub fn load(dir: &Path, split: Split) -> Result<Loaded, DataError> {
    let mut problems = Vec::new();
    let questions = json_lines::read::<QuestionRow>(dir, &questions_file(split), &mut problems)?;
    let pictures = PictureFiles::Folder(dir.to_owned());
    let corpus = read_documents(dir, &pictures, &mut problems)?;
    let mut examples = Vec::with_capacity(questions.rows.len());
    let mut seen = HashSet::new();
    for (line, row) in questions.rows {
        let mut report = |what: String| {
            problems.push(Problem { file: questions.file.clone(), line, what });
        };
        if !seen.insert(row.id.clone()) {
            report(format!("question {} stands in an earlier line too", row.id));
            continue;
        }
        match example(&corpus, &pictures, row, &mut report) {
            Ok(example) => examples.push(example),
            Err(what) => report(what),
        }
    }
    Ok(Loaded { examples, documents: corpus.documents, places: corpus.named, problems })
}

fn read_documents(
    dir: &Path,
    pictures: &PictureFiles,
    problems: &mut Vec<Problem>,
) -> Result<Corpus, DataError> {
    let rows = json_lines::read::<DocumentRow>(dir, DOCUMENTS, problems)?;
    let file = Arc::new(rows.file);
    let mut corpus = Corpus::default();
    let read = |(line, row): (usize, DocumentRow)| (line, row.id.clone(), content(row, pictures));
    let read: Vec<_> = rows.rows.into_par_iter().map(read).collect();
    for (line, id, document) in read {
        let place = Place { file: file.clone(), line };
        if let Ok(Document { content: Content::Table(table), .. }) = &document {
            problems.extend(irregularities(&id, table).map(|what| place.problem(what)));
        }
        if let Err(what) = document.and_then(|document| corpus.add(document, place.clone())) {
            corpus.lose(id);
            problems.push(place.problem(what));
        }
    }
    Ok(corpus)
}

fn content(row: DocumentRow, pictures: &PictureFiles) -> Result<Document, String> {
    let DocumentRow { id, title, text, table, image } = row;
    let content = match (text, table, image) {
        (Some(text), None, None) => Content::Text(text),
        (None, Some(TableRow { name, header, rows }), None) => {
            Content::Table(Table { name, header, rows })
        }
        (None, None, Some(path)) => Content::Image(pictures.find(&path, true)?),
        _ => return Err(format!("document {id} needs one of text, table and image")),
    };
    Ok(Document { id: DocumentId::new(id), title, content })
}

fn example(
    corpus: &Corpus,
    pictures: &PictureFiles,
    row: QuestionRow,
    report: &mut impl FnMut(String),
) -> Result<Example, String> {
    let of_question = |what| format!("question {}: {what}", row.id);
    let images: Result<Vec<ImageSource>, String> =
        row.images.iter().map(|path| pictures.find(path, true).map_err(of_question)).collect();
    let gold: Vec<&str> = row.gold.iter().map(String::as_str).collect();
    let candidates = row.candidates.iter().map(String::as_str);
    let Shown { candidates, gold } = corpus.shown(&row.id, candidates, &gold, report)?;
    let step = |step: super::rows::StepRow| Step {
        document: DocumentId::new(step.document),
        text: step.text,
    };
    Ok(Example {
        question: Question { id: QuestionId::new(&row.id), text: row.question, images: images? },
        candidates,
        gold: Gold {
            documents: gold,
            answers: row.answers,
            references: row.references,
            keywords: row.keywords,
        },
        kind: row.kind,
        steps: row.steps.into_iter().map(step).collect(),
    })
}
