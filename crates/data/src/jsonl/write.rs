//! Writing any data set in the canonical form.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use mmrag_core::{Content, Document, DocumentId, Example, ImageSource};
use serde::Serialize;

use super::load::{DOCUMENTS, questions_file};
use super::rows::{DocumentRow, QuestionRow, StepRow, TableRow};
use crate::pictures::{picture_bytes, picture_format};
use crate::{DataError, Format, Pool, Problem, Split};

const IMAGES: &str = "images";

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Questions of all splits.
    pub questions: usize,
    /// Distinct documents.
    pub documents: usize,
    /// Pictures, of documents and of questions.
    pub images: usize,
    /// What of the original was left out, by file and line.
    pub problems: Vec<Problem>,
}

/// What is converted, and where to.
#[derive(Clone, Copy, Debug)]
pub struct Conversion<'a> {
    /// The form of the original.
    pub format: Format,
    /// Its folder.
    pub from: &'a Path,
    /// The folder to write, new or empty.
    pub to: &'a Path,
    /// Which documents are written: those of the splits' questions, or all.
    pub pool: Pool,
    /// Whether anything wrong in the original is an error.
    pub strict: bool,
}

/// Writes splits of a data set in the canonical form. Pictures become files of their own, in their
/// encoding. `progress` is told how many documents of how many are written.
///
/// The folder appears whole or not at all: it is made under the name `DIR.partial` first.
///
/// # Errors
///
/// When a file cannot be read or written, or the folder holds something already; where it is
/// strict, when anything in the original is wrong.
pub fn convert(
    conversion: &Conversion<'_>,
    splits: &[Split],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Written, DataError> {
    let dir = conversion.to;
    if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(DataError::Occupied { dir: dir.to_owned() });
    }
    let partial = partial(dir);
    if partial.exists() {
        at(&partial, fs::remove_dir_all(&partial))?;
    }
    at(&partial, fs::create_dir_all(partial.join(IMAGES)))?;
    let mut writer = Writer {
        documents: Lines::create(partial.join(DOCUMENTS))?,
        pictures: Pictures { dir: partial.clone(), names: HashMap::new(), taken: HashSet::new() },
        seen: HashSet::new(),
        written: Written::default(),
    };
    for split in splits {
        writer.split(conversion, *split, &partial, progress)?;
    }
    let mut written = writer.finish()?;
    written.problems.sort();
    written.problems.dedup();
    if dir.exists() {
        at(dir, fs::remove_dir(dir))?;
    }
    at(dir, fs::rename(&partial, dir))?;
    Ok(written)
}

fn partial(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().map(ToOwned::to_owned).unwrap_or_default();
    name.push(".partial");
    dir.with_file_name(name)
}

fn at<T>(path: &Path, result: std::io::Result<T>) -> Result<T, DataError> {
    result.map_err(|source| DataError::File { path: path.to_owned(), source })
}

struct Writer {
    documents: Lines,
    pictures: Pictures,
    seen: HashSet<DocumentId>,
    written: Written,
}

