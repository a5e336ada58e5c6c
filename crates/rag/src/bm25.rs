//! BM25 over a few documents at hand, without an index.
//!
//! For a question with words `w` and a document `d` of `|d|` words,
//!
//! ```text
//! score(d) = Σ_w  ln(1 + (N - n_w + 1/2) / (n_w + 1/2)) · f (k1 + 1) / (f + k1 (1 - b + b |d| / m))
//! ```
//!
//! where `N` is the number of documents, `n_w` how many of them have `w`, `f` how often `d` has it
//! and `m` the mean length; `k1` = 1.2, `b` = 0.75 (Robertson and Zaragoza, 2009). These are the
//! formula and constants of the word index too, which rounds lengths above 40 words.

use std::collections::HashMap;
use std::sync::Arc;

use mmrag_core::Document;

use crate::words::{analyzer, distinct_words, searched_text, words};

const K1: f64 = 1.2;
const B: f64 = 0.75;

/// Every document's place in `documents` and its score, best first; equal scores in the order
/// given. A document without a word in common has score 0.
pub fn rank(question: &str, documents: &[Arc<Document>]) -> Vec<(usize, f64)> {
    let mut analyzer = analyzer();
    let asked = distinct_words(&mut analyzer, question);
    let counted: Vec<Counted> = documents
        .iter()
        .map(|document| Counted::new(words(&mut analyzer, &searched_text(document))))
        .collect();
    let mean_length = counted.iter().map(|c| c.length).sum::<f64>() / counted.len().max(1) as f64;
    let mut ranked: Vec<(usize, f64)> = (0..counted.len()).map(|i| (i, 0.0)).collect();
    for word in &asked {
        let having = counted.iter().filter(|c| c.counts.contains_key(word)).count() as f64;
        let rarity = rarity(counted.len() as f64, having);
        for (score, document) in ranked.iter_mut().zip(&counted) {
            score.1 += rarity * document.saturated(word, mean_length);
        }
    }
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked
}

/// How much a word tells that `having` of `documents` documents have: the logarithm above.
pub(crate) fn rarity(documents: f64, having: f64) -> f64 {
    (1.0 + (documents - having + 0.5) / (having + 0.5)).ln()
}

/// The words of a question, with what the collection says of them.
pub(crate) struct Asked {
    /// Each word once, with its rarity.
    pub(crate) words: Vec<(String, f64)>,
    /// The mean number of words of a document.
    pub(crate) mean_length: f64,
}

impl Asked {
    /// The score of a document with these words.
    pub(crate) fn score(&self, words: Vec<String>) -> f64 {
        let counted = Counted::new(words);
        let part =
            |(word, rarity): &(String, f64)| rarity * counted.saturated(word, self.mean_length);
        self.words.iter().map(part).sum()
    }
}

struct Counted {
    counts: HashMap<String, f64>,
    length: f64,
}

impl Counted {
    fn new(words: Vec<String>) -> Self {
        let length = words.len() as f64;
        let mut counts = HashMap::new();
        for word in words {
            *counts.entry(word).or_insert(0.0) += 1.0;
        }
        Self { counts, length }
    }

    fn saturated(&self, word: &str, mean_length: f64) -> f64 {
        let Some(count) = self.counts.get(word) else { return 0.0 };
        count * (K1 + 1.0) / (count + K1 * (1.0 - B + B * self.length / mean_length))
    }
}

#[cfg(test)]
mod tests {
    use mmrag_core::{Content, DocumentId};

    use super::*;

    fn text(id: &str, body: &str) -> Arc<Document> {
        Arc::new(Document {
            id: DocumentId::new(id),
            title: String::new(),
            content: Content::Text(body.into()),
        })
    }

    #[test]
    fn scores_agree_with_the_formula_by_hand() {
        let documents = [text("a", "red house"), text("b", "red red car park"), text("c", "sea")];
        let ranked = rank("Red car?", &documents);
        // N = 3, mean length 7/3; red: n = 2, car: n = 1.
        let idf_red = (1.0f64 + 1.5 / 2.5).ln();
        let idf_car = (1.0f64 + 2.5 / 1.5).ln();
        let norm = |length: f64| 1.2 * (0.25 + 0.75 * length / (7.0 / 3.0));
        let b = idf_red * 2.0 * 2.2 / (2.0 + norm(4.0)) + idf_car * 2.2 / (1.0 + norm(4.0));
        let a = idf_red * 2.2 / (1.0 + norm(2.0));
        assert_eq!(ranked.iter().map(|r| r.0).collect::<Vec<_>>(), [1, 0, 2]);
        assert!((ranked[0].1 - b).abs() < 1e-12, "{} {b}", ranked[0].1);
        assert!((ranked[1].1 - a).abs() < 1e-12);
        assert_eq!(ranked[2].1, 0.0);
    }

    #[test]
    fn nothing_in_common_keeps_the_given_order() {
        let documents = [text("a", "x"), text("b", ""), text("c", "y")];
        assert_eq!(rank("nothing", &documents), [(0, 0.0), (1, 0.0), (2, 0.0)]);
        assert_eq!(rank("", &documents), [(0, 0.0), (1, 0.0), (2, 0.0)]);
        assert_eq!(rank("any", &[]), []);
    }
}
