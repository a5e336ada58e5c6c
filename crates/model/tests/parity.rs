//! Every tensor of the reference cases, made by transformers, against this model.
//!
//! The cases are those in the project; with `MMRAG_FIXTURES` set, those of that folder.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use mmrag_model::{Compared, Weights, check, save_safetensors};

/// The GPU in builds for one; the CPU elsewhere.
fn device() -> Device {
    if cfg!(feature = "cuda") { Device::new_cuda(0).unwrap() } else { Device::Cpu }
}

fn fixtures() -> PathBuf {
    match std::env::var_os("MMRAG_FIXTURES") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"),
    }
}

fn in_project(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn check_folder(dir: &Path) {
    let name = dir.display();
    let rows = check(dir, None, dir, &device()).unwrap();
    let off: Vec<&Compared> = rows.iter().filter(|row| !row.agrees()).collect();
    assert!(off.is_empty(), "{name}: {off:#?}");
    let n_tensors = Weights::open_file(dir.join("cases.safetensors")).unwrap().names().count();
    let n_inputs = rows.iter().filter(|row| row.output == "logits").count();
    let untrained = "weights without a gradient";
    let of_gradients = |row: &&Compared| row.output == untrained;
    let n_compared = rows.len() - rows.iter().filter(of_gradients).count();
    assert_eq!(n_compared, n_tensors - n_inputs, "all but the input_ids of each case");
    for output in ["pixel_values", "last_hidden_state", "greedy_new_tokens", "loss", untrained] {
        assert!(rows.iter().any(|row| row.output == output), "{output}");
    }
    let gradients = rows.iter().filter(|row| row.output.starts_with("grad."));
    assert!(gradients.count() >= 12, "{name}");
}

#[test]
fn qwen3_vl_agrees_with_every_tensor() {
    check_folder(&fixtures().join("qwen3_vl_tiny"));
}

#[test]
fn qwen2_5_vl_agrees_with_every_tensor() {
    check_folder(&fixtures().join("qwen2_5_vl_tiny"));
}

/// Heads of 20 where width over heads is 6.67, biases, an untied head, three bf16 shards, three
/// pictures of odd sizes, deepstack after the first and last block, the older rope keys.
#[test]
fn qwen3_vl_of_another_shape_agrees() {
    check_folder(&in_project("qwen3_vl_odd"));
}

/// Three key heads of six, an untied head, the published names, windows that do not divide the
/// pictures, a config with text fields at both levels and both names of the rope's type.
#[test]
fn qwen2_5_vl_of_another_shape_agrees() {
    check_folder(&in_project("qwen2_5_vl_odd"));
}

/// Whatever else of this layout lies in the folder that `MMRAG_FIXTURES` names.
#[test]
fn every_folder_of_cases_agrees() {
    let mut checked = 0;
    for entry in fs::read_dir(fixtures()).unwrap() {
        let dir = entry.unwrap().path();
        if dir.join("config.json").is_file() && dir.join("cases.safetensors").is_file() {
            let rows = check(&dir, None, &dir, &device()).unwrap();
            let off: Vec<&Compared> = rows.iter().filter(|row| !row.agrees()).collect();
            assert!(off.is_empty(), "{}: {off:#?}", dir.display());
            checked += 1;
        }
    }
    assert!(checked >= 2, "{checked} folders of cases in {}", fixtures().display());
}

#[test]
fn the_flat_config_is_the_same_model() {
    let dir = fixtures().join("qwen2_5_vl_tiny");
    let copy = tempfile::tempdir().unwrap();
    for name in ["model.safetensors", "preprocessor_config.json"] {
        fs::copy(dir.join(name), copy.path().join(name)).unwrap();
    }
    fs::copy(dir.join("config.hub-style.json"), copy.path().join("config.json")).unwrap();
    assert_eq!(
        check(copy.path(), None, &dir, &device()).unwrap(),
        check(&dir, None, &dir, &device()).unwrap()
    );
}

/// One number changed in the references, and an output that nobody knows: both are seen.
#[test]
fn what_differs_or_is_not_known_does_not_agree() {
    let dir = fixtures().join("qwen3_vl_tiny");
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "png" || kind == "json") {
            fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let cases = Weights::open_file(dir.join("cases.safetensors")).unwrap();
    let mut tensors = vec![];
    for name in cases.names() {
        let whole = ["ids", "thw", "tokens"].iter().any(|end| name.ends_with(end));
        let tensor = if whole {
            candle_core::Tensor::new(cases.i64(name).unwrap(), &Device::Cpu).unwrap()
        } else {
            cases.f32(name, cases.shape(name).unwrap()).unwrap()
        };
        let changed = name == "one_image.loss";
        tensors.push((name.to_owned(), if changed { (&tensor + 2e-4).unwrap() } else { tensor }));
    }
    let (_, loss) = tensors.iter().find(|(name, _)| name == "one_image.loss").unwrap().clone();
    tensors.push(("one_image.surprise".to_owned(), loss));
    save_safetensors(copy.path().join("cases.safetensors"), &tensors).unwrap();
    let rows = check(&dir, None, copy.path(), &device()).unwrap();
    let off: Vec<(&str, &str)> = rows
        .iter()
        .filter(|row| !row.agrees())
        .map(|row| (row.case.as_str(), row.output.as_str()))
        .collect();
    assert_eq!(off, [("one_image", "loss"), ("one_image", "surprise")]);
    let error = check(&dir, None, copy.path().join("nowhere"), &device()).unwrap_err().to_string();
    assert!(error.contains("cases.json"), "{error}");
}
