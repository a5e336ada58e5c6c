//! Reading a split.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mmrag_core::{Document, Example, Gold, Question, QuestionId};
use sha2::{Digest as _, Sha256};

use super::corpus::{Corpus, Placed};
use super::images::Images;
use super::records::Record;
use crate::json_parts::{Fault, Parts};
use crate::{DataError, Loaded, Pool, Problem, Split, files};

const TRAIN_VAL: &str = "WebQA_train_val.json";
const TEST: &str = "WebQA_test.json";
/// Pages of the question file are given back after so many bytes.
const RELEASED: usize = 64 << 20;

/// The splits whose files a folder holds.
pub fn splits(dir: &Path) -> Vec<Split> {
    let has = |name| files::find(dir, name).is_ok();
    let mut splits = Vec::new();
    if has(TRAIN_VAL) {
        splits.extend([Split::Train, Split::Dev]);
    }
    if has(TEST) {
        splits.push(Split::Test);
    }
    splits
}

/// Reads a split's questions and the pool.
///
/// The candidates of a question stand in an order that does not tell which are gold. Of a picture
/// that is a candidate the header is read; the others are only found. An [`Example`]'s `kind` is
/// the question's category (`Qcate`); its gold answer is the first of the references.
///
/// # Errors
///
/// When a file is missing or cannot be read to its end.
pub fn load(dir: &Path, split: Split, pool: Pool) -> Result<Loaded, DataError> {
    let mut reading = Reading { split, pool, ..Reading::default() };
    let (main, other) = if split == Split::Test { (TEST, TRAIN_VAL) } else { (TRAIN_VAL, TEST) };
    reading.file(files::find(dir, main)?, main == TEST)?;
    if let (Pool::Whole, Ok(path)) = (pool, files::find(dir, other)) {
        reading.file(path, other == TEST)?;
    }
    let Reading { mut problems, corpus, questions, .. } = reading;
    let images = if corpus.has_images() { Some(Images::open(dir, &mut problems)?) } else { None };
    let placed = corpus.documents(images.as_ref(), &mut problems);
    let of = |placed: &Option<Placed>| placed.as_ref().map(|placed| placed.document.clone());
    let documents: Vec<Option<Arc<Document>>> = placed.iter().map(of).collect();
    let mut examples = Vec::with_capacity(questions.len());
    for question in questions {
        match question.example(&documents) {
            Ok(example) => examples.push(example),
            Err(problem) => problems.push(problem),
        }
    }
    let placed = placed.into_iter().flatten().map(|placed| (placed.document, placed.place));
    let (documents, places) = placed.unzip();
    Ok(Loaded { examples, documents, places, problems })
}

#[derive(Default)]
struct Reading {
    split: Split,
    pool: Pool,
    corpus: Corpus,
    questions: Vec<Asked>,
    seen: HashSet<String>,
    problems: Vec<Problem>,
}

/// A question of the split whose facts are among the documents.
struct Asked {
    file: Arc<PathBuf>,
    line: usize,
    record: Record,
    /// Places of candidates, and whether they are gold.
    candidates: Vec<(usize, bool)>,
}

impl Reading {
    fn file(&mut self, path: PathBuf, is_test: bool) -> Result<(), DataError> {
        let bytes = files::Bytes::open(&path)?;
        let path = Arc::new(path);
        let fatal = |fault: Fault| DataError::Row {
            file: path.to_path_buf(),
            line: fault.line,
            what: fault.what,
        };
        let mut parts = Parts::of(&bytes, 1).map_err(fatal)?;
        if !parts.is_object() {
            return Err(fatal(Fault {
                line: 1,
                what: "no object with a member a question".into(),
            }));
        }
        let mut released = 0;
        while let Some(part) = parts.next() {
            let part = part.map_err(fatal)?;
            let mut faults = Vec::new();
            let record = Record::of(&part, &mut |fault| faults.push(fault));
            self.problems.extend(faults.into_iter().map(|fault| problem(&path, fault)));
            match record {
                Ok(record) => self.record(record, part.line, &path, is_test),
                Err(fault) => {
                    let what = format!("question {}: {}", part.key, fault.what);
                    self.problems.push(problem(&path, Fault { what, ..fault }));
                }
            }
            if parts.position() > released + RELEASED {
                bytes.release(released..parts.position());
                released = parts.position();
            }
        }
        Ok(())
    }

    fn record(&mut self, mut record: Record, line: usize, file: &Arc<PathBuf>, is_test: bool) {
        let problems = &mut self.problems;
        let mut report = |line: usize, what: String| {
            problems.push(problem(file, Fault { line, what }));
        };
        let split = match (is_test, record.split) {
            (true, _) => Split::Test,
            (false, Some(split)) => split,
            (false, None) => {
                report(line, format!("question {} has no split; it is taken for val", record.id));
                Split::Dev
            }
        };
        let is_asked = split == self.split;
        if !is_asked && self.pool == Pool::Split {
            return;
        }
        if !self.seen.insert(record.id.clone()) {
            report(line, format!("question {} stands there twice", record.id));
            return;
        }
        let facts = std::mem::take(&mut record.facts);
        let mut candidates: Vec<(usize, bool)> = Vec::with_capacity(facts.len());
        for fact in facts {
            let (id, is_gold, fact_line) = (fact.id(), fact.is_gold, fact.line);
            let place = self.corpus.add(fact, is_asked, file, &mut report);
            match candidates.iter_mut().find(|(other, _)| *other == place) {
                Some(earlier) => {
                    earlier.1 |= is_gold;
                    report(fact_line, format!("question {} has {id} twice", record.id));
                }
                None => candidates.push((place, is_gold)),
            }
        }
        if is_asked {
            self.questions.push(Asked { file: file.clone(), line, record, candidates });
        }
    }
}

impl Asked {
    fn example(self, documents: &[Option<Arc<Document>>]) -> Result<Example, Problem> {
        let Self { file, line, record, candidates } = self;
        let lost = |(place, is_gold): &(usize, bool)| *is_gold && documents[*place].is_none();
        if record.lacks_gold || candidates.iter().any(lost) {
            let what = format!("question {} is left out: a gold fact cannot be used", record.id);
            return Err(problem(&file, Fault { line, what }));
        }
        let mut usable: Vec<(Arc<Document>, bool)> = candidates
            .into_iter()
            .filter_map(|(place, is_gold)| Some((documents[place].clone()?, is_gold)))
            .collect();
        let is_labelled = usable.iter().any(|(_, is_gold)| *is_gold);
        if is_labelled {
            // The files list what is gold first.
            usable.sort_by_cached_key(|(document, _)| {
                let mut hash = Sha256::new();
                hash.update(record.id.as_bytes());
                hash.update([0]);
                hash.update(document.id.as_str().as_bytes());
                hash.finalize()
            });
        }
        let gold = usable.iter().filter(|(_, is_gold)| *is_gold);
        let gold = Gold {
            documents: gold.map(|(document, _)| document.id.clone()).collect(),
            answers: record.answers.first().cloned().into_iter().collect(),
            references: record.answers,
            keywords: record.keywords,
        };
        Ok(Example {
            question: Question {
                id: QuestionId::new(&record.id),
                text: record.question,
                images: Vec::new(),
            },
            candidates: usable.into_iter().map(|(document, _)| document).collect(),
            gold,
            kind: record.category,
            steps: Vec::new(),
        })
    }
}

fn problem(file: &Path, Fault { line, what }: Fault) -> Problem {
    Problem { file: file.to_owned(), line, what }
}
