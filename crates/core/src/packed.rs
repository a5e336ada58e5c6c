//! Pictures that lie inside larger files: where, and how they are packed.

use std::borrow::Cow;
use std::io::Read as _;
use std::ops::Range;
use std::path::PathBuf;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};

/// Base64 whose end may lack its padding, as rows that were cut have it.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Where a picture lies in a larger file. Whoever wants it reads the bytes of [`Packed::range`]
/// and gives them to [`Packed::unpack`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Packed {
    /// The larger file.
    pub file: PathBuf,
    /// Where the picture begins in it, in bytes.
    pub start: u64,
    /// How many bytes it takes at most; what follows it there is not part of it.
    pub length: u64,
    /// How it is packed.
    pub packing: Packing,
}

/// How a picture is packed into a larger file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// As it is.
    Stored,
    /// Deflated, as archives do it.
    Deflated {
        /// The bytes that come out of it.
        size: u64,
    },
    /// In base64, up to the end of the line.
    Base64Line,
}

/// A picture could not be unpacked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unpack the picture at byte {start} of {}: {what}", file.display())]
#[non_exhaustive]
pub struct UnpackError {
    /// The larger file.
    pub file: PathBuf,
    /// Where the picture begins in it.
    pub start: u64,
    /// What is wrong with it.
    pub what: String,
}

impl Packed {
    /// The bytes of the file that hold the picture.
    pub fn range(&self) -> Range<u64> {
        self.start..self.start.saturating_add(self.length)
    }

    /// The picture's encoded bytes (PNG, JPEG, …) from the bytes of its range.
    ///
    /// # Errors
    ///
    /// When the bytes are not packed as they should be.
    ///
    /// ```
    /// use mmrag_core::{Packed, Packing};
    /// let packed =
    ///     Packed { file: "imgs.tsv".into(), start: 9, length: 7, packing: Packing::Base64Line };
    /// assert_eq!(*packed.unpack(b"Zm9v\nxy").unwrap(), *b"foo");
    /// assert!(packed.unpack(b"Z?9v\nxy").is_err());
    /// ```
    pub fn unpack<'b>(&self, bytes: &'b [u8]) -> Result<Cow<'b, [u8]>, UnpackError> {
        let unpacked = match self.packing {
            Packing::Stored => Ok(bytes.into()),
            Packing::Deflated { size } => inflate(bytes, size).map(Cow::Owned),
            Packing::Base64Line => from_base64(bytes).map(Cow::Owned),
        };
        unpacked.map_err(|what| UnpackError { file: self.file.clone(), start: self.start, what })
    }
}

/// No more is unpacked than was promised, whatever the bytes say.
fn inflate(bytes: &[u8], size: u64) -> Result<Vec<u8>, String> {
    let mut unpacked = Vec::new();
    flate2::read::DeflateDecoder::new(bytes)
        .take(size.saturating_add(1))
        .read_to_end(&mut unpacked)
        .map_err(|error| error.to_string())?;
    if unpacked.len() as u64 != size {
        return Err(format!("it holds not the {size} bytes that the archive tells of"));
    }
    Ok(unpacked)
}

/// The base64 up to the end of the line; of a group that was cut, the whole bytes.
fn from_base64(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let line = bytes[..end].trim_ascii();
    // One letter of a group holds no whole byte.
    let whole = if line.len() % 4 == 1 { &line[..line.len() - 1] } else { line };
    LENIENT.decode(whole).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn packed(packing: Packing) -> Packed {
        Packed { file: "f".into(), start: 3, length: 4, packing }
    }

    #[test]
    fn a_line_of_base64_ends_where_the_line_ends_or_was_cut() {
        let check = |bytes: &[u8], expected: &[u8]| {
            assert_eq!(*packed(Packing::Base64Line).unpack(bytes).unwrap(), *expected);
        };
        check(b"Zm9vYg==\nrest", b"foob");
        check(b"Zm9vYg==\r\n\0\0", b"foob");
        check(b"Zm9vYg", b"foob");
        check(b"Zm9vY", b"foo");
        check(b"", b"");
        let broken = packed(Packing::Base64Line).unpack(b"Zm\0\0").unwrap_err().to_string();
        assert!(broken.starts_with("unpack the picture at byte 3 of f: "), "{broken}");
    }

    #[test]
    fn what_is_deflated_comes_back_and_no_more_than_promised() {
        let mut out = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(&[7; 1000]).unwrap();
        let bytes = out.finish().unwrap();
        let unpack = |size| packed(Packing::Deflated { size }).unpack(&bytes).map(Cow::into_owned);
        assert_eq!(unpack(1000).unwrap(), [7; 1000]);
        assert!(unpack(10).is_err() && unpack(1001).is_err());
        assert_eq!(*packed(Packing::Stored).unpack(b"ab").unwrap(), *b"ab");
    }
}
