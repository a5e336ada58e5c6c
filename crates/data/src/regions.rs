//! Where in the pictures of a data set stands what its questions ask for: a file of its own beside
//! the data set's, for those who look into where a model looked.

use std::path::Path;

use mmrag_core::{DocumentId, QuestionId};
use serde::{Deserialize, Serialize};

use crate::DataError;

/// The file's name in the folder of a data set: one JSON object a line.
pub const REGIONS_FILE: &str = "regions.jsonl";

/// Where in a picture stands what a question asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// The question.
    pub question: QuestionId,
    /// The picture's document.
    pub document: DocumentId,
    /// What stands there, in a word or two.
    pub part: String,
    /// Left, top, right and bottom edge in pixels.
    pub area: [u32; 4],
    /// Width and height of the picture in pixels.
    pub size: [u32; 2],
}

impl Region {
    /// Left, top, right and bottom edge as shares of the picture's width and height.
    pub fn shares(&self) -> [f32; 4] {
        let [width, height] = self.size.map(|side| side.max(1) as f32);
        let [left, top, right, bottom] = self.area.map(|edge| edge as f32);
        [left / width, top / height, right / width, bottom / height]
    }
}

/// Reads a file of regions.
///
/// # Errors
///
/// When it cannot be read, or a line is no region.
pub fn read_regions(path: &Path) -> Result<Vec<Region>, DataError> {
    let failed = |source| DataError::File { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let row = |(index, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|source| DataError::Row {
            file: path.to_owned(),
            line: index + 1,
            what: source.to_string(),
        })
    };
    text.lines().enumerate().map(row).collect()
}

/// Writes a file of regions: whole or not at all.
///
/// # Errors
///
/// When it cannot be written.
pub(crate) fn write(path: &Path, regions: &[Region]) -> Result<(), DataError> {
    let failed = |source| DataError::File { path: path.to_owned(), source };
    let mut lines = String::new();
    for region in regions {
        let line = serde_json::to_string(region)
            .map_err(|source| DataError::Json { path: path.to_owned(), source })?;
        lines.extend([line.as_str(), "\n"]);
    }
    let partial = path.with_extension("partial");
    std::fs::write(&partial, lines).map_err(failed)?;
    std::fs::rename(&partial, path).map_err(failed)
}
