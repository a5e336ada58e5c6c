//! `mmrag bench`: how long the parts take, as JSON.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Ended;
use crate::answerer::{AnswerArgs, Answerer, MODEL_HELP};
use crate::bench::{self, GroupSize};
use crate::output;

/// Times the parts.
#[derive(Subcommand)]
pub(crate) enum BenchCommand {
    /// Time one group of reinforcement: sampling, and one update of an adapter
    Grpo(GrpoCommand),
    /// Time one explained answer: filter, rank, answer
    Answer(AnswerCommand),
}

/// Times one group.
#[derive(Args)]
#[command(after_help = "Example:\n  mmrag bench grpo\n  mmrag bench grpo --repeat-prompt")]
pub(crate) struct GrpoCommand {
    /// The model, as [`MODEL_HELP`] says.
    #[arg(long, value_name = "MODEL", help = MODEL_HELP)]
    model: Option<PathBuf>,
    /// Give every reply its own copy of the prompt in the update
    #[arg(long)]
    repeat_prompt: bool,
    /// Tokens of the prompt, pictures included
    #[arg(long, value_name = "N", default_value_t = 512)]
    prompt_tokens: usize,
    /// Pictures of the prompt
    #[arg(long, value_name = "N", default_value_t = 4)]
    pictures: usize,
    /// Replies of the group
    #[arg(long, value_name = "G", default_value_t = 8)]
    replies: usize,
    /// Tokens of each reply
    #[arg(long, value_name = "N", default_value_t = 64)]
    new_tokens: usize,
    /// How often each part is timed; the median is told
    #[arg(long, value_name = "N", default_value_t = 5)]
    repeats: usize,
}

/// Times answers.
#[derive(Args)]
#[command(after_help = "Example:\n  mmrag bench answer --threshold 0.5")]
pub(crate) struct AnswerCommand {
    /// Candidates of each question
    #[arg(long, value_name = "N", default_value_t = 12)]
    candidates: usize,
    /// How many questions are answered, one by one; the median is told
    #[arg(long, value_name = "N", default_value_t = 5)]
    repeats: usize,
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
            Self::Grpo(command) => {
                let folder = AnswerArgs { model: command.model.clone(), ..AnswerArgs::default() };
                let size = GroupSize {
                    prompt_tokens: command.prompt_tokens,
                    pictures: command.pictures,
                    replies: command.replies.max(1),
                    new_tokens: command.new_tokens.max(1),
                };
                let policy = folder.policy()?;
                let repeats = command.repeats.max(1);
                output::json(&bench::group(&policy, size, command.repeat_prompt, repeats)?)?;
            }
            Self::Answer(command) => {
                // Without a filter there would be no filter to time.
                let threshold = command.answer.threshold.or(Some(0.5));
                let arguments = match command.answer.filter_adapter {
                    Some(_) => command.answer.clone(),
                    None => AnswerArgs { threshold, ..command.answer.clone() },
                };
                let policy = arguments.policy()?;
                let answerer = Answerer::new(&policy, &arguments)?;
                let repeats = command.repeats.max(1);
                output::json(&bench::answers(&answerer, command.candidates, repeats)?)?;
            }
        }
        Ok(Ended::Done)
    }
}
