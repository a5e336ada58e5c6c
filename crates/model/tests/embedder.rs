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
fn a_module_that_is_not_built_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let module = |kind: &str| json!({ "type": format!("sentence_transformers.models.{kind}") });
    let modules = json!([module("Transformer"), module("Pooling"), module("Normalize")]);
    copy_with(folder.path(), "modules.json", &modules);
    check(&TextEmbedder::load(folder.path()).unwrap(), "mean");
    let modules = json!([module("Transformer"), module("Pooling"), module("Dense")]);
    copy_with(folder.path(), "modules.json", &modules);
    let error = TextEmbedder::load(folder.path()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("the module Dense"), "{error}");
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

fn folder_of(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn cases_of(folder: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join("cases.json")).unwrap()).unwrap()
}

fn check_pictures(folder: &Path, cases: &Value) {
    let embedder = PictureEmbedder::load(folder).unwrap();
    let close = |what: &str, vector: &[f32], expected: &Value| {
        let expected = expected.as_array().unwrap();
        assert_eq!((vector.len(), vector.len()), (expected.len(), embedder.width()));
        for (x, y) in vector.iter().zip(expected) {
            let y = y.as_f64().unwrap() as f32;
            assert!((x - y).abs() < TOLERANCE, "{what}: {x} {y}");
        }
    };
    let picture = ImageSource::Path(folder.join("picture.png"));
    close("the picture", &embedder.embed_picture(&picture).unwrap(), &cases["image"]);
    for case in cases["texts"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        if let Some(ids) = case["ids"].as_array() {
            let found: Vec<u64> =
                embedder.tokens(text).unwrap().into_iter().map(u64::from).collect();
            let expected: Vec<u64> = ids.iter().map(|id| id.as_u64().unwrap()).collect();
            assert_eq!(found, expected[..found.len()], "{text}");
            assert_eq!(embedder.count_tokens(text).unwrap(), found.len());
        }
        close(text, &embedder.embed_text(text).unwrap(), &case["vector"]);
    }
    let broken = ImageSource::Bytes(b"no picture".as_slice().into());
    assert!(embedder.embed_picture(&broken).is_err());
}

#[test]
fn pictures_and_texts_about_them_are_those_of_transformers() {
    let folder = folder_of("clip_tiny");
    check_pictures(&folder, &cases_of(&folder));
}

#[test]
fn siglip_is_that_of_transformers() {
    let folder = folder_of("siglip_tiny");
    check_pictures(&folder, &cases_of(&folder)["siglip"]);
}

/// The folder as SigLIP 2 of a fixed resolution has it, with one file changed.
fn siglip_2(change: impl FnOnce(&Path)) -> tempfile::TempDir {
    let (from, folder) = (folder_of("siglip_tiny"), tempfile::tempdir().unwrap());
    for file in std::fs::read_dir(&from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    for name in ["preprocessor_config", "tokenizer_config"] {
        let second = folder.path().join(format!("{name}.2.json"));
        std::fs::rename(second, folder.path().join(format!("{name}.json"))).unwrap();
    }
    change(folder.path());
    folder
}

fn set(folder: &Path, name: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.join(name);
    let mut value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

#[test]
fn siglip_2_of_a_fixed_resolution_is_that_of_transformers() {
    let folder = siglip_2(|_| {});
    check_pictures(folder.path(), &cases_of(folder.path())["siglip.2"]);
}

#[test]
fn what_is_another_siglip_is_refused_by_name() {
    let check = |change: &dyn Fn(&Path), word: &str| {
        let folder = siglip_2(change);
        let error = PictureEmbedder::load(folder.path()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    let config = |key: &'static str, value: Value| {
        move |folder: &Path| set(folder, "config.json", |config| config[key] = value.clone())
    };
    check(&config("model_type", json!("siglip2")), "NaFlex");
    check(&config("model_type", json!("flava")), "not flava");
    let headless = |folder: &Path| {
        set(folder, "config.json", |config| {
            config["vision_config"]["vision_use_head"] = json!(false);
        });
    };
    check(&headless, "without a head");
    let tokenizer = |key: &'static str, value: Value| {
        move |folder: &Path| set(folder, "tokenizer_config.json", |c| c[key] = value.clone())
    };
    check(&tokenizer("tokenizer_class", json!("BertTokenizer")), "BertTokenizer");
    check(&tokenizer("padding_side", json!("left")), "beginning");
    check(&tokenizer("pad_token", json!("<none>")), "pad_token");
    let pixels = |key: &'static str, value: Value| {
        move |folder: &Path| set(folder, "preprocessor_config.json", |c| c[key] = value.clone())
    };
    check(&pixels("resample", json!(1)), "filter 1");
    check(&pixels("size", json!({ "height": 24, "width": 24 })), "24 x 24");
}
