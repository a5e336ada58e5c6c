//! A collection of drawn texts and vectors: how fast it is made, what it takes, how fast it answers.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use mmrag_core::{Content, Document, DocumentId, Embed, EngineError, Question, QuestionId};
use mmrag_rag::{
    Approximate, Collection, Embedder, Fused, Hit, Lane, Record, Retriever as _, Source,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::machine::{peak_bytes, read_rate, resident_bytes};
use crate::embedding::list_vectors;
use crate::progress::Meter;

/// Words of which texts are drawn, the first ones often and the last ones rarely.
const WORDS: usize = 50_000;
const WORDS_OF_A_TEXT: usize = 60;
const WORDS_OF_A_QUESTION: usize = 8;
/// Documents that are made lasting together, and embedded together.
const TOGETHER: usize = 20_000;
const WANTED: usize = 12;
/// So many of the nearest are compared.
const COMPARED: usize = 10;

/// What is made and asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IndexSize {
    /// Documents.
    pub(crate) documents: usize,
    /// Values of a vector.
    pub(crate) dimensions: usize,
    /// Questions of each kind.
    pub(crate) questions: usize,
    /// Documents that are about one thing, whose vectors lie around one middle; 1: vectors are drawn
    /// evenly, and nothing is like anything.
    pub(crate) alike: usize,
}

/// Makes a collection at a place where none is, and asks it.
///
/// # Errors
///
/// When the place cannot be written.
pub(crate) fn index(place: &Path, size: IndexSize) -> anyhow::Result<Value> {
    let collection = Collection::open_or_create(place).context("failed to make the index")?;
    let words_s = put(&collection, size)?;
    let topics = size.documents.div_ceil(size.alike.max(1));
    let engine = Drawn { width: size.dimensions, topics, is_alike: size.alike > 1 };
    let vectors_s = embed(&collection, &engine, size)?;
    let snapshot = collection.snapshot().context("failed to read the index")?;
    let questions: Vec<Question> = (0..size.questions).map(question).collect();
    let fused = Fused { snapshot: Arc::clone(&snapshot), engines: vec![(Lane::Text, &engine)] };
    let words = latencies(&questions, |question| snapshot.retrieve(question, WANTED).map(drop))?;
    let nearest = |question: &Question| {
        let query = engine.vector(&question.text);
        snapshot.nearest_exactly(Lane::Text, Source::Dense, &query, WANTED)
    };
    let dense = latencies(&questions, |question| nearest(question).map(drop))?;
    let all = latencies(&questions, |question| fused.retrieve(question, WANTED).map(drop))?;
    let lists = lists(&collection, &engine, &questions)?;
    let scanned = (size.documents * size.dimensions * 2) as f64;
    let dense_s = dense["p50_ms"].as_f64().unwrap_or(f64::NAN) / 1e3;
    Ok(json!({
        "documents": size.documents,
        "dimensions": size.dimensions,
        "threads": rayon::current_num_threads(),
        "indexing": {
            "documents_per_s": size.documents as f64 / words_s,
            "vectors_per_s": size.documents as f64 / vectors_s,
        },
        "disk_bytes": {
            "words": bytes_under(&place.join("words")),
            "vectors": bytes_under(&place.join("vectors")),
        },
        "memory_bytes": { "resident": resident_bytes(), "peak": peak_bytes() },
        "bm25": words,
        "dense": dense,
        "dense_gb_per_s": scanned / 1e9 / dense_s,
        "memory_gb_per_s": read_rate() / 1e9,
        "fused": all,
        "documents_alike": size.alike,
        "lists": lists,
    }))
}

/// Puts the vectors into lists, and compares what is found by them with what there is.
fn lists(collection: &Collection, engine: &Drawn, questions: &[Question]) -> anyhow::Result<Value> {
    let began = Instant::now();
    let listed = list_vectors(collection, Some(Approximate::On), || false)?;
    let built_s = began.elapsed().as_secs_f64();
    let snapshot = collection.snapshot().context("failed to read the index")?;
    let nearest = |question: &Question| {
        let query = engine.vector(&question.text);
        snapshot.nearest(Lane::Text, Source::Dense, &query, WANTED)
    };
    let dense = latencies(questions, |question| nearest(question).map(drop))?;
    let mut found = 0;
    for question in questions {
        let query = engine.vector(&question.text);
        let search = |hits: Vec<Hit>| -> Vec<_> {
            hits.into_iter().take(COMPARED).map(|hit| hit.document.id.clone()).collect()
        };
        let exact =
            search(snapshot.nearest_exactly(Lane::Text, Source::Dense, &query, COMPARED)?);
        let near = search(snapshot.nearest(Lane::Text, Source::Dense, &query, COMPARED)?);
        found += exact.iter().filter(|id| near.contains(id)).count();
    }
    let all = (COMPARED.min(snapshot.len()) * questions.len()).max(1);
    Ok(json!({
        "vectors": listed,
        "built_s": built_s,
        "search": snapshot.lane_search(Lane::Text),
        "dense": dense,
        "recall_at_10": found as f64 / all as f64,
        "peak_bytes": peak_bytes(),
    }))
}

