//! `mmrag model`: a new small model, and what a model's folder holds.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use mmrag_model::{Vlm, VlmConfig, Weights, save_safetensors, write_small_tokenizer};
use mmrag_task::PromptStyle;
use serde_json::{Value, json};

use super::Ended;
use crate::notes::Notes;
use crate::small_model::{self, SpecialTokens, VOCABULARY};
use crate::{lessons, output};

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
        let out = &self.out;
        if std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
            anyhow::bail!("failed to make a model in {}: the folder is not empty", out.display());
        }
        let context = || format!("failed to make a model in {}", out.display());
        eprintln!("training the tokenizer on the texts of {} lessons", self.lessons);
        let vocabulary = write_small_tokenizer(out, lessons::texts(self.lessons), VOCABULARY)
            .with_context(context)?;
        let config = small_model::config(vocabulary, &special_tokens(out)?);
        output::file(&out.join("config.json"), &format!("{config:#}\n"))?;
        let config = VlmConfig::load(out).with_context(context)?;
        let model = Vlm::random(config, self.seed, 1.0).with_context(context)?;
        let tensors = small_model::initialised(&model).with_context(context)?;
        save_safetensors(out.join("model.safetensors"), &tensors).with_context(context)?;
        let notes = Notes { prompts: PromptStyle::Compact, ..Notes::default() };
        notes.write(out)?;
        output::line(&out.display().to_string())?;
        Ok(())
    }
}

/// The ids that the tokenizer gave the tokens the configuration names.
fn special_tokens(folder: &Path) -> anyhow::Result<SpecialTokens> {
    let path = folder.join("tokenizer.json");
    let context = || format!("failed to read {}", path.display());
    let text = std::fs::read_to_string(&path).with_context(context)?;
    let tokenizer: Value = serde_json::from_str(&text).with_context(context)?;
    let added = tokenizer["added_tokens"].as_array().with_context(context)?;
    let id = |content: &str| {
        added
            .iter()
            .find(|token| token["content"] == content)
            .and_then(|token| u32::try_from(token["id"].as_u64()?).ok())
            .with_context(|| format!("failed to find {content} in {}", path.display()))
    };
    Ok(SpecialTokens {
        image: id("<|image_pad|>")?,
        video: id("<|video_pad|>")?,
        vision_start: id("<|vision_start|>")?,
        vision_end: id("<|vision_end|>")?,
        end_of_turn: id("<|im_end|>")?,
        end_of_text: id("<|endoftext|>")?,
    })
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
