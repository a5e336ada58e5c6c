//! The folder of feedback: what was said, and examples in the canonical form made of it.
//!
//! ```text
//! feedback/opinions.jsonl                       what was said, a line each, only ever added to
//! feedback/{filter,rank}/documents.jsonl        the documents, each once
//! feedback/{filter,rank}/train.jsonl            the questions, written anew with each opinion
//! feedback/{filter,rank}/images/                their pictures
//! ```

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use mmrag_core::{Content, Document, ImageSource};
use mmrag_data::picture_bytes;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::examples::{Kept, examples};

use crate::hexadecimal::hexadecimal;

const SETS: [&str; 2] = ["filter", "rank"];

/// A folder that is written to by one at a time.
pub(super) struct Folder {
    place: PathBuf,
    opinions: Vec<Kept>,
    documents: HashSet<String>,
}

impl Folder {
    /// Reads what is there.
    pub(super) fn open(place: PathBuf) -> anyhow::Result<Self> {
        let opinions = lines(&place.join("opinions.jsonl"))?
            .into_iter()
            .filter_map(|line| serde_json::from_value(line).ok())
            .collect();
        let documents = lines(&place.join(SETS[0]).join("documents.jsonl"))?
            .iter()
            .filter_map(|line| line["id"].as_str().map(str::to_owned))
            .collect();
        Ok(Self { place, opinions, documents })
    }

    /// Writes a picture of a question into both sets; its path within them.
    pub(super) fn picture(&self, source: &ImageSource) -> anyhow::Result<String> {
        let bytes = picture_bytes(source).map_err(anyhow::Error::msg)?;
        let digest = Sha256::digest(&bytes);
        let name = hexadecimal(&digest[..16]);
        let ending = image::guess_format(&bytes)
            .ok()
            .and_then(|format| format.extensions_str().first().copied())
            .unwrap_or("bin");
        let within = format!("images/{name}.{ending}");
        for set in SETS {
            let path = self.place.join(set).join(&within);
            if !path.exists() {
                let folder = path.parent().expect("a picture lies in a folder");
                std::fs::create_dir_all(folder)?;
                std::fs::write(&path, &bytes)
                    .with_context(|| format!("failed to write {}", path.display()))?;
            }
        }
        Ok(within)
    }

    /// Writes documents that are not there yet, under ids of their own.
    pub(super) fn documents<'d>(
        &mut self,
        documents: impl Iterator<Item = (String, &'d Document)>,
    ) -> anyhow::Result<()> {
        for (id, document) in documents {
            if self.documents.contains(&id) {
                continue;
            }
            let mut row = json!({ "id": id, "title": document.title });
            match &document.content {
                Content::Text(text) => row["text"] = json!(text),
                Content::Table(table) => row["table"] = json!(table),
                Content::Image(source) => row["image"] = json!(self.picture(source)?),
            }
            for set in SETS {
                append(&self.place.join(set).join("documents.jsonl"), &row)?;
            }
            self.documents.insert(id);
        }
        Ok(())
    }

    /// Keeps an opinion, and makes the examples anew.
    pub(super) fn keep(&mut self, opinion: Kept) -> anyhow::Result<&Path> {
        append(&self.place.join("opinions.jsonl"), &json!(opinion))?;
        self.opinions.push(opinion);
        let made = examples(&self.opinions);
        for (set, rows) in SETS.iter().zip([made.filter, made.rank]) {
            let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
            let text = if lines.is_empty() { String::new() } else { lines.join("\n") + "\n" };
            crate::output::file(&self.place.join(set).join("train.jsonl"), &text)?;
        }
        Ok(&self.place)
    }
}

/// The lines of a file, none if it is not there; what a killed server left of one is no line.
fn lines(path: &Path) -> anyhow::Result<Vec<Value>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("failed to read {}", path.display())),
    }
}

fn append(path: &Path, row: &Value) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(path.parent().expect("a file lies in a folder"))?;
        let mut file: File = OpenOptions::new().create(true).append(true).open(path)?;
        file.write_all(format!("{row}\n").as_bytes())?;
        file.sync_data()
    };
    write().with_context(|| format!("failed to write {}", path.display()))
}
