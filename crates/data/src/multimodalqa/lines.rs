//! JSON Lines, plain or gzip, one row a line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::de::DeserializeOwned;

use super::Problem;
use crate::DataError;

/// The rows of a file with their line numbers, counted from 1.
pub(super) struct Rows<T> {
    pub(super) file: PathBuf,
    pub(super) rows: Vec<(usize, T)>,
}

/// Reads `name` or `name.gz` of a folder. Rows that do not parse become problems; empty lines are
/// passed over.
pub(super) fn read<T: DeserializeOwned>(
    dir: &Path,
    name: &str,
    problems: &mut Vec<Problem>,
) -> Result<Rows<T>, DataError> {
    read_file(&find(dir, name)?, problems)
}

/// Reads the rows of a file as [`read`] does. It is gzip if its name ends in `.gz`.
pub(super) fn read_file<T: DeserializeOwned>(
    file: &Path,
    problems: &mut Vec<Problem>,
) -> Result<Rows<T>, DataError> {
    let mut reader = BufReader::new(open(file)?);
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
        match serde_json::from_slice(&bytes) {
            Ok(row) => rows.push((line, row)),
            Err(error) => {
                let what = format!("not a row of this file: {}", without_line(&error));
                problems.push(Problem { file: file.clone(), line, what });
            }
        }
    }
    Ok(Rows { file, rows })
}

fn find(dir: &Path, name: &str) -> Result<PathBuf, DataError> {
    let names = [format!("{name}.gz"), name.to_owned()];
    let found = names.iter().map(|name| dir.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| DataError::Missing { dir: dir.to_owned(), name: name.to_owned() })
}

fn open(path: &Path) -> Result<Box<dyn Read>, DataError> {
    let file =
        File::open(path).map_err(|source| DataError::File { path: path.to_owned(), source })?;
    let is_zipped = path.extension().is_some_and(|extension| extension == "gz");
    Ok(if is_zipped { Box::new(MultiGzDecoder::new(BufReader::new(file))) } else { Box::new(file) })
}

/// What the parser said, without its line number, which counts within the row.
fn without_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => format!("{}, column {}", &text[..at], error.column()),
        None => text,
    }
}
