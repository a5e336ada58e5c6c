//! The atlas as MultimodalQA's own files.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use mmrag_core::{Content, Document, DocumentId, Modality};
use rayon::prelude::*;
use serde_json::{Value, json};

use super::documents::Key;
use super::scene::Scene;
use super::world::World;
use super::{AtlasOptions, NameSplit, scene};
use crate::DataError;
use crate::multimodalqa::{IMAGES, Split};

/// How many questions of each split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Over [`NameSplit::Train`] names.
    pub train: usize,
    /// Over [`NameSplit::Dev`] names.
    pub dev: usize,
    /// Over [`NameSplit::Test`] names.
    pub test: usize,
}

impl Counts {
    pub(crate) fn splits(self) -> [(Split, NameSplit, usize); 3] {
        [
            (Split::Train, NameSplit::Train, self.train),
            (Split::Dev, NameSplit::Dev, self.dev),
            (Split::Test, NameSplit::Test, self.test),
        ]
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Questions of all splits.
    pub questions: usize,
    /// Tables of the corpus.
    pub tables: usize,
    /// Texts of the corpus.
    pub texts: usize,
    /// Pictures of the corpus.
    pub images: usize,
}

/// Writes the first questions of each split and the documents they show, in the format that
/// [`multimodalqa::load`](crate::multimodalqa::load) reads. Test lines carry answers.
///
/// The folder appears whole or not at all: it is made under the name `DIR.partial` first.
///
/// # Errors
///
/// When the folder holds something already, or a file cannot be written.
pub fn write(dir: &Path, questions: Counts, seed: u64) -> Result<Summary, DataError> {
    if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(DataError::Occupied { dir: dir.to_owned() });
    }
    let partial = beside(dir);
    if partial.exists() {
        at(&partial, fs::remove_dir_all(&partial))?;
    }
    at(&partial, fs::create_dir_all(partial.join(IMAGES)))?;
    let summary = write_into(&partial, questions, seed)?;
    if dir.exists() {
        at(dir, fs::remove_dir(dir))?;
    }
    at(dir, fs::rename(&partial, dir))?;
    Ok(summary)
}

fn write_into(dir: &Path, questions: Counts, seed: u64) -> Result<Summary, DataError> {
    let world = World { seed };
    let options = AtlasOptions::default();
    let mut corpus: BTreeMap<DocumentId, Key> = BTreeMap::new();
    let mut n_questions = 0;
    for (split, names, n) in questions.splits() {
        let scenes: Vec<Scene> = (0..n as u64)
            .into_par_iter()
            .map(|index| scene(seed, names, index, &options))
            .collect();
        for key in scenes.iter().flat_map(|scene| &scene.candidates) {
            corpus.insert(key.id(world), *key);
        }
        let path = dir.join(format!("MMQA_{}.jsonl.gz", split.as_str()));
        write_lines(&path, scenes.par_iter().map(question).collect())?;
        n_questions += n;
    }
    let (pictures, words): (Vec<Key>, Vec<Key>) =
        corpus.into_values().partition(|key| key.is_picture());
    let (tables, texts): (Vec<Key>, Vec<Key>) =
        words.into_iter().partition(|key| modality(*key) == Modality::Table);
    let rows = |keys: &[Key]| keys.par_iter().map(|key| row(&key.document(world))).collect();
    write_lines(&dir.join("MMQA_tables.jsonl.gz"), rows(&tables))?;
    write_lines(&dir.join("MMQA_texts.jsonl.gz"), rows(&texts))?;
    write_lines(&dir.join("MMQA_images.jsonl.gz"), rows(&pictures))?;
    pictures.par_iter().try_for_each(|key| write_picture(dir, &key.document(world)))?;
    Ok(Summary {
        questions: n_questions,
        tables: tables.len(),
        texts: texts.len(),
        images: pictures.len(),
    })
}

fn beside(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().map(ToOwned::to_owned).unwrap_or_default();
    name.push(".partial");
    dir.with_file_name(name)
}

fn at<T>(path: &Path, result: std::io::Result<T>) -> Result<T, DataError> {
    result.map_err(|source| DataError::File { path: path.to_owned(), source })
}

