//! How far one gets on examples without understanding them.
//!
//! Each baseline orders the candidates of a question by something that can be seen without
//! reading; its first `k` are taken as citations. If one of them does well, the data set has a
//! short cut.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use mmrag_core::{Content, Document, Example, Modality};

/// What one baseline reaches.
#[derive(Clone, Debug, PartialEq)]
pub struct Reached {
    /// Which baseline.
    pub name: &'static str,
    /// How many candidates it cites: of 1 to 3 what serves it best.
    pub k: usize,
    /// Mean F1 of the cited documents, 0 to 1. Where nothing is to be cited, 0.
    pub cited_f1: f64,
    /// Mean normalised discounted cumulative gain over all candidates, 0 to 1, of the questions
    /// that have supporting documents.
    pub ndcg: f64,
}

/// What always giving the most frequent answer of a kind reaches.
#[derive(Clone, Debug, PartialEq)]
pub struct Majority {
    /// The kind of question.
    pub kind: String,
    /// How many of the questions asked are of the kind.
    pub n: usize,
    /// Its most frequent answer.
    pub answer: String,
    /// Exact match, 0 to 1, of always giving it.
    pub exact_match: f64,
}

/// Measures all baselines on examples. Scores that are equal leave the candidates' order.
pub fn measure(examples: &[Example]) -> Vec<Reached> {
    let bm25 = Bm25::new(examples);
    let scorers: [(&'static str, Scorer<'_>); 11] = [
        ("BM25", Box::new(|example, at| bm25.score(example, at))),
        ("name of the question in the document", Box::new(named)),
        ("name of the question in the title", Box::new(titled)),
        ("name that most candidates share", Box::new(shared)),
        ("shortest document", Box::new(|example, at| -length(&example.candidates[at]))),
        ("longest document", Box::new(|example, at| length(&example.candidates[at]))),
        ("first position", Box::new(|_, at| -(at as f64))),
        ("last position", Box::new(|_, at| at as f64)),
        ("smallest id", Box::new(by_id)),
        ("pictures first", Box::new(|example, at| is_of(example, at, Modality::Image))),
        ("texts first", Box::new(|example, at| is_of(example, at, Modality::Text))),
    ];
    scorers.iter().map(|(name, scorer)| reached(name, scorer, examples)).collect()
}

/// The most frequent answer of each kind among `seen`, and how far always giving it leads on
/// `asked`; in the kinds' alphabetical order.
pub fn majority(seen: &[Example], asked: &[Example]) -> Vec<Majority> {
    let mut counts: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
    for example in seen {
        *counts.entry(&example.kind).or_default().entry(answer(example)).or_default() += 1;
    }
    let row = |(kind, answers): (&str, BTreeMap<String, usize>)| {
        let (most, _) = answers.into_iter().max_by_key(|&(_, count)| count)?;
        let of_kind = asked.iter().filter(|example| example.kind == kind);
        let n = of_kind.clone().count();
        let n_right = of_kind.filter(|example| answer(example) == most).count();
        let exact_match = n_right as f64 / n.max(1) as f64;
        Some(Majority { kind: kind.to_owned(), n, answer: most, exact_match })
    };
    counts.into_iter().filter_map(row).collect()
}

fn answer(example: &Example) -> String {
    if !example.gold.is_answerable() {
        return "none".to_owned();
    }
    let mut answers = example.gold.answers.clone();
    answers.sort();
    answers.join("; ")
}

type Scorer<'a> = Box<dyn Fn(&Example, usize) -> f64 + 'a>;

fn reached(name: &'static str, scorer: &Scorer<'_>, examples: &[Example]) -> Reached {
    let mut f1 = [0.0; 3];
    let (mut ndcg, mut n_answerable) = (0.0, 0);
    for example in examples {
        let order = order(scorer, example);
        let is_gold = |at: &usize| example.gold.documents.contains(&example.candidates[*at].id);
        let n_gold = example.gold.documents.len();
        if n_gold == 0 {
            continue;
        }
        for (k, f1) in (1..).zip(&mut f1) {
            let found = order.iter().take(k).filter(|at| is_gold(at)).count();
            *f1 += 2.0 * found as f64 / (k + n_gold) as f64;
        }
        let gain = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
        let ideal: f64 = (0..n_gold).map(gain).sum();
        let sum: f64 = order
            .iter()
            .enumerate()
            .filter(|(_, at)| is_gold(at))
            .map(|(rank, _)| gain(rank))
            .sum();
        ndcg += sum / ideal;
        n_answerable += 1;
    }
    let (k, best) = (1..).zip(f1).max_by(|a, b| a.1.total_cmp(&b.1)).expect("there are three");
    Reached {
        name,
        k,
        cited_f1: best / examples.len().max(1) as f64,
        ndcg: ndcg / n_answerable.max(1) as f64,
    }
}

