//! MultimodalQA's files into words.
//!
//! A folder holds `MMQA_{train,dev,test}.jsonl`, `MMQA_tables.jsonl`, `MMQA_texts.jsonl` and
//! `MMQA_images.jsonl`, each plain or with `.gz`, and the pictures in `final_dataset_images/`, or in
//! `final_dataset_images.zip` or `images.zip`, which stay packed.
//! Outside input never panics: what is wrong with a row is a [`Problem`] that names file and line,
//! and the row is left out.
//!
//! Three keys of `metadata` are this project's own, all optional: `candidate_ids` (all candidates
//! in their order), `table_ids` (where a question has several tables), and `steps` (worked
//! reasoning).

mod gold;
mod records;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use mmrag_core::{Content, Document, DocumentId, Example, Gold, Question, QuestionId};
use rayon::prelude::*;

use crate::corpus::{Corpus, Shown};
use crate::picture_files::PictureFiles;
use crate::tables::irregularities;
use crate::{DataError, Place, files, json_lines};
pub use crate::{Loaded, Problem, Split};
pub use gold::{GoldFile, GoldRow, gold};
use records::{ImageRow, QuestionRow, TableRow, TextRow};

/// The folder of the pictures, within the data set's.
pub const IMAGES: &str = "final_dataset_images";

/// The splits whose files a folder holds.
pub fn splits(dir: &Path) -> Vec<Split> {
    let has = |split: &Split| files::find(dir, &questions_file(*split)).is_ok();
    Split::ALL.into_iter().filter(has).collect()
}

fn questions_file(split: Split) -> String {
    format!("MMQA_{}.jsonl", split.as_str())
}

/// Reads a split's questions and the corpus.
///
/// A picture that is a candidate is opened as far as its header. A question whose supporting
/// document is missing or broken is left out; another missing candidate is left out of its
/// question. Both are problems.
///
/// # Errors
///
/// When a file is missing or cannot be read to its end.
pub fn load(dir: &Path, split: Split) -> Result<Loaded, DataError> {
    let mut problems = Vec::new();
    let questions = json_lines::read::<QuestionRow>(dir, &questions_file(split), &mut problems)?;
    let mut corpus = Corpus::default();
    read_texts(&mut corpus, dir, &mut problems)?;
    let shown: HashSet<&str> =
        questions.rows.iter().flat_map(|(_, row)| row.metadata.candidates()).collect();
    read_images(&mut corpus, dir, &shown, &mut problems)?;
    let mut examples = Vec::with_capacity(questions.rows.len());
    let mut seen = HashSet::new();
    for (line, row) in &questions.rows {
        let mut report = |what: String| {
            problems.push(Problem { file: questions.file.clone(), line: *line, what });
        };
        if !seen.insert(row.qid.as_str()) {
            report(format!("question {} stands in an earlier line too", row.qid));
            continue;
        }
        match example(&corpus, row, &mut report) {
            Ok(example) => examples.push(example),
            Err(what) => report(what),
        }
    }
    Ok(Loaded { examples, documents: corpus.documents, places: corpus.named, problems })
}

fn read_texts(
    corpus: &mut Corpus,
    dir: &Path,
    problems: &mut Vec<Problem>,
) -> Result<(), DataError> {
    let tables = json_lines::read::<TableRow>(dir, "MMQA_tables.jsonl", problems)?;
    let file = Arc::new(tables.file);
    for (line, row) in tables.rows {
        let place = Place { file: file.clone(), line };
        let document = row.into_document();
        if let Content::Table(table) = &document.content {
            let odd = irregularities(document.id.as_str(), table);
            problems.extend(odd.map(|what| place.problem(what)));
        }
        if let Err(what) = corpus.add(document, place.clone()) {
            problems.push(place.problem(what));
        }
    }
    let texts = json_lines::read::<TextRow>(dir, "MMQA_texts.jsonl", problems)?;
    let file = Arc::new(texts.file);
    for (line, row) in texts.rows {
        let place = Place { file: file.clone(), line };
        if let Err(what) = corpus.add(row.into_document(), place.clone()) {
            problems.push(place.problem(what));
        }
    }
    Ok(())
}

fn read_images(
    corpus: &mut Corpus,
    dir: &Path,
    shown: &HashSet<&str>,
    problems: &mut Vec<Problem>,
) -> Result<(), DataError> {
    let images = json_lines::read::<ImageRow>(dir, "MMQA_images.jsonl", problems)?;
    let pictures = PictureFiles::open(dir, IMAGES)?;
    let find = |(line, row): (usize, ImageRow)| {
        let found = pictures.find(&row.path, shown.contains(row.id.as_str()));
        (line, row, found)
    };
    let found: Vec<_> = images.rows.into_par_iter().map(find).collect();
    let file = Arc::new(images.file);
    for (line, row, found) in found {
        let place = Place { file: file.clone(), line };
        let added = found.and_then(|source| {
            let id = DocumentId::new(&row.id);
            let content = Content::Image(source);
            corpus.add(Document { id, title: row.title, content }, place.clone())
        });
        if let Err(what) = added {
            corpus.lose(row.id);
            problems.push(place.problem(what));
        }
    }
    Ok(())
}

fn example(
    corpus: &Corpus,
    row: &QuestionRow,
    report: &mut impl FnMut(String),
) -> Result<Example, String> {
    let answers = row.answers()?;
    let gold: Vec<&str> = row.supporting_context.iter().map(|s| s.doc_id.as_str()).collect();
    let Shown { candidates, gold } =
        corpus.shown(&row.qid, row.metadata.candidates(), &gold, report)?;
    Ok(Example {
        question: Question {
            id: QuestionId::new(&row.qid),
            text: row.question.clone(),
            images: Vec::new(),
        },
        candidates,
        gold: Gold { documents: gold, answers, ..Gold::default() },
        kind: row.metadata.kind.clone(),
        steps: row.metadata.steps(),
    })
}
