//! Names made from contents: the version of a collection, and seeds.

use std::borrow::Borrow;
use std::fmt::Write as _;

use mmrag_core::{Content, Document, ImageSource};
use sha2::{Digest, Sha256};

/// A name of the documents' contents, in their order: 16 hexadecimal digits of a SHA-256 over ids,
/// titles, texts, cells and the bytes of pictures. Of a picture that cannot be read, its path
/// stands in for the bytes; of one inside a larger file, that file's name and the place in it, for
/// collections of that kind have tens of gigabytes.
pub fn contents_version<D: Borrow<Document>>(documents: &[D]) -> String {
    let mut hash = Sha256::new();
    for document in documents {
        add_document(&mut hash, document.borrow());
    }
    hex(&hash.finalize(), 8)
}

/// The SHA-256 over one document, by the same parts.
pub(crate) fn contents_digest(document: &Document) -> [u8; 32] {
    let mut hash = Sha256::new();
    add_document(&mut hash, document);
    hash.finalize().into()
}

fn add_document(hash: &mut Sha256, document: &Document) {
    add(hash, document.id.as_str().as_bytes());
    add(hash, document.title.as_bytes());
    match &document.content {
        Content::Text(text) => add(hash, text.as_bytes()),
        Content::Table(table) => {
            add(hash, table.name.as_bytes());
            for row in std::iter::once(&table.header).chain(&table.rows) {
                hash.update((row.len() as u64).to_le_bytes());
                for cell in row {
                    add(hash, cell.as_bytes());
                }
            }
        }
        Content::Image(ImageSource::Bytes(bytes)) => add(hash, bytes),
        Content::Image(ImageSource::Path(path)) => match std::fs::read(path) {
            Ok(bytes) => add(hash, &bytes),
            Err(_) => add(hash, path.as_os_str().as_encoded_bytes()),
        },
        Content::Image(ImageSource::Packed(packed)) => {
            let name = packed.file.file_name().unwrap_or_default();
            add(hash, name.as_encoded_bytes());
            hash.update(packed.start.to_le_bytes());
            hash.update(packed.length.to_le_bytes());
        }
    }
}

/// A seed of its own for one purpose and one thing, from the run's seed.
pub(crate) fn derived_seed(purpose: &str, seed: u64, name: &str) -> u64 {
    let digest = digest(purpose, seed, name);
    u64::from_le_bytes(digest[..8].try_into().expect("a SHA-256 has 32 bytes"))
}

/// The 32 bytes that start the stream of random numbers for one purpose and one thing.
pub(crate) fn digest(purpose: &str, seed: u64, name: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    add(&mut hash, purpose.as_bytes());
    hash.update(seed.to_le_bytes());
    add(&mut hash, name.as_bytes());
    hash.finalize().into()
}

/// The first `bytes` bytes in hexadecimal.
pub(crate) fn hex(digest: &[u8], bytes: usize) -> String {
    digest.iter().take(bytes).fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

/// The 32 bytes that stand in hexadecimal.
pub(crate) fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(bytes)
}

fn add(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

#[cfg(test)]
mod tests {
    use mmrag_core::{DocumentId, Table};

    use super::*;

    fn table(rows: &[&[&str]]) -> Document {
        let rows = rows.iter().map(|r| r.iter().map(ToString::to_string).collect()).collect();
        Document {
            id: DocumentId::new("t"),
            title: String::new(),
            content: Content::Table(Table { name: String::new(), header: vec![], rows }),
        }
    }

    #[test]
    fn cells_that_move_between_rows_change_the_version() {
        let one = contents_version(&[table(&[&["a", "b"], &["c"]])]);
        let two = contents_version(&[table(&[&["a"], &["b", "c"]])]);
        assert_ne!(one, two);
        assert_eq!(one, contents_version(&[table(&[&["a", "b"], &["c"]])]));
        assert_eq!(one.len(), 16);
    }

    #[test]
    fn seeds_differ_by_purpose_seed_and_name() {
        let all = [("a", 1, "x"), ("b", 1, "x"), ("a", 2, "x"), ("a", 1, "y")]
            .map(|(purpose, seed, name)| derived_seed(purpose, seed, name));
        for (i, seed) in all.iter().enumerate() {
            assert!(!all[..i].contains(seed));
        }
    }
}
