//! Chats to tokens and back.
//!
//! Special tokens come from the chat template alone. What stands in a prompt's parts is outside
//! text: before rendering, one character of every special token's spelling is taken out of it and
//! replaced by a mark that no text can contain; after rendering, what looks like a special token
//! was therefore written by the template. The rendered text is split at those, the marks are
//! turned back, and each stretch is encoded with the recognition of special tokens switched off.
//! For text without such spellings the result is what transformers gives for the whole string.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

use mmrag_core::{ImageSource, Message, Part, Prompt};
use serde_json::{Value, json};
use tokenizers::models::ModelWrapper;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::{DecoderWrapper, Tokenizer};

use crate::config::VlmConfig;
use crate::error::ModelError;
use crate::marks::Marks;
use crate::special_tokens::{
    Special, add_tokens, end_of_turn, escape_char, image_token, specials_of,
};
use crate::template::{ChatTemplate, RenderOptions};
use crate::weights::read_json;

/// The tag that some templates open the policy's turn with.
pub(crate) const THINK: &str = "<think>";

/// A checkpoint's tokenizer and chat template.
#[derive(Debug)]
pub struct ChatTokenizer {
    tokenizer: Tokenizer,
    template: ChatTemplate,
    /// Longest spelling first.
    specials: Vec<Special>,
    /// One character of each special token's spelling.
    escaped: BTreeSet<char>,
    image: u32,
    end_of_turn: u32,
    opens_think: bool,
}

/// A prompt as the model takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptTokens {
    /// The tokens; each picture's placeholder stands as often as the picture has tokens.
    pub ids: Vec<u32>,
    /// Whether the reply goes on inside a `<think>` that the template itself has opened, so that
    /// the tag belongs before the reply's text.
    pub opens_think: bool,
}

