//! A model with its adapters, set up to answer.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use mmrag_core::Sampling;
use mmrag_model::{Adapter, Policy, Precision};
use mmrag_rag::{ConfidenceMap, FilterStage, Names, Pipeline, RankStage, Retriever};
use mmrag_task::{PromptStyle, Stage};
use serde::{Deserialize, Serialize};

use crate::notes::{Keep, Notes};
use crate::{hub, weights};

/// What a filter keeps if its folder does not say.
const KEEP: Keep = Keep { threshold: 0.5, k_min: 2, k_max: 10 };

const MAX_PROMPT_TOKENS: usize = 4096;

/// What `--model` takes, for the help. It is no comment beside each, where `[@REV]` would be a link.
pub(crate) const MODEL_HELP: &str = "The model: a folder, or ORG/NAME[@REV] on the Hugging Face \
     hub; the built-in small model if absent";

/// What a model takes that must be named.
pub(crate) const NEEDED_MODEL_HELP: &str =
    "The model: a folder, or ORG/NAME[@REV] on the Hugging Face hub";

/// Who answers, and within which bounds.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AnswerArgs {
    /// The model, as [`MODEL_HELP`] says.
    #[arg(long, value_name = "MODEL", help = MODEL_HELP)]
    pub(crate) model: Option<PathBuf>,
    /// The filter's adapter; without it and --threshold every document goes to the ranker
    #[arg(long, value_name = "DIR")]
    pub(crate) filter_adapter: Option<PathBuf>,
    /// The ranker's adapter
    #[arg(long, value_name = "DIR")]
    pub(crate) rank_adapter: Option<PathBuf>,
    /// Keep a document from this probability up; if absent, as calibrated after training
    #[arg(long, value_name = "P")]
    pub(crate) threshold: Option<f64>,
    /// Drop whole documents from prompts that are longer
    #[arg(long, value_name = "N", default_value_t = MAX_PROMPT_TOKENS)]
    pub(crate) max_prompt_tokens: usize,
    /// End a reply after so many tokens; if absent, what the model's style of prompts needs
    #[arg(long, value_name = "N")]
    pub(crate) max_new_tokens: Option<usize>,
    /// Seed of the order in which documents are labelled
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
}

impl Default for AnswerArgs {
    /// What the command line takes for what is not said.
    fn default() -> Self {
        Self {
            model: None,
            filter_adapter: None,
            rank_adapter: None,
            threshold: None,
            max_prompt_tokens: MAX_PROMPT_TOKENS,
            max_new_tokens: None,
            seed: 0,
        }
    }
}

impl AnswerArgs {
    /// The model's folder.
    ///
    /// # Errors
    ///
    /// When there is none, and none can be had from the hub.
    pub(crate) fn folder(&self) -> anyhow::Result<PathBuf> {
        model_folder(self.model.as_deref())
    }

    /// What the model is called: as its folder, or as on the hub.
    fn model_name(&self, folder: &Path) -> String {
        match &self.model {
            Some(named) if named != folder => named.display().to_string(),
            _ => folder_name(folder),
        }
    }

    /// The names of the weights of the model and of its adapters.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub(crate) fn weights(&self) -> anyhow::Result<serde_json::Value> {
        let adapters = [&self.filter_adapter, &self.rank_adapter].into_iter().flatten();
        let adapters: Vec<&Path> = adapters.map(PathBuf::as_path).collect();
        weights::versions(&self.folder()?, &adapters)
    }

    /// Loads the model.
    ///
    /// # Errors
    ///
    /// When the folder does not hold a model that is built, or one that an adapter does not fit.
    pub(crate) fn policy(&self) -> anyhow::Result<Policy> {
        let model = self.folder()?;
        for adapter in [&self.filter_adapter, &self.rank_adapter].into_iter().flatten() {
            foresee_adapter(adapter, &model)?;
        }
        load_policy(&model)
    }
}

/// A model with its adapters and everything else a pipeline borrows.
pub(crate) struct Answerer<'p> {
    policy: &'p Policy,
    filter_adapter: Option<Adapter>,
    rank_adapter: Option<Adapter>,
    filter: Option<(Stage, Keep)>,
    rank: Stage,
    confidence: Option<ConfidenceMap>,
    sampling: Sampling,
    max_prompt_tokens: usize,
    seed: u64,
    model_name: String,
    adapter_names: Vec<String>,
}