fn put(collection: &Collection, size: IndexSize) -> anyhow::Result<f64> {
    let began = Instant::now();
    let mut writer = collection.writer().context("failed to write the index")?;
    let meter = Meter::new("documents", size.documents);
    let rng = &mut ChaCha8Rng::seed_from_u64(0);
    for i in 0..size.documents {
        let content = Content::Text(text(rng, WORDS_OF_A_TEXT));
        let (id, title) = (DocumentId::new(i.to_string()), text(rng, 3));
        let record = Record::new(Document { id, title, content });
        writer.put(record).context("failed to write the index")?;
        if (i + 1) % TOGETHER == 0 {
            writer.commit().context("failed to write the index")?;
            meter.at(i + 1, "");
        }
    }
    writer.commit().context("failed to write the index")?;
    writer.finish().context("failed to write the index")?;
    Ok(began.elapsed().as_secs_f64())
}

fn embed(collection: &Collection, engine: &Drawn, size: IndexSize) -> anyhow::Result<f64> {
    let began = Instant::now();
    let embedder = Embedder { lane: Lane::Text, version: "drawn", source: "", engine };
    let mut writer = collection.writer().context("failed to write the index")?;
    let meter = Meter::new("vectors", size.documents);
    let mut done = 0;
    while done < size.documents {
        let embedded = writer.embed(&embedder, TOGETHER).context("failed to write the index")?;
        done += embedded.documents;
        writer.commit().context("failed to write the index")?;
        meter.at(done, "");
    }
    Ok(began.elapsed().as_secs_f64())
}

fn question(i: usize) -> Question {
    let rng = &mut ChaCha8Rng::seed_from_u64(1 + i as u64);
    let (id, text) = (QuestionId::new(i.to_string()), text(rng, WORDS_OF_A_QUESTION));
    Question { id, text, images: Vec::new() }
}

/// Words drawn so that their logarithms are even: word 10 comes as often as words 100 to 109.
fn text(rng: &mut ChaCha8Rng, n: usize) -> String {
    let word = |_| {
        let share: f64 = rng.random();
        format!("w{}", (WORDS as f64).powf(share) as usize)
    };
    (0..n).map(word).collect::<Vec<_>>().join(" ")
}

/// The median and the 99th percentile of how long it takes to answer each question, the first
/// time not counted.
fn latencies<E>(
    questions: &[Question],
    ask: impl Fn(&Question) -> Result<(), E>,
) -> anyhow::Result<Value>
where
    E: std::error::Error + Send + Sync + 'static,
{
    if let Some(first) = questions.first() {
        ask(first).context("failed to search")?;
    }
    let mut times = Vec::with_capacity(questions.len());
    for question in questions {
        let began = Instant::now();
        ask(question).context("failed to search")?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| {
        times.get(((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1)))
    };
    Ok(json!({ "p50_ms": at(0.5), "p99_ms": at(0.99), "questions": times.len() }))
}

fn bytes_under(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let size = |entry: std::fs::DirEntry| entry.metadata().map_or(0, |about| about.len());
    entries.flatten().map(size).sum()
}

/// Unit vectors drawn from the text, around the middles of topics.
struct Drawn {
    width: usize,
    topics: usize,
    is_alike: bool,
}

impl Drawn {
    fn vector(&self, text: &str) -> Vec<f32> {
        let seed = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut vector = self.drawn(seed);
        if self.is_alike {
            // At a right angle to nearly all others, so likeness within a topic is 1/2.
            let middle = self.drawn(!(seed % self.topics as u64));
            vector.iter_mut().zip(middle).for_each(|(x, middle)| *x += middle);
        }
        unit(vector)
    }

    fn drawn(&self, seed: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        unit((0..self.width).map(|_| rng.random::<f32>() - 0.5).collect())
    }
}

fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    for x in &mut vector {
        *x /= length;
    }
    vector
}

impl Embed for Drawn {
    fn width(&self) -> usize {
        self.width
    }

    fn embed_questions(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EngineError> {
        Ok(texts.iter().map(|text| self.vector(text)).collect())
    }

    fn embed_documents(&self, documents: &[&Document]) -> Result<Vec<Vec<f32>>, EngineError> {
        Ok(documents.iter().map(|document| self.vector(document.id.as_str())).collect())
    }

    fn count_tokens(&self, text: &str) -> Result<usize, EngineError> {
        Ok(text.split_whitespace().count())
    }
}
