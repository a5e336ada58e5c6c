//! Adapters in PEFT's folders.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use mmrag_model::{
    ALL_TARGETS, Adapter, AdapterFile, Forward, LoraPair, LoraSpec, Packed, Picture, Placement,
    Precision, Segment, TargetModules, Vlm, VlmConfig, Weights, save_safetensors, text_positions,
};
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
    let modules = ["model.layers.0.mlp.up_proj", "model.visual.merger.linear_fc1", "lm_head"];
    assert_eq!(TargetModules::AllLinear.select(modules).unwrap(), modules[..2]);
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
        (json!({"lora_bias": true}), "lora_bias"),
        (json!({"lora_ga_config": {"bsz": 2}}), "lora_ga_config"),
        (json!({"trainable_token_indices": [3]}), "trainable_token_indices"),
        (json!({"alpha_pattern": {"q_proj": -1}}), "alpha_pattern"),
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

fn in_project(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn model(name: &str) -> Vlm {
    let dir = in_project(name);
    Vlm::load(
        VlmConfig::load(&dir).unwrap(),
        &Weights::open(&dir).unwrap(),
        &Placement::cpu(Precision::Stored),
    )
    .unwrap()
}

fn hidden(model: &Vlm, adapter: Option<&Adapter>) -> Vec<f32> {
    let tokens = vec![5, 17, 99, 3, 120];
    let positions = text_positions(0, tokens.len()).collect();
    let mut pack = Packed::default();
    pack.push(&Segment { tokens, positions, image_rows: vec![] }, vec![]);
    let hidden = model.hidden(&Forward::untracked(adapter), &pack, &[], None).unwrap();
    hidden.flatten_all().unwrap().to_vec1().unwrap()
}

/// `target_modules` in each of its forms is read, and written back as it was.
#[test]
fn targets_are_a_list_an_expression_or_all_linear() {
    let dir = tempfile::tempdir().unwrap();
    let cases = [
        (json!(["q_proj", "up_proj"]), json!(["q_proj", "up_proj"])),
        (
            json!(r".*layers\.\d+\.mlp\.(gate|up)_proj"),
            json!(r".*layers\.\d+\.mlp\.(gate|up)_proj"),
        ),
        (json!("all-linear"), json!("all-linear")),
        (json!("ALL-LINEAR"), json!("all-linear")),
    ];
    for (given, expected) in cases {
        let folder = changed(dir.path(), &json!({"target_modules": given}));
        let adapter = AdapterFile::load(&folder).unwrap();
        adapter.save(dir.path().join("saved")).unwrap();
        let text = fs::read_to_string(dir.path().join("saved/adapter_config.json")).unwrap();
        let written: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(written["target_modules"], expected);
        assert_same(&AdapterFile::load(dir.path().join("saved")).unwrap(), &adapter);
    }
}

/// Ranks and scales by module act as PEFT lets them act: on the model, each module by its own.
#[test]
fn rank_and_alpha_patterns_count_in_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let base = model("qwen3_vl_tiny");
    let whole =
        AdapterFile::load(in_project("qwen3_vl_tiny_update/adapter_after_3_steps")).unwrap();
    // The first two rows of the queries' matrices as an adapter of rank 2, at the same scale.
    let mut tensors = vec![];
    let mut expected = BTreeMap::new();
    for (module, pair) in &whole.layers {
        let is_query = module.ends_with("q_proj");
        let rank = if is_query { 2 } else { 4 };
        let a = pair.a.narrow(0, 0, rank).unwrap().contiguous().unwrap();
        let b = pair.b.narrow(1, 0, rank).unwrap().contiguous().unwrap();
        tensors.push((format!("base_model.model.{module}.lora_A.weight"), a.clone()));
        tensors.push((format!("base_model.model.{module}.lora_B.weight"), b.clone()));
        let scale = if is_query { 3.0 } else { pair.scale };
        expected.insert(module.clone(), LoraPair { a, b, scale });
    }
    let patterns = json!({"rank_pattern": {"self_attn.q_proj": 2}, "alpha_pattern": {"q_proj": 6}});
    let folder = changed(dir.path(), &patterns);
    save_safetensors(folder.join("adapter_model.safetensors"), &tensors).unwrap();
    let read = Adapter::load(&folder, &base).unwrap();
    for (module, layer) in read.layers() {
        assert_eq!(layer.scale, expected[module].scale, "{module}");
    }
    let expected = AdapterFile { layers: expected, ..whole };
    expected.save(dir.path().join("expected")).unwrap();
    let expected = Adapter::load(dir.path().join("expected"), &base).unwrap();
    assert_eq!(hidden(&base, Some(&read)), hidden(&base, Some(&expected)));
    assert_ne!(hidden(&base, Some(&read)), hidden(&base, None));
}