impl<'p> Answerer<'p> {
    /// Loads the adapters that the arguments name onto their model.
    ///
    /// # Errors
    ///
    /// When a folder does not hold what it should.
    pub(crate) fn new(policy: &'p Policy, arguments: &AnswerArgs) -> anyhow::Result<Self> {
        let folder = arguments.folder()?;
        let adapter = |folder: &Option<PathBuf>| {
            folder.as_deref().map(|folder| load_adapter(folder, policy)).transpose()
        };
        let (filter_adapter, rank_adapter) =
            (adapter(&arguments.filter_adapter)?, adapter(&arguments.rank_adapter)?);
        let notes = Notes::of(&folder)?;
        let notes_of = |adapter: &Option<PathBuf>| match adapter {
            Some(folder) => Notes::of(folder),
            None => Ok(notes.clone()),
        };
        let filter_notes = notes_of(&arguments.filter_adapter)?;
        let rank_notes = notes_of(&arguments.rank_adapter)?;
        let filters = arguments.filter_adapter.is_some() || arguments.threshold.is_some();
        let filter = filters.then(|| {
            let keep = filter_notes.keep.unwrap_or(KEEP);
            let threshold = arguments.threshold.unwrap_or(keep.threshold);
            let stage = Stage::filter(filter_notes.prompts, filter_notes.filter_mode());
            (stage, Keep { threshold, ..keep })
        });
        let rank = Stage::rank(rank_notes.prompts, rank_notes.reasoning.unwrap_or(true));
        let max_new_tokens = arguments.max_new_tokens.unwrap_or(reply_tokens(rank_notes.prompts));
        let name = |path: &PathBuf| folder_name(path);
        let adapters = [&arguments.filter_adapter, &arguments.rank_adapter];
        Ok(Self {
            policy,
            filter_adapter,
            rank_adapter,
            filter,
            rank,
            confidence: rank_notes.confidence,
            sampling: Sampling::greedy(max_new_tokens),
            max_prompt_tokens: arguments.max_prompt_tokens,
            seed: arguments.seed,
            model_name: arguments.model_name(&folder),
            adapter_names: adapters.into_iter().flatten().map(name).collect(),
        })
    }

    /// Lends a pipeline over the loaded model. Questions without documents are looked up in
    /// `retriever`.
    pub(crate) fn with_pipeline<R>(
        &self,
        retriever: Option<&dyn Retriever>,
        top_k: usize,
        use_pipeline: impl FnOnce(&Pipeline<'_>) -> R,
    ) -> R {
        let chooser = self.policy.with(self.filter_adapter.as_ref());
        let generator = self.policy.with(self.rank_adapter.as_ref());
        let filter = self.filter.as_ref().map(|(stage, keep)| FilterStage {
            stage,
            engine: &chooser,
            writer: Some(&chooser),
            max_new_tokens: verdict_tokens(stage),
            threshold: keep.threshold,
            k_min: keep.k_min,
            k_max: keep.k_max,
        });
        use_pipeline(&Pipeline {
            retriever,
            top_k,
            filter,
            rank: RankStage {
                stage: &self.rank,
                engine: &generator,
                sampling: &self.sampling,
                max_prompt_tokens: self.max_prompt_tokens,
            },
            seed: self.seed,
            names: Names { model: &self.model_name, adapters: &self.adapter_names },
            confidence: self.confidence.as_ref(),
        })
    }
}

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
    Policy::load(folder).with_context(|| format!("failed to load the model {}", folder.display()))
}

/// Loads a model's folder in f32, so that the whole model can be trained.
///
/// # Errors
///
/// When it does not hold a model that is built.
pub(crate) fn load_trainable(folder: &Path) -> anyhow::Result<Policy> {
    Policy::load_as(folder, Precision::F32)
        .with_context(|| format!("failed to load the model {}", folder.display()))
}

/// Refuses an adapter that does not fit a model's folder, before either is read.
///
/// # Errors
///
/// When a folder does not hold what it should, or the two do not fit.
pub(crate) fn foresee_adapter(folder: &Path, model: &Path) -> anyhow::Result<()> {
    Adapter::foresee(folder, model)
        .with_context(|| format!("failed to load the adapter {}", folder.display()))
}

/// Loads an adapter's folder onto a model.
///
/// # Errors
///
/// When it does not hold an adapter that fits the model.
pub(crate) fn load_adapter(folder: &Path, policy: &Policy) -> anyhow::Result<Adapter> {
    Adapter::load(folder, policy.vlm())
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

fn folder_name(folder: &Path) -> String {
    folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}
