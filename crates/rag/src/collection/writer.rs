//! Changing a collection.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mmrag_core::{Content, DocumentId, ImageSource};
use tantivy::directory::error::LockError;
use tantivy::{IndexWriter, TantivyError};

use super::Snapshot;
use super::fields::Fields;
use super::payload::{Living, Payload, digest};
use super::record::{Record, SourceFile, Stored, absolute, picture_name};
use crate::error::RagError;
use crate::version::hex;
use crate::words::{analyzer, searched_text, words};

/// Bytes that each thread may hold before it writes them out.
const MEMORY_BYTES: usize = 48 << 20;
const MOST_THREADS: usize = 4;

/// The one who writes to a collection. What is not committed is lost when it is dropped.
pub struct Writer {
    folder: PathBuf,
    writer: IndexWriter,
    fields: Fields,
    snapshot: Arc<Snapshot>,
    payload: Payload,
    /// What was put or deleted since the last commit.
    changed: HashMap<DocumentId, Option<Living>>,
    sources: HashMap<String, Option<SourceFile>>,
    leftovers: Vec<String>,
}

impl Writer {
    pub(super) fn new(
        folder: &Path,
        index: &tantivy::Index,
        fields: Fields,
        snapshot: Arc<Snapshot>,
    ) -> Result<Self, RagError> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        let budget = MEMORY_BYTES * threads;
        let writer =
            index.writer_with_num_threads(threads, budget).map_err(|error| match error {
                TantivyError::LockFailure(LockError::LockBusy, _) => {
                    RagError::BeingWritten { path: folder.to_path_buf() }
                }
                other => RagError::search("write")(other),
            })?;
        // Another writer may have committed between the snapshot and the lock.
        let payload = Payload::read(index)?;
        if payload.commit != snapshot.commit() {
            return Err(RagError::BeingWritten { path: folder.to_path_buf() });
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            writer,
            fields,
            snapshot,
            payload,
            changed: HashMap::new(),
            sources: HashMap::new(),
            leftovers: Vec::new(),
        })
    }

    /// Adds a document, or puts it in the place of the one with its id. Says whether that changes
    /// anything. A picture given as bytes is copied in; one given by path stays where it is.
    ///
    /// # Errors
    ///
    /// When the files cannot be written.
    pub fn put(&mut self, mut record: Record) -> Result<bool, RagError> {
        let id = record.document.id.clone();
        if let Content::Image(ImageSource::Path(path)) = &mut record.document.content {
            *path = absolute(path);
        }
        let digest = digest(&record)?;
        let before = self.living(&id)?;
        if before.as_ref().is_some_and(|before| before.is(&digest)) {
            return Ok(false);
        }
        let number = self.payload.next;
        self.payload.next += 1;
        let picture = self.store_picture(&mut record, number)?;
        let text = searched_text(&record.document);
        let n_words = words(&mut analyzer(), &text).len() as u64;
        let stored = Stored { record, digest: hex(&digest, 32), words: n_words };
        let json = serde_json::to_string(&stored)
            .map_err(|source| RagError::Json { what: "a document", source })?;
        if before.is_some() {
            self.writer.delete_term(self.fields.document_key(&id));
        }
        self.writer
            .add_document(self.fields.document(&stored.record, &json, number))
            .map_err(RagError::search("write"))?;
        let living = Living { digest, words: n_words, picture };
        self.payload.add(&living);
        self.forget(before);
        self.changed.insert(id, Some(living));
        Ok(true)
    }

    /// Deletes the document of this id. Says whether there was one.
    ///
    /// # Errors
    ///
    /// When the files cannot be read.
    pub fn delete(&mut self, id: &DocumentId) -> Result<bool, RagError> {
        let Some(before) = self.living(id)? else { return Ok(false) };
        self.writer.delete_term(self.fields.document_key(id));
        self.forget(Some(before));
        self.changed.insert(id.clone(), None);
        Ok(true)
    }

    /// Records that a file was read, with all the documents read from it. Those that were read from
    /// it before and are not among them are deleted. Says how many documents that changes.
    ///
    /// # Errors
    ///
    /// When the files cannot be written.
    pub fn put_source(
        &mut self,
        mut source: SourceFile,
        records: Vec<Record>,
    ) -> Result<usize, RagError> {
        source.documents = records.iter().map(|record| record.document.id.clone()).collect();
        let mut changed = 0;
        if let Some(before) = self.source(&source.name)? {
            for id in before.documents.iter().filter(|id| !source.documents.contains(id)) {
                changed += usize::from(self.delete(id)?);
            }
            self.writer.delete_term(self.fields.source_key(&source.name));
        }
        for record in records {
            changed += usize::from(self.put(record)?);
        }
        let json = serde_json::to_string(&source)
            .map_err(|source| RagError::Json { what: "a file's record", source })?;
        self.writer
            .add_document(self.fields.source(&source, &json))
            .map_err(RagError::search("write"))?;
        self.sources.insert(source.name.clone(), Some(source));
        Ok(changed)
    }

    /// Deletes all documents that were read from a file, and that it was read. Says how many they
    /// are.
    ///
    /// # Errors
    ///
    /// When the files cannot be read.
    pub fn delete_source(&mut self, name: &str) -> Result<usize, RagError> {
        let Some(before) = self.source(name)? else { return Ok(0) };
        let mut deleted = 0;
        for id in &before.documents {
            deleted += usize::from(self.delete(id)?);
        }
        self.writer.delete_term(self.fields.source_key(name));
        self.sources.insert(name.to_owned(), None);
        Ok(deleted)
    }

    /// Makes everything since the last commit lasting and seen, all at once. Gives the version of
    /// the collection.
    ///
    /// # Errors
    ///
    /// When the files cannot be written. Then nothing is seen of it.
    pub fn commit(&mut self, collection: &super::Collection) -> Result<String, RagError> {
        let old = std::mem::take(&mut self.leftovers);
        let removable = std::mem::replace(&mut self.payload.leftovers, old);
        self.payload.commit += 1;
        let text = self.payload.text()?;
        let mut prepared = self.writer.prepare_commit().map_err(RagError::search("write"))?;
        prepared.set_payload(&text);
        prepared.commit().map_err(RagError::search("write"))?;
        self.changed.clear();
        self.sources.clear();
        for name in removable {
            // What cannot be removed does no harm where it is.
            let _ = std::fs::remove_file(self.folder.join(name));
        }
        self.snapshot = collection.snapshot()?;
        Ok(self.payload.version())
    }

    /// Waits until the files that are being put together are, so that they are few.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub fn finish(self) -> Result<(), RagError> {
        self.writer.wait_merging_threads().map_err(RagError::search("write"))
    }

    /// The file of this name, with what is not committed yet.
    ///
    /// # Errors
    ///
    /// When the files cannot be read.
    pub fn source(&self, name: &str) -> Result<Option<SourceFile>, RagError> {
        match self.sources.get(name) {
            Some(pending) => Ok(pending.clone()),
            None => self.snapshot.source(name),
        }
    }

    fn living(&self, id: &DocumentId) -> Result<Option<Living>, RagError> {
        match self.changed.get(id) {
            Some(pending) => Ok(pending.clone()),
            None => self.snapshot.living(id),
        }
    }

    fn forget(&mut self, before: Option<Living>) {
        let Some(before) = before else { return };
        self.payload.remove(&before);
        self.leftovers.extend(before.picture);
    }

    /// Puts a picture that came as bytes into the folder.
    fn store_picture(&self, record: &mut Record, number: u64) -> Result<Option<String>, RagError> {
        let Content::Image(source) = &mut record.document.content else { return Ok(None) };
        let ImageSource::Bytes(bytes) = source else { return Ok(None) };
        let name = picture_name(number);
        let path = self.folder.join(&name);
        let parent = path.parent().expect("the name has a folder");
        std::fs::create_dir_all(parent).map_err(RagError::io("make", parent))?;
        let write = || -> std::io::Result<()> {
            let mut file = std::fs::File::create(&path)?;
            std::io::Write::write_all(&mut file, bytes)?;
            file.sync_data()
        };
        write().map_err(RagError::io("write", &path))?;
        *source = ImageSource::Path(PathBuf::from(&name));
        Ok(Some(name))
    }
}
