//! Finding documents by their words.
//!
//! The search engine finds the best by scores that round lengths; those, and a few more, are then
//! scored by the plain formula (see [`crate::bm25`]). Deleted documents that still lie in the files
//! are not counted.

use std::cmp::Reverse;

use tantivy::collector::TopDocs;
use tantivy::collector::sort_key::{SortBySimilarityScore, SortByStaticFastValue};
use tantivy::postings::Postings as _;
use tantivy::query::{Bm25StatisticsProvider, BooleanQuery, Occur, Query, TermQuery};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{DocAddress, DocSet as _, Order, Searcher, TERMINATED, Term};

use super::fields::PLACE;
use crate::bm25::{self, Asked};
use crate::error::RagError;
use crate::words::{analyzer, distinct_words};

/// Documents that are looked at beyond those wanted, because rounding may have put them behind.
const BEYOND: usize = 16;

/// Documents found by their words, with what scoring them needs.
pub(super) struct Found {
    /// Where they lie.
    pub(super) addresses: Vec<DocAddress>,
    /// What was asked.
    pub(super) asked: Asked,
}

/// What living documents there are.
#[derive(Clone, Copy)]
pub(super) struct Counts {
    pub(super) documents: u64,
    pub(super) words: u64,
}

/// The `k` best by rounded scores and a few more. All that could be among the best are among them.
pub(super) fn find(
    searcher: &Searcher,
    field: Field,
    counts: Counts,
    text: &str,
    k: usize,
) -> Result<Found, RagError> {
    let words = distinct_words(&mut analyzer(), text);
    let living = Living { searcher, counts };
    let failed = RagError::search::<tantivy::TantivyError>;
    let rare = words.iter().map(|word| {
        let having = living.doc_freq(&Term::from_field_text(field, word))?;
        Ok((word.clone(), bm25::rarity(counts.documents as f64, having as f64)))
    });
    let rare: Vec<(String, f64)> =
        rare.collect::<tantivy::Result<_>>().map_err(failed("search"))?;
    let mean_length = counts.words as f64 / counts.documents.max(1) as f64;
    let asked = Asked { words: rare, mean_length };
    if k == 0 || counts.documents == 0 {
        return Ok(Found { addresses: Vec::new(), asked });
    }
    let addresses = best(&living, &query(field, &words), k + BEYOND).map_err(failed("search"))?;
    Ok(Found { addresses, asked })
}

fn query(field: Field, words: &[String]) -> BooleanQuery {
    let terms = words.iter().map(|word| {
        let term = Term::from_field_text(field, word);
        let query: Box<dyn Query> = Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs));
        (Occur::Should, query)
    });
    BooleanQuery::new(terms.collect())
}

/// The quick search decides between equal scores by where documents lie. Where that decides who is
/// among the best, the slow one orders by the documents' places.
fn best(living: &Living, query: &dyn Query, n: usize) -> tantivy::Result<Vec<DocAddress>> {
    let searcher = living.searcher;
    let quick = TopDocs::with_limit(n + 1).order_by_score();
    let found = searcher.search_with_statistics_provider(query, &quick, living)?;
    let ends_in_a_tie = found.len() > n && found[n - 1].0 <= found[n].0;
    if !ends_in_a_tie {
        return Ok(found.into_iter().take(n).map(|(_, address)| address).collect());
    }
    let order = (
        (SortBySimilarityScore, Order::Desc),
        (SortByStaticFastValue::<u64>::for_field(PLACE), Order::Asc),
    );
    let slow = TopDocs::with_limit(n).order_by(order);
    let found = searcher.search_with_statistics_provider(query, &slow, living)?;
    Ok(found.into_iter().map(|(_, address)| address).collect())
}

/// Sorts by score, equal scores by place.
pub(super) fn sort<T>(scored: &mut [(f64, u64, T)]) {
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| Reverse(b.1).cmp(&Reverse(a.1))));
}

/// Counts of the living alone.
struct Living<'a> {
    searcher: &'a Searcher,
    counts: Counts,
}

impl Bm25StatisticsProvider for Living<'_> {
    fn total_num_tokens(&self, _field: Field) -> tantivy::Result<u64> {
        Ok(self.counts.words)
    }

    fn total_num_docs(&self) -> tantivy::Result<u64> {
        Ok(self.counts.documents)
    }

    fn doc_freq(&self, term: &Term) -> tantivy::Result<u64> {
        let mut having = 0;
        for segment in self.searcher.segment_readers() {
            let inverted = segment.inverted_index(term.field())?;
            let Some(alive) = segment.alive_bitset() else {
                having += u64::from(inverted.doc_freq(term)?);
                continue;
            };
            let Some(mut postings) = inverted.read_postings(term, IndexRecordOption::Basic)? else {
                continue;
            };
            debug_assert!(postings.term_freq() > 0, "a posting is of a document with the word");
            while postings.doc() != TERMINATED {
                having += u64::from(alive.is_alive(postings.doc()));
                postings.advance();
            }
        }
        Ok(having)
    }
}
