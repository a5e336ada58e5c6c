//! Prompts and completions in OpenAI's form.

use std::borrow::Cow;
use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mmrag_core::{Completion, EngineError, ImageSource, Part, Prompt};
use mmrag_data::picture_bytes;
use serde_json::{Value, json};

use super::finish;

/// A drawn token with what else was likely.
pub(super) struct TokenLogprobs {
    pub(super) text: String,
    pub(super) likely: Vec<(String, f64)>,
}

/// The turns; pictures go along as data.
pub(super) fn messages(prompt: &Prompt) -> Result<Value, EngineError> {
    let mut messages = Vec::new();
    for message in &prompt.messages {
        let parts: Result<Vec<Value>, EngineError> = message.parts.iter().map(part).collect();
        messages.push(json!({ "role": message.role.as_str(), "content": parts? }));
    }
    if !prompt.reply_prefix.is_empty() {
        messages.push(json!({ "role": "assistant", "content": prompt.reply_prefix }));
    }
    Ok(messages.into())
}

fn part(part: &Part) -> Result<Value, EngineError> {
    match part {
        Part::Text(text) => Ok(json!({ "type": "text", "text": text })),
        Part::Image(source) => {
            let bytes = bytes(source)?;
            let format = image::guess_format(&bytes)
                .map_err(|e| EngineError::caused_by("send a picture: no known format", e))?;
            let url = format!("data:{};base64,{}", format.to_mime_type(), STANDARD.encode(&bytes));
            Ok(json!({ "type": "image_url", "image_url": { "url": url } }))
        }
    }
}

fn bytes(source: &ImageSource) -> Result<Cow<'_, [u8]>, EngineError> {
    picture_bytes(source).map_err(|e| EngineError::new(format!("read a picture: {e}")))
}

/// Width and height as the header tells them.
pub(super) fn picture_size(source: &ImageSource) -> Result<[usize; 2], EngineError> {
    let bytes = bytes(source)?;
    let size = image::ImageReader::new(Cursor::new(&*bytes))
        .with_guessed_format()
        .expect("reading from memory does not fail")
        .into_dimensions()
        .map_err(|e| EngineError::caused_by(format!("read a picture: {e}"), e))?;
    Ok([size.0 as usize, size.1 as usize])
}

/// A seed for one completion, small enough for every engine.
pub(super) fn seed(seed: u64, index: usize, sample: usize) -> u32 {
    let mixed = seed
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add((index as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9))
        .wrapping_add(sample as u64);
    (mixed >> 33) as u32 ^ sample as u32
}

/// All completions of an answer.
pub(super) fn completions(answer: &Value) -> Result<Vec<Completion>, EngineError> {
    let Some(choices) = answer["choices"].as_array() else {
        return Err(EngineError::new("the engine's answer has no `choices`"));
    };
    Ok(choices.iter().map(completion).collect())
}

fn completion(choice: &Value) -> Completion {
    let mut written = Written::default();
    let message = &choice["message"];
    written.take(message);
    written.logprobs(choice);
    Completion {
        text: written.text(),
        tokens: Vec::new(),
        sampled_logprobs: written.logprobs,
        finish: finish(choice["finish_reason"].as_str()),
    }
}

/// The drawn tokens with the likely ones; nothing if the engine tells none.
pub(super) fn token_logprobs(choice: &Value) -> Option<Vec<TokenLogprobs>> {
    let rows = choice["logprobs"]["content"].as_array().filter(|rows| !rows.is_empty())?;
    let token = |row: &Value| {
        let likely = row["top_logprobs"].as_array()?.iter().filter_map(|likely| {
            Some((likely["token"].as_str()?.to_owned(), likely["logprob"].as_f64()?))
        });
        Some(TokenLogprobs { text: row["token"].as_str()?.to_owned(), likely: likely.collect() })
    };
    rows.iter().map(token).collect()
}

/// What an engine has written so far. Reasoning that it tells apart stands in `<think>`, as it was
/// written.
#[derive(Default)]
pub(super) struct Written {
    reasoning: String,
    content: String,
    logprobs: Vec<f32>,
    finish: Option<String>,
}

impl Written {
    /// Takes an event; whether there is more text than before.
    pub(super) fn add(&mut self, chunk: &Value) -> bool {
        let Some(choice) = chunk["choices"].get(0) else { return false };
        self.logprobs(choice);
        if let Some(word) = choice["finish_reason"].as_str() {
            self.finish = Some(word.to_owned());
        }
        self.take(&choice["delta"])
    }

    fn take(&mut self, said: &Value) -> bool {
        let reasoning = said["reasoning_content"].as_str().or(said["reasoning"].as_str());
        let (reasoning, content) =
            (reasoning.unwrap_or_default(), said["content"].as_str().unwrap_or_default());
        self.reasoning += reasoning;
        self.content += content;
        !reasoning.is_empty() || !content.is_empty()
    }

    fn logprobs(&mut self, choice: &Value) {
        let rows = choice["logprobs"]["content"].as_array().into_iter().flatten();
        self.logprobs.extend(rows.filter_map(|row| row["logprob"].as_f64()).map(|p| p as f32));
    }

    pub(super) fn text(&self) -> String {
        if self.reasoning.is_empty() {
            self.content.clone()
        } else {
            format!("<think>{}</think>{}", self.reasoning, self.content)
        }
    }

    pub(super) fn completion(self) -> Result<Completion, EngineError> {
        if self.finish.is_none() && self.content.is_empty() {
            return Err(EngineError::new("the engine's stream ended before it said anything"));
        }
        Ok(Completion {
            text: self.text(),
            tokens: Vec::new(),
            finish: finish(self.finish.as_deref()),
            sampled_logprobs: self.logprobs,
        })
    }
}
