//! Checkpoints in every form they come in: number types, layouts of names, shards; and what is
//! said of those that do not fit.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use mmrag_model::{
    Forward, Packed, Placement, Precision, Segment, Vlm, VlmConfig, Weights, save_safetensors,
    text_positions,
};

/// One folder of each family; the second has an untied head and the published names.
const FOLDERS: [&str; 3] = ["qwen3_vl_tiny", "qwen2_5_vl_odd", "qwen3_vl_odd"];

fn in_project(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn load(dir: &Path) -> Result<Vlm, String> {
    let load = || {
        Vlm::load(VlmConfig::load(dir)?, &Weights::open(dir)?, &Placement::cpu(Precision::Stored))
    };
    load().map_err(|error| error.to_string())
}

/// Final hidden states and logits of a few tokens, one after the other.
fn outputs(model: &Vlm) -> Vec<f32> {
    let tokens = vec![5, 17, 99, 3, 120, 44];
    let positions = text_positions(0, tokens.len()).collect();
    let mut pack = Packed::default();
    pack.push(&Segment { tokens, positions, image_rows: vec![] }, vec![]);
    let pass = Forward::untracked(None);
    let hidden_td = model.hidden(&pass, &pack, &[], None).unwrap();
    let logits_tv = mmrag_ops::linear(&hidden_td, &model.head(&pass), None).unwrap();
    Tensor::cat(&[hidden_td, logits_tv], 1).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// All tensors of a folder as f32, by our names.
fn tensors(dir: &Path) -> Vec<(String, Tensor)> {
    let weights = Weights::open(dir).unwrap();
    let read = |name: &str| weights.f32(name, weights.shape(name).unwrap()).unwrap();
    weights.names().map(|name| (name.to_owned(), read(name))).collect()
}

fn published(name: &str) -> String {
    name.replace("model.language_model.", "model.").replace("model.visual.", "visual.")
}

/// A folder with a config and these tensors in so many shards.
fn write(config: &Path, tensors: &[(String, Tensor)], shards: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(config.join("config.json"), dir.path().join("config.json")).unwrap();
    if shards == 1 {
        save_safetensors(dir.path().join("model.safetensors"), tensors).unwrap();
        return dir;
    }
    let mut map = serde_json::Map::new();
    for (nth, part) in tensors.chunks(tensors.len().div_ceil(shards)).enumerate() {
        let file = format!("model-{nth}.safetensors");
        save_safetensors(dir.path().join(&file), part).unwrap();
        map.extend(part.iter().map(|(name, _)| (name.clone(), file.clone().into())));
    }
    let index = serde_json::json!({ "weight_map": map }).to_string();
    fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    dir
}

fn as_type(tensors: &[(String, Tensor)], dtype: DType) -> Vec<(String, Tensor)> {
    let cast = |(name, x): &(String, Tensor)| (name.clone(), x.to_dtype(dtype).unwrap());
    tensors.iter().map(cast).collect()
}

fn renamed(tensors: &[(String, Tensor)]) -> Vec<(String, Tensor)> {
    tensors.iter().map(|(name, x)| (published(name), x.clone())).collect()
}

#[test]
fn halves_load_as_the_numbers_they_are_in_any_layout_and_in_shards() {
    for folder in FOLDERS {
        let dir = in_project(folder);
        let full = tensors(&dir);
        for dtype in [DType::F16, DType::BF16] {
            let half = as_type(&full, dtype);
            let rounded = write(&dir, &as_type(&half, DType::F32), 1);
            let expected = outputs(&load(rounded.path()).unwrap());
            assert!(expected.iter().all(|x| x.is_finite()));
            for (names, shards) in [(half.clone(), 1), (renamed(&half), 1), (renamed(&half), 4)] {
                let half = write(&dir, &names, shards);
                assert_eq!(outputs(&load(half.path()).unwrap()), expected, "{folder} {dtype:?}");
            }
        }
    }
}

/// The head that stands in the file of a tied checkpoint is its embeddings again.
#[test]
fn a_tied_head_may_stand_in_the_file() {
    let dir = in_project("qwen3_vl_tiny");
    let mut all = tensors(&dir);
    let embeddings = all.iter().find(|(name, _)| name.ends_with("embed_tokens.weight")).unwrap();
    let head = ("lm_head.weight".to_owned(), embeddings.1.clone());
    all.push(head);
    let twice = write(&dir, &all, 1);
    assert_eq!(outputs(&load(twice.path()).unwrap()), outputs(&load(&dir).unwrap()));
}

/// What is wrong is told by the name that the file has, or would have, and by the file.
#[test]
fn a_missing_extra_or_misshapen_tensor_is_named_in_both_layouts() {
    type Names = fn(&str) -> String;
    let layouts: [Names; 2] = [|name| name.to_owned(), published];
    for folder in FOLDERS {
        let dir = in_project(folder);
        let all = tensors(&dir);
        for layout in layouts {
            let error = |tensors: &[(String, Tensor)]| {
                let named = |(name, x): &(String, Tensor)| (layout(name), x.clone());
                let tensors: Vec<_> = tensors.iter().map(named).collect();
                load(write(&dir, &tensors, 2).path()).err().unwrap()
            };
            let check = |error: &str, expected: &[&str]| {
                for part in expected.iter().chain(&["one checkpoint"]) {
                    assert!(error.contains(part), "{folder}: {part} is not in {error}");
                }
            };
            for name in [
                "model.language_model.layers.1.mlp.up_proj.weight",
                "model.visual.blocks.0.attn.qkv.bias",
                "model.language_model.norm.weight",
            ] {
                let own = format!("`{}`", layout(name));
                let others: Vec<_> = all.iter().filter(|(n, _)| n != name).cloned().collect();
                check(&error(&others), &[&own, "is missing"]);
                let changed = |x: Tensor| {
                    let others = others.iter().cloned();
                    others.chain([(name.to_owned(), x)]).collect::<Vec<_>>()
                };
                let x = &all.iter().find(|(n, _)| n == name).unwrap().1;
                let longer = Tensor::cat(&[x, &x.narrow(0, 0, 1).unwrap()], 0).unwrap();
                let shape = format!("should be {:?} but is {:?}", x.dims(), longer.dims());
                check(&error(&changed(longer)), &[&own, &shape, "model-1.safetensors"]);
                let whole = Tensor::zeros(x.dims(), DType::I64, &Device::Cpu).unwrap();
                let kind = "should be F32, BF16 or F16 but is I64";
                check(&error(&changed(whole)), &[&own, kind, "model-1.safetensors"]);
            }
            let mut more = all.clone();
            let extra = "model.language_model.layers.9.mlp.up_proj.weight";
            more.push((extra.to_owned(), all[0].1.clone()));
            check(&error(&more), &["no place for", &layout(extra)]);
        }
    }
}

/// A missing shard, and tensors that an index promises and no shard holds.
#[test]
fn an_incomplete_download_is_named() {
    let dir = in_project("qwen3_vl_odd");
    let copy = write(&dir, &tensors(&dir), 3);
    fs::remove_file(copy.path().join("model-1.safetensors")).unwrap();
    let error = load(copy.path()).err().unwrap();
    assert!(error.contains("model-1.safetensors"), "{error}");
    let whole = fs::read(copy.path().join("model-0.safetensors")).unwrap();
    let cut = copy.path().join("model-1.safetensors");
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let error = load(copy.path()).err().unwrap();
    assert!(
        error.contains("model-1.safetensors") && error.contains("download it again"),
        "{error}"
    );
}