/// Older tools write the paths of the older layout.
#[test]
fn an_adapter_with_the_older_paths_is_the_same_adapter() {
    let dir = tempfile::tempdir().unwrap();
    let folder = in_project("qwen2_5_vl_tiny_update/adapter_after_3_steps");
    let newer = AdapterFile::load(&folder).unwrap();
    let mut tensors = vec![];
    for (module, pair) in &newer.layers {
        let older = module.replace("model.language_model.", "model.");
        tensors.push((format!("base_model.model.{older}.lora_A.weight"), pair.a.clone()));
        tensors.push((format!("base_model.model.{older}.lora_B.weight"), pair.b.clone()));
    }
    let copy = dir.path().join("older");
    fs::create_dir(&copy).unwrap();
    fs::copy(folder.join("adapter_config.json"), copy.join("adapter_config.json")).unwrap();
    save_safetensors(copy.join("adapter_model.safetensors"), &tensors).unwrap();
    assert_same(&AdapterFile::load(&copy).unwrap(), &newer);
    assert!(Adapter::load(&copy, &model("qwen2_5_vl_tiny")).is_ok());
}

#[test]
fn an_adapter_that_does_not_fit_names_its_folder_its_base_and_the_mend() {
    let dir = tempfile::tempdir().unwrap();
    let error =
        |folder: &Path, base: &str| Adapter::load(folder, &model(base)).err().unwrap().to_string();
    let folder = in_project("qwen3_vl_tiny_update/adapter_init");
    for base in ["qwen2_5_vl_tiny", "qwen3_vl_odd"] {
        let error = error(&folder, base);
        assert!(error.contains("adapter_init") && error.contains("for `qwen3_vl_tiny`"), "{error}");
        assert!(error.contains("give the checkpoint that it was made for"), "{error}");
    }
    // What would be left out without a word, were it read: the head.
    one_map("lm_head", (40, 200)).save(dir.path().join("head")).unwrap();
    let error = error(&dir.path().join("head"), "qwen3_vl_odd");
    assert!(error.contains("it changes lm_head") && error.contains("mmrag model merge"), "{error}");
}

/// An adapter of one map from so many values to so many.
fn one_map(module: &str, (inner, outer): (usize, usize)) -> AdapterFile {
    let ones =
        |shape: (usize, usize)| Tensor::ones(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
    let pair = LoraPair { a: ones((2, inner)), b: ones((outer, 2)), scale: 0.01 };
    let layers = [(module.to_owned(), pair)].into();
    AdapterFile { r: 2, alpha: 0.02, targets: TargetModules::AllLinear, layers, base: "x".into() }
}

/// PEFT's names are those of both parts: `up_proj` is a map of Qwen2.5-VL's vision tower too.
#[test]
fn an_adapter_may_change_the_vision_tower() {
    let dir = tempfile::tempdir().unwrap();
    let base = model("qwen2_5_vl_odd");
    one_map("model.visual.blocks.1.mlp.up_proj", (40, 44)).save(dir.path().join("a")).unwrap();
    let adapter = Adapter::load(dir.path().join("a"), &base).unwrap();
    assert!(adapter.changes_vision());
    let width = 3 * 2 * 10 * 10;
    let picture = Picture {
        values: (0..16 * width).map(|i| (i % 7) as f32 / 7.0).collect(),
        grid: [1, 4, 4],
    };
    let see = |adapter: Option<&Adapter>| -> Vec<f32> {
        let seen = base.see(&Forward::untracked(adapter), &[&picture]).unwrap();
        seen[0].embeds_md.flatten_all().unwrap().to_vec1().unwrap()
    };
    assert_ne!(see(Some(&adapter)), see(None));
    assert_eq!(hidden(&base, Some(&adapter)), hidden(&base, None), "text alone is as it was");
}

/// Several adapters lie on one base, each pass takes one or none, and none changes the others.
#[test]
fn several_adapters_share_one_base_and_off_is_the_reference() {
    let base = model("qwen3_vl_tiny");
    let load =
        |name: &str| Adapter::load(in_project("qwen3_vl_tiny_update").join(name), &base).unwrap();
    let (before, after) = (load("adapter_init"), load("adapter_after_3_steps"));
    let spec = LoraSpec { r: 2, alpha: 4.0, targets: ALL_TARGETS.map(str::to_owned).to_vec() };
    let fresh = Adapter::new(&base, &spec, 1).unwrap();
    let off = hidden(&base, None);
    let (one, other) = (hidden(&base, Some(&before)), hidden(&base, Some(&after)));
    assert!(one != off && other != off && one != other);
    assert_eq!(hidden(&base, Some(&fresh)), off, "a new adapter changes nothing yet");
    assert_eq!(hidden(&base, Some(&before)), one);
    assert_eq!(hidden(&base, None), off);
    assert_eq!(hidden(&model("qwen3_vl_tiny"), None), off);
}