impl ChatTokenizer {
    /// Reads `tokenizer.json`, `tokenizer_config.json`, the chat template and, if it is there,
    /// the image token of `config.json`.
    ///
    /// # Errors
    ///
    /// When a file is missing or damaged, the tokenizer is no byte-level BPE, or it does not know
    /// the image token or the end of a turn as special tokens.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self, ModelError> {
        let dir = dir.as_ref();
        let path = dir.join("tokenizer.json");
        let bad = |reason: String| ModelError::Tokenizer { path: path.clone(), reason };
        let bytes = std::fs::read(&path)
            .map_err(|source| ModelError::Read { path: path.clone(), source })?;
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| bad(error.to_string()))?;
        check_kind(&tokenizer).map_err(bad)?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| bad(error.to_string()))?;
        tokenizer.set_encode_special_tokens(true);
        let tokenizer_config = optional_json(&dir.join("tokenizer_config.json"))?;
        add_tokens(&mut tokenizer, &tokenizer_config).map_err(bad)?;

        let specials = specials_of(&tokenizer);
        let id_of = |text: &str| specials.iter().find(|s| s.text == text).map(|s| s.id);
        let config = optional_json(&dir.join("config.json"))?;
        let image = image_token(&tokenizer, &tokenizer_config, &config);
        let image = id_of(&image).ok_or_else(|| {
            bad(format!("it has no special token `{image}` for images; take the tokenizer.json that belongs to the checkpoint"))
        })?;
        for key in ["vision_start_token_id", "vision_end_token_id"] {
            let id = config.get(key).and_then(Value::as_u64);
            if let Some(id) = id.filter(|id| specials.iter().all(|s| u64::from(s.id) != *id)) {
                return Err(bad(format!(
                    "it has no special token number {id}, which is `{key}` of config.json; take \
                     the tokenizer.json that belongs to the checkpoint"
                )));
            }
        }
        let generation = optional_json(&dir.join("generation_config.json"))?;
        let end_of_turn = end_of_turn(&tokenizer, &tokenizer_config, &generation)
            .and_then(|text| id_of(&text))
            .ok_or_else(|| {
                bad("no special token is named as the end of a turn (`eos_token`)".into())
            })?;
        let template = ChatTemplate::load(dir)?;
        let opens_think = opens_think(&template)?;
        let escaped = specials.iter().filter_map(|special| escape_char(&special.text)).collect();
        Ok(Self { tokenizer, template, specials, escaped, image, end_of_turn, opens_think })
    }

    /// A tokenizer that writes each token of a model as its number, for a folder without one.
    pub(crate) fn numbered(dir: &Path, config: &VlmConfig) -> Result<Self, ModelError> {
        let bad = |reason: String| ModelError::Tokenizer { path: dir.to_owned(), reason };
        let names = (0..config.text.vocab_size as u32).map(|id| (id.to_string(), id)).collect();
        let words = WordLevel::builder().vocab(names).unk_token("0".to_owned()).build();
        let words = words.map_err(|error| bad(error.to_string()))?;
        Ok(Self {
            tokenizer: Tokenizer::new(words),
            template: ChatTemplate::parse(dir, "{{ messages }}".to_owned())?,
            specials: vec![],
            escaped: BTreeSet::new(),
            image: config.tokens.image,
            end_of_turn: config.eos.first().copied().unwrap_or_default(),
            opens_think: false,
        })
    }

    /// The tokens of a prompt. `image_tokens` says how many tokens each picture takes, in the
    /// prompt's order.
    ///
    /// # Errors
    ///
    /// When the template refuses the messages, does not show each picture once, or a count is
    /// missing or 0, with the picture's name.
    pub fn encode_prompt(
        &self,
        prompt: &Prompt,
        image_tokens: &[usize],
    ) -> Result<PromptTokens, ModelError> {
        let images = images_of(prompt);
        check_counts(&images, image_tokens)?;
        let marks = Marks::new(&self.escaped, prompt);
        let messages: Vec<Value> =
            prompt.messages.iter().map(|message| as_json(message, &marks)).collect();
        let mut text = self.template.render(&messages.into(), RenderOptions::default())?;
        let (begun, opens_think) = self.begun(prompt);
        text.push_str(&marks.hide(&begun));

        let mut ids = Vec::new();
        let mut counts = image_tokens.iter();
        let mut placeholders = 0;
        for piece in self.split(&text) {
            match piece {
                Piece::Stretch(stretch) => self.encode_stretch(&marks.show(stretch), &mut ids)?,
                Piece::Special(id) if id == self.image => {
                    placeholders += 1;
                    let count = counts.next().copied().unwrap_or(0);
                    ids.extend(std::iter::repeat_n(id, count));
                }
                Piece::Special(id) => ids.push(id),
            }
        }
        if placeholders != images.len() {
            return Err(self.misplaced(&images, placeholders));
        }
        Ok(PromptTokens { ids, opens_think })
    }

    /// What follows the template's opening of the policy's turn, and whether the reply goes on
    /// inside a `<think>` that the template has opened: the prompt's own opening tag is then that
    /// one, and a prompt without reasoning closes it as templates write empty reasoning.
    fn begun<'p>(&self, prompt: &'p Prompt) -> (Cow<'p, str>, bool) {
        let prefix = prompt.reply_prefix.as_str();
        if !self.opens_think {
            return (prefix.into(), false);
        }
        if !prompt.reasons {
            return (format!("\n</think>\n\n{prefix}").into(), false);
        }
        (prefix.strip_prefix(THINK).unwrap_or(prefix).into(), prefix.is_empty())
    }

    /// The tokens of a reply's text, without the end of the turn. Nothing in it becomes a special
    /// token. An opening `<think>` is left out where the template writes it.
    ///
    /// # Errors
    ///
    /// When the tokenizer refuses the text.
    pub fn encode_reply(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let opened = text.strip_prefix(THINK).filter(|_| self.opens_think);
        let mut ids = Vec::new();
        self.encode_stretch(opened.unwrap_or(text), &mut ids)?;
        Ok(ids)
    }

    /// The text of tokens, special ones left out. Bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.tokenizer.decode(ids, true).expect("the byte-level decoder takes any tokens")
    }

    /// The token that ends a turn.
    pub fn end_of_turn(&self) -> u32 {
        self.end_of_turn
    }

    /// The placeholder of pictures.
    pub fn image_token(&self) -> u32 {
        self.image
    }

    /// One more than the largest token id.
    pub fn vocab_size(&self) -> usize {
        let largest = self.tokenizer.get_vocab(true).into_values().max();
        largest.map_or(0, |id| id as usize + 1)
    }

    /// For each choice, the tokens that spell it alone: as it is given, in lower case, in upper
    /// case or capitalised, each with or without a leading space.
    ///
    /// # Errors
    ///
    /// When a choice has no spelling of one token, or two choices share one.
    pub fn choice_ids(&self, choices: &[&str]) -> Result<Vec<Vec<u32>>, ModelError> {
        let mut taken = BTreeSet::new();
        choices.iter().map(|choice| self.ids_of_choice(choice, &mut taken)).collect()
    }

    fn ids_of_choice(
        &self,
        choice: &str,
        taken: &mut BTreeSet<u32>,
    ) -> Result<Vec<u32>, ModelError> {
        let mut ids = BTreeSet::new();
        for spelling in spellings(choice) {
            if let [id] = self.encode_reply(&spelling)?[..] {
                ids.insert(id);
            }
        }
        if ids.is_empty() {
            let reason = format!("the tokenizer has no single token for `{choice}`");
            return Err(ModelError::Choices { reason });
        }
        if !ids.iter().all(|id| taken.insert(*id)) {
            let reason = format!("`{choice}` is spelled like another choice");
            return Err(ModelError::Choices { reason });
        }
        Ok(ids.into_iter().collect())
    }

    fn encode_stretch(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), ModelError> {
        if text.is_empty() {
            return Ok(());
        }
        let failed = |reason: String| ModelError::Prompt { reason };
        let encoding =
            self.tokenizer.encode_fast(text, false).map_err(|error| failed(error.to_string()))?;
        let is_special = |id: &&u32| self.specials.iter().any(|special| special.id == **id);
        if let Some(id) = encoding.get_ids().iter().find(is_special) {
            return Err(failed(format!("ordinary text was encoded as the special token {id}")));
        }
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    }

    /// Cuts a rendered text at the special tokens in it.
    fn split<'t>(&self, text: &'t str) -> Vec<Piece<'t>> {
        let mut pieces = Vec::new();
        let (mut start, mut at) = (0, 0);
        while at < text.len() {
            let rest = &text[at..];
            let Some(special) = self.specials.iter().find(|s| rest.starts_with(&s.text)) else {
                at += rest.chars().next().map_or(1, char::len_utf8);
                continue;
            };
            let before = &text[start..at];
            let before = if special.strips_left { before.trim_end() } else { before };
            pieces.extend([Piece::Stretch(before), Piece::Special(special.id)]);
            at += special.text.len();
            if special.strips_right {
                at = text.len() - text[at..].trim_start().len();
            }
            start = at;
        }
        pieces.push(Piece::Stretch(&text[start..]));
        pieces
    }

    fn misplaced(&self, images: &[&ImageSource], placeholders: usize) -> ModelError {
        let which = match images.get(placeholders) {
            Some(image) => format!("; the first without a place is {}", name_of(image)),
            None => images.last().map_or_else(String::new, |image| {
                format!("; the places after that of {} are for nothing", name_of(image))
            }),
        };
        let reason = format!(
            "the chat template of {} has {placeholders} places for {} images{which}",
            self.template.path().display(),
            images.len(),
        );
        ModelError::Prompt { reason }
    }
}