fn write_picture(dir: &Path, document: &Document) -> Result<(), DataError> {
    let Content::Image(mmrag_core::ImageSource::Bytes(bytes)) = &document.content else {
        return Ok(());
    };
    let path = dir.join(IMAGES).join(format!("{}.png", document.id));
    at(&path, fs::write(&path, bytes))
}

fn write_lines(path: &Path, rows: Vec<Value>) -> Result<(), DataError> {
    let file = at(path, fs::File::create(path))?;
    let mut out = GzEncoder::new(std::io::BufWriter::new(file), Compression::default());
    for row in rows {
        let line = serde_json::to_string(&row)
            .map_err(|source| DataError::Json { path: path.to_owned(), source })?;
        at(path, writeln!(out, "{line}"))?;
    }
    let buffer = at(path, out.finish())?;
    let file = at(path, buffer.into_inner().map_err(std::io::IntoInnerError::into_error))?;
    at(path, file.sync_all())
}

fn modality(key: Key) -> Modality {
    match key {
        Key::Text(..) => Modality::Text,
        Key::Beetles(_) | Key::Market(_) | Key::Towers(_) => Modality::Table,
        _ => Modality::Image,
    }
}

/// A question's row.
pub(crate) fn question(scene: &Scene) -> Value {
    let world = scene.world;
    let gold = &scene.draft.gold;
    let ids = |of: Modality| -> Vec<DocumentId> {
        let keys = scene.candidates.iter().filter(|key| modality(**key) == of);
        keys.map(|key| key.id(world)).collect()
    };
    let last = gold.last().map(|(key, _)| modality(*key).to_string());
    let answer = |text: &String| {
        let kind = if matches!(text.as_str(), "yes" | "no") { "yesno" } else { "string" };
        json!({"answer": text, "type": kind, "modality": last, "text_instances": [],
            "table_indices": [], "image_instances": []})
    };
    let modalities: std::collections::BTreeSet<String> =
        gold.iter().map(|(key, _)| modality(*key).to_string()).collect();
    let tables = ids(Modality::Table);
    let mut metadata = json!({
        "type": scene.kind.as_str(),
        "modalities": modalities,
        "wiki_entities_in_question": [],
        "wiki_entities_in_answers": [],
        "image_doc_ids": ids(Modality::Image),
        "text_doc_ids": ids(Modality::Text),
        "intermediate_answers": [],
    });
    if let Some(first) = tables.first() {
        metadata["table_id"] = json!(first);
    }
    let steps = gold.iter().map(|(key, text)| json!({"doc_id": key.id(world), "text": text}));
    metadata["table_ids"] = json!(tables);
    metadata["candidate_ids"] =
        scene.candidates.iter().map(|key| json!(key.id(world))).collect::<Value>();
    metadata["steps"] = steps.collect::<Value>();
    let supports = gold
        .iter()
        .map(|(key, _)| json!({"doc_id": key.id(world), "doc_part": modality(*key).to_string()}));
    json!({
        "qid": scene.id,
        "question": scene.draft.text,
        "answers": scene.draft.answers.iter().map(answer).collect::<Value>(),
        "metadata": metadata,
        "supporting_context": supports.collect::<Value>(),
    })
}

/// A document's row.
pub(crate) fn row(document: &Document) -> Value {
    let mut row = json!({"title": document.title, "url": "", "id": document.id});
    match &document.content {
        Content::Text(text) => row["text"] = json!(text),
        Content::Image(_) => row["path"] = json!(format!("{}.png", document.id)),
        Content::Table(table) => {
            let columns =
                table.header.iter().map(|name| json!({"column_name": name, "metadata": {}}));
            let cells = |row: &Vec<String>| -> Value {
                row.iter().map(|cell| json!({"text": cell, "links": []})).collect()
            };
            row["table"] = json!({
                "table_name": table.name,
                "header": columns.collect::<Value>(),
                "table_rows": table.rows.iter().map(cells).collect::<Value>(),
            });
        }
    }
    row
}
