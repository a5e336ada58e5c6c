//! What can go wrong while a model is loaded, fed or saved.

use std::path::PathBuf;

/// Names that an error shows of a long list.
const SHOWN: usize = 8;

/// A model could not be loaded, fed or saved. Messages read after "failed to".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file could not be read.
    #[error("read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file could not be mapped.
    #[error(transparent)]
    Map(#[from] mmrag_map::MapError),
    /// A file is not the JSON it should be.
    #[error("parse {}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: serde_json::Error,
    },
    /// A settings file lacks a key that has no default.
    #[error("read {}: it lacks the key `{key}`", path.display())]
    MissingKey {
        /// The file.
        path: PathBuf,
        /// The key, with the names of the objects it is in.
        key: String,
    },
    /// A key of a settings file holds something else than it should.
    #[error("read {}: `{key}` should be {expected} but is {found}", path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
        /// The key, with the names of the objects it is in.
        key: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// What the file asks for is not built.
    #[error("use {}: {what}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What is asked for, and what there is.
        what: String,
    },
    /// A file of tensors is damaged.
    #[error("read tensors of {}: {reason}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor that the architecture needs is not in the files.
    #[error("load {}: the tensor `{name}` is missing; take configuration and weights from one \
             checkpoint", path.display())]
    MissingTensor {
        /// The checkpoint's folder.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor has another shape or type than the architecture needs.
    #[error("load {}: the tensor `{name}` should be {expected} but is {found}; take configuration \
             and weights from one checkpoint, not quantised", path.display())]
    MisshapenTensor {
        /// The file it is in.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Shape or type it should have.
        expected: String,
        /// Shape or type it has.
        found: String,
    },
    /// The files hold tensors that the architecture has no place for.
    #[error("load {}: no place for the tensors {}; take configuration and weights from one \
             checkpoint", path.display(), first_of(names))]
    ExtraTensors {
        /// The checkpoint's folder.
        path: PathBuf,
        /// The tensors.
        names: Vec<String>,
    },
    /// A picture could not be decoded or is out of bounds.
    #[error("use the image {image}: {reason}")]
    Image {
        /// The file, or "(n bytes in memory)".
        image: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The tokenizer's files do not make a usable tokenizer.
    #[error("use the tokenizer of {}: {reason}", path.display())]
    Tokenizer {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A chat template does not parse or refuses the messages.
    #[error("render the chat template of {}: {reason}", path.display())]
    Template {
        /// The file it comes from.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A prompt cannot be turned into tokens.
    #[error("encode the prompt: {reason}")]
    Prompt {
        /// What is wrong.
        reason: String,
    },
    /// The choices cannot be told apart by their first token.
    #[error("tell the choices apart: {reason}")]
    Choices {
        /// What is wrong.
        reason: String,
    },
    /// An adapter's folder cannot be used.
    #[error("use the adapter {}: {reason}", path.display())]
    Adapter {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// An operation on tensors failed.
    #[error("compute: {0}")]
    Candle(#[from] candle_core::Error),
}

/// The first names of a list, and how many more there are.
fn first_of(names: &[String]) -> String {
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
