//! `mmrag model`: a new small model, and what a model's folder holds.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use mmrag_model::{VlmConfig, Weights};
use serde_json::json;

use super::Ended;
use crate::notes::Notes;
use crate::{output, small_model};

/// Makes and looks at models.
#[derive(Subcommand)]
pub(crate) enum ModelCommand {
    /// Make a small model with random weights and a tokenizer trained on the atlas
    New(NewCommand),
    /// Say what a model's folder holds
    Info(InfoCommand),
}

/// Makes a small model that knows nothing yet.
#[derive(Args)]
#[command(after_help = "Example:\n  mmrag model new --out runs/new --seed 1")]
pub(crate) struct NewCommand {
    /// The folder to write, new or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Seed of the weights
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Lessons whose texts the tokenizer is trained on
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    lessons: usize,
}

/// Prints a model's shape as JSON.
#[derive(Args)]
#[command(after_help = "Example:\n  mmrag model info crates/mmrag/model")]
pub(crate) struct InfoCommand {
    /// The model's folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl ModelCommand {
    /// Does what the command says.
    ///
    /// # Errors
    ///
    /// When a folder cannot be read or written.
    pub(crate) fn run(&self) -> anyhow::Result<Ended> {
        match self {
            Self::New(command) => command.run()?,
            Self::Info(command) => command.run()?,
        }
        Ok(Ended::Done)
    }
}

impl NewCommand {
    fn run(&self) -> anyhow::Result<()> {
        eprintln!("training the tokenizer on the texts of {} lessons", self.lessons);
        small_model::make(&self.out, self.seed, self.lessons)?;
        output::line(&self.out.display().to_string())?;
        Ok(())
    }
}

impl InfoCommand {
    fn run(&self) -> anyhow::Result<()> {
        let context = || format!("failed to read the model {}", self.folder.display());
        let config = VlmConfig::load(&self.folder).with_context(context)?;
        let weights = Weights::open(&self.folder).with_context(context)?;
        let (mut tensors, mut parameters) = (0, 0);
        for name in weights.names() {
            tensors += 1;
            parameters += weights.shape(name).map_or(0, |shape| shape.iter().product::<usize>());
        }
        let (text, vision) = (&config.text, &config.vision);
        output::json(&json!({
            "family": config.family.model_type(),
            "parameters": parameters,
            "tensors": tensors,
            "tied_head": config.tie_word_embeddings,
            "text": {
                "layers": text.num_layers,
                "width": text.hidden_size,
                "heads": text.num_heads,
                "key_value_heads": text.num_kv_heads,
                "head_width": text.head_dim,
                "vocabulary": text.vocab_size,
            },
            "vision": {
                "layers": vision.depth,
                "width": vision.hidden_size,
                "patch": vision.patch_size,
                "merge": vision.spatial_merge_size,
                "deepstack": vision.deepstack_indexes,
            },
            "prompts": Notes::of(&self.folder)?.prompts,
        }))
    }
}
