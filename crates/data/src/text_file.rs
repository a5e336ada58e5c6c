//! Whole files of text, plain or gzip.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::DataError;

/// Reads a file, gzip if its name ends in `.gz`, without a byte order mark.
///
/// # Errors
///
/// When it cannot be read, or is not UTF-8, with the line.
pub(crate) fn read(path: &Path) -> Result<String, DataError> {
    let failed = |source| DataError::File { path: path.to_owned(), source };
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let mut bytes = Vec::new();
    if path.extension().is_some_and(|extension| extension == "gz") {
        MultiGzDecoder::new(file).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        file.read_to_end(&mut bytes).map_err(failed)?;
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        DataError::Row {
            file: path.to_owned(),
            line: before.split(|byte| *byte == b'\n').count(),
            what: format!("byte {column} of the line is not UTF-8"),
        }
    })?;
    Ok(text.strip_prefix('\u{feff}').map(String::from).unwrap_or(text))
}
