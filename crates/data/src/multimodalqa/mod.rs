//! MultimodalQA's files into words.
//!
//! A folder holds `MMQA_{train,dev,test}.jsonl`, `MMQA_tables.jsonl`, `MMQA_texts.jsonl` and
//! `MMQA_images.jsonl`, each plain or with `.gz`, and the pictures in `final_dataset_images/`.
//! Outside input never panics: what is wrong with a row is a [`Problem`] that names file and line,
//! and the row is left out.
//!
//! Three keys of `metadata` are this project's own, all optional: `candidate_ids` (all candidates
//! in their order), `table_ids` (where a question has several tables), and `steps` (worked
//! reasoning).

mod gold;
mod lines;
mod records;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mmrag_core::{Content, Document, DocumentId, Example, Gold, ImageSource, Question, QuestionId};
use rayon::prelude::*;

use crate::DataError;
pub use gold::{GoldFile, GoldRow, gold};
use records::{ImageRow, QuestionRow, TableRow, TextRow};

/// The folder of the pictures, within the data set's.
pub const IMAGES: &str = "final_dataset_images";

/// A part of the data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// To learn from.
    Train,
    /// To choose by.
    Dev,
    /// To report. The original's test lines carry no answers; the atlas's do.
    Test,
}

impl Split {
    /// The split's name in file names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Dev => "dev",
            Self::Test => "test",
        }
    }

    /// The split of a name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Train, Self::Dev, Self::Test].into_iter().find(|split| split.as_str() == name)
    }
}

/// A row that was left out, or of which something was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}: {}", self.file.display(), self.line, self.what)
    }
}

/// What a folder holds.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The questions of the split, in the file's order. A question without answers in the file
    /// has an empty [`Gold`].
    pub examples: Vec<Example>,
    /// The whole corpus: tables, texts, images, in the files' order. Pictures that no question of
    /// the split has as a candidate are listed unopened.
    pub documents: Vec<Arc<Document>>,
    /// What was left out, by file and line.
    pub problems: Vec<Problem>,
}

impl Loaded {
    /// Takes the first problem for an error.
    ///
    /// # Errors
    ///
    /// When there is a problem.
    pub fn strict(self) -> Result<Self, DataError> {
        match self.problems.first() {
            None => Ok(self),
            Some(Problem { file, line, what }) => {
                Err(DataError::Row { file: file.clone(), line: *line, what: what.clone() })
            }
        }
    }
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
    let questions =
        lines::read::<QuestionRow>(dir, &format!("MMQA_{}.jsonl", split.as_str()), &mut problems)?;
    let mut corpus = Corpus::default();
    corpus.read_texts(dir, &mut problems)?;
    let shown: HashSet<&str> =
        questions.rows.iter().flat_map(|(_, row)| row.metadata.candidates()).collect();
    corpus.read_images(dir, &shown, &mut problems)?;
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
        match corpus.example(row, &mut report) {
            Ok(example) => examples.push(example),
            Err(what) => report(what),
        }
    }
    Ok(Loaded { examples, documents: corpus.documents, problems })
}

/// The documents, and where each id is among them.
#[derive(Default)]
struct Corpus {
    documents: Vec<Arc<Document>>,
    places: HashMap<DocumentId, usize>,
    /// Pictures that were left out and told of.
    broken: HashSet<String>,
}

impl Corpus {
    fn add(&mut self, document: Document) -> Result<(), String> {
        if self.places.contains_key(&document.id) {
            return Err(format!("document {} stands in an earlier line too", document.id));
        }
        self.places.insert(document.id.clone(), self.documents.len());
        self.documents.push(Arc::new(document));
        Ok(())
    }