/// A part of a rendered prompt.
enum Piece<'t> {
    Stretch(&'t str),
    Special(u32),
}

fn as_json(message: &Message, marks: &Marks) -> Value {
    let has_images = message.parts.iter().any(|part| matches!(part, Part::Image(_)));
    let texts = message.parts.iter().map(|part| match part {
        Part::Text(text) => marks.hide(text),
        Part::Image(_) => String::new(),
    });
    let content: Value = if has_images {
        let entries = message.parts.iter().zip(texts).map(|(part, text)| match part {
            Part::Text(_) => json!({"type": "text", "text": text}),
            Part::Image(_) => json!({"type": "image"}),
        });
        entries.collect()
    } else {
        texts.collect::<String>().into()
    };
    json!({"role": message.role.as_str(), "content": content})
}

fn images_of(prompt: &Prompt) -> Vec<&ImageSource> {
    let parts = prompt.messages.iter().flat_map(|message| &message.parts);
    parts
        .filter_map(|part| match part {
            Part::Image(image) => Some(image),
            Part::Text(_) => None,
        })
        .collect()
}

fn check_counts(images: &[&ImageSource], counts: &[usize]) -> Result<(), ModelError> {
    let failed = |reason| Err(ModelError::Prompt { reason });
    if images.len() != counts.len() {
        let (shown, counted) = (images.len(), counts.len());
        let which = images.get(counted).map(|image| format!(", none for {}", name_of(image)));
        return failed(format!(
            "it shows {shown} images but token counts are given for {counted}{}",
            which.unwrap_or_default()
        ));
    }
    match images.iter().zip(counts).find(|(_, count)| **count == 0) {
        Some((image, _)) => failed(format!("{} has no tokens", name_of(image))),
        None => Ok(()),
    }
}

