//! Cases: what a stage is asked about.

use std::sync::Arc;

use mmrag_core::{Document, DocumentId, Gold, Question};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// A question and the documents that are shown with it. It holds no gold.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The question.
    pub question: Question,
    /// The documents in label order: `[1]` is `documents[0]`.
    pub documents: Vec<Arc<Document>>,
}

impl Case {
    /// A case of one document, as the filter stage asks it.
    pub fn pointwise(question: &Question, document: &Arc<Document>) -> Self {
        Self { question: question.clone(), documents: vec![Arc::clone(document)] }
    }

    /// A case of several documents, labelled in an order that `seed` and the question's id decide.
    pub fn listwise(question: &Question, documents: &[Arc<Document>], seed: u64) -> Self {
        let mut documents = documents.to_vec();
        let mut draws = label_draws(question.id.as_str(), seed);
        for last in (1..documents.len()).rev() {
            let pick = (u128::from(draws.next_u64()) * (last as u128 + 1)) >> 64;
            documents.swap(last, pick as usize);
        }
        Self { question: question.clone(), documents }
    }

    /// A case of several documents, labelled in the order they are given.
    pub fn in_order(question: &Question, documents: &[Arc<Document>]) -> Self {
        Self { question: question.clone(), documents: documents.to_vec() }
    }

    /// The document behind a label, if the label is shown.
    pub fn document(&self, label: usize) -> Option<&Arc<Document>> {
        self.documents.get(label.checked_sub(1)?)
    }

    /// The label of a document, if it is shown.
    pub fn label_of(&self, id: &DocumentId) -> Option<usize> {
        self.documents.iter().position(|document| document.id == *id).map(|at| at + 1)
    }

    /// The labels of the gold documents that are shown, in the gold's order, each once.
    pub fn gold_labels(&self, gold: &Gold) -> Vec<usize> {
        let mut labels = Vec::new();
        for label in gold.documents.iter().filter_map(|id| self.label_of(id)) {
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
        labels
    }

    /// Whether the shown documents can hold the answer: there is one, and at least one of the
    /// documents that support it is shown (or the data set does not say which do).
    pub fn is_answerable(&self, gold: &Gold) -> bool {
        gold.is_answerable() && (gold.documents.is_empty() || !self.gold_labels(gold).is_empty())
    }
}

fn label_draws(question: &str, seed: u64) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(b"labels\0");
    hash.update(seed.to_le_bytes());
    hash.update(question.as_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use mmrag_core::{Content, QuestionId};

    use super::*;

    fn documents(n: usize) -> Vec<Arc<Document>> {
        (0..n)
            .map(|index| {
                Arc::new(Document {
                    id: DocumentId::new(format!("d{index}")),
                    title: String::new(),
                    content: Content::Text(String::new()),
                })
            })
            .collect()
    }

    fn question(id: &str) -> Question {
        Question { id: QuestionId::new(id), text: "Who?".into(), images: Vec::new() }
    }

    #[test]
    fn labels_are_a_permutation_that_the_seed_decides() {
        let documents = documents(12);
        let first = Case::listwise(&question("q"), &documents, 7);
        assert_eq!(first, Case::listwise(&question("q"), &documents, 7));
        assert_ne!(first, Case::listwise(&question("q"), &documents, 8));
        assert_ne!(first.documents, Case::listwise(&question("r"), &documents, 7).documents);
        let mut ids: Vec<_> = first.documents.iter().map(|d| d.id.clone()).collect();
        ids.sort();
        let mut expected: Vec<_> = documents.iter().map(|d| d.id.clone()).collect();
        expected.sort();
        assert_eq!(ids, expected);
    }

    #[test]
    fn every_label_is_equally_likely_for_the_first_document() {
        let documents = documents(4);
        let mut counts = [0; 4];
        for seed in 0..400 {
            let case = Case::listwise(&question("q"), &documents, seed);
            counts[case.label_of(&documents[0].id).unwrap() - 1] += 1;
        }
        assert!(counts.iter().all(|&count| (70..=130).contains(&count)), "{counts:?}");
    }

    #[test]
    fn a_label_names_its_document() {
        let case = Case::listwise(&question("q"), &documents(3), 1);
        for label in 1..=3 {
            assert_eq!(case.label_of(&case.document(label).unwrap().id), Some(label));
        }
        assert_eq!(case.document(0), None);
        assert_eq!(case.document(4), None);
    }
}
