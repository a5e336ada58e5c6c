//! Chat templates: turns to text, by the Jinja template that comes with a checkpoint.
//!
//! Rendering follows transformers: blocks trim the whitespace around them, Python's string methods
//! and loop controls work, `raise_exception` refuses, `tojson` writes as Python's `json.dumps`
//! does. `strftime_now` is left undefined on purpose: a prompt must be the same tomorrow, and
//! templates that want a date check for the function first.

use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Error, ErrorKind, context};
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, PrettyFormatter};

use crate::error::ModelError;
use crate::weights::read_json;

/// The name under which the one template is kept.
const NAME: &str = "chat";

/// A checkpoint's chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    path: PathBuf,
    environment: Environment<'static>,
    tokens: NamedTokens,
}

/// The special tokens that templates may write by their part.
#[derive(Debug, Default)]
struct NamedTokens {
    bos: Option<String>,
    eos: Option<String>,
    pad: Option<String>,
}

impl ChatTemplate {
    /// Reads the template of a folder: `chat_template.jinja`, `chat_template.json`, or the key
    /// `chat_template` of `tokenizer_config.json`, the first that there is.
    ///
    /// # Errors
    ///
    /// When there is none, or it does not parse.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self, ModelError> {
        let dir = dir.as_ref();
        let config_path = dir.join("tokenizer_config.json");
        let config = if config_path.is_file() { read_json(&config_path)? } else { Value::Null };
        let (path, source) = source_in(dir, &config)?;
        let mut template = Self::parse(&path, source)?;
        template.tokens = NamedTokens {
            bos: token_text(&config, "bos_token"),
            eos: token_text(&config, "eos_token"),
            pad: token_text(&config, "pad_token"),
        };
        Ok(template)
    }

    /// Takes a template's source. `path` is for the errors.
    ///
    /// # Errors
    ///
    /// When it does not parse.
    pub fn parse(path: &Path, source: String) -> Result<Self, ModelError> {
        let failed = |error: &Error| failed(path, error);
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| failed(&error))?);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", refuse);
        environment.add_filter("tojson", to_json);
        environment.add_template_owned(NAME, source).map_err(|error| failed(&error))?;
        Ok(Self { path: path.to_owned(), environment, tokens: NamedTokens::default() })
    }

    /// The text of a chat: `messages` is a list of objects with `role` and `content`, which is a
    /// text or a list of `{type: "text", text}` and `{type: "image"}`.
    ///
    /// # Errors
    ///
    /// When the template refuses the messages.
    pub fn render(&self, messages: &Value, options: RenderOptions) -> Result<String, ModelError> {
        let render = || {
            let tokens = &self.tokens;
            self.environment.get_template(NAME)?.render(context! {
                messages => minijinja::Value::from(Serde(messages)),
                add_generation_prompt => options.add_generation_prompt,
                add_vision_id => options.add_vision_id,
                bos_token => tokens.bos.as_deref().unwrap_or_default(),
                eos_token => tokens.eos.as_deref().unwrap_or_default(),
                pad_token => tokens.pad.as_deref().unwrap_or_default(),
            })
        };
        render().map_err(|error: Error| failed(&self.path, &error))
    }

    /// Where the template comes from.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What a template is told beside the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenderOptions {
    /// Whether the text ends with the opening of the policy's turn.
    pub add_generation_prompt: bool,
    /// Whether pictures are numbered, in templates that can.
    pub add_vision_id: bool,
}

impl Default for RenderOptions {
    /// With the opening of the policy's turn, pictures not numbered.
    fn default() -> Self {
        Self { add_generation_prompt: true, add_vision_id: false }
    }
}

/// The text of a named special token in `tokenizer_config.json`: a text, or an object with one.
pub(crate) fn token_text(config: &Value, key: &str) -> Option<String> {
    let value = config.get(key)?;
    let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
    Some(text.to_owned())
}

fn source_in(dir: &Path, tokenizer_config: &Value) -> Result<(PathBuf, String), ModelError> {
    let path = dir.join("chat_template.jinja");
    if path.is_file() {
        let read = std::fs::read_to_string(&path);
        let source = read.map_err(|source| ModelError::Read { path: path.clone(), source })?;
        return Ok((path, source));
    }
    let path = dir.join("chat_template.json");
    if path.is_file() {
        let value = read_json(&path)?;
        return match source_of(&value) {
            Some(source) => Ok((path, source)),
            None => Err(ModelError::MissingKey { path, key: "chat_template".into() }),
        };
    }
    match source_of(tokenizer_config) {
        Some(source) => Ok((dir.join("tokenizer_config.json"), source)),
        None => Err(ModelError::Template {
            path: dir.to_owned(),
            reason: "there is no chat_template.jinja, no chat_template.json and no key \
                     `chat_template` in tokenizer_config.json"
                .into(),
        }),
    }
}

/// The template under `chat_template`: a text, or the one named `default` of a list.
fn source_of(value: &Value) -> Option<String> {
    let template = value.get("chat_template")?;
    if let Some(source) = template.as_str() {
        return Some(source.to_owned());
    }
    let is_default = |entry: &&Value| entry.get("name").and_then(Value::as_str) == Some("default");
    let default = template.as_array()?.iter().find(is_default)?;
    Some(default.get("template")?.as_str()?.to_owned())
}

fn failed(path: &Path, error: &Error) -> ModelError {
    ModelError::Template { path: path.to_owned(), reason: error.to_string() }
}

fn refuse(message: &str) -> Result<minijinja::Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, format!("the template says: {message}")))
}

#[expect(clippy::needless_pass_by_value, reason = "minijinja hands filters their options by value")]
/// Python's `json.dumps(value, ensure_ascii=False)`, with its `indent`.
fn to_json(value: &minijinja::Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let mut bytes = Vec::new();
    let written = match indent {
        Some(indent) => {
            let spaces = " ".repeat(indent);
            let formatter = PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, OneLine)),
    };
    let failed =
        |error: &dyn std::fmt::Display| Error::new(ErrorKind::BadSerialization, error.to_string());
    written.map_err(|error| failed(&error))?;
    String::from_utf8(bytes).map_err(|error| failed(&error))
}

/// Python's separators on one line: `, ` and `: `.
struct OneLine;

impl Formatter for OneLine {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}