    fn read_texts(&mut self, dir: &Path, problems: &mut Vec<Problem>) -> Result<(), DataError> {
        let tables = lines::read::<TableRow>(dir, "MMQA_tables.jsonl", problems)?;
        for (line, row) in tables.rows {
            if let Err(what) = self.add(row.into_document()) {
                problems.push(Problem { file: tables.file.clone(), line, what });
            }
        }
        let texts = lines::read::<TextRow>(dir, "MMQA_texts.jsonl", problems)?;
        for (line, row) in texts.rows {
            if let Err(what) = self.add(row.into_document()) {
                problems.push(Problem { file: texts.file.clone(), line, what });
            }
        }
        Ok(())
    }

    fn read_images(
        &mut self,
        dir: &Path,
        shown: &HashSet<&str>,
        problems: &mut Vec<Problem>,
    ) -> Result<(), DataError> {
        let images = lines::read::<ImageRow>(dir, "MMQA_images.jsonl", problems)?;
        let check = |(line, row): (usize, ImageRow)| {
            let checked = image_path(dir, &row, shown.contains(row.id.as_str()));
            (line, row, checked)
        };
        let checked: Vec<_> = images.rows.into_par_iter().map(check).collect();
        for (line, row, checked) in checked {
            let id = row.id.clone();
            let added = checked.and_then(|path| {
                let content = Content::Image(ImageSource::Path(path));
                self.add(Document { id: DocumentId::new(&row.id), title: row.title, content })
            });
            if let Err(what) = added {
                self.broken.insert(id);
                problems.push(Problem { file: images.file.clone(), line, what });
            }
        }
        Ok(())
    }

    fn find(&self, id: &str) -> Option<&Arc<Document>> {
        self.places.get(&DocumentId::new(id)).map(|&place| &self.documents[place])
    }

    fn example(
        &self,
        row: &QuestionRow,
        report: &mut impl FnMut(String),
    ) -> Result<Example, String> {
        let answers = row.answers()?;
        let mut gold: Vec<DocumentId> = Vec::new();
        let mut candidates: Vec<Arc<Document>> = Vec::new();
        let mut shown = HashSet::new();
        for id in row.metadata.candidates() {
            match self.find(id) {
                Some(document) if shown.insert(id) => candidates.push(document.clone()),
                Some(_) => {}
                None if row.supports(id) || self.broken.contains(id) => {}
                None => report(format!("candidate {id} of question {} is missing", row.qid)),
            }
        }
        for id in row.supporting_context.iter().map(|support| support.doc_id.as_str()) {
            let document = self.find(id).ok_or_else(|| {
                format!("supporting document {id} of question {} is missing", row.qid)
            })?;
            if shown.insert(id) {
                candidates.push(document.clone());
            }
            if !gold.contains(&document.id) {
                gold.push(document.id.clone());
            }
        }
        Ok(Example {
            question: Question {
                id: QuestionId::new(&row.qid),
                text: row.question.clone(),
                images: Vec::new(),
            },
            candidates,
            gold: Gold { documents: gold, answers },
            kind: row.metadata.kind.clone(),
            steps: row.metadata.steps(),
        })
    }
}

/// The path of a row's picture, if it is a file within the folder and, where it is to be shown,
/// one whose header decodes.
fn image_path(dir: &Path, row: &ImageRow, open: bool) -> Result<PathBuf, String> {
    let inside = Path::new(&row.path)
        .components()
        .all(|component| matches!(component, std::path::Component::Normal(_)));
    if !inside || row.path.is_empty() {
        return Err(format!("picture path {:?} leads out of the folder", row.path));
    }
    let path = dir.join(IMAGES).join(&row.path);
    if !path.is_file() {
        return Err(format!("picture {} is missing", path.display()));
    }
    if open {
        image::ImageReader::open(&path)
            .and_then(image::ImageReader::with_guessed_format)
            .map_err(|error| format!("picture {} cannot be opened: {error}", path.display()))?
            .into_dimensions()
            .map_err(|error| format!("picture {} is broken: {error}", path.display()))?;
    }
    Ok(path)
}
