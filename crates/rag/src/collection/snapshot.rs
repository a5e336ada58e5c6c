//! One state of a collection, to read from.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use mmrag_core::{DocumentId, Question};
use tantivy::collector::TopDocs;
use tantivy::query::TermQuery;
use tantivy::schema::{IndexRecordOption, Value as _};
use tantivy::{DocAddress, DocSet as _, IndexReader, Searcher, TERMINATED, TantivyDocument, Term};

use super::fields::{Fields, place};
use super::lanes::Lanes;
use super::payload::{Living, Payload};
use super::record::{Record, SourceFile, Stored, given_out, own_picture};
use super::search::{self, Counts};
use crate::error::RagError;
use crate::retriever::{Hit, Retriever, Source, SourceRank};
use crate::version::unhex;
use crate::words::{analyzer, searched_text, words};

/// How often a state is read again because another process committed meanwhile.
const RETRIES: usize = 16;

/// A collection as of one commit. What is committed later does not change it.
pub struct Snapshot {
    folder: PathBuf,
    searcher: Searcher,
    fields: Fields,
    payload: Payload,
    /// The documents in the order in which they were put, with their numbers; found when first
    /// asked for.
    order: OnceLock<Vec<(u64, DocAddress)>>,
    pub(super) lanes: Lanes,
    version: String,
}

impl Snapshot {
    pub(super) fn take(
        folder: &Path,
        index: &tantivy::Index,
        reader: &IndexReader,
        fields: Fields,
    ) -> Result<Self, RagError> {
        let (payload, lanes) = state(folder, index, reader)?;
        let (folder, searcher) = (folder.to_path_buf(), reader.searcher());
        let (order, version) = (OnceLock::new(), String::new());
        let mut snapshot = Self { folder, searcher, fields, payload, order, lanes, version };
        snapshot.version =
            snapshot.payload.version(&snapshot.embedded()?, &snapshot.lanes.digests());
        Ok(snapshot)
    }

    /// How many documents there are.
    pub fn len(&self) -> usize {
        self.payload.documents as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.payload.documents == 0
    }

    /// How many commits there were before this state.
    pub fn commit(&self) -> u64 {
        self.payload.commit
    }

    /// The document of this id.
    ///
    /// # Errors
    ///
    /// When the files cannot be read.
    pub fn get(&self, id: &DocumentId) -> Result<Option<Record>, RagError> {
        let Some(address) = self.find(self.fields.document_key(id))? else { return Ok(None) };
        Ok(Some(self.record(address)?))
    }

    /// At most `n` documents from the one at `from` on, in the order in which they were put.
    ///
    /// # Errors
    ///
    /// When the files cannot be read.
    pub fn list(&self, from: usize, n: usize) -> Result<Vec<Record>, RagError> {
        let order = self.order()?;
        order.iter().skip(from).take(n).map(|(_, address)| self.record(*address)).collect()
    }

    /// The file of this name that was read.
    ///
    /// # Errors
    ///
    /// When the files cannot be read.
    pub fn source(&self, name: &str) -> Result<Option<SourceFile>, RagError> {
        let Some(address) = self.find(self.fields.source_key(name))? else { return Ok(None) };
        Ok(Some(parse(&self.stored(address)?)?))
    }

    /// All files that were read, by name.
    ///
    /// # Errors
    ///
    /// When the files cannot be read.
    pub fn sources(&self) -> Result<Vec<SourceFile>, RagError> {
        let mut sources = Vec::new();
        for (_, address) in self.with_key("s", "t").map_err(RagError::search("read"))? {
            sources.push(parse::<SourceFile>(&self.stored(address)?)?);
        }
        sources.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(sources)
    }

    /// The ids of all documents that begin like this, in their order.
    ///
    /// # Errors
    ///
    /// When the files cannot be read.
    pub fn ids_under(&self, beginning: &str) -> Result<Vec<DocumentId>, RagError> {
        let (from, to) = (format!("d{beginning}"), format!("d{beginning}{}", char::MAX));
        let found = self.with_key(&from, &to).map_err(RagError::search("read"))?;
        let mut ids: Vec<String> = found.into_iter().map(|(key, _)| key).collect();
        ids.sort_unstable();
        Ok(ids.into_iter().map(|key| DocumentId::new(&key[1..])).collect())
    }

    /// Where a document stands among all that share a word with the question. None if it shares
    /// none, or is not there.
    ///
    /// # Errors
    ///
    /// When the files cannot be read.
    pub fn place_of(
        &self,
        question: &Question,
        id: &DocumentId,
    ) -> Result<Option<SourceRank>, RagError> {
        let Some(address) = self.find(self.fields.document_key(id))? else { return Ok(None) };
        let words_field = self.fields.words;
        let found =
            search::find(&self.searcher, words_field, self.counts(), &question.text, self.len())?;
        let Some(place) = found.addresses.iter().position(|found| *found == address) else {
            return Ok(None);
        };
        // The first ones stand as they are found; beyond, scores are rounded.
        let near = self.retrieve(question, place + 1)?;
        if let Some(hit) = near.into_iter().find(|hit| hit.document.id == *id) {
            return Ok(hit.sources.into_iter().next());
        }
        let record = self.record(address)?;
        let score = found.asked.score(words(&mut analyzer(), &searched_text(&record.document)));
        Ok(Some(SourceRank::exact(Source::Bm25, place + 1, score)))
    }

