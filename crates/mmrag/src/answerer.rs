//! A model with its adapters, set up to answer.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use mmrag_core::{Attribute, Choose, Generate, Sampling};
use mmrag_model::{Adapter, Policy};
use mmrag_rag::{
    ConfidenceMap, FilterStage, LabelOrder, Names, OrderBy, Pipeline, RankStage, Retriever,
};
use mmrag_task::Stage;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::loading::{
    MODEL_HELP, foresee_adapter, load_adapter, load_policy, model_folder, reply_tokens,
    verdict_tokens,
};
use crate::notes::{Keep, Notes};
use crate::remote::RemotePolicy;
use crate::{hub, weights};

/// What a filter keeps if its folder does not say.
const KEEP: Keep = Keep { threshold: 0.5, k_min: 2, k_max: 10 };

const MAX_PROMPT_TOKENS: usize = 4096;

/// What `--filter-adapter` takes.
const FILTER_HELP: &str = "The filter's adapter: a folder, or ORG/NAME[@REV] on the hub; without it \
     and --threshold every document goes to the ranker";

/// Who answers, and within which bounds.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AnswerArgs {
    /// The model, as [`MODEL_HELP`] says.
    #[arg(long, value_name = "MODEL", help = MODEL_HELP)]
    pub(crate) model: Option<PathBuf>,
    /// An engine to ask instead of a local model: the address of an OpenAI-compatible server, as
    /// `http://127.0.0.1:8000/v1`; --model then names the model there
    #[arg(long, value_name = "URL", conflicts_with_all = ["filter_adapter", "rank_adapter"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<String>,
    /// The filter's adapter, as [`FILTER_HELP`] says.
    #[arg(long, value_name = "ADAPTER", help = FILTER_HELP)]
    pub(crate) filter_adapter: Option<PathBuf>,
    /// The ranker's adapter, as the filter's.
    #[arg(long, value_name = "ADAPTER", help = "The ranker's adapter, named as the filter's")]
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
    /// Hold replies to their form while they are written, so that each can be read: slower by little,
    /// and other than what the model would write where that is no reply
    #[arg(long)]
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) constrained: bool,
    /// In which order the ranker sees documents: `drawn` for each question, or as `retrieved`
    #[arg(long, value_name = "ORDER", default_value = "drawn", value_parser = named::<LabelOrder>)]
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) labels: LabelOrder,
    /// Whose order is told: the ranker's (`reply`), or that of the `filter`'s probabilities
    #[arg(long, value_name = "WHOSE", default_value = "reply", value_parser = named::<OrderBy>)]
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) order: OrderBy,
}

/// A value by its name in files.
fn named<T: DeserializeOwned>(name: &str) -> Result<T, String> {
    serde_json::from_value(name.into()).map_err(|error| error.to_string())
}

/// Whether a setting is left out of files, so that folders of runs from before it was there are
/// gone on with.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Default for AnswerArgs {
    /// What the command line takes for what is not said.
    fn default() -> Self {
        Self {
            model: None,
            policy: None,
            filter_adapter: None,
            rank_adapter: None,
            threshold: None,
            max_prompt_tokens: MAX_PROMPT_TOKENS,
            max_new_tokens: None,
            seed: 0,
            constrained: false,
            labels: LabelOrder::default(),
            order: OrderBy::default(),
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
        if self.policy.is_some() {
            return Ok(serde_json::Value::Null);
        }
        let adapters = [&self.filter_adapter, &self.rank_adapter].into_iter().flatten();
        let adapters: Vec<PathBuf> =
            adapters.map(|named| hub::adapter_folder(named)).collect::<anyhow::Result<_>>()?;
        let adapters: Vec<&Path> = adapters.iter().map(PathBuf::as_path).collect();
        weights::versions(&self.folder()?, &adapters)
    }

    /// Whom to ask: the remote engine if one is named, else the local model, loaded.
    ///
    /// # Errors
    ///
    /// As [`policy`](Self::policy), and when the remote engine does not answer.
    pub(crate) fn engine(&self) -> anyhow::Result<Engine> {
        let Some(address) = &self.policy else {
            return Ok(Engine::Local(Box::new(self.policy()?)));
        };
        let named = self.model.as_deref().map(|model| model.to_string_lossy().into_owned());
        let remote = RemotePolicy::connect(address, named.as_deref())
            .with_context(|| format!("failed to reach the engine {address}"))?;
        let name = remote.model().to_owned();
        Ok(Engine::Other { name, engine: Box::new(remote) })
    }

    /// Loads the model.
    ///
    /// # Errors
    ///
    /// When the folder does not hold a model that is built, or one that an adapter does not fit;
    /// and when a remote engine is named, which is no model to load.
    pub(crate) fn policy(&self) -> anyhow::Result<Policy> {
        ensure!(self.policy.is_none(), "this command needs a local model: leave --policy out");
        let model = self.folder()?;
        for adapter in [&self.filter_adapter, &self.rank_adapter].into_iter().flatten() {
            foresee_adapter(adapter, &model)?;
        }
        load_policy(&model)
    }
}

/// What answers.
pub(crate) enum Engine {
    /// A local model.
    Local(Box<Policy>),
    /// Anything else that generates and chooses: a remote engine, or a fake.
    Other {
        /// What it is called in explanations.
        name: String,
        /// It.
        engine: Box<dyn GenerateAndChoose>,
    },
}

