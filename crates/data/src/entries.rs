//! JSON files that are one object with an entry for each question: WebQA's, and predictions.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::DataError;

/// Reads the entries of a JSON object in the file's order, a key that stands twice twice. The
/// file is plain or, if its name ends in `.gz`, gzip.
///
/// # Errors
///
/// When the file cannot be read or is no JSON object; the error names the line.
pub fn entries(path: &Path) -> Result<Vec<(String, Value)>, DataError> {
    let failed = |source| DataError::File { path: path.to_owned(), source };
    let file = BufReader::new(File::open(path).map_err(failed)?);
    let mut bytes = Vec::new();
    if path.extension().is_some_and(|extension| extension == "gz") {
        MultiGzDecoder::new(file).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        { file }.read_to_end(&mut bytes).map_err(failed)?;
    }
    match serde_json::from_slice::<Entries>(&bytes) {
        Ok(Entries(entries)) => Ok(entries),
        Err(error) => Err(DataError::Row {
            file: path.to_owned(),
            line: error.line(),
            what: error.to_string(),
        }),
    }
}

struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one object with an entry for each question")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}