impl Writer {
    fn split(
        &mut self,
        conversion: &Conversion<'_>,
        split: Split,
        dir: &Path,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<(), DataError> {
        let Conversion { format, from, pool, strict, .. } = *conversion;
        let loaded = format.load(from, split, pool)?;
        let loaded = if strict { loaded.strict()? } else { loaded };
        let mut lost = BTreeSet::new();
        for (i, (document, place)) in loaded.documents.iter().zip(&loaded.places).enumerate() {
            progress(i + 1, loaded.documents.len());
            if self.seen.contains(&document.id) {
                continue;
            }
            match self.document(document)? {
                Ok(()) => drop(self.seen.insert(document.id.clone())),
                Err(what) => {
                    lost.insert(document.id.clone());
                    self.written.problems.push(place.problem(what));
                }
            }
        }
        let mut questions = Lines::create(dir.join(questions_file(split)))?;
        for example in &loaded.examples {
            if example.gold.documents.iter().any(|id| lost.contains(id)) {
                continue;
            }
            questions.row(&self.question(example, &lost)?)?;
            self.written.questions += 1;
        }
        questions.finish()?;
        self.written.problems.extend(loaded.problems);
        Ok(())
    }

    fn document(&mut self, document: &Document) -> Result<Result<(), String>, DataError> {
        let mut row = DocumentRow {
            id: document.id.as_str().to_owned(),
            title: document.title.clone(),
            ..DocumentRow::default()
        };
        match &document.content {
            Content::Text(text) => row.text = Some(text.clone()),
            Content::Table(table) => {
                let (name, header, rows) =
                    (table.name.clone(), table.header.clone(), table.rows.clone());
                row.table = Some(TableRow { name, header, rows });
            }
            Content::Image(source) => match self.pictures.write(source, &row.id)? {
                Ok(path) => row.image = Some(path),
                Err(what) => return Ok(Err(what)),
            },
        }
        self.documents.row(&row)?;
        self.written.documents += 1;
        Ok(Ok(()))
    }

    /// The row of a question.
    fn question(
        &mut self,
        example: &Example,
        lost: &BTreeSet<DocumentId>,
    ) -> Result<QuestionRow, DataError> {
        let question = &example.question;
        let mut images = Vec::new();
        for source in &question.images {
            let written = self.pictures.write(source, question.id.as_str())?;
            images.push(written.map_err(|what| DataError::File {
                path: self.pictures.dir.join(IMAGES),
                source: std::io::Error::other(format!("question {}: {what}", question.id)),
            })?);
        }
        let candidates = example.candidates.iter().map(|document| &document.id);
        let ids = |id: &DocumentId| id.as_str().to_owned();
        Ok(QuestionRow {
            id: question.id.as_str().to_owned(),
            question: question.text.clone(),
            images,
            candidates: candidates.filter(|id| !lost.contains(*id)).map(ids).collect(),
            gold: example.gold.documents.iter().map(ids).collect(),
            answers: example.gold.answers.clone(),
            references: example.gold.references.clone(),
            keywords: example.gold.keywords.clone(),
            kind: example.kind.clone(),
            steps: example
                .steps
                .iter()
                .map(|step| StepRow { document: ids(&step.document), text: step.text.clone() })
                .collect(),
        })
    }

    fn finish(mut self) -> Result<Written, DataError> {
        self.written.images = self.pictures.names.len();
        self.documents.finish()?;
        Ok(self.written)
    }
}

/// Pictures as files, each once, named by what it belongs to.
struct Pictures {
    dir: PathBuf,
    names: HashMap<ImageSource, String>,
    taken: HashSet<String>,
}

impl Pictures {
    /// Writes a picture and gives its path in the folder; in words what is wrong if it cannot be
    /// read.
    fn write(
        &mut self,
        source: &ImageSource,
        owner: &str,
    ) -> Result<Result<String, String>, DataError> {
        if let Some(name) = self.names.get(source) {
            return Ok(Ok(name.clone()));
        }
        let bytes = match picture_bytes(source) {
            Ok(bytes) => bytes,
            Err(what) => return Ok(Err(what)),
        };
        let Some(format) = picture_format(&bytes) else {
            return Ok(Err(format!("the picture of {owner} is of no kind that can be read")));
        };
        let extension = format.extensions_str().first().copied().unwrap_or("bin");
        let path = self.free_name(owner, extension);
        let file = self.dir.join(&path);
        at(&file, fs::write(&file, &bytes))?;
        self.names.insert(source.clone(), path.clone());
        Ok(Ok(path))
    }

    fn free_name(&mut self, owner: &str, extension: &str) -> String {
        let safe = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
        let stem: String = owner.chars().take(100).map(safe).collect();
        let names = (1_u64..).map(|n| match n {
            1 => format!("{IMAGES}/{stem}.{extension}"),
            _ => format!("{IMAGES}/{stem}-{n}.{extension}"),
        });
        // Some file systems take names that differ in case for one.
        let mut free = names.filter(|name| !self.taken.contains(&name.to_lowercase()));
        let name = free.next().expect("there are more numbers than pictures");
        self.taken.insert(name.to_lowercase());
        name
    }
}

/// A file of JSON Lines that is being written.
struct Lines {
    path: PathBuf,
    out: BufWriter<fs::File>,
}

impl Lines {
    fn create(path: PathBuf) -> Result<Self, DataError> {
        let out = BufWriter::new(at(&path, fs::File::create(&path))?);
        Ok(Self { path, out })
    }

    fn row(&mut self, row: &impl Serialize) -> Result<(), DataError> {
        let line = serde_json::to_string(row)
            .map_err(|source| DataError::Json { path: self.path.clone(), source })?;
        at(&self.path, writeln!(self.out, "{line}"))
    }

    fn finish(self) -> Result<(), DataError> {
        let Self { path, out } = self;
        let file = at(&path, out.into_inner().map_err(std::io::IntoInnerError::into_error))?;
        at(&path, file.sync_all())
    }
}
