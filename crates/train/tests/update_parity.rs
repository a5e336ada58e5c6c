//! Three optimizer steps on one group of replies against the numbers of TRL, PEFT and
//! transformers.
//!
//! The batches are those in the project; with `MMRAG_FIXTURES` set, those of that folder.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use mmrag_model::{Compared, Weights};
use mmrag_train::check_update;

/// The GPU in builds for one; the CPU elsewhere.
fn device() -> Device {
    if cfg!(feature = "cuda") { Device::new_cuda(0).unwrap() } else { Device::Cpu }
}

fn fixtures() -> PathBuf {
    match std::env::var_os("MMRAG_FIXTURES") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures"),
    }
}

fn check_family(family: &str) {
    let folder = fixtures().join(format!("{family}_update"));
    let rows = check_update(fixtures().join(family), &folder, &device()).unwrap();
    let off: Vec<&Compared> = rows.iter().filter(|row| !row.agrees()).collect();
    assert!(off.is_empty(), "{off:#?}");
    let count = |output: &str| rows.iter().filter(|row| row.output == output).count();
    for output in ["loss", "kl", "grad_norm"] {
        assert_eq!(count(output), 3, "{output}");
    }
    for output in ["ref_logprobs", "step1.logprobs", "step2.logprobs", "advantages"] {
        assert_eq!(count(output), 1, "{output}");
    }
    // That of the first step is also what the policy said before it.
    assert_eq!(count("step0.logprobs"), 2);
    assert_eq!(count("variables without a gradient") + count("change over all steps"), 2);
    let batch = Weights::open_file(folder.join("batch.safetensors")).unwrap();
    let gradients = |name: &&str| name.starts_with("grad_clipped.");
    let n_told = batch.names().filter(gradients).count();
    let n_compared = rows.iter().filter(|row| gradients(&row.output.as_str())).count();
    assert!(n_told > 0 && n_compared == n_told, "{n_compared} of {n_told} gradients");
}

#[test]
fn three_steps_of_qwen3_vl_agree() {
    check_family("qwen3_vl_tiny");
}

#[test]
fn three_steps_of_qwen2_5_vl_agree() {
    check_family("qwen2_5_vl_tiny");
}

/// Whatever else of this layout lies in the folder that `MMRAG_FIXTURES` names.
#[test]
fn every_folder_of_updates_agrees() {
    let mut checked = 0;
    for entry in fs::read_dir(fixtures()).unwrap() {
        let folder = entry.unwrap().path();
        let Ok(text) = fs::read_to_string(folder.join("update.json")) else { continue };
        let told: serde_json::Value = serde_json::from_str(&text).unwrap();
        let model = fixtures().join(told["model"].as_str().unwrap());
        let rows = check_update(model, &folder, &device()).unwrap();
        let off: Vec<&Compared> = rows.iter().filter(|row| !row.agrees()).collect();
        assert!(off.is_empty(), "{}: {off:#?}", folder.display());
        checked += 1;
    }
    assert!(checked >= 2, "{checked} folders of updates in {}", fixtures().display());
}

/// A copy of the update's folder with a number of `update.json` changed.
fn changed(copy: &Path, key: &str, value: f64) {
    let folder = fixtures().join("qwen3_vl_tiny_update");
    for name in ["adapter_init", "adapter_after_3_steps"] {
        fs::create_dir_all(copy.join(name)).unwrap();
        for file in ["adapter_config.json", "adapter_model.safetensors"] {
            fs::copy(folder.join(name).join(file), copy.join(name).join(file)).unwrap();
        }
    }
    fs::copy(folder.join("batch.safetensors"), copy.join("batch.safetensors")).unwrap();
    let text = fs::read_to_string(folder.join("update.json")).unwrap();
    let mut told: serde_json::Value = serde_json::from_str(&text).unwrap();
    *told.pointer_mut(key).unwrap() = value.into();
    fs::write(copy.join("update.json"), told.to_string()).unwrap();
}

#[test]
fn another_rule_or_number_does_not_agree() {
    let model = fixtures().join("qwen3_vl_tiny");
    let off = |key: &str, value: f64| -> Vec<String> {
        let copy = tempfile::tempdir().unwrap();
        changed(copy.path(), key, value);
        let rows = check_update(&model, copy.path(), &device()).unwrap();
        let off = rows.into_iter().filter(|row| !row.agrees());
        off.map(|row| format!("{}: {}", row.case, row.output)).collect()
    };
    assert_eq!(off("/steps/1/kl", 0.5), ["step 1: kl"]);
    // Twice the learning rate: the first step is as it was, and what it leads to is not.
    let faster = off("/optimizer/lr", 0.004);
    assert!(faster.iter().any(|row| row == "adapter: change over all steps"), "{faster:?}");
    assert!(faster.iter().all(|row| !row.starts_with("step 0")), "{faster:?}");
}

#[test]
fn a_folder_that_cannot_be_checked_is_named() {
    let model = fixtures().join("qwen3_vl_tiny");
    let folder = fixtures().join("qwen3_vl_tiny_update");
    let error = check_update(&model, &model, &device()).unwrap_err().to_string();
    assert!(error.contains("update.json"), "{error}");
    let other = fixtures().join("qwen2_5_vl_tiny");
    let error = check_update(&other, &folder, &device()).unwrap_err().to_string();
    assert!(error.contains("adapter_init") && error.contains("qwen3_vl_tiny"), "{error}");
}
