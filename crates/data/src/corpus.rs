//! Documents by id, while a data set is read.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use mmrag_core::{Document, DocumentId};

use crate::Place;

/// The documents, and where each id is among them.
#[derive(Default)]
pub(crate) struct Corpus {
    pub(crate) documents: Vec<Arc<Document>>,
    pub(crate) named: Vec<Place>,
    places: HashMap<DocumentId, usize>,
    /// Documents that were left out and told of.
    broken: HashSet<String>,
}

/// What a question is shown, and what of it is gold.
pub(crate) struct Shown {
    pub(crate) candidates: Vec<Arc<Document>>,
    pub(crate) gold: Vec<DocumentId>,
}

impl Corpus {
    /// Adds a document.
    ///
    /// # Errors
    ///
    /// When its id is there already; in words.
    pub(crate) fn add(&mut self, document: Document, named: Place) -> Result<(), String> {
        if self.places.contains_key(&document.id) {
            return Err(format!("document {} stands in an earlier line too", document.id));
        }
        self.places.insert(document.id.clone(), self.documents.len());
        self.documents.push(Arc::new(document));
        self.named.push(named);
        Ok(())
    }

    /// Takes note of a document that was told to be broken, so that nobody tells it is missing.
    pub(crate) fn lose(&mut self, id: String) {
        self.broken.insert(id);
    }

    fn find(&self, id: &str) -> Option<&Arc<Document>> {
        self.places.get(&DocumentId::new(id)).map(|&place| &self.documents[place])
    }

    /// The documents that a question names, each once: its candidates in their order, then the gold
    /// ones that are not among them. A candidate that is missing is told of and left out.
    ///
    /// # Errors
    ///
    /// When a gold document is missing; in words.
    pub(crate) fn shown<'i>(
        &self,
        question: &str,
        candidates: impl Iterator<Item = &'i str>,
        gold_ids: &[&'i str],
        report: &mut impl FnMut(String),
    ) -> Result<Shown, String> {
        let mut shown = Shown { candidates: Vec::new(), gold: Vec::new() };
        let mut seen = HashSet::new();
        for id in candidates {
            match self.find(id) {
                Some(document) if seen.insert(id) => shown.candidates.push(document.clone()),
                Some(_) => {}
                None if gold_ids.contains(&id) || self.broken.contains(id) => {}
                None => report(format!("candidate {id} of question {question} is missing")),
            }
        }
        for id in gold_ids {
            let document = self.find(id).ok_or_else(|| {
                format!("supporting document {id} of question {question} is missing")
            })?;
            if seen.insert(id) {
                shown.candidates.push(document.clone());
            }
            if !shown.gold.contains(&document.id) {
                shown.gold.push(document.id.clone());
            }
        }
        Ok(shown)
    }
}
