//! Data set files, plain or gzip.

use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use mmrag_map::FileMap;

use crate::DataError;

/// The file `name.gz` or `name` of a folder.
pub(crate) fn find(dir: &Path, name: &str) -> Result<PathBuf, DataError> {
    let names = [format!("{name}.gz"), name.to_owned()];
    let found = names.iter().map(|name| dir.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| DataError::Missing { dir: dir.to_owned(), name: name.to_owned() })
}

/// A reader of a file's content: unpacked if its name ends in `.gz`.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Read>, DataError> {
    let file =
        File::open(path).map_err(|source| DataError::File { path: path.to_owned(), source })?;
    Ok(if is_gzip(path) {
        Box::new(MultiGzDecoder::new(BufReader::new(file)))
    } else {
        Box::new(file)
    })
}

fn is_gzip(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gz")
}

/// The whole content of a file: mapped, or in memory if it was gzip.
pub(crate) enum Bytes {
    Mapped(FileMap),
    Read(Vec<u8>),
}

impl Bytes {
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let failed = |source| DataError::File { path: path.to_owned(), source };
        if !is_gzip(path) {
            let map = FileMap::open(path).map_err(|error| failed(error.source))?;
            return Ok(Self::Mapped(map));
        }
        let mut bytes = Vec::new();
        open(path)?.read_to_end(&mut bytes).map_err(failed)?;
        Ok(Self::Read(bytes))
    }

    /// These bytes are not needed for now.
    pub(crate) fn release(&self, range: Range<usize>) {
        if let Self::Mapped(map) = self {
            map.release(range);
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Read(bytes) => bytes,
        }
    }
}
