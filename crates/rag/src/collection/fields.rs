//! What the search engine keeps of a document, and of a file that was read.

use mmrag_core::DocumentId;
use sha2::{Digest, Sha256};
use tantivy::schema::{
    FAST, Field, INDEXED, IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing, TextOptions,
};
use tantivy::{TantivyDocument, Term};

use super::record::{Record, SourceFile};
use crate::error::RagError;
use crate::words::{analyzer, searched_text};

const ANALYZER: &str = "words";

/// The name of the field that decides between equal scores.
pub(super) const PLACE: &str = "place";

/// The fields, by their numbers.
#[derive(Clone, Copy)]
pub(super) struct Fields {
    /// What a thing is found by alone: `d` and the id of a document, `s` and the name of a file.
    pub(super) key: Field,
    /// The words of a document.
    pub(super) words: Field,
    /// The thing itself as JSON.
    pub(super) stored: Field,
    /// Of a document: made from its id, to order by where scores are equal.
    pub(super) place: Field,
    /// Of a document: how manieth it was that was ever put. The row of its vectors.
    pub(super) number: Field,
}

impl Fields {
    pub(super) fn schema() -> Schema {
        let mut schema = Schema::builder();
        let indexing = TextFieldIndexing::default()
            .set_tokenizer(ANALYZER)
            .set_index_option(IndexRecordOption::WithFreqs);
        schema.add_text_field("key", STRING);
        schema.add_text_field(ANALYZER, TextOptions::default().set_indexing_options(indexing));
        schema.add_text_field("stored", STORED);
        schema.add_u64_field(PLACE, FAST);
        schema.add_u64_field("number", FAST | INDEXED);
        schema.build()
    }

    pub(super) fn of(schema: &Schema) -> Result<Self, RagError> {
        let field = |name| schema.get_field(name).map_err(RagError::search("open"));
        Ok(Self {
            key: field("key")?,
            words: field(ANALYZER)?,
            stored: field("stored")?,
            place: field(PLACE)?,
            number: field("number")?,
        })
    }

    pub(super) fn document_key(self, id: &DocumentId) -> Term {
        Term::from_field_text(self.key, &format!("d{id}"))
    }

    pub(super) fn source_key(self, name: &str) -> Term {
        Term::from_field_text(self.key, &format!("s{name}"))
    }

    pub(super) fn document(self, record: &Record, json: &str, number: u64) -> TantivyDocument {
        let mut document = TantivyDocument::default();
        document.add_text(self.key, format!("d{}", record.document.id));
        document.add_text(self.words, searched_text(&record.document));
        document.add_text(self.stored, json);
        document.add_u64(self.place, place(&record.document.id));
        document.add_u64(self.number, number);
        document
    }

    pub(super) fn source(self, source: &SourceFile, json: &str) -> TantivyDocument {
        let mut document = TantivyDocument::default();
        document.add_text(self.key, format!("s{}", source.name));
        document.add_text(self.stored, json);
        document
    }
}

/// Where a document stands among those of equal score.
pub(super) fn place(id: &DocumentId) -> u64 {
    let digest = Sha256::digest(id.as_str());
    u64::from_be_bytes(digest[..8].try_into().expect("a SHA-256 has 32 bytes"))
}

/// Makes the words known by which texts are cut.
pub(super) fn register(index: &mut tantivy::Index) {
    index.tokenizers().register(ANALYZER, analyzer());
}
