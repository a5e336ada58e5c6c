//! Changing a collection.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use mmrag_core::{Content, DocumentId, ImageSource};
use tantivy::directory::error::LockError;
use tantivy::{IndexWriter, TantivyError};

use super::fields::Fields;
use super::payload::{Living, Payload, digest};
use super::record::{Record, SourceFile, Stored, absolute, picture_name};
use super::{Collection, Snapshot, open_words};
use crate::error::RagError;
use crate::retriever::Retriever as _;
use crate::version::hex;
use crate::words::{analyzer, searched_text, words};

/// Bytes that each thread may hold before it writes them out.
const MEMORY_BYTES: usize = 48 << 20;
const MOST_THREADS: usize = 4;

/// The one who writes to a collection. What is not committed is lost when it is dropped.
pub struct Writer {
    pub(super) collection: Collection,
    files: IndexWriter,
    fields: Fields,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) payload: Payload,
    /// What was put or deleted since the last commit.
    changed: HashMap<DocumentId, Option<Living>>,
    /// The numbers of those that were put.
    pub(super) numbers: HashMap<DocumentId, u64>,
    sources: HashMap<String, Option<SourceFile>>,
    pub(super) leftovers: Vec<String>,
    /// Files of vectors since it began to write: their names differ.
    pub(super) vector_files: usize,
}

impl Writer {
    pub(super) fn new(collection: Collection) -> Result<Self, RagError> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        // Opened anew, it knows the files that others made since the collection was opened.
        let index = open_words(collection.place())?;
        let taken = || RagError::BeingWritten { path: collection.place().to_path_buf() };
        let files = index.writer_with_num_threads(threads, MEMORY_BYTES * threads);
        let files = files.map_err(|error| match error {
            TantivyError::LockFailure(LockError::LockBusy, _) => taken(),
            other => RagError::search("write")(other),
        })?;
        // A writer that was killed can have left its deletions under the very name that the next
        // commit gives to its own.
        files.garbage_collect_files().wait().map_err(RagError::search("tidy"))?;
        // After the lock is held nobody else commits.
        let snapshot = collection.snapshot()?;
        let writer = Self {
            files,
            fields: collection.0.fields,
            payload: snapshot.payload().clone(),
            snapshot,
            collection,
            changed: HashMap::new(),
            numbers: HashMap::new(),
            sources: HashMap::new(),
            leftovers: Vec::new(),
            vector_files: 0,
        };
        writer.remove_strays();
        Ok(writer)
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
            self.files.delete_term(self.fields.document_key(&id));
        }
        self.files
            .add_document(self.fields.document(&stored.record, &json, number))
            .map_err(RagError::search("write"))?;
        let living = Living { digest, words: n_words, picture };
        self.payload.add(&living);
        self.forget(before);
        self.numbers.insert(id.clone(), number);
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
        self.files.delete_term(self.fields.document_key(id));
        self.forget(Some(before));
        self.numbers.remove(id);
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
            self.files.delete_term(self.fields.source_key(&source.name));
        }
        for record in records {
            changed += usize::from(self.put(record)?);
        }
        self.add_source(source)?;
        Ok(changed)
    }

    /// Records of a file that was read that it looks another way, with the same contents.
    ///
    /// # Errors
    ///
    /// When the files cannot be written.
    pub fn touch_source(&mut self, source: SourceFile) -> Result<(), RagError> {
        self.files.delete_term(self.fields.source_key(&source.name));
        self.add_source(source)
    }

    fn add_source(&mut self, source: SourceFile) -> Result<(), RagError> {
        let json = serde_json::to_string(&source)
            .map_err(|source| RagError::Json { what: "a file's record", source })?;
        self.files
            .add_document(self.fields.source(&source, &json))
            .map_err(RagError::search("write"))?;
        self.sources.insert(source.name.clone(), Some(source));
        Ok(())
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
        self.files.delete_term(self.fields.source_key(name));
        self.sources.insert(name.to_owned(), None);
        Ok(deleted)
    }

    /// Makes everything since the last commit lasting and seen, all at once. Gives the version of
    /// the collection.
    ///
    /// # Errors
    ///
    /// When the files cannot be written. Then nothing is seen of it.
    pub fn commit(&mut self) -> Result<String, RagError> {
        let old = std::mem::take(&mut self.leftovers);
        let removable = std::mem::replace(&mut self.payload.leftovers, old);
        self.payload.commit += 1;
        let text = self.payload.text()?;
        let mut prepared = self.files.prepare_commit().map_err(RagError::search("write"))?;
        prepared.set_payload(&text);
        prepared.commit().map_err(RagError::search("write"))?;
        self.changed.clear();
        self.numbers.clear();
        self.sources.clear();
        for name in removable {
            // What cannot be removed does no harm where it is.
            let _ = std::fs::remove_file(self.collection.place().join(name));
        }
        self.snapshot = self.collection.snapshot()?;
        Ok(self.snapshot.version())
    }

    /// Waits until the files that are being put together are, so that they are few.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub fn finish(self) -> Result<(), RagError> {
        self.files.wait_merging_threads().map_err(RagError::search("write"))
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
        let path = self.collection.place().join(&name);
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
