//! A collection on disk: documents with their origins, searched by their words, that is added to,
//! changed and deleted from while it is read.
//!
//! ```text
//! Writer ─put, delete, commit─► files ─snapshot─► Snapshot ─retrieve─► hits
//! ```
//!
//! A folder holds `collection.json` (what it is), `words/` (the search engine's files, the documents
//! among them), `pictures/` (those that were given as bytes) and `vectors/` (of the documents that have
//! been embedded). A commit swaps one file, so a
//! reader sees all of it or nothing, and a writer that is killed leaves the last commit. One writer
//! at a time, in whatever process; readers are never held up.
//!
//! What a question gets depends on the documents alone, not on the order or the commits they came
//! in: scores are the plain formula over the living documents, and equal scores come in an order
//! that is made from the ids.

mod embed;
mod fields;
mod lanes;
mod listing;
mod payload;
mod record;
mod search;
mod snapshot;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use serde::{Deserialize, Serialize};
use tantivy::directory::MmapDirectory;
use tantivy::{IndexReader, ReloadPolicy};

use crate::error::RagError;
use fields::{Fields, register};
use payload::Payload;

pub use embed::Embedded;
pub use lanes::{Embedder, LaneInfo, LaneSearch};
pub use payload::{Approximate, Lane};
pub use record::{Fingerprint, Record, SourceFile};
pub use snapshot::Snapshot;
pub use writer::Writer;

const ABOUT: &str = "collection.json";
const WORDS: &str = "words";
const PICTURES: &str = "pictures";
const VECTORS: &str = "vectors";
/// Rises when the files change their meaning.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    format: u32,
}

/// A collection in a folder. Many threads may share one, and copies are the same collection.
#[derive(Clone)]
pub struct Collection(Arc<Inner>);

struct Inner {
    place: PathBuf,
    index: tantivy::Index,
    reader: IndexReader,
    fields: Fields,
    latest: RwLock<Arc<Snapshot>>,
}

impl Collection {
    /// Whether the folder holds a collection, of whatever format.
    pub fn is_at(place: &Path) -> bool {
        place.join(ABOUT).is_file()
    }

    /// Opens the collection in a folder, and makes an empty one where there is none.
    ///
    /// # Errors
    ///
    /// When the folder holds something else, or a collection of another format, or cannot be
    /// written.
    pub fn open_or_create(place: &Path) -> Result<Self, RagError> {
        if !Self::is_at(place) {
            create(place)?;
        }
        Self::open(place)
    }

    /// Opens the collection in a folder.
    ///
    /// # Errors
    ///
    /// When the folder holds none, or one of another format, or one that is damaged.
    pub fn open(place: &Path) -> Result<Self, RagError> {
        check_format(place)?;
        let index = open_words(place)?;
        let fields = Fields::of(&index.schema())?;
        let reader = index
            .reader_builder()
            .reload_policy(ReloadPolicy::Manual)
            .try_into()
            .map_err(RagError::search("open"))?;
        let snapshot = Snapshot::take(place, &index, &reader, fields)?;
        let latest = RwLock::new(Arc::new(snapshot));
        let place = place.to_path_buf();
        Ok(Self(Arc::new(Inner { place, index, reader, fields, latest })))
    }

    /// The folder.
    pub fn place(&self) -> &Path {
        &self.0.place
    }

    /// The collection as of the last commit, whoever made it. It stays as it is while others
    /// write, so one question sees one state.
    ///
    /// # Errors
    ///
    /// When the files cannot be read.
    pub fn snapshot(&self) -> Result<Arc<Snapshot>, RagError> {
        let Inner { place, index, reader, fields, latest: held } = &*self.0;
        let commit = Payload::read(index)?.commit;
        let latest = Arc::clone(&held.read().expect("no holder of the lock panics"));
        if latest.commit() == commit {
            return Ok(latest);
        }
        let mut latest = held.write().expect("no holder of the lock panics");
        let fresh = Snapshot::take(place, index, reader, *fields)?;
        *latest = Arc::new(fresh);
        Ok(Arc::clone(&latest))
    }

    /// Starts to write. What is put and deleted is seen by nobody before it is committed.
    ///
    /// # Errors
    ///
    /// [`RagError::BeingWritten`] when somebody else writes, in this or another process.
    pub fn writer(&self) -> Result<Writer, RagError> {
        Writer::new(self.clone())
    }
}

fn open_words(place: &Path) -> Result<tantivy::Index, RagError> {
    let mut index =
        tantivy::Index::open_in_dir(place.join(WORDS)).map_err(RagError::search("open"))?;
    register(&mut index);
    Ok(index)
}

fn check_format(place: &Path) -> Result<(), RagError> {
    let not_an_index = |reason: String| RagError::NotAnIndex { path: place.to_path_buf(), reason };
    let path = place.join(ABOUT);
    if !path.is_file() {
        return Err(not_an_index(format!("it has no {ABOUT}")));
    }
    let text = std::fs::read_to_string(&path).map_err(RagError::io("read", &path))?;
    let about: About = serde_json::from_str(&text).map_err(|source| RagError::Line {
        path,
        line: source.line(),
        source,
    })?;
    if about.format == FORMAT {
        return Ok(());
    }
    Err(not_an_index(format!("its format is {}, not {FORMAT}: make it again", about.format)))
}

/// Makes an empty collection. `collection.json` comes last: without it there is none.
fn create(place: &Path) -> Result<(), RagError> {
    let words = place.join(WORDS);
    let is_empty =
        |folder: &Path| std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    if place.exists() && !is_empty(place) && !words.is_dir() {
        let reason = "it is there already and is no index".to_owned();
        return Err(RagError::NotAnIndex { path: place.to_path_buf(), reason });
    }
    std::fs::create_dir_all(&words).map_err(RagError::io("make", &words))?;
    let directory = MmapDirectory::open(&words).map_err(RagError::search("make"))?;
    tantivy::Index::builder()
        .schema(Fields::schema())
        .open_or_create(directory)
        .map_err(RagError::search("make"))?;
    let about = serde_json::to_string(&About { format: FORMAT })
        .map_err(|source| RagError::Json { what: "the collection", source })?;
    let (path, draft) = (place.join(ABOUT), place.join(format!("{ABOUT}.draft")));
    std::fs::write(&draft, about + "\n").map_err(RagError::io("write", &draft))?;
    std::fs::rename(&draft, &path).map_err(RagError::io("write", &path))
}
