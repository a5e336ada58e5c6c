//! `mmrag model`: a new small model, and what a model's folder holds.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use mmrag_model::{Compared, VlmConfig, Weights, check, merge};
use mmrag_train::check_update;
use serde_json::json;

use super::Ended;
use super::generate::GenerateCommand;
use crate::host::host;
use crate::loading::{MODEL_HELP, NEEDED_MODEL_HELP, model_folder};
use crate::notes::Notes;
use crate::published::{self, Published};
use crate::{hub, output, small_model};

/// Makes and looks at models.
#[derive(Subcommand)]
pub(crate) enum ModelCommand {
    /// Make a model with random weights and a tokenizer trained on the atlas
    New(NewCommand),
    /// Say what a model's folder holds
    Info(InfoCommand),
    /// Compare a model's numbers with reference outputs, tensor by tensor
    Check(CheckCommand),
    /// Fold an adapter into a checkpoint
    Merge(MergeCommand),
    /// Go on with a chat, with pictures
    Generate(GenerateCommand),
}

/// Makes a model that knows nothing yet.
#[derive(Args)]
#[command(
    after_help = "Example:\n  mmrag model new --out runs/new --seed 1\n  mmrag model new --like qwen3-vl-2b --out runs/random-2b"
)]
pub(crate) struct NewCommand {
    /// The shape of a published checkpoint, for measurements: weights in bf16, the small model's
    /// tokenizer. Otherwise a small model
    #[arg(long, value_enum, value_name = "NAME")]
    like: Option<Published>,
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
#[command(
    after_help = "Examples:\n  mmrag model info crates/mmrag/model\n  mmrag model info Qwen/Qwen3-VL-2B-Instruct"
)]
pub(crate) struct InfoCommand {
    /// The model, as [`NEEDED_MODEL_HELP`] says.
    #[arg(value_name = "MODEL", help = NEEDED_MODEL_HELP)]
    model: PathBuf,
}

/// Compares a model with reference outputs. Fails if one differs by more than it may, or is one
/// that mmrag does not make.
#[derive(Args)]
#[command(after_help = CHECK_EXAMPLES)]
pub(crate) struct CheckCommand {
    /// The model, as [`NEEDED_MODEL_HELP`] says.
    #[arg(long, value_name = "MODEL", help = NEEDED_MODEL_HELP)]
    model: PathBuf,
    /// An adapter to put on
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// The folder of reference outputs: cases.json, cases.safetensors, the images; or of a
    /// reference update: update.json, batch.safetensors, the adapters before and after
    #[arg(long, value_name = "DIR")]
    cases: PathBuf,
    /// Print the comparison as JSON
    #[arg(long)]
    json: bool,
}

/// Folds an adapter into a checkpoint: a folder that every tool loads without the adapter.
#[derive(Args)]
#[command(after_help = "Example:\n  mmrag model merge --adapter runs/rank/adapter --out merged")]
pub(crate) struct MergeCommand {
    /// The model, as [`MODEL_HELP`] says.
    #[arg(long, value_name = "MODEL", help = MODEL_HELP)]
    model: Option<PathBuf>,
    /// The adapter: a folder as PEFT writes it, or its name on the hub
    #[arg(long, value_name = "DIR")]
    adapter: PathBuf,
    /// The folder to write, new or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

const CHECK_EXAMPLES: &str = "Example:
  mmrag model check --model crates/model/tests/fixtures/qwen3_vl_tiny \\
    --cases crates/model/tests/fixtures/qwen3_vl_tiny

Reference outputs are tensors LABEL.OUTPUT: pixel_values, image_grid_thw, position_ids,
image_embeds, last_hidden_state, logits, token_logprobs, loss, grad.NAME, greedy_new_tokens.
interop/make_cases.py makes them with transformers and PEFT.

A reference update is three optimizer steps of GRPO on one group of replies (update.json). It is
done again, and every number of it compared: losses, KL, gradients, log-probabilities, and how far
the adapter came. Its prompt is a case of the model's own reference outputs.";

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
            Self::Check(command) => command.run()?,
            Self::Merge(command) => command.run()?,
            Self::Generate(command) => command.run()?,
        }
        Ok(Ended::Done)
    }
}