fn name_of(image: &ImageSource) -> String {
    match image {
        ImageSource::Path(path) => format!("the image {}", path.display()),
        ImageSource::Bytes(bytes) => format!("the image of {} bytes in memory", bytes.len()),
        ImageSource::Packed(packed) => {
            format!("the image at byte {} of {}", packed.start, packed.file.display())
        }
    }
}

/// Only what both model families use, so that encoding and decoding cannot fail on any text.
fn check_kind(tokenizer: &Tokenizer) -> Result<(), String> {
    match tokenizer.get_model() {
        ModelWrapper::BPE(bpe) if bpe.unk_token.is_none() => {}
        _ => return Err("only byte-level BPE without an unknown token is built".into()),
    }
    match tokenizer.get_decoder() {
        Some(DecoderWrapper::ByteLevel(_)) => Ok(()),
        _ => Err("only tokenizers with a byte-level decoder are built".into()),
    }
}

/// Whether what the template adds to open the policy's turn leaves a `<think>` open.
fn opens_think(template: &ChatTemplate) -> Result<bool, ModelError> {
    let messages = json!([{"role": "user", "content": "x"}]);
    let render = |add_generation_prompt| {
        template.render(&messages, RenderOptions { add_generation_prompt, add_vision_id: false })
    };
    let (without, with) = (render(false)?, render(true)?);
    let opening = with.strip_prefix(without.as_str()).unwrap_or(&with);
    Ok(opening.rfind(THINK) > opening.rfind("</think>"))
}

fn spellings(choice: &str) -> Vec<String> {
    let choice = choice.trim();
    let lower = choice.to_lowercase();
    let mut letters = lower.chars();
    let capitalised: String =
        letters.next().map(|c| c.to_uppercase().chain(letters).collect()).unwrap_or_default();
    let cases = [choice.to_owned(), lower.clone(), choice.to_uppercase(), capitalised];
    cases.into_iter().flat_map(|text| [format!(" {text}"), text]).collect()
}

fn optional_json(path: &Path) -> Result<Value, ModelError> {
    if path.is_file() { read_json(path) } else { Ok(Value::Null) }
}
