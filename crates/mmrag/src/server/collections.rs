//! Collections by name.

mod disk;
mod embedders;
mod memory;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Extension, State};
use mmrag_core::{Document, DocumentId, Origin, Question};
use mmrag_rag::{Hit, RagError, Record, Retriever};
use serde_json::{Value, json};

use super::access::Access;
use super::body::Json;
use super::error::ApiError;
use super::state::Shared;
use crate::embedding::Loaded;

pub(crate) use disk::DiskStore;
pub(crate) use embedders::Embedders;
pub(crate) use memory::MemoryStore;

/// A document that has no vector, and why.
pub(crate) type NotEmbedded = (DocumentId, String);

/// A collection that documents can be added to and taken from while questions are answered from it.
pub(crate) trait Store: Retriever {
    /// Adds documents, with vectors where there is an embedder; one with the id of another takes
    /// its place. Tells those that could not be embedded.
    fn add(&self, documents: Vec<Document>) -> Result<Vec<NotEmbedded>, RagError>;

    /// Puts the documents of a file in the place of those that were in the file of this name before.
    /// Tells how many an embedder has looked at.
    fn add_file(
        &self,
        name: &str,
        records: Vec<Record>,
        embedded: &dyn Fn(usize),
    ) -> Result<Vec<NotEmbedded>, RagError>;

    /// Takes a document out; whether it was there.
    fn remove(&self, id: &DocumentId) -> Result<bool, RagError>;

    /// The document of an id.
    fn document(&self, id: &DocumentId) -> Result<Option<Arc<Document>>, RagError>;

    /// At most `most` documents from the one at `from` on.
    fn list(&self, from: usize, most: usize) -> Result<Vec<Arc<Document>>, RagError>;

    /// At most `most` documents that share a word with a question, best first.
    fn with_words(&self, question: &Question, most: usize) -> Result<Vec<Hit>, RagError> {
        self.retrieve(question, most)
    }

    /// What new documents get vectors by, and questions where there are vectors.
    fn embedders(&self) -> Result<Vec<Arc<Loaded>>, RagError> {
        Ok(Vec::new())
    }

    /// Where a document was read, if that is known.
    fn origin(&self, _id: &DocumentId) -> Result<Option<Origin>, RagError> {
        Ok(None)
    }

    /// How many documents there are.
    fn len(&self) -> usize;

    /// Whether documents are still there after the server stops.
    fn is_kept(&self) -> bool;
}

/// All collections.
pub(crate) struct Collections {
    by_name: BTreeMap<String, Arc<dyn Store>>,
    default: String,
}

impl Collections {
    /// Collections by their names; the first is taken where none is named.
    pub(crate) fn new(stores: Vec<(String, Arc<dyn Store>)>) -> Self {
        let default = stores.first().map(|(name, _)| name.clone()).unwrap_or_default();
        Self { by_name: stores.into_iter().collect(), default }
    }

    /// The named collection, or the default one, with its name.
    ///
    /// # Errors
    ///
    /// When there is none that is open to the asker. A closed one looks like one that is not there.
    pub(crate) fn find(
        &self,
        access: &Access,
        name: Option<&str>,
    ) -> Result<(String, Arc<dyn Store>), ApiError> {
        let name = match name {
            Some(name) => name,
            None => self.default_for(access).ok_or_else(|| {
                ApiError::field("documents", "there is no collection to ask: send `documents`")
            })?,
        };
        match self.by_name.get(name).filter(|_| access.opens(name)) {
            Some(store) => Ok((name.to_owned(), Arc::clone(store))),
            None => Err(ApiError::missing(format!("there is no collection {name}"))),
        }
    }

    fn default_for(&self, access: &Access) -> Option<&str> {
        let open = || self.by_name.keys().map(String::as_str).find(|name| access.opens(name));
        if access.opens(&self.default) && self.by_name.contains_key(&self.default) {
            return Some(&self.default);
        }
        open()
    }

    /// Names and collections open to the asker, the default first.
    pub(crate) fn open<'a>(
        &'a self,
        access: &'a Access,
    ) -> impl Iterator<Item = (&'a str, &'a Arc<dyn Store>)> {
        let all = self.by_name.iter().map(|(name, store)| (name.as_str(), store));
        let (first, rest): (Vec<_>, Vec<_>) =
            all.filter(|(name, _)| access.opens(name)).partition(|(name, _)| *name == self.default);
        first.into_iter().chain(rest)
    }

    /// All names with their numbers of documents.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = (&str, usize)> {
        self.by_name.iter().map(|(name, store)| (name.as_str(), store.len()))
    }
}

/// `GET /v1/collections`.
pub(crate) async fn list(
    State(app): State<Shared>,
    Extension(access): Extension<Access>,
) -> Json<Value> {
    let rows: Vec<Value> = app
        .collections
        .open(&access)
        .map(|(name, store)| {
            let embedders = store.embedders().unwrap_or_default();
            let lanes: Vec<Value> = embedders
                .iter()
                .map(
                    |loaded| json!({ "of": loaded.info().lane, "embedder": loaded.info().version }),
                )
                .collect();
            json!({
                "object": "collection",
                "id": name,
                "documents": store.len(),
                "version": store.version(),
                "kept": store.is_kept(),
                "vectors": lanes,
            })
        })
        .collect();
    Json(json!({ "object": "list", "data": rows }))
}