impl NewCommand {
    fn run(&self) -> anyhow::Result<()> {
        eprintln!("training the tokenizer on the texts of {} lessons", self.lessons);
        match self.like {
            Some(like) => published::make(like, &self.out, self.seed, self.lessons)?,
            None => small_model::make(&self.out, self.seed, self.lessons)?,
        }
        output::line(&self.out.display().to_string())?;
        Ok(())
    }
}

impl InfoCommand {
    fn run(&self) -> anyhow::Result<()> {
        let folder = model_folder(Some(&self.model))?;
        let context = || format!("failed to read the model {}", folder.display());
        let config = VlmConfig::load(&folder).with_context(context)?;
        let weights = Weights::open(&folder).with_context(context)?;
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
            "prompts": Notes::of(&folder)?.prompts,
        }))
    }
}

impl MergeCommand {
    fn run(&self) -> anyhow::Result<()> {
        let model = model_folder(self.model.as_deref())?;
        merge(&model, &hub::adapter_folder(&self.adapter)?, &self.out)
            .with_context(|| format!("failed to merge {}", self.adapter.display()))?;
        output::line(&self.out.display().to_string())?;
        Ok(())
    }
}

impl CheckCommand {
    fn run(&self) -> anyhow::Result<()> {
        let rows =
            self.compare().with_context(|| format!("failed to check {}", self.model.display()))?;
        if self.json {
            let row = |row: &Compared| {
                json!({
                    "case": row.case,
                    "output": row.output,
                    "difference": row.difference,
                    "tolerance": row.tolerance,
                    "agrees": row.agrees(),
                })
            };
            output::json(&rows.iter().map(row).collect::<Vec<_>>())?;
        } else {
            for line in table(&rows) {
                output::line(&line)?;
            }
        }
        let n_off = rows.iter().filter(|row| !row.agrees()).count();
        ensure!(!rows.is_empty(), "{} holds no case", self.cases.display());
        ensure!(n_off == 0, "{n_off} of {} outputs do not agree", rows.len());
        Ok(())
    }

    /// Every number of the folder, ours against the reference's.
    fn compare(&self) -> anyhow::Result<Vec<Compared>> {
        let model = model_folder(Some(&self.model))?;
        if !self.cases.join("update.json").is_file() {
            let adapter = self.adapter.as_deref().map(hub::adapter_folder).transpose()?;
            return Ok(check(&model, adapter.as_deref(), &self.cases, &host().device)?);
        }
        ensure!(
            self.adapter.is_none(),
            "{} holds an update of its own adapter: leave --adapter out",
            self.cases.display()
        );
        Ok(check_update(&model, &self.cases, &host().device)?)
    }
}

/// The comparison as aligned lines, a case and output each.
fn table(rows: &[Compared]) -> Vec<String> {
    let width = |cell: fn(&Compared) -> &str, head: &str| {
        rows.iter().map(|row| cell(row).len()).max().unwrap_or(0).max(head.len())
    };
    let (case, output) = (width(|row| &row.case, "case"), width(|row| &row.output, "output"));
    let line = |cells: [&str; 5]| {
        let [a, b, difference, tolerance, verdict] = cells;
        format!("{a:case$}  {b:output$}  {difference:>10}  {tolerance:>9}  {verdict}")
    };
    let head = line(["case", "output", "difference", "tolerance", "verdict"]);
    let rows = rows.iter().map(|row| {
        let difference = row.difference.map_or("-".to_owned(), |value| format!("{value:.1e}"));
        let verdict = match row.difference {
            None => "not compared: unknown output",
            Some(_) if row.agrees() => "ok",
            Some(_) => "DIFFERS",
        };
        let tolerance = format!("{:.0e}", row.tolerance);
        line([&row.case, &row.output, &difference, &tolerance, verdict])
    });
    std::iter::once(head).chain(rows).collect()
}
