//! What `VlmConfig` reads from the three forms of `config.json`, and refuses.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use mmrag_model::{AttentionBias, Family, VlmConfig};
use serde_json::{Value, json};

fn fixtures() -> PathBuf {
    std::env::var_os("MMRAG_FIXTURES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"), PathBuf::from)
}

fn qwen3() -> Value {
    let path = fixtures().join("qwen3_vl_tiny/config.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn parse(config: &Value) -> Result<VlmConfig, String> {
    VlmConfig::from_json(Path::new("config.json"), config, None).map_err(|error| error.to_string())
}

/// The flat form of Qwen2.5-VL, in our own numbers.
fn qwen25_flat() -> Value {
    json!({
        "model_type": "qwen2_5_vl", "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "hidden_act": "silu", "rms_norm_eps": 1e-6, "vocab_size": 400, "rope_theta": 1e6,
        "rope_scaling": {"type": "mrope", "mrope_section": [1, 2, 1]},
        "tie_word_embeddings": false, "eos_token_id": 9, "image_token_id": 3,
        "video_token_id": 4, "vision_start_token_id": 5, "vision_end_token_id": 6,
        "vision_config": {
            "depth": 2, "hidden_act": "silu", "hidden_size": 16, "intermediate_size": 24,
            "num_heads": 2, "out_hidden_size": 32, "patch_size": 14, "spatial_merge_size": 2,
            "window_size": 56, "fullatt_block_indexes": [1], "in_chans": 3,
        },
    })
}

#[test]
fn the_fixture_is_read_key_by_key() {
    let config = VlmConfig::load(fixtures().join("qwen3_vl_tiny")).unwrap();
    assert_eq!(config.family, Family::Qwen3Vl);
    assert_eq!((config.text.num_layers, config.text.head_dim), (4, 16));
    assert_eq!(config.text.mrope_section, [4, 2, 2]);
    assert_eq!(config.text.rope_theta, 5e6);
    assert!(config.text.mrope_interleaved && config.tie_word_embeddings);
    assert_eq!(config.vision.deepstack_indexes, [1, 2]);
    assert_eq!((config.vision.num_position_embeddings, config.vision.patch_size), (64, 16));
    assert_eq!((config.tokens.image, config.tokens.video), (302, Some(303)));
    assert_eq!((config.eos, config.pad), (vec![304], Some(305)));
}

#[test]
fn older_rope_keys_give_the_same_model() {
    let new = qwen3();
    let mut old = new.clone();
    let text = old["text_config"].as_object_mut().unwrap();
    text.remove("rope_parameters");
    text.insert("rope_theta".into(), json!(5e6));
    text.insert("rope_scaling".into(), json!({"rope_type": "default", "mrope_section": [4, 2, 2]}));
    let (new, old) = (parse(&new).unwrap(), parse(&old).unwrap());
    assert_eq!(new.text, old.text);
    assert_eq!(new.vision, old.vision);
}

/// As transformers 4.5x saves Qwen2.5-VL: nested, with the text fields at the top level as well, and
/// both names of the rope's type.
#[test]
fn both_levels_and_both_names_of_the_type_give_the_same_model() {
    let flat = qwen25_flat();
    let mut both = flat.clone();
    let mut text: serde_json::Map<String, Value> = flat.as_object().unwrap().clone();
    text.remove("vision_config");
    text.insert("model_type".into(), json!("qwen2_5_vl_text"));
    let rope = json!({"type": "default", "rope_type": "default", "mrope_section": [1, 2, 1]});
    text.insert("rope_scaling".into(), rope.clone());
    both["text_config"] = text.into();
    both["rope_scaling"] =
        json!({"type": "mrope", "rope_type": "default", "mrope_section": [1, 2, 1]});
    let (flat, both) = (parse(&flat).unwrap(), parse(&both).unwrap());
    assert_eq!((&flat.text, &flat.vision), (&both.text, &both.vision));
    assert_eq!((&flat.eos, &flat.tokens), (&both.eos, &both.tokens));
    // Of the two levels the nested one counts.
    let mut other = qwen25_flat();
    other["text_config"] = parse(&other).unwrap().to_json()["text_config"].clone();
    other["num_hidden_layers"] = json!(7);
    assert_eq!(parse(&other).unwrap().text, flat.text);
    // One name of the type that is not built is enough to refuse.
    let mut yarn = qwen25_flat();
    yarn["rope_scaling"] =
        json!({"type": "yarn", "rope_type": "default", "mrope_section": [1, 2, 1]});
    assert!(parse(&yarn).unwrap_err().contains("type `yarn` are not built"));
}

#[test]
fn the_newest_rope_keys_and_the_flat_ones_give_the_same_model() {
    let flat = parse(&qwen25_flat()).unwrap();
    let mut newest = qwen25_flat();
    let text = newest.as_object_mut().unwrap();
    text.remove("rope_theta");
    text.remove("rope_scaling");
    let rope = json!({"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 2, 1]});
    text.insert("rope_parameters".into(), rope);
    assert_eq!(parse(&newest).unwrap().text, flat.text);
    newest["rope_parameters"].as_object_mut().unwrap().remove("rope_theta");
    assert!(parse(&newest).unwrap_err().contains("`rope_theta`"));
}

#[test]
fn the_flat_form_gives_the_same_as_the_nested_form_written_from_it() {
    let flat = parse(&qwen25_flat()).unwrap();
    assert_eq!(flat.family, Family::Qwen25Vl);
    assert_eq!(flat.text.attention_bias, AttentionBias::Inputs);
    assert!(!flat.text.qk_norm);
    assert!(!flat.text.mrope_interleaved);
    assert_eq!(flat.text.head_dim, 8);
    assert_eq!(flat.vision.windows.as_ref().unwrap().full_attention_indexes, [1]);
    let nested = parse(&flat.to_json()).unwrap();
    assert!(flat.to_json()["text_config"]["rope_parameters"].is_object());
    assert_eq!((nested.text, nested.vision), (flat.text, flat.vision));
    assert_eq!((nested.eos, nested.tokens), (flat.eos, flat.tokens));
}

#[test]
fn what_is_written_is_read_as_the_same_model() {
    let first = parse(&qwen3()).unwrap();
    let written = first.to_json();
    assert_eq!(written["text_config"]["max_position_embeddings"], 4096);
    let second = parse(&written).unwrap();
    assert_eq!((&first.text, &first.vision), (&second.text, &second.vision));
    assert_eq!(written, second.to_json());
}

#[test]
fn eos_of_generation_config_comes_first() {
    let generation = json!({"eos_token_id": [7, 8]});
    let config = VlmConfig::from_json(Path::new("c"), &qwen3(), Some(&generation)).unwrap();
    assert_eq!(config.eos, [7, 8]);
}

#[test]
fn a_missing_or_wrong_key_is_named() {
    let cases: [(&str, Value, &str); 9] = [
        ("/vision_config/num_heads", json!(16), "the width of a vision head is a multiple of 4"),
        ("/text_config/num_hidden_layers", Value::Null, "`text_config.num_hidden_layers`"),
        ("/text_config/head_dim", Value::Null, "`text_config.head_dim`"),
        ("/vision_config/depth", json!("four"), "`vision_config.depth` should be"),
        ("/image_token_id", json!(-1), "`image_token_id` should be a token id"),
        ("/text_config/rope_parameters/mrope_section", json!([4, 4]), "three whole numbers"),
        ("/text_config/rope_parameters/mrope_section", json!([4, 4, 4]), "half of head_dim"),
        ("/text_config/rope_parameters/rope_type", json!("yarn"), "type `yarn` are not built"),
        ("/model_type", json!("llama"), "`llama`, and only qwen3_vl"),
    ];
    for (pointer, value, expected) in cases {
        let mut config = qwen3();
        *config.pointer_mut(pointer).unwrap() = value;
        let error = parse(&config).unwrap_err();
        assert!(error.contains(expected), "{pointer}: {error}");
        assert!(error.contains("config.json"), "{error}");
    }
}

#[test]
fn what_is_not_built_of_qwen25_is_named() {
    let cases: [(&str, Value, &str); 4] = [
        ("/vision_config/hidden_act", json!("gelu"), "the activation `gelu` is not built"),
        ("/vision_config/window_size", json!(20), "a window holds a square of patches"),
        ("/vision_config/fullatt_block_indexes", json!([2]), "fullatt_block_indexes are below"),
        ("/rope_scaling/mrope_interleaved", json!(true), "false in this family"),
    ];
    for (pointer, value, expected) in cases {
        let mut config = qwen25_flat();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[key] = value;
        let error = parse(&config).unwrap_err();
        assert!(error.contains(expected), "{pointer}: {error}");
    }
}

#[test]
fn qwen25_fixtures_agree_in_both_forms() {
    let dir = fixtures().join("qwen2_5_vl_tiny");
    let read = |name: &str| {
        let text = fs::read_to_string(dir.join(name)).unwrap();
        parse(&serde_json::from_str(&text).unwrap()).unwrap()
    };
    let (nested, flat) = (read("config.json"), read("config.hub-style.json"));
    assert_eq!((nested.text, nested.vision), (flat.text, flat.vision));
    assert_eq!(nested.tie_word_embeddings, flat.tie_word_embeddings);
}
