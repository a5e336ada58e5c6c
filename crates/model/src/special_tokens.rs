//! Which tokens of a tokenizer are special, and which of them mean what.

use serde_json::Value;
use tokenizers::{AddedToken, Tokenizer};

use crate::template::token_text;

/// A special token.
#[derive(Debug)]
pub(crate) struct Special {
    pub(crate) text: String,
    pub(crate) id: u32,
    pub(crate) strips_left: bool,
    pub(crate) strips_right: bool,
}

/// Adds the tokens that `tokenizer_config.json` has beyond `tokenizer.json`, at the ids that it
/// gives them.
pub(crate) fn add_tokens(
    tokenizer: &mut Tokenizer,
    tokenizer_config: &Value,
) -> Result<(), String> {
    let listed = tokenizer_config.get("added_tokens_decoder").and_then(Value::as_object);
    let listed = listed.into_iter().flatten();
    let mut listed: Vec<(u32, &Value)> =
        listed.filter_map(|(id, token)| Some((id.parse().ok()?, token))).collect();
    listed.sort_by_key(|(id, _)| *id);
    for (id, token) in listed {
        let Some(content) = token.get("content").and_then(Value::as_str) else { continue };
        let flag = |key: &str| token.get(key).and_then(Value::as_bool).unwrap_or(false);
        let is_known = tokenizer.get_added_tokens_decoder().values().any(|t| t.content == content);
        if !is_known {
            let token = AddedToken::from(content, flag("special"))
                .lstrip(flag("lstrip"))
                .rstrip(flag("rstrip"))
                .single_word(flag("single_word"))
                .normalized(flag("normalized"));
            let added = if token.special {
                tokenizer.add_special_tokens([token])
            } else {
                tokenizer.add_tokens([token])
            };
            added.map_err(|error| error.to_string())?;
        }
        let found = tokenizer.token_to_id(content);
        if found != Some(id) {
            let found = found.map_or("none".to_owned(), |found| found.to_string());
            return Err(format!(
                "`{content}` is token {found} here and {id} in tokenizer_config.json; take both \
                 files from one checkpoint"
            ));
        }
    }
    Ok(())
}

/// The special tokens, the longest spelling first.
pub(crate) fn specials_of(tokenizer: &Tokenizer) -> Vec<Special> {
    let added = tokenizer.get_added_tokens_decoder();
    let mut specials: Vec<Special> = added
        .into_iter()
        .filter(|(_, token)| token.special && !token.content.is_empty())
        .map(|(id, token)| Special {
            text: token.content,
            id,
            strips_left: token.lstrip,
            strips_right: token.rstrip,
        })
        .collect();
    specials.sort_by(|a, b| b.text.len().cmp(&a.text.len()).then(a.text.cmp(&b.text)));
    specials
}

/// The character by whose absence a text cannot take part in this spelling: a rare one, so that
/// templates that search in the text find what they look for.
pub(crate) fn escape_char(text: &str) -> Option<char> {
    let sign = |c: &char| !c.is_alphanumeric();
    let bar = text.chars().find(|c| *c == '|');
    bar.or_else(|| text.chars().find(sign)).or_else(|| text.chars().next())
}

/// The spelling of the placeholder of pictures.
pub(crate) fn image_token(
    tokenizer: &Tokenizer,
    tokenizer_config: &Value,
    config: &Value,
) -> String {
    let by_id = || {
        let id = u32::try_from(config.get("image_token_id")?.as_u64()?).ok()?;
        Some(tokenizer.id_to_token(id).unwrap_or_else(|| format!("number {id}")))
    };
    by_id()
        .or_else(|| token_text(tokenizer_config, "image_token"))
        .unwrap_or_else(|| "<|image_pad|>".to_owned())
}

/// The spelling of the token that ends a turn, if one is named.
pub(crate) fn end_of_turn(
    tokenizer: &Tokenizer,
    tokenizer_config: &Value,
    generation: &Value,
) -> Option<String> {
    token_text(tokenizer_config, "eos_token").or_else(|| {
        let eos = generation.get("eos_token_id")?;
        let id = eos.as_u64().or_else(|| eos.get(0)?.as_u64())?;
        tokenizer.id_to_token(u32::try_from(id).ok()?)
    })
}
