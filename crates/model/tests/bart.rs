//! BART as a judge of texts against scores of the reference implementation.
//!
//! The cases of `bart_tiny` are those in the project, made by transformers; with `MMRAG_FIXTURES`
//! set, those of that folder.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};

use mmrag_model::{Bart, BartScorer, ModelError, TokenPair};
use serde_json::Value;

/// Largest difference of a log-probability in f32.
const TOLERANCE: f64 = 1e-4;

fn in_project(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn tiny() -> PathBuf {
    match std::env::var_os("MMRAG_FIXTURES") {
        Some(dir) => PathBuf::from(dir).join("bart_tiny"),
        None => in_project("bart_tiny"),
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn tokens(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn mean(values: &[f32]) -> f64 {
    values.iter().map(|x| f64::from(*x)).sum::<f64>() / values.len() as f64
}

#[test]
fn every_score_of_the_reference_is_met() {
    let bart = Bart::load(&tiny(), None).unwrap();
    let cases = json(&tiny().join("cases.json"));
    let cases = cases["cases"].as_array().unwrap();
    let pair = |case: &Value| TokenPair {
        source: tokens(&case["source"]),
        target: tokens(&case["target"]),
    };
    let pairs: Vec<TokenPair> = cases.iter().map(pair).collect();
    let together = bart.token_logprobs(&pairs).unwrap();
    assert_eq!(together.len(), cases.len());
    for ((case, pair), logprobs) in cases.iter().zip(&pairs).zip(&together) {
        let expected = floats(&case["token_logprobs"]);
        assert_eq!(logprobs.len(), expected.len());
        for (actual, expected) in logprobs.iter().zip(expected) {
            assert!((f64::from(*actual) - expected).abs() < TOLERANCE, "{case}");
        }
        assert!((mean(logprobs) - case["score"].as_f64().unwrap()).abs() < TOLERANCE);
        let alone = bart.token_logprobs(std::slice::from_ref(pair)).unwrap();
        for (alone, logprob) in alone[0].iter().zip(logprobs) {
            assert!((alone - logprob).abs() < 1e-5, "a batch is its pairs");
        }
    }
}

/// Scores of texts, by weights of a folder and by a state dict, with a bias of the logits and
/// scaled embeddings.
#[test]
fn texts_score_alike_by_every_kind_of_file() {
    let folder = in_project("bart_small");
    let cases = json(&folder.join("cases.json"));
    let cases = cases["cases"].as_array().unwrap();
    let text = |case: &Value, key: &str| case[key].as_str().unwrap().to_owned();
    let texts: Vec<_> =
        cases.iter().map(|case| (text(case, "source"), text(case, "target"))).collect();
    let pairs: Vec<(&str, &str)> = texts.iter().map(|(s, t)| (&**s, &**t)).collect();
    let pickle = folder.join("bart.pth");
    for weights in [None, Some(&*pickle)] {
        let scores = BartScorer::load(&folder, weights).unwrap().scores(&pairs).unwrap();
        for (score, case) in scores.iter().zip(cases) {
            let expected = case["score"].as_f64().unwrap();
            assert!((score - expected).abs() < TOLERANCE, "{case}: {score} {weights:?}");
        }
    }

    // The same as a checkpoint of older days: a state dict, and a tokenizer in one file or two.
    let older = tempfile::tempdir().unwrap();
    for (from, to) in [
        ("config.json", "config.json"),
        ("vocab.json", "vocab.json"),
        ("merges.txt", "merges.txt"),
        ("bart.pth", "pytorch_model.bin"),
    ] {
        std::fs::copy(folder.join(from), older.path().join(to)).unwrap();
    }
    let scores = BartScorer::load(older.path(), None).unwrap().scores(&pairs[..1]).unwrap();
    assert!((scores[0] - cases[0]["score"].as_f64().unwrap()).abs() < TOLERANCE);
}

#[test]
fn what_is_no_bart_is_told_with_the_file() {
    let told = |dir: &Path, weights: Option<&Path>| match Bart::load(dir, weights) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{} loads", dir.display()),
    };
    let qwen = in_project("qwen3_vl_tiny");
    assert!(told(&qwen, None).contains("\"bart\""), "{}", told(&qwen, None));
    let cases = tiny().join("cases.json");
    assert!(told(&tiny(), Some(&cases)).contains("cases.json: it is no state dict"));
    let other = in_project("bart_small/bart.pth");
    assert!(told(&tiny(), Some(&other)).contains("bart.pth: the tensor `model."));
    assert!(told(&tiny(), Some(Path::new("no/such.pth"))).contains("no/such.pth"));
    let Err(error) = BartScorer::load(&tiny(), None) else { panic!("it has no tokenizer") };
    assert!(error.to_string().contains("merges.txt"), "{error}");

    let bart = Bart::load(&tiny(), None).unwrap();
    let refused =
        |source: Vec<u32>| match bart.token_logprobs(&[TokenPair { source, target: vec![0, 2] }]) {
            Err(ModelError::Prompt { reason }) => reason,
            other => panic!("{other:?}"),
        };
    assert!(refused(vec![]).contains("without tokens"));
    assert!(refused(vec![0; 65]).contains("65 tokens"));
    assert!(refused(vec![0, 120]).contains("token 120"));
}
