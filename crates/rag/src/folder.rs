//! The files of an index folder, beside tantivy's own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mmrag_core::{Content, Document, ImageSource};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::RagError;
use crate::version::hex;

/// Name of the folder that holds tantivy's files.
pub(crate) const WORDS: &str = "bm25";
const ABOUT: &str = "index.json";
const DOCUMENTS: &str = "documents.jsonl";
const PICTURES: &str = "pictures";
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    format: u32,
    version: String,
    documents: usize,
}

/// A folder in the making. Dropped before [`Making::finish`], it is removed.
pub(crate) struct Making {
    target: PathBuf,
    temporary: PathBuf,
    old: PathBuf,
}

/// Starts a folder that is to stand at `target`.
pub(crate) fn begin(target: &Path) -> Result<Making, RagError> {
    if target.exists() && !target.join(ABOUT).is_file() && !is_empty(target) {
        let reason = "it is there already and is no index".to_owned();
        return Err(RagError::NotAnIndex { path: target.to_path_buf(), reason });
    }
    let Some(name) = target.file_name().and_then(|name| name.to_str()) else {
        let reason = "the path does not end in a name".to_owned();
        return Err(RagError::NotAnIndex { path: target.to_path_buf(), reason });
    };
    let parent = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let beside = |what: &str| parent.join(format!(".{name}.{what}-{}", std::process::id()));
    let folder =
        Making { target: target.to_path_buf(), temporary: beside("making"), old: beside("old") };
    fs::create_dir_all(&folder.temporary).map_err(RagError::io("make", &folder.temporary))?;
    Ok(folder)
}

impl Making {
    pub(crate) fn path(&self) -> &Path {
        &self.temporary
    }

    /// Moves the folder to its place. What was there stays until the new one is whole.
    pub(crate) fn finish(self) -> Result<(), RagError> {
        if self.target.exists() {
            fs::rename(&self.target, &self.old)
                .map_err(RagError::io("move aside", &self.target))?;
        }
        fs::rename(&self.temporary, &self.target)
            .map_err(RagError::io("move into place", &self.temporary))?;
        if self.old.exists() {
            fs::remove_dir_all(&self.old).map_err(RagError::io("remove", &self.old))?;
        }
        Ok(())
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        // Nothing better can be done about a leftover than to leave it.
        let _ = fs::remove_dir_all(&self.temporary);
        if self.old.exists() && !self.target.exists() {
            let _ = fs::rename(&self.old, &self.target);
        }
    }
}

/// Writes the documents and what the folder is.
pub(crate) fn write(
    folder: &Path,
    version: &str,
    documents: &[Arc<Document>],
) -> Result<(), RagError> {
    let path = folder.join(DOCUMENTS);
    let failed = || RagError::io("write", &path);
    let mut lines = BufWriter::new(File::create(&path).map_err(failed())?);
    let mut pictures = BTreeMap::new();
    for document in documents {
        let stored = stored(document, &mut pictures);
        let line = serde_json::to_string(&stored)
            .map_err(|source| RagError::Json { what: "a document", source })?;
        writeln!(lines, "{line}").map_err(failed())?;
    }
    lines
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)
        .and_then(|f| f.sync_all())
        .map_err(failed())?;
    write_pictures(&folder.join(PICTURES), pictures)?;
    let about = About { format: FORMAT, version: version.to_owned(), documents: documents.len() };
    let text = serde_json::to_string_pretty(&about)
        .map_err(|source| RagError::Json { what: "the index", source })?;
    let path = folder.join(ABOUT);
    fs::write(&path, text + "\n").map_err(RagError::io("write", &path))
}

/// Reads the collection's version and its documents.
pub(crate) fn read(folder: &Path) -> Result<(String, Vec<Arc<Document>>), RagError> {
    let not_an_index = |reason: String| RagError::NotAnIndex { path: folder.to_path_buf(), reason };
    let path = folder.join(ABOUT);
    if !path.is_file() {
        return Err(not_an_index(format!("it has no {ABOUT}")));
    }
    let text = fs::read_to_string(&path).map_err(RagError::io("read", &path))?;
    let about: About = serde_json::from_str(&text).map_err(|source| RagError::Line {
        path,
        line: source.line(),
        source,
    })?;
    if about.format != FORMAT {
        return Err(not_an_index(format!("its format is {}, not {FORMAT}", about.format)));
    }
    let documents = read_documents(folder)?;
    if documents.len() != about.documents {
        let found = documents.len();
        return Err(not_an_index(format!("it has {found} documents, not {}", about.documents)));
    }
    Ok((about.version, documents))
}

fn read_documents(folder: &Path) -> Result<Vec<Arc<Document>>, RagError> {
    let path = folder.join(DOCUMENTS);
    let lines = BufReader::new(File::open(&path).map_err(RagError::io("read", &path))?).lines();
    let mut documents = Vec::new();
    for (i, line) in lines.enumerate() {
        let line = line.map_err(RagError::io("read", &path))?;
        let mut document: Document = serde_json::from_str(&line)
            .map_err(|source| RagError::Line { path: path.clone(), line: i + 1, source })?;
        if let Content::Image(ImageSource::Path(picture)) = &mut document.content
            && picture.starts_with(PICTURES)
        {
            *picture = folder.join(&picture);
        }
        documents.push(Arc::new(document));
    }
    Ok(documents)
}

/// The document as it is written: bytes of a picture go to a file named by their hash, and paths
/// are made absolute so that they hold wherever the index is opened from.
fn stored(document: &Document, pictures: &mut BTreeMap<String, Arc<[u8]>>) -> Document {
    let mut stored = document.clone();
    if let Content::Image(source) = &mut stored.content {
        let path = match source {
            ImageSource::Bytes(bytes) => {
                let name = hex(&Sha256::digest(&*bytes), 16);
                pictures.insert(name.clone(), Arc::clone(bytes));
                Path::new(PICTURES).join(name)
            }
            ImageSource::Path(path) => absolute(path),
            ImageSource::Packed(packed) => {
                packed.file = absolute(&packed.file);
                return stored;
            }
        };
        *source = ImageSource::Path(path);
    }
    stored
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn write_pictures(folder: &Path, pictures: BTreeMap<String, Arc<[u8]>>) -> Result<(), RagError> {
    if pictures.is_empty() {
        return Ok(());
    }
    fs::create_dir(folder).map_err(RagError::io("make", folder))?;
    for (name, bytes) in pictures {
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(RagError::io("write", &path))?;
    }
    Ok(())
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}
