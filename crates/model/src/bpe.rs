//! The tokenizer of the built-in small model: trained here, written as an ordinary folder.
//!
//! Byte-level BPE over words with their leading space. Every digit is a token, as in the Qwen
//! families, the first with its leading space: of two numbers the larger is told by ten tokens, not
//! by a hundred. The special tokens are those of the Qwen families; the reply grammar's tags and the
//! document labels are one token each, and not special: they are read and written as text.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::normalizer::SplitDelimiterBehavior;
use tokenizers::{AddedToken, TokenizerBuilder, TokenizerImpl};

use crate::error::ModelError;
use crate::weights::{write_atomically, write_json};

/// The special tokens, in the order of their ids.
pub const SPECIAL_TOKENS: [&str; 7] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
];

/// The tags of replies, one token each.
pub const REPLY_TAGS: [&str; 6] =
    ["<think>", "</think>", "<rank>", "</rank>", "<answer>", "</answer>"];

/// Labels `[1]` to this number are one token each.
pub const LABELS: usize = 20;

/// Words that every prompt or verdict holds: each is to be one token, whatever the texts.
const FRAME_WORDS: [&str; 11] =
    ["system", "user", "assistant", "Yes", "No", "yes", "no", "none", " Yes", " No", " none"];
/// Often enough to be merged early whatever the texts.
const FRAME_WORD_WEIGHT: usize = 10_000;

/// Syllables of names, words with their leading space, single digits, runs of other signs, runs
/// of whitespace.
///
/// A name is a capitalised word of two or three open syllables, such as `Sakode`. Each of its
/// syllables is a word here, so that no merge crosses from one to the next: a name that was never
/// seen is made of tokens that were seen in many others, and is spelled alike wherever it stands.
/// Without this the merges of the commonest pairs cut every name differently, and a small model
/// hardly learns to copy one.
const WORD_PATTERN: &str = concat!(
    r" ?[BDFGHJKLMNPRSTVZ][aeiou](?=(?:[bdfghjklmnprstvz][aeiou]){1,2}(?!\p{L}))",
    r"|(?<=[aeiou])[bdfghjklmnprstvz][aeiou](?=(?:[bdfghjklmnprstvz][aeiou])?(?!\p{L}))",
    r"| ?\p{L}[\p{L}\p{M}]*| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
);

