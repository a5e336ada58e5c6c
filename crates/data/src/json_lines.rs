//! JSON Lines, plain or gzip, one row a line.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::{DataError, Problem, files};

/// The rows of a file with their line numbers, counted from 1.
pub(crate) struct Rows<T> {
    pub(crate) file: PathBuf,
    pub(crate) rows: Vec<(usize, T)>,
}

/// Reads `name` or `name.gz` of a folder. Rows that do not parse become problems; empty lines are
/// passed over.
pub(crate) fn read<T: DeserializeOwned>(
    dir: &Path,
    name: &str,
    problems: &mut Vec<Problem>,
) -> Result<Rows<T>, DataError> {
    read_file(&files::find(dir, name)?, problems)
}

/// Reads the rows of a file as [`read`] does. It is gzip if its name ends in `.gz`.
pub(crate) fn read_file<T: DeserializeOwned>(
    file: &Path,
    problems: &mut Vec<Problem>,
) -> Result<Rows<T>, DataError> {
    let mut reader = BufReader::new(files::open(file)?);
    let file = file.to_owned();
    let mut rows = Vec::new();
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let n_read = reader
            .read_until(b'\n', &mut bytes)
            .map_err(|source| DataError::File { path: file.clone(), source })?;
        if n_read == 0 {
            break;
        }
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        match object(&bytes) {
            Ok(row) => rows.push((line, row)),
            Err(error) => {
                let what = format!("not a row of this file: {error}");
                problems.push(Problem { file: file.clone(), line, what });
            }
        }
    }
    Ok(Rows { file, rows })
}

/// A row as a type of ours; a list would be taken for its members too.
fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err("it is no object".to_owned());
    }
    serde_json::from_slice(bytes).map_err(|error| without_line(&error))
}

/// What the parser said, without its line number, which counts within the row.
fn without_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => format!("{}, column {}", &text[..at], error.column()),
        None => text,
    }
}
