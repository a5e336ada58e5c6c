//! MultimodalQA's metric against scores of the official code.

use mmrag_task::metrics::multimodalqa::{exact_match, f1, normalize};
use serde::Deserialize;

const CASES: &str = include_str!("../data/multimodalqa_cases.jsonl");

/// One prediction with what the official code makes of it.
#[derive(Deserialize)]
struct Row {
    note: String,
    pred: Spans,
    gold: Spans,
    em: f64,
    f1: f64,
    norm_pred: Vec<String>,
    norm_gold: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Spans {
    One(String),
    Many(Vec<String>),
}

impl Spans {
    fn list(self) -> Vec<String> {
        match self {
            Self::One(span) => vec![span],
            Self::Many(spans) => spans,
        }
    }
}

fn check(lines: &str) -> usize {
    for line in lines.lines() {
        let row: Row = serde_json::from_str(line).expect("every line is a row");
        let (predicted, gold) = (row.pred.list(), row.gold.list());
        let normal = |spans: &[String]| spans.iter().map(|s| normalize(s)).collect::<Vec<_>>();
        assert_eq!(normal(&predicted), row.norm_pred, "{}", row.note);
        assert_eq!(normal(&gold), row.norm_gold, "{}", row.note);
        assert_eq!(exact_match(&predicted, &gold), row.em, "{}: {line}", row.note);
        assert!((f1(&predicted, &gold) - row.f1).abs() < 1e-9, "{}: {line}", row.note);
    }
    lines.lines().count()
}

#[test]
fn scores_are_the_official_ones() {
    assert_eq!(check(CASES), 163);
}

#[test]
fn scores_of_a_given_file_are_the_official_ones() {
    let Some(path) = std::env::var_os("MMRAG_METRIC_CASES") else {
        println!("skipped: MMRAG_METRIC_CASES names no file");
        return;
    };
    let lines = std::fs::read_to_string(&path).unwrap();
    println!("{} rows of {}", check(&lines), path.to_string_lossy());
}
