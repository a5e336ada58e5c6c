//! Pictures inside the page.

use mmrag_core::ImageSource;

use crate::picture::picture_bytes;

/// Pictures larger than this are named instead of shown, so that the page stays small.
const LARGEST_BYTES: usize = 1 << 20;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The picture as a `data:` address; none if it cannot be read, is of no kind that browsers show,
/// or is too large.
pub(super) fn data_uri(source: &ImageSource) -> Option<String> {
    let bytes = picture_bytes(source)?;
    if bytes.len() > LARGEST_BYTES {
        return None;
    }
    Some(format!("data:{};base64,{}", kind(&bytes)?, base64(&bytes)))
}

fn kind(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let sextet = group >> (18 - 6 * i) & 63;
            let is_padding = i > chunk.len();
            text.push(if is_padding { '=' } else { char::from(ALPHABET[sextet as usize]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_in_the_rfc() {
        for (bytes, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), expected);
        }
        assert_eq!(base64(&[0xff, 0xef, 0xbe]), "/+++");
    }

    #[test]
    fn only_pictures_become_addresses() {
        let of = |bytes: &[u8]| data_uri(&ImageSource::Bytes(bytes.into()));
        assert!(of(b"\x89PNG rest").unwrap().starts_with("data:image/png;base64,"));
        assert_eq!(of(b"<svg onload=x>"), None);
        assert_eq!(data_uri(&ImageSource::Path("missing.png".into())), None);
    }
}
