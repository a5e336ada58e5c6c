//! Read-only file maps behind a safe face.
//!
//! A map shows a file's bytes without reading them first: pages come when they are touched and
//! the system may drop them again. This is one of the two crates that may hold `unsafe`; it knows
//! nothing of what is in a file.

use std::fs::File;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};

use memmap2::Mmap;

/// A file could not be mapped.
#[derive(Debug, thiserror::Error)]
#[error("map {}: {source}", path.display())]
#[non_exhaustive]
pub struct MapError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: std::io::Error,
}

/// The bytes of one file, read-only. Dereferences to `&[u8]`.
///
/// Whoever holds a map relies on the file not being truncated or rewritten in place meanwhile;
/// everything mmrag writes is put in place by a rename, which leaves open maps as they are.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let path = std::env::temp_dir().join("mmrag-map-example");
/// std::fs::write(&path, b"abc")?;
/// let map = mmrag_map::FileMap::open(&path)?;
/// assert_eq!(&map[1..], b"bc");
/// assert!(mmrag_map::FileMap::open("no/such/file").is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FileMap {
    // An empty file has no map: some systems refuse to make one.
    map: Option<Mmap>,
}

impl FileMap {
    /// Maps the whole file.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened or mapped, with its path.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, MapError> {
        let path = path.as_ref();
        map_file(path).map_err(|source| MapError { path: path.to_owned(), source })
    }

    /// Tells the system that bytes will be read here and there, so that it does not read ahead. A
    /// hint, as [`Self::release`] is.
    pub fn expect_random(&self) {
        #[cfg(unix)]
        if let Some(map) = &self.map {
            // Only a hint: a system that refuses it has lost nothing.
            drop(map.advise(memmap2::Advice::Random));
        }
    }

    /// Tells the system that these bytes are not needed for now, so that their pages stop counting
    /// as resident memory. Reading them again brings them back. A hint: where the system has
    /// nothing of the kind, or the range is out of bounds, nothing happens.
    pub fn release(&self, range: Range<usize>) {
        let Some(map) = &self.map else { return };
        if range.start < range.end && range.end <= map.len() {
            release_pages(map, range);
        }
    }
}

/// Reads some bytes of a file through a map that lives no longer than this call.
///
/// # Errors
///
/// When the file cannot be opened or mapped, or ends before the range does.
pub fn read(path: impl AsRef<Path>, range: Range<u64>) -> Result<Vec<u8>, MapError> {
    let path = path.as_ref();
    let map = FileMap::open(path)?;
    let bytes = usize::try_from(range.start)
        .ok()
        .zip(usize::try_from(range.end).ok())
        .and_then(|(start, end)| map.get(start..end));
    match bytes {
        Some(bytes) => Ok(bytes.to_vec()),
        None => Err(MapError {
            path: path.to_owned(),
            source: std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                format!("it has {} bytes, and those up to {} are wanted", map.len(), range.end),
            ),
        }),
    }
}

impl Deref for FileMap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or(&[])
    }
}

#[expect(unsafe_code, reason = "a map is a view of memory that another process could change")]
fn map_file(path: &Path) -> std::io::Result<FileMap> {
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(FileMap { map: None });
    }
    // SAFETY: the map is read-only and private to this value. That nobody truncates or rewrites
    // the file in place is the documented contract of `FileMap`; mmrag itself only renames.
    let map = unsafe { Mmap::map(&file)? };
    Ok(FileMap { map: Some(map) })
}

#[cfg(unix)]
#[expect(unsafe_code, reason = "dropping pages is unsafe for maps that can be written to")]
fn release_pages(map: &Mmap, range: Range<usize>) {
    // SAFETY: the map is file-backed and never written to, so a dropped page comes back from the
    // file with the same bytes.
    let advised = unsafe {
        map.unchecked_advise_range(
            memmap2::UncheckedAdvice::DontNeed,
            range.start,
            range.end - range.start,
        )
    };
    // Only a hint: a system that refuses it has lost nothing.
    drop(advised);
}

#[cfg(not(unix))]
fn release_pages(_map: &Mmap, _range: Range<usize>) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_shows_the_file_also_after_its_pages_were_released() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bytes");
        let bytes: Vec<u8> = (0..20_000_u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let map = FileMap::open(&path).unwrap();
        assert_eq!(&map[..], &bytes[..]);
        map.expect_random();
        map.release(5_000..15_000);
        map.release(0..usize::MAX);
        assert_eq!(&map[..], &bytes[..]);
    }

    #[test]
    fn some_bytes_are_read_and_what_lies_behind_the_end_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bytes");
        std::fs::write(&path, b"abcdef").unwrap();
        assert_eq!(read(&path, 2..4).unwrap(), b"cd");
        assert_eq!(read(&path, 6..6).unwrap(), b"");
        let told = read(&path, 2..7).unwrap_err().to_string();
        assert!(told.contains("6 bytes, and those up to 7"), "{told}");
        assert!(read(&path, 0..u64::MAX).is_err());
    }

    #[test]
    fn an_empty_file_is_an_empty_slice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("empty");
        std::fs::write(&path, b"").unwrap();
        let map = FileMap::open(&path).unwrap();
        assert!(map.is_empty());
        map.release(0..1);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = FileMap::open("no/such/file").unwrap_err();
        assert!(error.to_string().contains("no/such/file"), "{error}");
    }
}
