//! `mmrag model generate`: a chat, gone on with.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use mmrag_core::{Finish, ImageSource, Message, Part, Prompt, Role, Sampling};
use mmrag_model::{Adapter, ImageProcessor};
use serde::Deserialize;
use serde_json::json;

use crate::loading::{MODEL_HELP, foresee_adapter, load_adapter, load_policy, model_folder};
use crate::output;

const EXAMPLES: &str = "Examples:
  mmrag model generate \"What does the picture show?\" --image photo.jpg \\
    --model Qwen/Qwen3-VL-2B-Instruct
  mmrag model generate --chat chat.json --temperature 0.7 --seed 3

A chat file is a list of turns, as chat templates have them; pictures are files, beside it:
  [{\"role\": \"system\", \"content\": \"Be brief.\"},
   {\"role\": \"user\", \"content\": [{\"type\": \"image\", \"image\": \"photo.jpg\"},
                                 {\"type\": \"text\", \"text\": \"What is this?\"}]}]";

/// Goes on with a chat. The text comes as it is written.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct GenerateCommand {
    /// What the user says, after the pictures
    #[arg(value_name = "TEXT", required_unless_present = "chat", conflicts_with = "chat")]
    text: Option<String>,
    /// A picture to show; may be given again for more
    #[arg(long, value_name = "FILE", conflicts_with = "chat")]
    image: Vec<PathBuf>,
    /// What stands before the user's turn
    #[arg(long, value_name = "TEXT", conflicts_with = "chat")]
    system: Option<String>,
    /// The turns so far, as JSON
    #[arg(long, value_name = "FILE")]
    chat: Option<PathBuf>,
    /// The model, as [`MODEL_HELP`] says.
    #[arg(long, value_name = "MODEL", help = MODEL_HELP)]
    model: Option<PathBuf>,
    /// An adapter to put on
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Write so many tokens at most
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_new_tokens: usize,
    /// Draw at this temperature; 0 takes the most probable token each time
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f64,
    /// Draw from the smallest set of tokens that has this probability
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f64,
    /// Draw from so many most probable tokens; 0 is all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Seed of the draws
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Print text, tokens and log-probabilities as JSON, at the end
    #[arg(long)]
    json: bool,
}

impl GenerateCommand {
    /// Writes the text on stdout.
    ///
    /// # Errors
    ///
    /// When a number is out of its range, or model, chat or a picture cannot be read.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        ensure!(self.temperature >= 0.0, "--temperature {} is below 0", self.temperature);
        ensure!(self.top_p > 0.0 && self.top_p <= 1.0, "--top-p {} is no share", self.top_p);
        ensure!(self.max_new_tokens > 0, "--max-new-tokens 0 asks for nothing");
        let prompt = self.prompt()?;
        let model = model_folder(self.model.as_deref())?;
        check_pictures(&prompt, &model)?;
        if let Some(adapter) = &self.adapter {
            foresee_adapter(adapter, &model)?;
        }
        let policy = load_policy(&model)?;
        let adapter = self.adapter.as_deref().map(|folder| load_adapter(folder, &policy));
        let adapter: Option<Adapter> = adapter.transpose()?;
        let encoded = policy.encode(&prompt).context("failed to read the chat")?;
        let sampling = Sampling {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            max_new_tokens: self.max_new_tokens,
            n: 1,
            seed: self.seed,
        };
        let mut written = Ok(());
        let mut tell = |text: &str| {
            if !self.json && written.is_ok() {
                written = output::piece(text);
            }
        };
        let actor = policy.with(adapter.as_ref());
        let completion =
            actor.stream(&encoded, &sampling, &mut tell).context("failed to generate")?;
        written?;
        if self.json {
            return output::json(&json!({
                "text": completion.text,
                "tokens": completion.tokens,
                "logprobs": completion.sampled_logprobs,
                "finish": completion.finish,
                "prompt_tokens": encoded.len(),
            }));
        }
        output::line("")?;
        if completion.finish == Finish::Length {
            eprintln!("stopped after {} tokens (--max-new-tokens)", completion.tokens.len());
        }
        Ok(())
    }

    fn prompt(&self) -> anyhow::Result<Prompt> {
        let messages = match (&self.chat, &self.text) {
            (Some(file), _) => chat(file)?,
            (None, Some(text)) => {
                let system = self.system.as_ref().map(|text| turn(Role::System, text));
                let mut user = turn(Role::User, text);
                let images = self.image.iter().cloned().map(image);
                user.parts.splice(0..0, images);
                system.into_iter().chain([user]).collect()
            }
            (None, None) => bail!("there is nothing to go on with: give TEXT or --chat"),
        };
        Ok(Prompt { messages, reply_prefix: String::new(), reasons: true })
    }
}

/// Refuses pictures that cannot be used by their headers, before a large model is loaded for them.
fn check_pictures(prompt: &Prompt, model: &Path) -> anyhow::Result<()> {
    let parts = prompt.messages.iter().flat_map(|message| &message.parts);
    let images = parts.filter_map(|part| match part {
        Part::Image(source) => Some(source),
        Part::Text(_) => None,
    });
    let images: Vec<&ImageSource> = images.collect();
    if images.is_empty() {
        return Ok(());
    }
    let processor = ImageProcessor::load(model)
        .with_context(|| format!("failed to load the model {}", model.display()))?;
    for source in images {
        processor.grid(source).context("failed to read the chat")?;
    }
    Ok(())
}

fn turn(role: Role, text: &str) -> Message {
    Message { role, parts: vec![Part::Text(text.to_owned())] }
}

fn image(file: PathBuf) -> Part {
    Part::Image(ImageSource::Path(file))
}

/// A turn of a chat file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Turn {
    role: Role,
    content: Said,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    Text(String),
    Parts(Vec<Piece>),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
enum Piece {
    Text { text: String },
    Image { image: PathBuf },
}

/// The turns of a chat file; pictures lie where the file says, seen from its folder.
fn chat(file: &Path) -> anyhow::Result<Vec<Message>> {
    let context = || format!("failed to read the chat {}", file.display());
    let text = std::fs::read_to_string(file).with_context(context)?;
    let turns: Vec<Turn> = serde_json::from_str(&text).with_context(context)?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let part = |piece| match piece {
        Piece::Text { text } => Part::Text(text),
        Piece::Image { image: file } => image(folder.join(file)),
    };
    let message = |Turn { role, content }| match content {
        Said::Text(text) => turn(role, &text),
        Said::Parts(pieces) => Message { role, parts: pieces.into_iter().map(part).collect() },
    };
    Ok(turns.into_iter().map(message).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_file_is_turns_of_text_and_pictures_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("chat.json");
        let parts = r#"[{"type": "image", "image": "a.png"}, {"type": "text", "text": "What?"}]"#;
        let turns = format!(
            r#"[{{"role": "system", "content": "Be brief."}}, {{"role": "user", "content": {parts}}}]"#
        );
        std::fs::write(&file, turns).unwrap();
        let expected = vec![
            turn(Role::System, "Be brief."),
            Message {
                role: Role::User,
                parts: vec![image(folder.path().join("a.png")), Part::Text("What?".to_owned())],
            },
        ];
        assert_eq!(chat(&file).unwrap(), expected);
        std::fs::write(&file, r#"[{"role": "user", "content": [{"type": "film"}]}]"#).unwrap();
        let error = format!("{:#}", chat(&file).unwrap_err());
        assert!(error.contains("chat.json"), "{error}");
    }
}
