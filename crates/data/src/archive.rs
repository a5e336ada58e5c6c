//! Pictures inside a zip archive, found by name without unpacking it.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use mmrag_core::{Packed, Packing};
use zip::{CompressionMethod, ZipArchive};

use crate::DataError;

/// The files of an archive by name.
#[derive(Debug)]
pub(crate) struct Archive {
    file: PathBuf,
    /// Where each file lies, or why it cannot be read; by its whole name and by its last part.
    entries: HashMap<String, Result<Packed, String>>,
}

impl Archive {
    /// Reads the list of files. Of two files whose last parts are equal, that part names the first.
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let failed = |source| DataError::File { path: path.to_owned(), source };
        let file = BufReader::new(File::open(path).map_err(failed)?);
        let mut archive =
            ZipArchive::new(file).map_err(|error| failed(std::io::Error::other(error)))?;
        let mut entries = HashMap::new();
        for i in 0..archive.len() {
            let entry = match archive.by_index_raw(i) {
                Ok(entry) if entry.is_dir() => continue,
                Ok(entry) => entry,
                Err(error) => return Err(failed(std::io::Error::other(error))),
            };
            let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
            let packing = match entry.compression() {
                _ if entry.encrypted() => Err("it is encrypted".to_owned()),
                CompressionMethod::STORE => Ok(Packing::Stored),
                CompressionMethod::DEFLATE => Ok(Packing::Deflated { size: entry.size() }),
                other => Err(format!("it is packed by {other:?}: pack it by deflate")),
            };
            let start = entry.data_start().ok_or_else(|| "it has no place".to_owned());
            let packed = packing.and_then(|packing| {
                let length = entry.compressed_size();
                Ok(Packed { file: path.to_owned(), start: start?, length, packing })
            });
            let last = name.rsplit('/').next().unwrap_or_default().to_owned();
            entries.entry(last).or_insert_with(|| packed.clone());
            entries.insert(name, packed);
        }
        Ok(Self { file: path.to_owned(), entries })
    }

    /// Where a file lies in the archive.
    pub(crate) fn find(&self, name: &str) -> Result<Packed, String> {
        match self.entries.get(name) {
            Some(Ok(packed)) => Ok(packed.clone()),
            Some(Err(what)) => Err(format!("picture {name} in {}: {what}", self.file.display())),
            None => Err(format!("picture {name} is missing in {}", self.file.display())),
        }
    }
}
