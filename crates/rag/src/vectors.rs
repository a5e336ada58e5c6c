//! Vectors of documents in files, searched exactly ([`Flat`]) or by looking through some of the lists
//! that they are in ([`Listed`]). A score is the inner product.

mod best;
mod flat;
mod gather;
mod halves;
mod layout;
mod listed;

pub use flat::Flat;
pub use gather::gather;
pub use listed::{Listed, RECALL, TUNED_AT};

/// How the values of vectors are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As half floats.
    F16,
    /// As whole numbers from -127 to 127, with a scale for each vector.
    Int8,
}

/// A row that was found: its number and its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Near {
    /// The number that the row was written with.
    pub number: u64,
    /// The inner product with the query.
    pub score: f32,
}

/// Finds the vectors that are most like a query.
pub trait VectorIndex: Send + Sync {
    /// The length of the vectors.
    fn width(&self) -> usize;

    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `k` rows of those that `keep` allows, or all of them where they are fewer, the largest inner
    /// products first, equal ones by their numbers. An exact index finds those with the largest
    /// inner products; one that is not may miss some of them, and its scores are exact all the same.
    ///
    /// # Panics
    ///
    /// When the query has another length than the vectors.
    fn search(&self, query: &[f32], k: usize, keep: &(dyn Fn(u64) -> bool + Sync)) -> Vec<Near>;
}
