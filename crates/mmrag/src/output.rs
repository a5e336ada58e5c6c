//! stdout is data: one place writes it.

use std::io::{self, Write as _};

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
