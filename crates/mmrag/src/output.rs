//! stdout is data: one place writes it.

use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

/// Writes `text` and a line end to stdout.
///
/// # Errors
///
/// When stdout is closed or full.
pub(crate) fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Writes `text` to stdout as it is, at once.
///
/// # Errors
///
/// When stdout is closed or full.
pub(crate) fn piece(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write!(out, "{text}")?;
    out.flush()
}

/// Writes `value` as indented JSON and a line end to stdout.
///
/// # Errors
///
/// When stdout is closed or full.
pub(crate) fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    Ok(line(&serde_json::to_string_pretty(value)?)?)
}

/// Whether the error is a reader of our stdout that went away, as `head` does.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Writes a file whole or not at all.
///
/// # Errors
///
/// When the folder cannot be made or the file cannot be written.
pub(crate) fn file(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || -> io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut draft = path.as_os_str().to_owned();
        draft.push(".draft");
        let mut out = std::fs::File::create(&draft)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        std::fs::rename(&draft, path)
    };
    write().with_context(|| format!("failed to write {}", path.display()))
}
