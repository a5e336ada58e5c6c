//! Adapters in PEFT's folders.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use mmrag_model::{AdapterFile, LoraPair, TargetModules};
use serde_json::{Value, json};

fn fixture() -> PathBuf {
    let fixtures = std::env::var_os("MMRAG_FIXTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"),
        PathBuf::from,
    );
    fixtures.join("qwen3_vl_tiny_update/adapter_init")
}

/// The fixture's folder with some keys of its configuration changed.
fn changed(dir: &Path, changes: &Value) -> PathBuf {
    let copy = dir.join("adapter");
    fs::create_dir_all(&copy).unwrap();
    let text = fs::read_to_string(fixture().join("adapter_config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    fs::write(copy.join("adapter_config.json"), config.to_string()).unwrap();
    let tensors = fs::read(fixture().join("adapter_model.safetensors")).unwrap();
    fs::write(copy.join("adapter_model.safetensors"), tensors).unwrap();
    copy
}

fn values(tensor: &Tensor) -> Vec<Vec<f32>> {
    tensor.to_vec2().unwrap()
}

fn assert_same(left: &AdapterFile, right: &AdapterFile) {
    assert_eq!((left.r, left.alpha, &left.base), (right.r, right.alpha, &right.base));
    assert_eq!(left.targets, right.targets);
    assert!(left.layers.keys().eq(right.layers.keys()));
    for (module, pair) in &left.layers {
        let other = &right.layers[module];
        assert_eq!(values(&pair.a), values(&other.a), "{module}");
        assert_eq!(values(&pair.b), values(&other.b), "{module}");
        assert!((pair.scale - other.scale).abs() < 1e-12, "{module}");
    }
}

#[test]
fn a_folder_of_peft_is_read_and_written_back() {
    let adapter = AdapterFile::load(fixture()).unwrap();
    assert_eq!((adapter.r, adapter.alpha, adapter.layers.len()), (4, 8.0, 28));
    let pair = &adapter.layers["model.language_model.layers.3.mlp.down_proj"];
    assert_eq!((pair.a.dims(), pair.b.dims(), pair.scale), (&[4, 112][..], &[64, 4][..], 2.0));
    let modules = adapter.layers.keys().map(String::as_str).chain(["model.visual.x.mlp.up_proj"]);
    assert_eq!(adapter.targets.select(modules).unwrap().len(), 28);

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("saved");
    adapter.save(&path).unwrap();
    assert_same(&AdapterFile::load(&path).unwrap(), &adapter);
    let bytes = |name: &str| fs::read(path.join(name)).unwrap();
    let tensors = bytes("adapter_model.safetensors");
    let theirs = fs::read(fixture().join("adapter_model.safetensors")).unwrap();
    assert_eq!(tensors.len(), theirs.len());
    adapter.save(&path).unwrap();
    assert_eq!(tensors, bytes("adapter_model.safetensors"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn patterns_and_rslora_change_the_scale() {
    let dir = tempfile::tempdir().unwrap();
    let scale = |changes: Value, module: &str| {
        let adapter = AdapterFile::load(changed(dir.path(), &changes)).unwrap();
        adapter.layers[&format!("model.language_model.layers.{module}")].scale
    };
    assert_eq!(scale(json!({"use_rslora": true}), "0.mlp.up_proj"), 4.0);
    let alphas = json!({"alpha_pattern": {"layers.1.self_attn.q_proj": 2, "mlp.up_proj": 6}});
    assert_eq!(scale(alphas.clone(), "1.self_attn.q_proj"), 0.5);
    assert_eq!(scale(alphas.clone(), "2.mlp.up_proj"), 1.5);
    assert_eq!(scale(alphas, "1.self_attn.k_proj"), 2.0);
    let ranks = json!({"rank_pattern": {"q_proj": 2}});
    let error = AdapterFile::load(changed(dir.path(), &ranks)).unwrap_err().to_string();
    assert!(error.contains("q_proj.lora_A.weight` should be [2, 64] but is [4, 64]"), "{error}");
}

#[test]
fn ranks_and_scales_of_their_own_survive_a_round_trip() {
    let pair = |rank: usize, scale: f64| LoraPair {
        a: Tensor::ones((rank, 3), candle_core::DType::F32, &Device::Cpu).unwrap(),
        b: Tensor::zeros((2, rank), candle_core::DType::F32, &Device::Cpu).unwrap(),
        scale,
    };
    let layers: BTreeMap<String, LoraPair> = [
        ("model.language_model.layers.0.mlp.up_proj", pair(4, 2.0)),
        ("model.language_model.layers.1.mlp.up_proj", pair(2, 2.0)),
        ("model.language_model.layers.2.mlp.up_proj", pair(4, 0.3)),
    ]
    .map(|(name, pair)| (name.to_owned(), pair))
    .into();
    let targets = TargetModules::Names(vec!["up_proj".into()]);
    let adapter = AdapterFile { r: 4, alpha: 8.0, targets, layers, base: "small".into() };
    let dir = tempfile::tempdir().unwrap();
    adapter.save(dir.path().join("a")).unwrap();
    assert_same(&AdapterFile::load(dir.path().join("a")).unwrap(), &adapter);
}

#[test]
fn names_match_whole_path_elements_and_patterns_whole_paths() {
    let modules = ["layers.0.q_proj", "layers.0.eq_proj", "q_proj", "layers.10.q_proj.x"];
    let names = TargetModules::Names(vec!["q_proj".into()]);
    assert_eq!(names.select(modules).unwrap(), ["layers.0.q_proj", "q_proj"]);
    let pattern = TargetModules::Pattern(r"layers\.\d+\.(?!eq)\w+".into());
    assert_eq!(pattern.select(modules).unwrap(), ["layers.0.q_proj"]);
    assert!(TargetModules::Pattern("(".into()).select(modules).is_err());
}

#[test]
fn what_is_not_built_is_refused_by_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let cases = [
        (json!({"modules_to_save": ["lm_head"]}), "modules_to_save"),
        (json!({"use_dora": true}), "use_dora"),
        (json!({"bias": "all"}), "bias: all"),
        (json!({"peft_type": "LOHA"}), "LOHA"),
        (json!({"init_lora_weights": "pissa"}), "pissa"),
        (json!({"r": 0}), "`r` should be"),
        (json!({"target_modules": 3}), "target_modules"),
        (json!({"r": 8}), "should be [8, 112] but is [4, 112]"),
    ];
    for (changes, expected) in cases {
        let error = AdapterFile::load(changed(dir.path(), &changes)).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("adapter"), "{error}");
    }
    let path = changed(dir.path(), &json!({}));
    let whole = fs::read(path.join("adapter_model.safetensors")).unwrap();
    fs::write(path.join("adapter_model.safetensors"), &whole[..whole.len() / 2]).unwrap();
    let error = AdapterFile::load(&path).unwrap_err().to_string();
    assert!(error.contains("adapter_model.safetensors: the file is truncated"), "{error}");
}
