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
    let (file, reader) = open(dir, name)?;
    let mut reader = BufReader::new(reader);
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

fn open(dir: &Path, name: &str) -> Result<(PathBuf, Box<dyn Read>), DataError> {
    let plain = dir.join(name);
    let zipped = dir.join(format!("{name}.gz"));
    let is_zipped = zipped.is_file();
    let path = if is_zipped { zipped } else { plain };
    if !path.is_file() {
        return Err(DataError::Missing { dir: dir.to_owned(), name: name.to_owned() });
    }
    let file =
        File::open(&path).map_err(|source| DataError::File { path: path.clone(), source })?;
    let reader: Box<dyn Read> = if is_zipped {
        Box::new(MultiGzDecoder::new(BufReader::new(file)))
    } else {
        Box::new(file)
    };
    Ok((path, reader))
}

/// What the parser said, without its line number, which counts within the row.
fn without_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => format!("{}, column {}", &text[..at], error.column()),
        None => text,
    }
}
