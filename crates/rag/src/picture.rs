//! The encoded bytes of pictures, wherever they lie.

use std::borrow::Cow;

use mmrag_core::ImageSource;

/// The encoded bytes of a picture (PNG, JPEG, …); none if they cannot be read.
pub fn picture_bytes(source: &ImageSource) -> Option<Cow<'_, [u8]>> {
    match source {
        ImageSource::Bytes(bytes) => Some(bytes.as_ref().into()),
        ImageSource::Path(path) => Some(std::fs::read(path).ok()?.into()),
        ImageSource::Packed(packed) => {
            let bytes = mmrag_map::read(&packed.file, packed.range()).ok()?;
            Some(packed.unpack(&bytes).ok()?.into_owned().into())
        }
    }
}
