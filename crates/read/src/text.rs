//! Plain text.

use std::path::Path;

use crate::chunk::{self, Block};
use crate::piece::{Options, ReadError, Reading, title_of};

pub(crate) fn read(path: &Path, options: &Options) -> Result<Reading, ReadError> {
    let text = decoded(std::fs::read(path)?)?;
    let blocks = paragraphs(&text);
    Ok(Reading::of(chunk::pieces(&title_of(path), &blocks, options)))
}

/// The text of bytes: by its mark, else UTF-8, else the encoding of old Windows texts.
pub(crate) fn decoded(bytes: Vec<u8>) -> Result<String, ReadError> {
    if let Some((encoding, _)) = encoding_rs::Encoding::for_bom(&bytes) {
        return Ok(encoding.decode(&bytes).0.into_owned());
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => encoding_rs::WINDOWS_1252.decode(error.as_bytes()).0.into_owned(),
    };
    if text.contains('\0') {
        return Err(ReadError::new("it is no text: it holds zero bytes"));
    }
    Ok(text)
}

/// Paragraphs are what empty lines part.
fn paragraphs(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (i, line) in text.lines().enumerate() {
        let is_empty = line.trim().is_empty();
        match (open, blocks.last_mut()) {
            (true, Some(block)) if !is_empty => {
                block.text.push('\n');
                block.text.push_str(line.trim_end());
            }
            _ if !is_empty => blocks.push(Block {
                text: line.trim_end().to_owned(),
                section: Vec::new(),
                line: Some(i + 1),
            }),
            _ => {}
        }
        open = !is_empty;
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_know_their_lines() {
        let blocks = paragraphs("\na\nb\n\n\nc\n");
        let told: Vec<_> = blocks.iter().map(|b| (b.text.as_str(), b.line)).collect();
        assert_eq!(told, [("a\nb", Some(2)), ("c", Some(6))]);
    }

    #[test]
    fn old_encodings_are_read() {
        assert_eq!(decoded(b"caf\xe9".to_vec()).unwrap(), "café");
        assert_eq!(decoded(b"\xff\xfeh\0i\0".to_vec()).unwrap(), "hi");
        assert_eq!(decoded("\u{feff}hé".as_bytes().to_vec()).unwrap(), "hé");
        assert!(decoded(b"a\0b".to_vec()).is_err());
    }
}
