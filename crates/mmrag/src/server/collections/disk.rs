//! A collection in a folder.

use std::sync::{Arc, Mutex};

use mmrag_core::{Document, DocumentId, Origin, Question};
use mmrag_rag::{
    Collection, Fingerprint, Fused, Hit, RagError, Record, Retriever, Snapshot, SourceFile, Writer,
};

use super::{Embedders, NotEmbedded, Store};
use crate::embedding::Loaded;

/// Documents that are embedded together.
const TOGETHER: usize = 64;

/// A collection that `mmrag index` makes too. What is added is on disk when the call returns.
pub(crate) struct DiskStore {
    collection: Collection,
    embedders: Arc<Embedders>,
    one_writer: Mutex<()>,
}

impl DiskStore {
    /// Serves a collection.
    pub(crate) fn new(collection: Collection, embedders: Arc<Embedders>) -> Self {
        Self { collection, embedders, one_writer: Mutex::default() }
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

    fn embed_put(
        &self,
        writer: &mut Writer,
        documents: &[Document],
        embedded: &dyn Fn(usize),
    ) -> Result<Vec<NotEmbedded>, RagError> {
        let mut failures = Vec::new();
        for loaded in self.embedders.for_new(&*self.collection.snapshot()?) {
            let mut looked_at = 0;
            for documents in documents.chunks(TOGETHER) {
                match writer.embed_put(&loaded.embedder(), documents) {
                    Ok(embedded) => failures.extend(embedded.failures),
                    // Then none has a vector, and all can be found by their words.
                    Err(RagError::Embedding { source }) => {
                        let why = |document: &Document| (document.id.clone(), source.to_string());
                        failures.extend(documents.iter().map(why));
                    }
                    Err(other) => return Err(other),
                }
                looked_at += documents.len();
                embedded(looked_at);
            }
        }
        Ok(failures)
    }
}

/// What finds documents of one state: by words, and by vectors where there are any.
fn fused(snapshot: Arc<Snapshot>, loaded: &[Arc<Loaded>]) -> Fused<'_> {
    let engines = loaded.iter().map(|loaded| (loaded.info().lane, loaded.engine())).collect();
    Fused { snapshot, engines }
}

impl Retriever for DiskStore {
    fn retrieve(&self, question: &Question, k: usize) -> Result<Vec<Hit>, RagError> {
        let snapshot = self.collection.snapshot()?;
        let loaded = self.embedders.of(&snapshot);
        fused(snapshot, &loaded).retrieve(question, k)
    }

    fn version(&self) -> String {
        // What cannot be read has no version; the search that follows says why.
        self.collection.snapshot().map(|snapshot| snapshot.version()).unwrap_or_default()
    }
}

impl Store for DiskStore {
    fn add(&self, documents: Vec<Document>) -> Result<Vec<NotEmbedded>, RagError> {
        self.change(|writer| {
            for document in &documents {
                writer.put(Record::new(document.clone()))?;
            }
            self.embed_put(writer, &documents, &|_| ())
        })
    }

    fn add_file(
        &self,
        name: &str,
        records: Vec<Record>,
        embedded: &dyn Fn(usize),
    ) -> Result<Vec<NotEmbedded>, RagError> {
        let documents: Vec<Document> =
            records.iter().map(|record| record.document.clone()).collect();
        let source = SourceFile {
            name: format!("upload:{name}"),
            fingerprint: Fingerprint::default(),
            documents: Vec::new(),
            uses: Vec::new(),
            failure: None,
        };
        self.change(|writer| {
            writer.put_source(source, records)?;
            self.embed_put(writer, &documents, embedded)
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

    fn with_words(&self, question: &Question, most: usize) -> Result<Vec<Hit>, RagError> {
        self.collection.snapshot()?.retrieve(question, most)
    }

    fn origin(&self, id: &DocumentId) -> Result<Option<Origin>, RagError> {
        Ok(self.collection.snapshot()?.get(id)?.and_then(|record| record.origin))
    }

    fn embedders(&self) -> Result<Vec<Arc<Loaded>>, RagError> {
        Ok(self.embedders.for_new(&*self.collection.snapshot()?))
    }

    fn len(&self) -> usize {
        self.collection.snapshot().map_or(0, |snapshot| snapshot.len())
    }

    fn is_kept(&self) -> bool {
        true
    }
}