const CHAT_TEMPLATE: &str = "\
{%- macro shown(content) -%}
{%- if content is string -%}
{{- content -}}
{%- else -%}
{%- for part in content -%}
{%- if part.type == 'image' -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif part.type == 'text' -%}
{{- part.text -}}
{%- else -%}
{{- raise_exception('a part is neither text nor image') -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{{- shown(message.content) -}}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
";

/// What a small tokenizer is made of before it becomes a general one.
type Training = TokenizerImpl<BPE, NFC, Sequence, ByteLevel, ByteLevel>;

/// Trains the small model's tokenizer on texts and writes `tokenizer.json`,
/// `tokenizer_config.json` with a chat template, `preprocessor_config.json` and
/// `generation_config.json` to the folder. Returns the number of tokens: at most `vocab_size`,
/// fewer where the texts hold no more to merge.
///
/// The same texts give the same bytes, in any order of the texts.
///
/// # Errors
///
/// When a file cannot be written, or `vocab_size` is too small for the bytes and fixed tokens.
pub fn write_small_tokenizer(
    dir: impl AsRef<Path>,
    texts: impl Iterator<Item = String> + Send,
    vocab_size: usize,
) -> Result<usize, ModelError> {
    let dir = dir.as_ref();
    let path = dir.join("tokenizer.json");
    let failed = |reason: String| ModelError::Tokenizer { path: path.clone(), reason };
    fs::create_dir_all(dir).map_err(|source| ModelError::Write { path: dir.to_owned(), source })?;
    let tokenizer = trained(texts, vocab_size).map_err(|error| failed(error.to_string()))?;
    let size = tokenizer.get_vocab_size(true);
    if size > vocab_size {
        let reason = format!("it needs at least {size} tokens, more than {vocab_size}");
        return Err(failed(reason));
    }
    let text = tokenizer.to_string(true).map_err(|error| failed(error.to_string()))?;
    write_atomically(&path, |temporary| fs::write(temporary, text + "\n"))?;
    let id = |token: &str| tokenizer.token_to_id(token).map_or(Value::Null, Value::from);
    write_json(&dir.join("tokenizer_config.json"), &tokenizer_config())?;
    write_json(&dir.join("preprocessor_config.json"), &preprocessor_config())?;
    write_json(
        &dir.join("generation_config.json"),
        &json!({
            "eos_token_id": [id("<|im_end|>"), id("<|endoftext|>")],
            "pad_token_id": id("<|endoftext|>"),
        }),
    )?;
    Ok(size)
}

fn trained(
    texts: impl Iterator<Item = String> + Send,
    vocab_size: usize,
) -> tokenizers::Result<Training> {
    let fixed = fixed_tokens();
    let mut tokenizer = untrained()?;
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(vocab_size.saturating_sub(fixed.len()))
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let spellings: Vec<&str> = fixed.iter().map(|token| token.content.as_str()).collect();
    let stretches = texts.flat_map(|text| without(&text, &spellings));
    let frame = FRAME_WORDS
        .iter()
        .flat_map(|word| std::iter::repeat_n((*word).to_owned(), FRAME_WORD_WEIGHT));
    tokenizer.train(&mut trainer, stretches.chain(frame))?;
    tokenizer.add_tokens(fixed)?;
    Ok(tokenizer)
}

fn untrained() -> tokenizers::Result<Training> {
    let words = Split::new(
        SplitPattern::Regex(WORD_PATTERN.to_owned()),
        SplitDelimiterBehavior::Isolated,
        false,
    )?;
    let bytes = ByteLevel::new(false, false, false);
    TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(Some(NFC))
        .with_pre_tokenizer(Some(Sequence::new(vec![words.into(), bytes.into()])))
        .with_post_processor(Some(bytes))
        .with_decoder(Some(bytes))
        .build()
}

/// Special tokens, tags and labels, in the order of their ids.
fn fixed_tokens() -> Vec<AddedToken> {
    let token = |text: &str, special| AddedToken::from(text, special).normalized(false);
    let special = SPECIAL_TOKENS.iter().map(|text| token(text, true));
    let tags = REPLY_TAGS.iter().map(|text| token(text, false));
    let labels = (1..=LABELS).map(|label| token(&format!("[{label}]"), false));
    special.chain(tags).chain(labels).collect()
}

/// The stretches of a text between the fixed tokens, which are never merged from pieces.
fn without(text: &str, fixed: &[&str]) -> Vec<String> {
    let mut stretches = vec![text.to_owned()];
    for token in fixed {
        stretches = stretches
            .iter()
            .flat_map(|stretch| stretch.split(token).map(ToOwned::to_owned))
            .filter(|stretch| !stretch.is_empty())
            .collect();
    }
    stretches
}

fn tokenizer_config() -> Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "processor_class": "Qwen3VLProcessor",
        "clean_up_tokenization_spaces": false,
        "model_max_length": 8192,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "vision_bos_token": "<|vision_start|>",
        "vision_eos_token": "<|vision_end|>",
        "chat_template": CHAT_TEMPLATE,
    })
}

/// A picture of 64x64 stays as it is and takes 16 tokens; a larger one is shrunk to at most that
/// many pixels (a strip longer than 16 times its height takes a few more), a tiny one enlarged.
fn preprocessor_config() -> Value {
    json!({
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen3VLProcessor",
        "do_convert_rgb": true,
        "do_resize": true,
        "do_rescale": true,
        "do_normalize": true,
        "resample": 3,
        "rescale_factor": 1.0 / 255.0,
        "size": {"shortest_edge": 1024, "longest_edge": 4096},
        "patch_size": 8,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    })
}
