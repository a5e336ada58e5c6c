//! The official scoring of a MultimodalQA prediction file, from files to figures.

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use super::Rounds;
use crate::output;
use crate::scoring::multimodalqa;

/// Words that spans are drawn from: what the normal form changes is among them.
const WORDS: [&str; 12] = [
    "the",
    "Granite",
    "seven",
    "1,234",
    "Twenty-five",
    "harbour",
    "U.S.",
    "2010",
    "An",
    "Señor",
    "red",
    "5%",
];
const KINDS: [&str; 4] = ["TextQ", "TableQ", "ImageListQ", "Compose(TextQ,TableQ)"];
const MODALITIES: [&str; 3] = ["text", "table", "image"];

/// Seconds that the scoring of a file with so many questions takes.
///
/// # Errors
///
/// When the files cannot be written or read.
pub(crate) fn scoring(questions: usize, rounds: Rounds) -> anyhow::Result<Value> {
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let [gold, answers] = ["gold.jsonl", "answers.json"].map(|name| folder.path().join(name));
    write(&gold, &answers, questions)?;
    let mut seconds = Vec::with_capacity(rounds.all());
    let mut figures = None;
    for _ in 0..rounds.all() {
        let start = Instant::now();
        let gold = mmrag_data::multimodalqa::gold(&gold).context("failed to read the gold file")?;
        let answers =
            mmrag_data::predictions(&answers).context("failed to read the predictions")?;
        figures = Some(multimodalqa::score(&gold, answers));
        seconds.push(start.elapsed().as_secs_f64());
    }
    let lines = figures.map(|figures| figures.lines()).unwrap_or_default();
    Ok(json!({
        "questions": questions,
        "seconds": rounds.median(seconds.into_iter()),
        "figures": lines.first(),
    }))
}

/// Writes gold, and predictions of which half are the gold answers.
fn write(gold: &Path, answers: &Path, questions: usize) -> anyhow::Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut rows = String::new();
    let mut predictions = Map::new();
    for question in 0..questions {
        let spans = spans(&mut rng);
        let modality = MODALITIES[rng.random_range(0..MODALITIES.len())];
        let answer = |span: &String| json!({ "answer": span, "modality": modality });
        let row = json!({
            "qid": question.to_string(),
            "question": "Which?",
            "answers": spans.iter().map(answer).collect::<Vec<_>>(),
            "metadata": { "type": KINDS[rng.random_range(0..KINDS.len())] },
        });
        rows += &row.to_string();
        rows.push('\n');
        let predicted = if rng.random_bool(0.5) { spans } else { self::spans(&mut rng) };
        predictions.insert(question.to_string(), json!(predicted));
    }
    output::file(gold, &rows)?;
    output::file(answers, &Value::Object(predictions).to_string())
}

/// One answer, mostly, of one to five words.
fn spans(rng: &mut ChaCha8Rng) -> Vec<String> {
    let n_spans = if rng.random_bool(0.8) { 1 } else { rng.random_range(2..=8) };
    let span = |_| {
        let n_words = rng.random_range(1..=5);
        let words = (0..n_words).map(|_| WORDS[rng.random_range(0..WORDS.len())]);
        words.collect::<Vec<_>>().join(" ")
    };
    (0..n_spans).map(span).collect()
}
