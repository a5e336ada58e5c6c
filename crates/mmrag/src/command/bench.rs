//! `mmrag bench`: how long the parts take, as JSON.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use mmrag_model::{ImageProcessor, Placement, Policy, Precision};
use serde_json::Value;

use super::Ended;
use super::bench_score::BenchScoreCommand;
use crate::answerer::{AnswerArgs, Answerer};
use crate::bench::{self, CandidateCount, PromptSize, Rounds, Training};
use crate::host::host;
use crate::loading::{MODEL_HELP, model_folder};
use crate::{output, predict};

/// Times the parts.
#[derive(Subcommand)]
pub(crate) enum BenchCommand {
    /// Time one group of reinforcement: sampling, and one update
    Grpo(GrpoCommand),
    /// Time decoding: the first token, and those that follow
    Decode(DecodeCommand),
    /// Time one explained answer: filter, rank, answer
    Answer(AnswerCommand),
    /// Time the official scoring of a prediction file
    Score(BenchScoreCommand),
    /// Time an index of drawn documents: making it, and searching it
    Index(IndexCommand),
    /// Let clients at a running server: times, refusals, memory
    Serve(LoadCommand),
}

/// Times an index. Texts and vectors are drawn.
#[derive(Args)]
#[command(after_help = "Example:\n  mmrag bench index --documents 20000 --dimensions 768")]
pub(crate) struct IndexCommand {
    /// Documents
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = at_least_one)]
    documents: usize,
    /// Values of a vector
    #[arg(long, value_name = "D", default_value_t = 768, value_parser = at_least_one)]
    dimensions: usize,
    /// Questions of each kind
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = at_least_one)]
    questions: usize,
    /// Documents that are about one thing, with vectors around one middle; 1 draws all evenly
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = at_least_one)]
    alike: usize,
    /// Where the index is made, and kept; if absent, in a folder that is removed
    #[arg(long, value_name = "PLACE")]
    out: Option<PathBuf>,
}

impl IndexCommand {
    fn run(&self) -> anyhow::Result<Value> {
        let IndexCommand { documents, dimensions, questions, alike, .. } = *self;
        let size = bench::IndexSize { documents, dimensions, questions, alike };
        if let Some(out) = &self.out {
            anyhow::ensure!(!out.exists(), "{} is there already", out.display());
            return bench::index(out, size);
        }
        let folder = tempfile::tempdir().context("failed to make a folder")?;
        bench::index(&folder.path().join("index"), size)
    }
}

/// Lets clients at a server of this machine.
#[derive(Args)]
#[command(
    after_help = "Example:\n  mmrag bench serve http://127.0.0.1:7878 --clients 64 --seconds 60"
)]
pub(crate) struct LoadCommand {
    /// The server's address
    #[arg(value_name = "URL")]
    address: String,
    /// Its API key; MMRAG_API_KEY if absent
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Clients that ask one question after the other
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one)]
    clients: usize,
    /// For how long
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = at_least_one)]
    seconds: usize,
    /// Documents of each question
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = at_least_one)]
    documents: usize,
}

impl LoadCommand {
    fn load(&self) -> bench::Load {
        bench::Load {
            address: self.address.trim_end_matches('/').to_owned(),
            key: self.key.clone().or_else(|| std::env::var("MMRAG_API_KEY").ok()),
            clients: self.clients,
            time: Duration::from_secs(self.seconds as u64),
            documents: self.documents,
        }
    }
}

/// Times one group. The prompt is random tokens and pictures of noise, so that any checkpoint's
/// folder will do, also one without a tokenizer.
#[derive(Args)]
#[command(after_help = GRPO_EXAMPLES)]
pub(crate) struct GrpoCommand {
    /// The model, as [`MODEL_HELP`] says.
    #[arg(long, value_name = "MODEL", help = MODEL_HELP)]
    model: Option<PathBuf>,
    #[command(flatten)]
    prompt: PromptArgs,
    /// Replies of the group
    #[arg(long, value_name = "G", default_value_t = 8, value_parser = at_least_one)]
    group: usize,
    /// Tokens of each reply
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one)]
    new: usize,
    #[command(flatten)]
    update: UpdateArgs,
    /// Predict memory and seconds from the model's shape, without loading it
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    rounds: RoundArgs,
}

/// What is trained, and how.
#[derive(Args)]
struct UpdateArgs {
    /// Train all weights instead of an adapter of rank 16
    #[arg(long)]
    full: bool,
    /// Give every reply its own copy of the prompt in the update
    #[arg(long)]
    repeat_prompt: bool,
    /// Compute layers again in the backward pass: less memory, more time
    #[arg(long)]
    gradient_checkpointing: bool,
}

/// How often it is timed.
#[derive(Args)]
struct RoundArgs {
    /// How often each part is timed; the median is told
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = at_least_one)]
    repeats: usize,
    /// Count the first round too; a round of a large model takes minutes
    #[arg(long)]
    cold: bool,
}

impl RoundArgs {
    fn rounds(&self) -> Rounds {
        Rounds { counted: self.repeats, warm_up: usize::from(!self.cold) }
    }
}

/// What the prompt is like.
#[derive(Args)]
struct PromptArgs {
    /// Tokens of text
    #[arg(long, value_name = "N", default_value_t = 256)]
    text: usize,
    /// Pictures
    #[arg(long, value_name = "N", default_value_t = 4)]
    images: usize,
    /// Width and height of each picture in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 128, value_parser = at_least_one)]
    image_size: usize,
}

