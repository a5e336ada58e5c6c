//! Which files of a repository a model needs.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;
use mmrag_model::{COMPANIONS, EMBEDDER_COMPANIONS};
use serde_json::Value;

use super::name::is_part;

/// What is wanted of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A model with all its weights.
    Model,
    /// An adapter in PEFT's form.
    Adapter,
}

/// What says how a model is built. Without it there is none.
const CONFIG: &str = "config.json";

/// All weights in one file.
const SINGLE: &str = "model.safetensors";

/// The file that says in which files the weights are.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// How a model or an adapter of ours is asked.
const NOTES: &str = "mmrag.json";

impl Kind {
    /// What it is called.
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Adapter => "adapter",
        }
    }

    /// What says how it is built. Without it there is none.
    pub(super) fn config(self) -> &'static str {
        match self {
            Self::Model => CONFIG,
            Self::Adapter => "adapter_config.json",
        }
    }

    /// All its weights in one file.
    pub(super) fn single(self) -> &'static str {
        match self {
            Self::Model => SINGLE,
            Self::Adapter => "adapter_model.safetensors",
        }
    }

    /// The files that lead to its weights: the first that is there.
    pub(super) fn leads(self) -> &'static [&'static str] {
        match self {
            Self::Model => &[SINGLE, INDEX],
            Self::Adapter => &["adapter_model.safetensors"],
        }
    }

    /// What may lie beside config and weights: what goes along when a model is saved elsewhere, what
    /// an encoder makes vectors by, and how one of ours is asked.
    pub(super) fn companions(self) -> impl Iterator<Item = &'static str> {
        let of_models = COMPANIONS.into_iter().filter(|name| *name != CONFIG);
        let of_models = of_models.chain(EMBEDDER_COMPANIONS);
        of_models.filter(move |_| self == Self::Model).chain([NOTES])
    }
}

/// How weights end that are not read here.
const OTHER_WEIGHTS: [&str; 8] =
    [".bin", ".pt", ".pth", ".ckpt", ".pkl", ".gguf", ".h5", ".msgpack"];

/// The file that leads to the weights of a repository: they themselves, or their index.
///
/// # Errors
///
/// When it holds no checkpoint that can be loaded, with the reason.
pub(super) fn weights_file(kind: Kind, listing: &BTreeSet<String>) -> Result<&'static str, String> {
    if !listing.contains(kind.config()) {
        return Err(format!("it holds no {}", kind.config()));
    }
    if let Some(file) = kind.leads().iter().find(|file| listing.contains(**file)) {
        return Ok(file);
    }
    let single = kind.single();
    let is_other = |file: &&String| OTHER_WEIGHTS.iter().any(|end| file.ends_with(end));
    Err(match listing.iter().find(is_other) {
        Some(other) => format!(
            "its weights are not safetensors ({other}), and pickled or packed ones are not read: \
             take a revision that has {single}, or save it with transformers' `save_pretrained`"
        ),
        None => format!("it holds no weights, such as {single}"),
    })
}

/// The files of weights that an index names, each once.
///
/// # Errors
///
/// When it cannot be read, or a name in it is no plain one of a safetensors file.
pub(super) fn shards(index: &Path) -> anyhow::Result<BTreeSet<String>> {
    let context = || format!("failed to read the index of the weights {}", index.display());
    let bytes = std::fs::read(index).with_context(context)?;
    let value: Value = serde_json::from_slice(&bytes).with_context(context)?;
    let map = value.get("weight_map").and_then(Value::as_object);
    let map = map.context("it has no object `weight_map`").with_context(context)?;
    let shard = |name: &Value| {
        let plain = name.as_str().filter(|name| is_part(name) && name.ends_with(".safetensors"));
        plain
            .map(str::to_owned)
            .with_context(|| format!("{name} is no plain name of a safetensors file"))
            .with_context(context)
    };
    map.values().map(shard).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(listing: &[&str], expected: Result<&str, &str>) {
        let listing = listing.iter().map(ToString::to_string).collect();
        let found = weights_file(Kind::Model, &listing);
        match (found, expected) {
            (Ok(file), Ok(expected)) => assert_eq!(file, expected),
            (Err(reason), Err(part)) => assert!(reason.contains(part), "{reason}"),
            (found, expected) => panic!("{found:?} is not {expected:?}"),
        }
    }

    #[test]
    fn safetensors_are_taken_and_nothing_else() {
        check(&["config.json", INDEX, SINGLE, "pytorch_model.bin"], Ok(SINGLE));
        check(&["config.json", INDEX, "model-00001-of-00001.safetensors"], Ok(INDEX));
        check(&["config.json", "pytorch_model.bin"], Err("pytorch_model.bin"));
        check(&["config.json", "README.md"], Err("no weights"));
        check(&["model.safetensors"], Err("config.json"));
        check(&["sub/config.json", "sub/model.safetensors"], Err("config.json"));
    }

    #[test]
    fn an_index_names_plain_files() {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join(INDEX);
        let read = |text: &str| {
            std::fs::write(&index, text).unwrap();
            shards(&index).map_err(|error| format!("{error:#}"))
        };
        let text = r#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors",
                                      "c": "1.safetensors"}}"#;
        assert_eq!(read(text).unwrap(), ["1.safetensors".into(), "2.safetensors".into()].into());
        for bad in ["../1.safetensors", "/1.safetensors", "a/1.safetensors", "1.bin", "..", "x?"] {
            let error = read(&format!(r#"{{"weight_map": {{"a": "{bad}"}}}}"#)).unwrap_err();
            assert!(error.contains(bad) && error.contains(INDEX), "{error}");
        }
        assert!(read("{}").unwrap_err().contains("weight_map"));
    }
}
