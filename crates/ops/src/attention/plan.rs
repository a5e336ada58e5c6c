//! Which keys each query sees.

use std::ops::Range;
use std::sync::OnceLock;

use candle_core::{Result, bail};

use crate::portable::Blocks;

/// Which keys each query of a packed batch sees.
///
/// ```
/// use mmrag_ops::{AttentionPlan, Own, QuerySpan};
///
/// // A prompt of 5 tokens and two replies of 2 and 3 tokens that share it, packed in one row.
/// let plan = AttentionPlan::new(vec![
///     QuerySpan { queries: 0..5, seen: vec![], own: Own::Causal(0) },
///     QuerySpan { queries: 5..7, seen: vec![0..5], own: Own::Causal(5) },
///     QuerySpan { queries: 7..10, seen: vec![0..5], own: Own::Causal(7) },
/// ]);
/// assert_eq!(plan.unwrap().queries(), 10);
/// ```
#[derive(Clone, Debug)]
pub struct AttentionPlan {
    spans: Vec<QuerySpan>,
    components: Vec<Vec<usize>>,
    queries: usize,
    keys: usize,
    /// What the form for other devices makes of it, once for all layers.
    pub(crate) blocks: OnceLock<Blocks>,
}

/// Queries in a row that see the same keys before their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuerySpan {
    /// Rows of the queries.
    pub queries: Range<usize>,
    /// Rows of keys that each of them sees wholly, none twice.
    pub seen: Vec<Range<usize>>,
    /// The keys of the queries themselves.
    pub own: Own,
}

/// How queries see their own keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// Their own keys are among `seen`, if anywhere: attention without an order.
    None,
    /// Query `i` of the span sees the keys from this row to this row plus `i`.
    Causal(usize),
}

impl QuerySpan {
    /// All key rows that some query of the span sees.
    pub(crate) fn key_ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let own = match self.own {
            Own::None => None,
            Own::Causal(start) => Some(start..start + self.queries.len()),
        };
        self.seen.iter().cloned().chain(own)
    }
}

impl AttentionPlan {
    /// A plan of these spans.
    ///
    /// # Errors
    ///
    /// When the queries of two spans overlap, or a span sees nothing.
    pub fn new(spans: Vec<QuerySpan>) -> Result<Self> {
        let mut ends: Vec<_> = spans.iter().map(|span| span.queries.clone()).collect();
        ends.sort_by_key(|range| range.start);
        if ends.windows(2).any(|pair| pair[0].end > pair[1].start) {
            bail!("attention plan: two spans share a query")
        }
        if spans.iter().any(|span| span.key_ranges().all(|range| range.is_empty())) {
            bail!("attention plan: a span sees no key")
        }
        let queries = spans.iter().map(|span| span.queries.end).max().unwrap_or(0);
        let keys = spans.iter().flat_map(QuerySpan::key_ranges).map(|r| r.end).max().unwrap_or(0);
        let components = components(&spans);
        Ok(Self { spans, components, queries, keys, blocks: OnceLock::new() })
    }

    /// Causal sequences one after another, each alone.
    ///
    /// # Errors
    ///
    /// When a sequence is empty.
    pub fn causal(lengths: impl IntoIterator<Item = usize>) -> Result<Self> {
        let mut start = 0;
        let spans = lengths.into_iter().map(|len| {
            let span =
                QuerySpan { queries: start..start + len, seen: vec![], own: Own::Causal(start) };
            start += len;
            span
        });
        Self::new(spans.collect())
    }

    /// Sequences without order one after another, each seeing all of itself.
    ///
    /// # Errors
    ///
    /// When a sequence is empty.
    pub fn full(lengths: impl IntoIterator<Item = usize>) -> Result<Self> {
        let mut start = 0;
        let spans = lengths.into_iter().map(|len| {
            let rows = start..start + len;
            start += len;
            QuerySpan { queries: rows.clone(), seen: vec![rows], own: Own::None }
        });
        Self::new(spans.collect())
    }

    /// The spans.
    pub fn spans(&self) -> &[QuerySpan] {
        &self.spans
    }

    /// For each of some queries, the ranges of keys that it sees.
    pub(crate) fn seen_by(&self, queries: Range<usize>) -> Vec<Vec<Range<usize>>> {
        let mut seen = vec![vec![]; queries.len()];
        for span in &self.spans {
            let first = span.queries.start.max(queries.start);
            for query in first..span.queries.end.min(queries.end) {
                let own = match span.own {
                    Own::None => None,
                    Own::Causal(start) => Some(start..start + query - span.queries.start + 1),
                };
                let all = span.seen.iter().cloned().chain(own);
                seen[query - queries.start] = all.filter(|range| !range.is_empty()).collect();
            }
        }
        seen
    }

    /// Rows of queries the plan speaks of: one more than the largest.
    pub fn queries(&self) -> usize {
        self.queries
    }

    /// Rows of keys the plan speaks of: one more than the largest.
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// Spans, by index, that share no key with spans of another component.
    pub(crate) fn components(&self) -> &[Vec<usize>] {
        &self.components
    }
}

/// Groups spans whose key ranges overlap, directly or through others.
fn components(spans: &[QuerySpan]) -> Vec<Vec<usize>> {
    let mut ranges: Vec<(Range<usize>, usize)> = spans
        .iter()
        .enumerate()
        .flat_map(|(index, span)| span.key_ranges().map(move |range| (range, index)))
        .filter(|(range, _)| !range.is_empty())
        .collect();
    ranges.sort_by_key(|(range, _)| range.start);
    let mut parents: Vec<usize> = (0..spans.len()).collect();
    let mut reach: Option<(usize, usize)> = None;
    for (range, index) in ranges {
        reach = match reach {
            Some((end, owner)) if range.start < end => {
                let (a, b) = (root(&mut parents, owner), root(&mut parents, index));
                parents[a.max(b)] = a.min(b);
                Some((end.max(range.end), a.min(b)))
            }
            _ => Some((range.end, index)),
        };
    }
    let mut groups: Vec<Vec<usize>> = vec![vec![]; spans.len()];
    for index in 0..spans.len() {
        groups[root(&mut parents, index)].push(index);
    }
    groups.retain(|group| !group.is_empty());
    groups
}

fn root(parents: &mut [usize], mut index: usize) -> usize {
    while parents[index] != index {
        parents[index] = parents[parents[index]];
        index = parents[index];
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_components() {
        let reply = |queries: Range<usize>, prompt| QuerySpan {
            own: Own::Causal(queries.start),
            queries,
            seen: vec![prompt],
        };
        let prompt = |queries: Range<usize>| QuerySpan {
            own: Own::Causal(queries.start),
            queries,
            seen: vec![],
        };
        let plan = AttentionPlan::new(vec![
            prompt(0..5),
            reply(5..7, 0..5),
            prompt(7..9),
            reply(9..12, 7..9),
            reply(12..13, 0..5),
        ]);
        assert_eq!(plan.unwrap().components(), [vec![0, 1, 4], vec![2, 3]]);
    }

    #[test]
    fn overlapping_queries_are_refused() {
        let span = |queries: Range<usize>| QuerySpan { queries, seen: vec![], own: Own::Causal(0) };
        assert!(AttentionPlan::new(vec![span(0..2), span(1..3)]).is_err());
    }
}
