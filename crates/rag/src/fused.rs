//! Several ways of finding documents, put together by reciprocal rank (Cormack, Clarke and
//! Büttcher, 2009): a document's score is the sum over the lists that it is in of
//!
//! ```text
//! 1 / (60 + its place in the list)
//! ```
//!
//! What each list gave stays with the document, so that its place can be explained.

use std::collections::HashMap;
use std::sync::Arc;

use mmrag_core::{Content, Document, DocumentId, Embed, Question};

use crate::collection::{Lane, Snapshot};
use crate::error::RagError;
use crate::retriever::{Hit, Retriever, Source, SourceRank};

/// The constant of the formula.
const K: f64 = 60.0;
/// Each list is as long as what is wanted times this, so that a document that is low in one list and
/// high in another is seen in both.
const DEPTH: usize = 4;
const LEAST_DEPTH: usize = 50;

/// Finds documents by their words and by their vectors.
pub struct Fused<'a> {
    /// The collection.
    pub snapshot: Arc<Snapshot>,
    /// What embeds questions, for each lane that is searched: the same that embedded the documents.
    pub engines: Vec<(Lane, &'a dyn Embed)>,
}

impl Fused<'_> {
    fn lists(&self, question: &Question, depth: usize) -> Result<Vec<Vec<Hit>>, RagError> {
        let mut lists = vec![self.snapshot.retrieve(question, depth)?];
        let failed = |source| RagError::Embedding { source };
        for (lane, engine) in &self.engines {
            let source = match lane {
                Lane::Text => Source::Dense,
                Lane::Image => Source::Image,
            };
            let vectors = engine.embed_questions(&[&question.text]).map_err(failed)?;
            let query = vectors.into_iter().next().unwrap_or_default();
            lists.push(self.snapshot.nearest(*lane, source, &query, depth)?);
            if *lane == Lane::Text {
                continue;
            }
            for image in &question.images {
                let (id, title) = (DocumentId::new("question"), String::new());
                let document = Document { id, title, content: Content::Image(image.clone()) };
                let vectors = engine.embed_documents(&[&document]).map_err(failed)?;
                let query = vectors.into_iter().next().unwrap_or_default();
                lists.push(self.snapshot.nearest(*lane, Source::Picture, &query, depth)?);
            }
        }
        Ok(lists)
    }
}

impl Retriever for Fused<'_> {
    fn retrieve(&self, question: &Question, k: usize) -> Result<Vec<Hit>, RagError> {
        let depth = (DEPTH * k).max(LEAST_DEPTH);
        let lists = self.lists(question, depth)?;
        Ok(fuse(lists, k))
    }

    fn version(&self) -> String {
        self.snapshot.version()
    }
}

/// The first `k` of all lists together. Equal scores come in the order of the ids.
pub fn fuse(lists: Vec<Vec<Hit>>, k: usize) -> Vec<Hit> {
    let mut places: HashMap<DocumentId, usize> = HashMap::new();
    let mut hits: Vec<(f64, Hit)> = Vec::new();
    for hit in lists.into_iter().flatten() {
        let part: f64 = hit.sources.iter().map(|source| 1.0 / (K + source.rank as f64)).sum();
        if let Some(&place) = places.get(&hit.document.id) {
            hits[place].0 += part;
            hits[place].1.sources.extend(hit.sources);
        } else {
            places.insert(hit.document.id.clone(), hits.len());
            hits.push((part, hit));
        }
    }
    let by_score = |a: &(f64, Hit), b: &(f64, Hit)| {
        b.0.total_cmp(&a.0).then_with(|| a.1.document.id.cmp(&b.1.document.id))
    };
    hits.sort_by(by_score);
    let ranked = hits.into_iter().take(k).enumerate().map(|(i, (score, mut hit))| {
        hit.sources.push(SourceRank::exact(Source::Fused, i + 1, score));
        hit
    });
    ranked.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(id: &str, source: Source, rank: usize) -> Hit {
        let content = Content::Text(String::new());
        let document = Document { id: DocumentId::new(id), title: String::new(), content };
        let sources = vec![SourceRank::exact(source, rank, 1.0)];
        Hit { document: Arc::new(document), origin: None, sources }
    }

    #[test]
    fn what_two_lists_know_comes_before_what_one_knows() {
        let words = vec![hit("a", Source::Bm25, 1), hit("b", Source::Bm25, 2)];
        let vectors = vec![hit("c", Source::Dense, 1), hit("b", Source::Dense, 2)];
        let fused = fuse(vec![words, vectors], 9);
        let ids: Vec<_> = fused.iter().map(|hit| hit.document.id.as_str()).collect();
        assert_eq!(ids, ["b", "a", "c"]);
        let sources: Vec<_> = fused[0].sources.iter().map(|s| (s.source, s.rank)).collect();
        assert_eq!(sources, [(Source::Bm25, 2), (Source::Dense, 2), (Source::Fused, 1)]);
        assert!((fused[0].sources[2].score - 2.0 / 62.0).abs() < 1e-12);
        assert!((fused[1].sources[1].score - 1.0 / 61.0).abs() < 1e-12);
    }
}
