//! The report's files.

use std::fs;
use std::path::Path;

use super::{Report, ReportExample, html};
use crate::error::RagError;

/// Writes `report.json` and `report.html` into a folder, each whole or not at all.
///
/// # Errors
///
/// When the folder cannot be made or written.
pub fn write_report(
    folder: &Path,
    report: &Report,
    examples: &[ReportExample],
) -> Result<(), RagError> {
    fs::create_dir_all(folder).map_err(RagError::io("make", folder))?;
    write_whole(&folder.join("report.json"), &report.to_json()?)?;
    write_whole(&folder.join("report.html"), &html::render(report, examples))
}

fn write_whole(path: &Path, text: &str) -> Result<(), RagError> {
    let half = path.with_extension("tmp");
    fs::write(&half, text).map_err(RagError::io("write", &half))?;
    fs::rename(&half, path).map_err(RagError::io("move into place", &half))
}
