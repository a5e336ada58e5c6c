//! The encoders of texts and pictures against the numbers that transformers makes of tiny random ones.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use mmrag_core::{Embed as _, ImageSource};
use mmrag_model::{PictureEmbedder, TextEmbedder};
use serde_json::{Value, json};

const TOLERANCE: f32 = 2e-6;

fn fixture() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bert_tiny")
}

fn copy_with(folder: &Path, name: &str, value: &Value) {
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        std::fs::copy(fixture().join(file), folder.join(file)).unwrap();
    }
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, value.to_string()).unwrap();
}

fn check(embedder: &TextEmbedder, pooling: &str) {
    let cases = std::fs::read_to_string(fixture().join("cases.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&cases).unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let vector = embedder.embed(case["text"].as_str().unwrap()).unwrap();
        let expected = case[pooling].as_array().unwrap();
        assert_eq!(vector.len(), expected.len());
        for (x, y) in vector.iter().zip(expected) {
            let y = y.as_f64().unwrap() as f32;
            assert!((x - y).abs() < TOLERANCE, "{}: {x} {y}", case["text"]);
        }
    }
}

#[test]
fn vectors_are_those_of_transformers() {
    check(&TextEmbedder::load(&fixture()).unwrap(), "mean");
    let folder = tempfile::tempdir().unwrap();
    let first = json!({ "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false });
    copy_with(folder.path(), "1_Pooling/config.json", &first);
    check(&TextEmbedder::load(folder.path()).unwrap(), "first");
}

#[test]
fn words_before_questions_are_followed() {
    let folder = tempfile::tempdir().unwrap();
    let prompts = json!({ "prompts": { "query": "who? ", "document": "" } });
    copy_with(folder.path(), "config_sentence_transformers.json", &prompts);
    let embedder = TextEmbedder::load(folder.path()).unwrap();
    let asked = embedder.embed_questions(&["olm"]).unwrap();
    assert_eq!(asked[0], embedder.embed("who? olm").unwrap());
}

#[test]
fn other_families_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let config = std::fs::read_to_string(fixture().join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["model_type"] = json!("t5");
    copy_with(folder.path(), "config.json", &config);
    let error = TextEmbedder::load(folder.path()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("not t5"), "{error}");
}

#[test]
fn pictures_and_texts_about_them_are_those_of_transformers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/clip_tiny");
    let embedder = PictureEmbedder::load(&folder).unwrap();
    let cases: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("cases.json")).unwrap()).unwrap();
    let close = |vector: &[f32], expected: &Value| {
        let expected = expected.as_array().unwrap();
        assert_eq!(vector.len(), expected.len());
        for (x, y) in vector.iter().zip(expected) {
            let y = y.as_f64().unwrap() as f32;
            assert!((x - y).abs() < TOLERANCE, "{x} {y}");
        }
    };
    let picture = ImageSource::Path(folder.join("picture.png"));
    close(&embedder.embed_picture(&picture).unwrap(), &cases["image"]);
    for case in cases["texts"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        close(&embedder.embed_text(text).unwrap(), &case["vector"]);
    }
    let broken = ImageSource::Bytes(b"no picture".as_slice().into());
    assert!(embedder.embed_picture(&broken).is_err());
}
