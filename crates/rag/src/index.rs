//! A word index over documents in memory. [`Collection`](crate::Collection) is the one on disk.
//!
//! It has one segment whose documents stand in the order in which they were given: equal scores
//! then come in that order, on every machine.

use std::collections::HashSet;
use std::sync::Arc;

use mmrag_core::{Document, DocumentId, Question};
use tantivy::collector::TopDocs;
use tantivy::directory::RamDirectory;
use tantivy::query::{BooleanQuery, Occur, Query, TermQuery};
use tantivy::schema::{Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::{IndexReader, TantivyDocument, Term};

use crate::error::RagError;
use crate::retriever::{Hit, Retriever, hits};
use crate::version::contents_version;
use crate::words::{analyzer, distinct_words, searched_text};

const ANALYZER: &str = "words";
/// Bytes the index may take while it is made, before it is written out.
const BUILD_MEMORY_BYTES: usize = 64 << 20;

/// A collection with its word index.
pub struct Index {
    documents: Vec<Arc<Document>>,
    version: String,
    reader: IndexReader,
    field: Field,
}

impl Index {
    /// Indexes documents in memory.
    ///
    /// # Errors
    ///
    /// When two documents have the same id.
    pub fn in_memory(documents: Vec<Arc<Document>>) -> Result<Self, RagError> {
        check_ids(&documents)?;
        let version = contents_version(&documents);
        let search = write_words(&documents)?;
        Self::over(documents, version, &search)
    }

    /// The documents, in the order they were given.
    pub fn documents(&self) -> &[Arc<Document>] {
        &self.documents
    }

    /// The document of this id.
    pub fn document(&self, id: &DocumentId) -> Option<&Arc<Document>> {
        self.documents.iter().find(|document| document.id == *id)
    }

    fn over(
        documents: Vec<Arc<Document>>,
        version: String,
        search: &tantivy::Index,
    ) -> Result<Self, RagError> {
        let field = search.schema().get_field(ANALYZER).map_err(RagError::search("open"))?;
        let reader = search.reader().map_err(RagError::search("open"))?;
        Ok(Self { documents, version, reader, field })
    }

    fn query(&self, text: &str) -> BooleanQuery {
        let terms = distinct_words(&mut analyzer(), text).into_iter().map(|word| {
            let term = Term::from_field_text(self.field, &word);
            let query: Box<dyn Query> =
                Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs));
            (Occur::Should, query)
        });
        BooleanQuery::new(terms.collect())
    }
}

impl Retriever for Index {
    /// Documents that share at least one word with the question.
    fn retrieve(&self, question: &Question, k: usize) -> Result<Vec<Hit>, RagError> {
        if k == 0 {
            return Ok(Vec::new());
        }
        let found = self
            .reader
            .searcher()
            .search(&self.query(&question.text), &TopDocs::with_limit(k).order_by_score())
            .map_err(RagError::search("search"))?;
        let ranked = found.into_iter().map(|(score, address)| {
            let document = &self.documents[address.doc_id as usize];
            (document, f64::from(score))
        });
        Ok(hits(ranked))
    }

    fn version(&self) -> String {
        self.version.clone()
    }
}

fn check_ids(documents: &[Arc<Document>]) -> Result<(), RagError> {
    let mut seen = HashSet::new();
    match documents.iter().find(|document| !seen.insert(&document.id)) {
        Some(twice) => Err(RagError::DuplicateDocument { id: twice.id.clone() }),
        None => Ok(()),
    }
}

fn write_words(documents: &[Arc<Document>]) -> Result<tantivy::Index, RagError> {
    let mut schema = Schema::builder();
    let indexing = TextFieldIndexing::default()
        .set_tokenizer(ANALYZER)
        .set_index_option(IndexRecordOption::WithFreqs);
    let field =
        schema.add_text_field(ANALYZER, TextOptions::default().set_indexing_options(indexing));
    let tokenizers = tantivy::tokenizer::TokenizerManager::default();
    tokenizers.register(ANALYZER, analyzer());
    let mut writer = tantivy::Index::builder()
        .schema(schema.build())
        .tokenizers(tokenizers)
        .single_segment_index_writer(RamDirectory::create(), BUILD_MEMORY_BYTES)
        .map_err(RagError::search("make"))?;
    for document in documents {
        let mut words = TantivyDocument::default();
        words.add_text(field, searched_text(document));
        writer.add_document(words).map_err(RagError::search("write"))?;
    }
    let mut search = writer.finalize().map_err(RagError::search("write"))?;
    register(&mut search);
    Ok(search)
}

fn register(search: &mut tantivy::Index) {
    search.tokenizers().register(ANALYZER, analyzer());
}
