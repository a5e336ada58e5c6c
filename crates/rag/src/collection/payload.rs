//! What a commit says of the whole collection.

use mmrag_core::{Content, Document};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::record::Record;
use crate::error::RagError;
use crate::version::hex;

/// Written into each commit, and so always true of what is committed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Payload {
    /// How manieth commit it is.
    pub(super) commit: u64,
    /// The number of the next document that is put.
    pub(super) next: u64,
    /// Living documents.
    pub(super) documents: u64,
    /// Words of the living documents.
    pub(super) words: u64,
    /// The sum of the documents' digests, as four numbers.
    pub(super) sum: [u64; 4],
    /// Files that belong to nothing any more. The next commit removes them, so that who still reads
    /// the state before this one finds them.
    pub(super) leftovers: Vec<String>,
    /// Vectors of the documents, by who made them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) lanes: Vec<LaneFiles>,
    /// When vectors are put into lists.
    #[serde(skip_serializing_if = "Approximate::is_auto")]
    pub(super) approximate: Approximate,
}

/// When vectors are put into lists, of which a search looks through a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Approximate {
    /// Where there are so many that looking at all takes long.
    #[default]
    Auto,
    /// Where there are enough to make lists of.
    On,
    /// Never: lists that there are, are not used.
    Off,
}

impl Approximate {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

/// The files of one lane of vectors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct LaneFiles {
    /// What the vectors are of.
    pub(super) lane: Lane,
    /// A name of the weights that made them.
    pub(super) embedder: String,
    /// Where they were loaded from.
    pub(super) source: String,
    /// The files within the collection's folder.
    pub(super) files: Vec<String>,
}

/// What vectors are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// What documents say: of pictures, their captions.
    Text,
    /// What pictures show.
    Image,
}

impl Lane {
    /// Whether a document can have a vector of this lane.
    pub(super) fn is_of(self, document: &Document) -> bool {
        self == Self::Text || matches!(document.content, Content::Image(_))
    }
}

impl Payload {
    /// That of the last commit; of a collection without any, the empty one.
    pub(super) fn read(index: &tantivy::Index) -> Result<Self, RagError> {
        let metas = index.load_metas().map_err(RagError::search("open"))?;
        let Some(text) = metas.payload else { return Ok(Self::default()) };
        serde_json::from_str(&text)
            .map_err(|source| RagError::Json { what: "the last commit", source })
    }

    pub(super) fn text(&self) -> Result<String, RagError> {
        serde_json::to_string(self).map_err(|source| RagError::Json { what: "a commit", source })
    }

    /// The version of what is committed: 16 hexadecimal digits. The digests are summed, so that it
    /// does not depend on the order in which documents came. `embedded` says of each lane how many
    /// documents have vectors: which have decides what is found. So do the lists that vectors are in,
    /// and these depend on how documents came.
    pub(super) fn version(&self, embedded: &[usize], lists: &[[u8; 8]]) -> String {
        let mut hash = Sha256::new();
        hash.update(self.documents.to_le_bytes());
        self.sum.iter().for_each(|part| hash.update(part.to_le_bytes()));
        for (LaneFiles { embedder, .. }, n) in self.lanes.iter().zip(embedded) {
            hash.update(embedder.as_bytes());
            hash.update((*n as u64).to_le_bytes());
        }
        for digest in lists {
            hash.update(digest);
        }
        hex(&hash.finalize(), 8)
    }

    pub(super) fn add(&mut self, living: &Living) {
        self.documents += 1;
        self.words += living.words;
        for (sum, part) in self.sum.iter_mut().zip(parts(&living.digest)) {
            *sum = sum.wrapping_add(part);
        }
    }

    pub(super) fn remove(&mut self, living: &Living) {
        self.documents = self.documents.saturating_sub(1);
        self.words = self.words.saturating_sub(living.words);
        for (sum, part) in self.sum.iter_mut().zip(parts(&living.digest)) {
            *sum = sum.wrapping_sub(part);
        }
    }
}

/// What the payload counts of one document.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Living {
    /// SHA-256 of the document.
    pub(super) digest: [u8; 32],
    /// Words it has.
    pub(super) words: u64,
    /// Its picture within the collection's folder.
    pub(super) picture: Option<String>,
}

impl Living {
    /// Whether a record would change nothing.
    pub(super) fn is(&self, digest: &[u8; 32]) -> bool {
        self.digest == *digest
    }
}

/// A SHA-256 of everything a document is and says, its picture's bytes included.
pub(super) fn digest(record: &Record) -> Result<[u8; 32], RagError> {
    let mut hash = Sha256::new();
    hash.update(crate::version::contents_digest(&record.document));
    let origin = serde_json::to_vec(&record.origin)
        .map_err(|source| RagError::Json { what: "an origin", source })?;
    hash.update(origin);
    Ok(hash.finalize().into())
}

fn parts(digest: &[u8; 32]) -> impl Iterator<Item = u64> + '_ {
    digest
        .chunks_exact(8)
        .map(|part| u64::from_le_bytes(part.try_into().expect("a chunk has 8 bytes")))
}
