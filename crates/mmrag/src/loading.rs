//! Models and adapters by what names them: found, looked at, loaded where models run.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use mmrag_model::{Adapter, Placement, Policy, Precision};
use mmrag_task::{PromptStyle, Stage};

use crate::host::host;
use crate::hub;

/// What `--model` takes, for the help. It is no comment beside each, where `[@REV]` would be a link.
pub(crate) const MODEL_HELP: &str = "The model: a folder, or ORG/NAME[@REV] on the Hugging Face \
     hub; the built-in small model if absent";

/// What a model takes that must be named.
pub(crate) const NEEDED_MODEL_HELP: &str =
    "The model: a folder, or ORG/NAME[@REV] on the Hugging Face hub";

/// Where the built-in small model lies.
fn built_in_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("model")
}

/// The folder of the model that an argument or a run file names, by its folder or by its name on
/// the hub; of the built-in small model if none is named.
///
/// # Errors
///
/// When there is none, and none can be had from the hub.
pub(crate) fn model_folder(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    match named {
        Some(named) if !named.as_os_str().is_empty() => hub::folder(named),
        _ => Ok(built_in_model()),
    }
}

/// Loads a model's folder.
///
/// # Errors
///
/// When it does not hold a model that is built.
pub(crate) fn load_policy(folder: &Path) -> anyhow::Result<Policy> {
    load(folder, Precision::Stored)
}

/// Loads a model's folder in f32, so that the whole model can be trained.
///
/// # Errors
///
/// When it does not hold a model that is built.
pub(crate) fn load_trainable(folder: &Path) -> anyhow::Result<Policy> {
    load(folder, Precision::F32)
}

fn load(folder: &Path, precision: Precision) -> anyhow::Result<Policy> {
    let host = host();
    let placement = Placement { precision, device: host.device.clone() };
    let policy = Policy::load_as(folder, &placement)
        .with_context(|| format!("failed to load the model {}", folder.display()))?;
    match &host.picture_features {
        Some(place) => policy
            .with_features_in(place)
            .context("failed to open the folder of --picture-features"),
        None => Ok(policy),
    }
}

/// Refuses an adapter that does not fit a model's folder, before either is read. It is named by its
/// folder or by its name on the hub.
///
/// # Errors
///
/// When a folder does not hold what it should, or the two do not fit.
pub(crate) fn foresee_adapter(named: &Path, model: &Path) -> anyhow::Result<()> {
    let folder = hub::adapter_folder(named)?;
    Adapter::foresee(&folder, model)
        .with_context(|| format!("failed to load the adapter {}", folder.display()))
}

/// Loads an adapter, named by its folder or by its name on the hub, onto a model.
///
/// # Errors
///
/// When there is none, or none that fits the model.
pub(crate) fn load_adapter(named: &Path, policy: &Policy) -> anyhow::Result<Adapter> {
    let folder = hub::adapter_folder(named)?;
    Adapter::load(&folder, policy.vlm())
        .with_context(|| format!("failed to load the adapter {}", folder.display()))
}

/// How long a ranker's reply may be.
pub(crate) fn reply_tokens(prompts: PromptStyle) -> usize {
    match prompts {
        PromptStyle::Standard => 1024,
        PromptStyle::Compact => 176,
    }
}

/// How long a filter's reply may be.
pub(crate) fn verdict_tokens(stage: &Stage) -> usize {
    match (stage.grammar.think, stage.template.style()) {
        (false, _) => 8,
        (true, PromptStyle::Standard) => 256,
        (true, PromptStyle::Compact) => 48,
    }
}
