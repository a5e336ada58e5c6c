//! Tensors out of files and into files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;

use candle_core::{DType, Device, Tensor};
use mmrag_model::{Weights, save_safetensors};

fn tensor(values: &[f32], shape: &[usize], dtype: DType) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn named(name: &str, tensor: Tensor) -> (String, Tensor) {
    (name.to_owned(), tensor)
}

#[test]
fn what_is_saved_is_read_back_as_f32_whatever_its_type() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let values = [1.0, -0.5, 2.0, 0.25, 3.0, -4.0];
    let tensors: Vec<_> = [("a", DType::F32), ("b", DType::BF16), ("c", DType::F16)]
        .map(|(name, dtype)| named(name, tensor(&values, &[2, 3], dtype)))
        .into();
    save_safetensors(&path, &tensors).unwrap();
    let weights = Weights::open(dir.path()).unwrap();
    assert_eq!(weights.names().collect::<Vec<_>>(), ["a", "b", "c"]);
    for name in ["a", "b", "c"] {
        let read = weights.f32(name, &[2, 3]).unwrap();
        assert_eq!(read.flatten_all().unwrap().to_vec1::<f32>().unwrap(), values, "{name}");
    }
    assert!(weights.finish().is_ok());
    let bytes = fs::read(&path).unwrap();
    save_safetensors(&path, &tensors).unwrap();
    assert_eq!(bytes, fs::read(&path).unwrap());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn a_transposed_view_is_saved_in_its_own_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let view = tensor(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3], DType::F32).t().unwrap();
    save_safetensors(&path, &[named("t", view)]).unwrap();
    let read = Weights::open_file(&path).unwrap().f32("t", &[3, 2]).unwrap();
    let rows = read.to_vec2::<f32>().unwrap();
    assert_eq!(rows, [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]);
}

#[test]
fn missing_misshapen_and_extra_tensors_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let ids = Tensor::new(&[1_u32, 2], &Device::Cpu).unwrap();
    let tensors = [named("x", tensor(&[1.0, 2.0], &[2], DType::F32)), named("ids", ids)];
    save_safetensors(&path, &tensors).unwrap();
    let weights = Weights::open(dir.path()).unwrap();
    let check = |name: &str, shape: &[usize], expected: &str| {
        let error = weights.f32(name, shape).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(name), "{error}");
    };
    check("y", &[2], "missing");
    check("x", &[1, 2], "should be [1, 2] but is [2]");
    check("ids", &[2], "should be F32, BF16 or F16 but is U32");
    assert_eq!(weights.i64("ids").unwrap(), [1, 2]);
    assert_eq!(weights.leftover(), ["x"]);
    assert!(weights.finish().unwrap_err().to_string().contains("no place for the tensors x"));
}

#[test]
fn shards_and_older_names_look_like_one_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let one = |value: f32| tensor(&[value], &[1], DType::F32);
    let files = [
        ("a.safetensors", "visual.blocks.0.norm1.weight"),
        ("b.safetensors", "model.norm.weight"),
        ("b.safetensors", "lm_head.weight"),
    ];
    save_safetensors(dir.path().join("a.safetensors"), &[named(files[0].1, one(1.0))]).unwrap();
    let second = [named(files[1].1, one(2.0)), named(files[2].1, one(3.0))];
    save_safetensors(dir.path().join("b.safetensors"), &second).unwrap();
    let map: serde_json::Map<_, _> =
        files.iter().map(|(file, name)| ((*name).to_owned(), (*file).into())).collect();
    let index = dir.path().join("model.safetensors.index.json");
    fs::write(&index, serde_json::json!({"weight_map": map}).to_string()).unwrap();
    let weights = Weights::open(dir.path()).unwrap();
    let expected = [
        "lm_head.weight",
        "model.language_model.norm.weight",
        "model.visual.blocks.0.norm1.weight",
    ];
    assert_eq!(weights.names().collect::<Vec<_>>(), expected);
    let value = weights.f32(expected[1], &[1]).unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(value, [2.0]);

    let outside = serde_json::json!({"weight_map": {"x": "../secret.safetensors"}});
    fs::write(&index, outside.to_string()).unwrap();
    let error = Weights::open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("plain file name"), "{error}");
}

#[test]
fn a_truncated_or_foreign_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    save_safetensors(&path, &[named("x", tensor(&[1.0; 64], &[64], DType::F32))]).unwrap();
    let whole = fs::read(&path).unwrap();
    for length in [0, 4, 9, whole.len() - 1] {
        fs::remove_file(&path).unwrap();
        fs::write(&path, &whole[..length]).unwrap();
        let error = Weights::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("model.safetensors"), "{length}: {error}");
        assert!(error.contains("truncated or damaged"), "{length}: {error}");
    }
    let nothing = tempfile::tempdir().unwrap();
    assert!(Weights::open(nothing.path()).err().unwrap().to_string().contains("model.safetensors"));
}
