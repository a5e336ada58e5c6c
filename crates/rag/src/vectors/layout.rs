//! Where things lie in a file of vectors.
//!
//! A file is a header of 64 bytes, then for each row its number (u64), its scale (f32, of whole
//! numbers alone) and its values; where the rows are in lists, then where each list begins (u64,
//! one more than there are lists) and the lists' centres (f32). Each part begins at a multiple of
//! 64 bytes, all is little-endian.

use std::io::{BufWriter, Write};
use std::path::Path;

use super::Precision;
use crate::error::RagError;

const MAGIC: &[u8; 8] = b"MMRAGVEC";
/// Bytes of the header, and what all parts are aligned to.
pub(super) const HEADER: usize = 64;

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Layout {
    pub(super) width: usize,
    pub(super) count: usize,
    pub(super) precision: Precision,
    /// 0 where rows are in no lists.
    pub(super) n_lists: usize,
    /// How many lists are looked through for a usual question.
    pub(super) probes: usize,
    /// A name of the lists: others, another name.
    pub(super) digest: [u8; 8],
}

impl Layout {
    /// Of rows in no lists.
    pub(super) fn flat(width: usize, count: usize, precision: Precision) -> Self {
        Self { width, count, precision, n_lists: 0, probes: 0, digest: [0; 8] }
    }

    /// Reads a file's header.
    pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Self, RagError> {
        let damaged = |reason: &str| RagError::NotAnIndex {
            path: path.to_path_buf(),
            reason: reason.to_owned(),
        };
        let header = bytes.get(..HEADER).ok_or_else(|| damaged("it is cut off"))?;
        if !header.starts_with(MAGIC) {
            return Err(damaged("it holds no vectors"));
        }
        let word =
            |at: usize| -> [u8; 8] { header[at..at + 8].try_into().expect("a slice of 8 bytes") };
        let number = |at: usize| u64::from_le_bytes(word(at)) as usize;
        let layout = Self {
            width: number(8),
            count: number(16),
            precision: if header[24] == 0 { Precision::F16 } else { Precision::Int8 },
            n_lists: number(32),
            probes: number(40),
            digest: word(48),
        };
        let sizes = layout.width < 1 << 20
            && layout.count < 1 << 40
            && layout.n_lists <= layout.count.max(1);
        if !sizes || bytes.len() < layout.end() {
            return Err(damaged("it is cut off"));
        }
        Ok(layout)
    }

    pub(super) fn header(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        let mut put = |at: usize, value: usize| {
            header[at..at + 8].copy_from_slice(&(value as u64).to_le_bytes());
        };
        put(8, self.width);
        put(16, self.count);
        put(24, usize::from(self.precision == Precision::Int8));
        put(32, self.n_lists);
        put(40, self.probes);
        header[48..56].copy_from_slice(&self.digest);
        header
    }

    pub(super) fn row_bytes(&self) -> usize {
        match self.precision {
            Precision::F16 => 2 * self.width,
            Precision::Int8 => self.width,
        }
    }

    pub(super) fn scales_at(&self) -> usize {
        padded(HEADER + 8 * self.count)
    }

    pub(super) fn values_at(&self) -> usize {
        match self.precision {
            Precision::F16 => self.scales_at(),
            Precision::Int8 => padded(self.scales_at() + 4 * self.count),
        }
    }

    pub(super) fn starts_at(&self) -> usize {
        padded(self.values_at() + self.count * self.row_bytes())
    }

    pub(super) fn centres_at(&self) -> usize {
        padded(self.starts_at() + 8 * (self.n_lists + 1))
    }

    fn end(&self) -> usize {
        match self.n_lists {
            0 => self.values_at() + self.count * self.row_bytes(),
            n => self.centres_at() + 4 * n * self.width,
        }
    }
}

fn padded(at: usize) -> usize {
    at.next_multiple_of(HEADER)
}

/// Writes a file part by part, which appears whole or not at all.
///
/// # Errors
///
/// When it cannot be written.
pub(super) fn write(
    path: &Path,
    parts: impl FnOnce(&mut Parts) -> std::io::Result<()>,
) -> Result<(), RagError> {
    let draft = path.with_extension("draft");
    let write = || -> std::io::Result<()> {
        let mut out = Parts { out: BufWriter::new(std::fs::File::create(&draft)?), at: 0 };
        parts(&mut out)?;
        out.out.flush()?;
        out.out.get_ref().sync_data()?;
        std::fs::rename(&draft, path)
    };
    write().map_err(RagError::io("write", path))
}

/// A file that is being written.
pub(super) struct Parts {
    out: BufWriter<std::fs::File>,
    at: usize,
}

impl Parts {
    pub(super) fn add(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.at += bytes.len();
        self.out.write_all(bytes)
    }

    /// Ends a part.
    pub(super) fn pad(&mut self) -> std::io::Result<()> {
        let zeros = [0; HEADER];
        let missing = padded(self.at) - self.at;
        self.add(&zeros[..missing])
    }
}