    pub(super) fn payload(&self) -> &Payload {
        &self.payload
    }

    /// What is counted of the document of this id.
    pub(super) fn living(&self, id: &DocumentId) -> Result<Option<Living>, RagError> {
        let Some(address) = self.find(self.fields.document_key(id))? else { return Ok(None) };
        let stored: Stored = parse(&self.stored(address)?)?;
        let digest = unhex(&stored.digest).ok_or_else(|| RagError::NotAnIndex {
            path: self.folder.clone(),
            reason: format!("the digest of document {id} is damaged"),
        })?;
        let picture = own_picture(&stored.record.document);
        Ok(Some(Living { digest, words: stored.words, picture }))
    }

    fn counts(&self) -> Counts {
        Counts { documents: self.payload.documents, words: self.payload.words }
    }

    fn find(&self, key: Term) -> Result<Option<DocAddress>, RagError> {
        let query = TermQuery::new(key, IndexRecordOption::Basic);
        let found = self
            .searcher
            .search(&query, &TopDocs::with_limit(1).order_by_score())
            .map_err(RagError::search("search"))?;
        Ok(found.first().map(|(_, address)| *address))
    }

    /// Living things whose keys lie from the one name up to the other, with their keys.
    fn with_key(&self, from: &str, to: &str) -> tantivy::Result<Vec<(String, DocAddress)>> {
        let mut found = Vec::new();
        for (segment, reader) in self.searcher.segment_readers().iter().enumerate() {
            let inverted = reader.inverted_index(self.fields.key)?;
            let mut keys = inverted.terms().range().ge(from).lt(to).into_stream()?;
            while let Some((key, info)) = keys.next() {
                let key = String::from_utf8_lossy(key).into_owned();
                let basic = IndexRecordOption::Basic;
                let mut postings = inverted.read_postings_from_terminfo(info, basic)?;
                while postings.doc() != TERMINATED {
                    let is_alive = reader.alive_bitset().is_none_or(|a| a.is_alive(postings.doc()));
                    if is_alive {
                        let address = DocAddress::new(segment as u32, postings.doc());
                        found.push((key.clone(), address));
                    }
                    postings.advance();
                }
            }
        }
        Ok(found)
    }

    /// The living documents' numbers and addresses, by number.
    pub(super) fn order(&self) -> Result<&[(u64, DocAddress)], RagError> {
        if let Some(order) = self.order.get() {
            return Ok(order);
        }
        let mut numbered = Vec::with_capacity(self.len());
        for (segment, reader) in self.searcher.segment_readers().iter().enumerate() {
            let numbers = reader.fast_fields().u64("number").map_err(RagError::search("read"))?;
            numbered.extend(reader.doc_ids_alive().filter_map(|doc| {
                Some((numbers.first(doc)?, DocAddress::new(segment as u32, doc)))
            }));
        }
        numbered.sort_unstable();
        Ok(self.order.get_or_init(|| numbered))
    }

    pub(super) fn record(&self, address: DocAddress) -> Result<Record, RagError> {
        let Stored { record, .. } = parse(&self.stored(address)?)?;
        let document = given_out(&self.folder, record.document);
        Ok(Record { document, ..record })
    }

    fn stored(&self, address: DocAddress) -> Result<String, RagError> {
        let document: TantivyDocument =
            self.searcher.doc(address).map_err(RagError::search("read"))?;
        let text = document.get_first(self.fields.stored).and_then(|value| value.as_str());
        text.map(str::to_owned).ok_or_else(|| RagError::NotAnIndex {
            path: self.folder.clone(),
            reason: "a document in it has no contents".to_owned(),
        })
    }
}

impl Retriever for Snapshot {
    /// Documents that share at least one word with the question.
    fn retrieve(&self, question: &Question, k: usize) -> Result<Vec<Hit>, RagError> {
        let words_field = self.fields.words;
        let found = search::find(&self.searcher, words_field, self.counts(), &question.text, k)?;
        let mut analyzer = analyzer();
        let mut scored = Vec::with_capacity(found.addresses.len());
        for address in found.addresses {
            let record = self.record(address)?;
            let score = found.asked.score(words(&mut analyzer, &searched_text(&record.document)));
            scored.push((score, place(&record.document.id), record));
        }
        search::sort(&mut scored);
        let hits = scored.into_iter().take(k).enumerate().map(|(i, (score, _, record))| Hit {
            document: Arc::new(record.document),
            origin: record.origin,
            sources: vec![SourceRank::exact(Source::Bm25, i + 1, score)],
        });
        Ok(hits.collect())
    }

    fn version(&self) -> String {
        self.version.clone()
    }
}

/// What the last commit says, with its vectors' files opened and the searcher at the same commit. Who
/// is held up while others commit may find files gone, and then reads a later state.
fn state(
    folder: &Path,
    index: &tantivy::Index,
    reader: &IndexReader,
) -> Result<(Payload, Lanes), RagError> {
    let mut payload = Payload::read(index)?;
    for left in (0..RETRIES).rev() {
        reader.reload().map_err(RagError::search("read"))?;
        let lanes = Lanes::open(folder, &payload);
        let again = Payload::read(index)?;
        if again == payload || left == 0 {
            return Ok((payload, lanes?));
        }
        payload = again;
    }
    unreachable!("the last try returns")
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, RagError> {
    serde_json::from_str(text).map_err(|source| RagError::Json { what: "what is stored", source })
}
