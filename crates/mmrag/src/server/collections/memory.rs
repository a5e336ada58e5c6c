//! A collection in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use mmrag_core::{Document, DocumentId, Question};
use mmrag_rag::{Hit, Index, RagError, Record, Retriever};

use super::{NotEmbedded, Store};

/// Documents and their index, gone when the server stops.
pub(crate) struct MemoryStore {
    held: RwLock<Held>,
}

struct Held {
    documents: BTreeMap<DocumentId, Arc<Document>>,
    index: Arc<Index>,
}

const UNPOISONED: &str = "no thread panics while it holds the lock";

impl MemoryStore {
    /// A collection of these documents.
    ///
    /// # Errors
    ///
    /// When two have the same id.
    pub(crate) fn new(documents: Vec<Arc<Document>>) -> Result<Self, RagError> {
        let index = Arc::new(Index::in_memory(documents.clone())?);
        let documents = documents.into_iter().map(|d| (d.id.clone(), d)).collect();
        Ok(Self { held: RwLock::new(Held { documents, index }) })
    }

    fn index(&self) -> Arc<Index> {
        Arc::clone(&self.held.read().expect(UNPOISONED).index)
    }

    fn change<R>(
        &self,
        change: impl FnOnce(&mut BTreeMap<DocumentId, Arc<Document>>) -> R,
    ) -> Result<R, RagError> {
        let mut held = self.held.write().expect(UNPOISONED);
        let mut documents = held.documents.clone();
        let result = change(&mut documents);
        held.index = Arc::new(Index::in_memory(documents.values().cloned().collect())?);
        held.documents = documents;
        Ok(result)
    }
}

impl Retriever for MemoryStore {
    fn retrieve(&self, question: &Question, k: usize) -> Result<Vec<Hit>, RagError> {
        self.index().retrieve(question, k)
    }

    fn version(&self) -> String {
        self.index().version()
    }
}

impl Store for MemoryStore {
    fn add(&self, documents: Vec<Document>) -> Result<Vec<NotEmbedded>, RagError> {
        let documents = documents.into_iter().map(|d| (d.id.clone(), Arc::new(d)));
        self.change(|held| held.extend(documents)).map(|()| Vec::new())
    }

    fn add_file(
        &self,
        name: &str,
        records: Vec<Record>,
        _: &dyn Fn(usize),
    ) -> Result<Vec<NotEmbedded>, RagError> {
        let beginning = format!("{name}#");
        self.change(|held| {
            held.retain(|id, _| !id.as_str().starts_with(&beginning));
            let documents = records.into_iter().map(|record| record.document);
            held.extend(documents.map(|d| (d.id.clone(), Arc::new(d))));
            Vec::new()
        })
    }

    fn remove(&self, id: &DocumentId) -> Result<bool, RagError> {
        self.change(|held| held.remove(id).is_some())
    }

    fn document(&self, id: &DocumentId) -> Result<Option<Arc<Document>>, RagError> {
        Ok(self.held.read().expect(UNPOISONED).documents.get(id).cloned())
    }

    fn list(&self, from: usize, most: usize) -> Result<Vec<Arc<Document>>, RagError> {
        let held = self.held.read().expect(UNPOISONED);
        Ok(held.documents.values().skip(from).take(most).cloned().collect())
    }

    fn len(&self) -> usize {
        self.held.read().expect(UNPOISONED).documents.len()
    }

    fn is_kept(&self) -> bool {
        false
    }
}
