//! An adapter folded into its checkpoint.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use mmrag_model::{
    Adapter, AdapterFile, Forward, LoraPair, Packed, Placement, Precision, Segment, TargetModules,
    Vlm, VlmConfig, Weights, merge, save_safetensors, text_positions,
};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn load(dir: &Path) -> Vlm {
    Vlm::load(
        VlmConfig::load(dir).unwrap(),
        &Weights::open(dir).unwrap(),
        &Placement::cpu(Precision::Stored),
    )
    .unwrap()
}

fn hidden(model: &Vlm, adapter: Option<&Adapter>) -> Vec<f32> {
    let tokens = vec![5, 17, 99, 3, 120, 44];
    let positions = text_positions(0, tokens.len()).collect();
    let mut pack = Packed::default();
    pack.push(&Segment { tokens, positions, image_rows: vec![] }, vec![]);
    let pass = Forward::untracked(adapter);
    let hidden = model.hidden(&pass, &pack, &[], None).unwrap();
    hidden.flatten_all().unwrap().to_vec1().unwrap()
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The checkpoint in another number type and in two shards, as larger ones are.
fn sharded(dir: &Path, out: &Path, dtype: DType) {
    let weights = Weights::open(dir).unwrap();
    let names: Vec<&str> = weights.names().collect();
    let mut map = serde_json::Map::new();
    for (nth, names) in names.chunks(names.len().div_ceil(2)).enumerate() {
        let file = format!("model-0000{}-of-00002.safetensors", nth + 1);
        let mut tensors: Vec<(String, Tensor)> = vec![];
        for name in names {
            let tensor = weights.f32(name, weights.shape(name).unwrap()).unwrap();
            tensors.push(((*name).to_owned(), tensor.to_dtype(dtype).unwrap()));
            map.insert((*name).to_owned(), file.clone().into());
        }
        save_safetensors(out.join(file), &tensors).unwrap();
    }
    let index = serde_json::json!({ "weight_map": map });
    fs::write(out.join("model.safetensors.index.json"), index.to_string()).unwrap();
    fs::copy(dir.join("config.json"), out.join("config.json")).unwrap();
}

#[test]
fn merged_is_the_base_with_the_adapter_on() {
    for family in ["qwen3_vl_tiny", "qwen2_5_vl_tiny"] {
        let base = fixtures().join(family);
        let folder = fixtures().join(format!("{family}_update/adapter_after_3_steps"));
        let out = tempfile::tempdir().unwrap();
        merge(&base, &folder, out.path()).unwrap();
        let (model, merged) = (load(&base), load(out.path()));
        let adapter = Adapter::load(&folder, &model).unwrap();
        let with = hidden(&model, Some(&adapter));
        let off = difference(&with, &hidden(&merged, None));
        let change = difference(&with, &hidden(&model, None));
        assert!(off < 1e-5 && change > 1e-3, "{family}: off {off}, changed {change}");
        assert!(out.path().join("preprocessor_config.json").exists());
        let error = merge(&base, &folder, out.path()).unwrap_err().to_string();
        assert!(error.contains("not empty"), "{error}");
    }
}

#[test]
fn shards_and_number_types_stay() {
    // Eight bits of each changed weight are left, or eleven.
    check_number_type(DType::BF16, 0.05);
    check_number_type(DType::F16, 0.006);
}

fn check_number_type(dtype: DType, tolerance: f32) {
    let base = tempfile::tempdir().unwrap();
    sharded(&fixtures().join("qwen3_vl_tiny"), base.path(), dtype);
    let folder = fixtures().join("qwen3_vl_tiny_update/adapter_after_3_steps");
    let out = tempfile::tempdir().unwrap();
    merge(base.path(), &folder, out.path()).unwrap();
    for nth in 1..=2 {
        let name = format!("model-0000{nth}-of-00002.safetensors");
        let size = |dir: &Path| fs::metadata(dir.join(&name)).unwrap().len();
        assert_eq!(size(base.path()), size(out.path()));
    }
    let model = load(base.path());
    let adapter = Adapter::load(&folder, &model).unwrap();
    let off = difference(&hidden(&model, Some(&adapter)), &hidden(&load(out.path()), None));
    assert!(off < tolerance, "{dtype:?}: {off}");
}

#[test]
fn an_adapter_of_another_base_is_refused_and_nothing_is_written() {
    let out = tempfile::tempdir().unwrap();
    let folder = fixtures().join("qwen3_vl_tiny_update/adapter_init");
    let error = merge(fixtures().join("qwen2_5_vl_tiny"), folder, out.path()).unwrap_err();
    assert!(error.to_string().contains("was made for `qwen3_vl_tiny`"), "{error}");
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

/// Of a change of one map of the vision tower nothing else changes.
#[test]
fn a_change_of_the_vision_tower_is_folded_in() {
    let base = fixtures().join("qwen2_5_vl_odd");
    let place = tempfile::tempdir().unwrap();
    let module = "model.visual.blocks.1.attn.proj";
    let ones = |rows, columns| Tensor::ones((rows, columns), DType::F32, &Device::Cpu).unwrap();
    let pair = LoraPair { a: ones(2, 40), b: ones(40, 2), scale: 0.25 };
    let layers = [(module.to_owned(), pair)].into();
    let targets = TargetModules::AllLinear;
    let adapter = AdapterFile { r: 2, alpha: 0.5, targets, layers, base: String::new() };
    adapter.save(place.path().join("adapter")).unwrap();
    merge(&base, place.path().join("adapter"), place.path().join("out")).unwrap();
    let (before, after) =
        (Weights::open(&base).unwrap(), Weights::open(place.path().join("out")).unwrap());
    for name in before.names() {
        let read = |weights: &Weights| {
            let tensor = weights.f32(name, before.shape(name).unwrap()).unwrap();
            tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let change = if name == format!("{module}.weight") { 0.5 } else { 0.0 };
        let expected: Vec<f32> = read(&before).iter().map(|x| x + change).collect();
        assert_eq!(read(&after), expected, "{name}");
    }
}