/// An engine for both stages.
pub(crate) trait GenerateAndChoose: Generate + Choose {}

impl<E: Generate + Choose> GenerateAndChoose for E {}

/// What answers, borrowed.
#[derive(Clone, Copy)]
pub(crate) enum EngineRef<'p> {
    Local(&'p Policy),
    Other { name: &'p str, engine: &'p dyn GenerateAndChoose },
}

impl<'p> From<&'p Policy> for EngineRef<'p> {
    fn from(policy: &'p Policy) -> Self {
        Self::Local(policy)
    }
}

impl<'p> From<&'p Engine> for EngineRef<'p> {
    fn from(engine: &'p Engine) -> Self {
        match engine {
            Engine::Local(policy) => Self::Local(policy),
            Engine::Other { name, engine } => Self::Other { name, engine: &**engine },
        }
    }
}

/// A model with its adapters and everything else a pipeline borrows.
pub(crate) struct Answerer<'p> {
    engine: EngineRef<'p>,
    filter_adapter: Option<Adapter>,
    rank_adapter: Option<Adapter>,
    filter: Option<(Stage, Keep)>,
    rank: Stage,
    confidence: Option<ConfidenceMap>,
    sampling: Sampling,
    max_prompt_tokens: usize,
    constrained: bool,
    labels: LabelOrder,
    order: OrderBy,
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
    pub(crate) fn new(
        engine: impl Into<EngineRef<'p>>,
        arguments: &AnswerArgs,
    ) -> anyhow::Result<Self> {
        let engine = engine.into();
        let adapter = |folder: &Option<PathBuf>| match (folder, engine) {
            (None, _) => Ok(None),
            (Some(folder), EngineRef::Local(policy)) => load_adapter(folder, policy).map(Some),
            (Some(folder), EngineRef::Other { name, .. }) => {
                bail!("failed to put {} onto {name}: it is no local model", folder.display())
            }
        };
        let (filter_adapter, rank_adapter) =
            (adapter(&arguments.filter_adapter)?, adapter(&arguments.rank_adapter)?);
        let (notes, model_name) = match engine {
            EngineRef::Local(_) => {
                let folder = arguments.folder()?;
                (Notes::of(&folder)?, arguments.model_name(&folder))
            }
            EngineRef::Other { name, .. } => (Notes::default(), name.to_owned()),
        };
        let notes_of = |adapter: &Option<PathBuf>| match adapter {
            Some(named) => Notes::of(&hub::adapter_folder(named)?),
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
            engine,
            filter_adapter,
            rank_adapter,
            filter,
            rank,
            confidence: rank_notes.confidence,
            sampling: Sampling::greedy(max_new_tokens),
            max_prompt_tokens: arguments.max_prompt_tokens,
            constrained: arguments.constrained,
            labels: arguments.labels,
            order: arguments.order,
            seed: arguments.seed,
            model_name,
            adapter_names: adapters.into_iter().flatten().map(name).collect(),
        })
    }

    /// What the model is called in explanations.
    pub(crate) fn model_name(&self) -> &str {
        &self.model_name
    }

    /// Whether it can say which parts of pictures its replies rest on: a remote engine cannot.
    pub(crate) fn attributes(&self) -> bool {
        matches!(self.engine, EngineRef::Local(_))
    }

    /// Lends a pipeline over the loaded model. Questions without documents are looked up in
    /// `retriever`.
    pub(crate) fn with_pipeline<R>(
        &self,
        retriever: Option<&dyn Retriever>,
        top_k: usize,
        use_pipeline: impl FnOnce(&Pipeline<'_>) -> R,
    ) -> R {
        match self.engine {
            EngineRef::Local(policy) => {
                let chooser = policy.with(self.filter_adapter.as_ref());
                let generator = policy.with(self.rank_adapter.as_ref());
                let attributor = Some(&generator as &dyn Attribute);
                let pipeline = self.pipeline(retriever, top_k, [&chooser, &generator], attributor);
                use_pipeline(&pipeline)
            }
            EngineRef::Other { engine, .. } => {
                use_pipeline(&self.pipeline(retriever, top_k, [engine, engine], None))
            }
        }
    }

    /// The pipeline over the engines of the filter and of the ranker.
    fn pipeline<'a>(
        &'a self,
        retriever: Option<&'a dyn Retriever>,
        top_k: usize,
        [chooser, generator]: [&'a dyn GenerateAndChoose; 2],
        attributor: Option<&'a dyn Attribute>,
    ) -> Pipeline<'a> {
        let filter = self.filter.as_ref().map(|(stage, keep)| FilterStage {
            stage,
            engine: chooser,
            writer: Some(chooser),
            max_new_tokens: verdict_tokens(stage),
            threshold: keep.threshold,
            k_min: keep.k_min,
            k_max: keep.k_max,
        });
        Pipeline {
            retriever,
            top_k,
            filter,
            rank: RankStage {
                stage: &self.rank,
                engine: generator,
                attributor,
                sampling: &self.sampling,
                max_prompt_tokens: self.max_prompt_tokens,
                constrained: self.constrained,
                labels: self.labels,
                order: self.order,
            },
            seed: self.seed,
            names: Names { model: &self.model_name, adapters: &self.adapter_names },
            confidence: self.confidence.as_ref(),
        }
    }
}

fn folder_name(folder: &Path) -> String {
    folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}