impl PromptArgs {
    fn size(&self) -> PromptSize {
        PromptSize { text: self.text, images: self.images, image_size: self.image_size }
    }
}

/// Times decoding.
#[derive(Args)]
#[command(after_help = "Example:\n  mmrag bench decode --completions 1,8,32")]
pub(crate) struct DecodeCommand {
    /// The model, as [`MODEL_HELP`] says.
    #[arg(long, value_name = "MODEL", help = MODEL_HELP)]
    model: Option<PathBuf>,
    #[command(flatten)]
    prompt: PromptArgs,
    /// Completions that are written at once
    #[arg(long, value_name = "N,…", default_value = "1,8", value_delimiter = ',', value_parser = at_least_one)]
    completions: Vec<usize>,
    /// Tokens of each completion
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_two)]
    new: usize,
    #[command(flatten)]
    rounds: RoundArgs,
}

const GRPO_EXAMPLES: &str = "Example:
  mmrag bench grpo
  mmrag bench grpo --repeat-prompt
  mmrag bench grpo --model DIR --group 8 --text 256 --images 4 --image-size 256 --new 64 --full";

pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    at_least(1, text)
}

fn at_least_two(text: &str) -> Result<usize, String> {
    at_least(2, text)
}

fn at_least(least: usize, text: &str) -> Result<usize, String> {
    let number: usize = text.parse().map_err(|_| "it is no whole number".to_owned())?;
    if number >= least { Ok(number) } else { Err(format!("at least {least} is needed")) }
}

/// Times answers.
#[derive(Args)]
#[command(after_help = "Example:\n  mmrag bench answer --candidates 12 --images 4")]
pub(crate) struct AnswerCommand {
    /// Candidates of each question
    #[arg(long, value_name = "N", default_value_t = 12)]
    candidates: usize,
    /// Pictures among them; as they come if absent
    #[arg(long, value_name = "N")]
    images: Option<usize>,
    #[command(flatten)]
    rounds: RoundArgs,
    #[command(flatten)]
    answer: AnswerArgs,
}

impl BenchCommand {
    /// Prints the times on stdout.
    ///
    /// # Errors
    ///
    /// When the model cannot be read or run.
    pub(crate) fn run(&self) -> anyhow::Result<Ended> {
        match self {
            Self::Grpo(command) => output::json(&command.run()?)?,
            Self::Score(command) => output::json(&command.run()?)?,
            Self::Index(command) => output::json(&command.run()?)?,
            Self::Serve(command) => output::json(&command.load().run()?)?,
            Self::Decode(command) => {
                let policy = measured(command.model.as_ref(), Precision::Stored)?;
                let (size, new) = (command.prompt.size(), command.new);
                let found = bench::decode(
                    &policy,
                    size,
                    &command.completions,
                    new,
                    command.rounds.rounds(),
                )?;
                output::json(&found)?;
            }
            Self::Answer(command) => {
                // Without a filter there would be no filter to time.
                let threshold = command.answer.threshold.or(Some(0.5));
                let arguments = match command.answer.filter_adapter {
                    Some(_) => command.answer.clone(),
                    None => AnswerArgs { threshold, ..command.answer.clone() },
                };
                let engine = arguments.engine()?;
                let answerer = Answerer::new(&engine, &arguments)?;
                let rounds = command.rounds.rounds();
                let count = CandidateCount { all: command.candidates, images: command.images };
                output::json(&bench::answers(&answerer, count, rounds)?)?;
            }
        }
        Ok(Ended::Done)
    }
}

impl GrpoCommand {
    fn run(&self) -> anyhow::Result<Value> {
        let precision = if self.update.full { Precision::F32 } else { Precision::Stored };
        if self.dry_run {
            return self.predict();
        }
        let policy = measured(self.model.as_ref(), precision)?;
        let training = Training {
            group: self.group,
            new: self.new,
            full: self.update.full,
            repeat_prompt: self.update.repeat_prompt,
            gradient_checkpointing: self.update.gradient_checkpointing,
        };
        bench::group(&policy, self.prompt.size(), training, self.rounds.rounds())
    }
}

impl GrpoCommand {
    fn predict(&self) -> anyhow::Result<Value> {
        let folder = model_folder(self.model.as_deref())?;
        let processor = ImageProcessor::load(&folder)
            .with_context(|| format!("failed to read the model {}", folder.display()))?;
        let size = self.prompt.size();
        let grid = bench::noise_grid(&processor, size)?;
        let patches = size.images * grid.iter().product::<usize>();
        let marks = size.images * (2 + processor.tokens(grid));
        let group = predict::Group {
            prompt: size,
            length: (size.text.max(1) + marks, patches),
            replies: self.group,
            new: self.new,
        };
        predict::group(&folder, &group, self.update.full, self.update.gradient_checkpointing)
    }
}

/// Loads a model for measurements of replies of one length.
fn measured(folder: Option<&PathBuf>, precision: Precision) -> anyhow::Result<Policy> {
    let folder = model_folder(folder.map(PathBuf::as_path))?;
    let placement = Placement { precision, device: host().device.clone() };
    Policy::load_for_measurement(&folder, &placement)
        .map(Policy::never_ending)
        .with_context(|| format!("failed to load the model {}", folder.display()))
}
