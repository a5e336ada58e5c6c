//! Vectors in lists around centres: a search looks through the lists whose centres are most like
//! the query, and scores their rows exactly. What stands in other lists is missed.
//!
//! How many lists are looked through is found out when they are made (see [`super::gather`]): as
//! many as hold [`RECALL`] of what an exact search finds. Who wants many rows gets more lists, and
//! a search goes on until it has as many rows as are wanted, or has seen all.
//!
//! Why this and no graph: graphs (hnsw_rs, instant-distance) hold the vectors in memory in f32, or
//! live in a database of their own (arroy, hannoy, in LMDB), and take deletions by rebuilding or by
//! tombstones within them. Here the mapped half floats or whole numbers are the index, 4 bytes a
//! value are added for each centre alone, what is deleted is left out by the caller's `keep`, what is
//! new lies in another file, and the lists of a file never change.

use rayon::prelude::*;
use simsimd::SpatialSimilarity as _;

use super::best::Best;
use super::flat::{Flat, Query};
use super::{Near, VectorIndex};
use crate::error::RagError;

/// The share of the exact search's first [`TUNED_AT`] that lists are looked through for.
pub const RECALL: f64 = 0.97;
/// How many rows of a search are meant by [`RECALL`]. Who wants more gets more lists.
pub const TUNED_AT: usize = 50;

/// Vectors in a mapped file whose rows are in lists.
pub struct Listed {
    flat: Flat,
}

impl Listed {
    /// The lists of a file.
    ///
    /// # Errors
    ///
    /// Gives the file back whose rows are in no lists.
    pub fn of(flat: Flat) -> Result<Self, Flat> {
        if flat.layout.n_lists == 0 { Err(flat) } else { Ok(Self { flat }) }
    }

    /// Maps a file.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened, or its rows are in no lists.
    pub fn open(path: &std::path::Path) -> Result<Self, RagError> {
        Self::of(Flat::open(path)?).map_err(|_| RagError::NotAnIndex {
            path: path.to_path_buf(),
            reason: "its vectors are in no lists".to_owned(),
        })
    }

    /// The same vectors, searched exactly.
    pub fn exact(&self) -> &Flat {
        &self.flat
    }

    /// How many lists there are.
    pub fn n_lists(&self) -> usize {
        self.flat.layout.n_lists
    }

    /// How many of them are looked through for up to [`TUNED_AT`] rows.
    pub fn probes(&self) -> usize {
        self.flat.layout.probes
    }

    /// A name of the lists: others, another name.
    pub fn digest(&self) -> [u8; 8] {
        self.flat.layout.digest
    }

    fn starts(&self) -> &[u64] {
        let layout = &self.flat.layout;
        let bytes = self.flat.bytes(layout.starts_at(), 8 * (layout.n_lists + 1));
        bytemuck::cast_slice(bytes)
    }

    fn centres(&self) -> &[f32] {
        let layout = &self.flat.layout;
        let bytes = self.flat.bytes(layout.centres_at(), 4 * layout.n_lists * layout.width);
        bytemuck::cast_slice(bytes)
    }

    /// The rows of a list. A damaged file has none in it.
    fn rows(&self, list: usize) -> std::ops::Range<usize> {
        let end = |at: usize| (self.starts()[at] as usize).min(self.flat.layout.count);
        end(list)..end(list + 1)
    }
}

/// The lists in the order in which they are looked through.
pub(super) fn nearest_first(centres: &[f32], query: &[f32]) -> Vec<usize> {
    let score = |centre: &[f32]| f32::dot(centre, query).expect("the lengths are equal") as f32;
    let mut order: Vec<(f32, usize)> =
        centres.chunks_exact(query.len()).map(score).zip(0..).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    order.into_iter().map(|(_, list)| list).collect()
}

impl VectorIndex for Listed {
    fn width(&self) -> usize {
        self.flat.width()
    }

    fn len(&self) -> usize {
        self.flat.len()
    }

    fn search(&self, query: &[f32], k: usize, keep: &(dyn Fn(u64) -> bool + Sync)) -> Vec<Near> {
        let wanted = Query::new(query, self.width());
        let order = nearest_first(self.centres(), query);
        let (mut best, mut seen) = (Best::new(k), 0);
        let probes = self.probes().min(order.len());
        let mut until = (probes * k.div_ceil(TUNED_AT)).clamp(1, order.len());
        loop {
            let found = order[seen..until]
                .par_iter()
                .map(|list| self.flat.search_rows(&wanted, self.rows(*list), k, keep))
                .reduce(|| Best::new(k), Best::merge);
            best = best.merge(found);
            seen = until;
            if best.is_full() || seen == order.len() {
                return best.sorted();
            }
            until = (2 * seen).min(order.len());
        }
    }
}