fn order(scorer: &Scorer<'_>, example: &Example) -> Vec<usize> {
    let scores: Vec<f64> = (0..example.candidates.len()).map(|at| scorer(example, at)).collect();
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order
}

/// Names the question holds: words with a capital letter, the first word aside.
fn names(example: &Example) -> HashSet<String> {
    let words = example.question.text.split(|c: char| !c.is_alphanumeric()).skip(1);
    words.filter(|word| word.starts_with(char::is_uppercase)).map(str::to_lowercase).collect()
}

fn named(example: &Example, at: usize) -> f64 {
    let words: HashSet<String> = tokens(&text_of(&example.candidates[at])).collect();
    names(example).iter().filter(|name| words.contains(*name)).count() as f64
}

fn titled(example: &Example, at: usize) -> f64 {
    let words: HashSet<String> = tokens(&example.candidates[at].title).collect();
    names(example).iter().filter(|name| words.contains(*name)).count() as f64
}

/// How many candidates hold the first word of the title.
fn shared(example: &Example, at: usize) -> f64 {
    let Some(name) = tokens(&example.candidates[at].title).next() else { return 0.0 };
    let holds = |document: &&Arc<Document>| tokens(&text_of(document)).any(|word| word == name);
    example.candidates.iter().filter(holds).count() as f64
}

fn length(document: &Document) -> f64 {
    text_of(document).len() as f64
}

fn by_id(example: &Example, at: usize) -> f64 {
    let id = &example.candidates[at].id;
    -(example.candidates.iter().filter(|other| other.id < *id).count() as f64)
}

fn is_of(example: &Example, at: usize, modality: Modality) -> f64 {
    f64::from(u8::from(example.candidates[at].modality() == modality))
}

fn text_of(document: &Document) -> String {
    let mut text = document.title.clone();
    match &document.content {
        Content::Text(words) => {
            text.push(' ');
            text.push_str(words);
        }
        Content::Table(table) => {
            for cell in std::iter::once(&table.header).chain(&table.rows).flatten() {
                text.push(' ');
                text.push_str(cell);
            }
        }
        Content::Image(_) => {}
    }
    text
}

fn tokens(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

/// Okapi BM25 with k1 = 1.2 and b = 0.75; document frequencies are those of all examples.
struct Bm25 {
    idf: HashMap<String, f64>,
    mean_length: f64,
}

impl Bm25 {
    fn new(examples: &[Example]) -> Self {
        let mut seen = HashSet::new();
        let mut frequency: HashMap<String, usize> = HashMap::new();
        let mut total_length = 0;
        for document in examples.iter().flat_map(|example| &example.candidates) {
            if seen.insert(&document.id) {
                let words: Vec<String> = tokens(&text_of(document)).collect();
                total_length += words.len();
                for word in words.into_iter().collect::<HashSet<_>>() {
                    *frequency.entry(word).or_default() += 1;
                }
            }
        }
        let n = seen.len().max(1) as f64;
        let idf = |count: usize| (1.0 + (n - count as f64 + 0.5) / (count as f64 + 0.5)).ln();
        Self {
            idf: frequency.into_iter().map(|(word, count)| (word, idf(count))).collect(),
            mean_length: total_length as f64 / n,
        }
    }

    fn score(&self, example: &Example, at: usize) -> f64 {
        let words: Vec<String> = tokens(&text_of(&example.candidates[at])).collect();
        let damping = 1.2 * (0.25 + 0.75 * words.len() as f64 / self.mean_length);
        let asked: HashSet<String> = tokens(&example.question.text).collect();
        let mut sorted: Vec<&String> = asked.iter().collect();
        sorted.sort();
        let score_of = |word: &&String| {
            let count = words.iter().filter(|other| other == word).count() as f64;
            self.idf.get(*word).copied().unwrap_or(0.0) * count * 2.2 / (count + damping)
        };
        sorted.iter().map(score_of).sum()
    }
}
