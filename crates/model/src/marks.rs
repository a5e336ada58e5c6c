//! Marks that stand, while a chat template is rendered, for the characters of outside text that
//! special tokens are recognised by.

use std::collections::BTreeSet;

use mmrag_core::{Part, Prompt};
use sha2::{Digest, Sha256};

/// Hides, in outside text, the characters that special tokens are recognised by.
pub(crate) struct Marks {
    /// Each hidden character with what stands for it.
    pairs: Vec<(char, String)>,
}

impl Marks {
    /// Marks that contain a hash of all the text they are to stand in: nobody can write a text
    /// that contains its own mark.
    pub(crate) fn new(escaped: &BTreeSet<char>, prompt: &Prompt) -> Self {
        let mut hash = Sha256::new_with_prefix(b"mmrag outside text");
        for part in prompt.messages.iter().flat_map(|message| &message.parts) {
            if let Part::Text(text) = part {
                hash.update((text.len() as u64).to_le_bytes());
                hash.update(text.as_bytes());
            }
        }
        hash.update(prompt.reply_prefix.as_bytes());
        let digest = hash.finalize();
        let nonce: String = digest.iter().flat_map(|byte| nibbles(*byte)).collect();
        let mark = |(index, c): (usize, &char)| {
            let index: String =
                (index as u32).to_be_bytes().into_iter().flat_map(nibbles).collect();
            (*c, format!("\u{fdd0}{nonce}{index}\u{fdd1}"))
        };
        Self { pairs: escaped.iter().enumerate().map(mark).collect() }
    }

    pub(crate) fn hide(&self, text: &str) -> String {
        let mut hidden = String::with_capacity(text.len());
        for c in text.chars() {
            match self.pairs.iter().find(|(escaped, _)| *escaped == c) {
                Some((_, mark)) => hidden.push_str(mark),
                None => hidden.push(c),
            }
        }
        hidden
    }

    pub(crate) fn show(&self, text: &str) -> String {
        let show_one = |text: String, (c, mark): &(char, String)| {
            text.replace(mark, c.encode_utf8(&mut [0; 4]))
        };
        self.pairs.iter().fold(text.to_owned(), show_one)
    }
}

/// Two private-use characters for a byte: no letter, digit, space or sign that a template or a
/// special token could be looking for.
fn nibbles(byte: u8) -> [char; 2] {
    [byte >> 4, byte & 15].map(|nibble| {
        char::from_u32(0xe000 + u32::from(nibble)).expect("the private use area is assigned")
    })
}
