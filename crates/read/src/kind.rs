//! What a file is, by its name.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// A kind of file that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Kind {
    /// PNG, JPEG, WebP or GIF.
    Picture,
    /// Markdown.
    Markdown,
    /// HTML.
    Html,
    /// Plain text.
    Text,
    /// A table with separated values.
    Csv,
    /// A workbook: XLSX, XLS or ODS.
    Sheet,
    /// An object a line.
    JsonLines,
    /// An array of objects.
    Json,
    /// PDF.
    Pdf,
}

impl Kind {
    /// The kind of a file, by the end of its name. None: it is not read.
    pub fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_lowercase();
        Some(match extension.as_str() {
            "png" | "jpg" | "jpeg" | "webp" | "gif" => Self::Picture,
            "md" | "markdown" => Self::Markdown,
            "html" | "htm" | "xhtml" => Self::Html,
            "txt" | "text" | "rst" => Self::Text,
            "csv" | "tsv" => Self::Csv,
            "xlsx" | "xlsm" | "xls" | "ods" => Self::Sheet,
            "jsonl" | "ndjson" => Self::JsonLines,
            "json" => Self::Json,
            "pdf" => Self::Pdf,
            _ => return None,
        })
    }
}
