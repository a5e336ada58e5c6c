//! A collection in a folder.

use std::path::Path;
use std::sync::{Arc, Mutex};

use mmrag_core::{Document, DocumentId, Origin, Question};
use mmrag_rag::{Collection, Hit, RagError, Record, Retriever, Writer};

use super::Store;

/// A collection that `mmrag index` makes too. What is added is on disk when the call returns.
pub(crate) struct DiskStore {
    collection: Collection,
    one_writer: Mutex<()>,
}

impl DiskStore {
    /// Opens the collection in a folder, or makes an empty one.
    ///
    /// # Errors
    ///
    /// When the folder holds something else, or cannot be written.
    pub(crate) fn open_or_create(place: &Path) -> Result<Self, RagError> {
        let collection = Collection::open_or_create(place)?;
        Ok(Self { collection, one_writer: Mutex::default() })
    }

    fn change<R>(
        &self,
        change: impl FnOnce(&mut Writer) -> Result<R, RagError>,
    ) -> Result<R, RagError> {
        let _turn = self.one_writer.lock().expect("no thread panics while it holds the lock");
        let mut writer = self.collection.writer()?;
        let result = change(&mut writer)?;
        writer.commit()?;
        writer.finish()?;
        Ok(result)
    }
}

impl Retriever for DiskStore {
    fn retrieve(&self, question: &Question, k: usize) -> Result<Vec<Hit>, RagError> {
        self.collection.snapshot()?.retrieve(question, k)
    }

    fn version(&self) -> String {
        // What cannot be read has no version; the search that follows says why.
        self.collection.snapshot().map(|snapshot| snapshot.version()).unwrap_or_default()
    }
}

impl Store for DiskStore {
    fn add(&self, documents: Vec<Document>) -> Result<(), RagError> {
        self.change(|writer| {
            documents.into_iter().try_for_each(|d| writer.put(Record::new(d)).map(|_| ()))
        })
    }

    fn remove(&self, id: &DocumentId) -> Result<bool, RagError> {
        self.change(|writer| writer.delete(id))
    }

    fn document(&self, id: &DocumentId) -> Result<Option<Arc<Document>>, RagError> {
        let found = self.collection.snapshot()?.get(id)?;
        Ok(found.map(|record| Arc::new(record.document)))
    }

    fn list(&self, from: usize, most: usize) -> Result<Vec<Arc<Document>>, RagError> {
        let records = self.collection.snapshot()?.list(from, most)?;
        Ok(records.into_iter().map(|record| Arc::new(record.document)).collect())
    }

    fn origin(&self, id: &DocumentId) -> Result<Option<Origin>, RagError> {
        Ok(self.collection.snapshot()?.get(id)?.and_then(|record| record.origin))
    }

    fn len(&self) -> usize {
        self.collection.snapshot().map_or(0, |snapshot| snapshot.len())
    }

    fn is_kept(&self) -> bool {
        true
    }
}
