//! What can go wrong with data set files.

use std::path::PathBuf;

/// A data set could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file could not be opened, read or written.
    #[error("access {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A data set folder lacks a file.
    #[error("find {name} or {name}.gz in {}", dir.display())]
    Missing {
        /// The folder.
        dir: PathBuf,
        /// The file's name, without `.gz`.
        name: String,
    },
    /// A row is wrong, and the caller asked for none to be.
    #[error("read {}, line {line}: {what}", file.display())]
    Row {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A value could not be written as JSON.
    #[error("write {} as JSON: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the serializer said.
        source: serde_json::Error,
    },
    /// The folder to write to holds something already.
    #[error("write a data set to {}: the folder is not empty", dir.display())]
    Occupied {
        /// The folder.
        dir: PathBuf,
    },
}
