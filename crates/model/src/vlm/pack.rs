//! Many sequences in one row of tokens, with what each token sees.

use std::ops::Range;
use std::sync::Arc;

use mmrag_ops::{AttentionPlan, Own, QuerySpan};

use crate::error::ModelError;

/// A stretch of tokens that stand one after another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Segment {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Time, height and width of each token.
    pub positions: Vec<[u32; 3]>,
    /// For each token that stands for a piece of a picture: the token's index in this segment,
    /// the picture's index in the batch's features, and the row in that picture's features.
    pub image_rows: Vec<(usize, usize, usize)>,
}

/// Segments in one row, ready for a forward pass.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Time, height and width of each token.
    pub positions: Vec<[u32; 3]>,
    /// Row in the pack, picture, row in the picture's features.
    pub image_rows: Vec<(usize, usize, usize)>,
    /// Where the keys and values of each token go in the cache; empty without a cache.
    pub cache_rows: Vec<usize>,
    spans: Vec<QuerySpan>,
}

impl Packed {
    /// Adds a segment that sees `seen` and itself causally, all in rows of this pack. Returns its
    /// rows.
    pub fn push(&mut self, segment: &Segment, seen: Vec<Range<usize>>) -> Range<usize> {
        let rows = self.append(segment);
        self.spans.push(QuerySpan { queries: rows.clone(), seen, own: Own::Causal(rows.start) });
        rows
    }

    /// Adds a segment whose keys and values go to the cache from row `start` on, and that sees
    /// `seen` and itself causally, all in rows of the cache. Returns its rows in the pack.
    pub fn push_cached(
        &mut self,
        segment: &Segment,
        seen: Vec<Range<usize>>,
        start: usize,
    ) -> Range<usize> {
        let rows = self.append(segment);
        self.cache_rows.extend(start..start + rows.len());
        self.spans.push(QuerySpan { queries: rows.clone(), seen, own: Own::Causal(start) });
        rows
    }

    /// Tokens in the pack.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// What each token sees.
    pub(super) fn plan(&self) -> Result<Arc<AttentionPlan>, ModelError> {
        Ok(Arc::new(AttentionPlan::new(self.spans.clone())?))
    }

    fn append(&mut self, segment: &Segment) -> Range<usize> {
        let start = self.tokens.len();
        self.tokens.extend(&segment.tokens);
        self.positions.extend(&segment.positions);
        let rows = segment.image_rows.iter();
        self.image_rows.extend(rows.map(|&(at, picture, row)| (start + at, picture, row)));
        start..self.tokens.len()
    }
}
