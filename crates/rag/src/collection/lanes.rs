//! The vectors of a collection's documents, as one state has them.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use mmrag_core::{Document, Embed};
use serde::Serialize;

use super::Snapshot;
use super::payload::{Approximate, Lane, LaneFiles, Payload};
use crate::error::RagError;
use crate::retriever::{Hit, Source, SourceRank};
use crate::vectors::{Flat, Listed, Near, VectorIndex};

/// What makes the vectors of a lane.
#[derive(Clone, Copy)]
pub struct Embedder<'a> {
    /// What the vectors are of.
    pub lane: Lane,
    /// A name of its weights: other weights, another name.
    pub version: &'a str,
    /// Where it was loaded from, so that questions can be embedded by the same.
    pub source: &'a str,
    /// The engine.
    pub engine: &'a dyn Embed,
}

/// What is known of the vectors of a lane.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneInfo {
    /// What the vectors are of.
    pub lane: Lane,
    /// A name of the weights that made them.
    pub version: String,
    /// Where the weights were loaded from.
    pub source: String,
}

/// How the vectors of a lane are looked through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LaneSearch {
    /// Vectors, those of deleted documents that still lie in the files too.
    pub vectors: usize,
    /// How many of them are in lists, of which a part is looked through.
    pub in_lists: usize,
    /// How many lists there are.
    pub lists: usize,
    /// How many of them are looked through for a usual question.
    pub probes: usize,
}

/// The opened files of all lanes.
pub(super) struct Lanes {
    lanes: Vec<OpenLane>,
    /// Whether lists are used where there are any.
    approximate: bool,
}

struct OpenLane {
    info: LaneInfo,
    files: Vec<OpenFile>,
}

enum OpenFile {
    Flat(Flat),
    Listed(Listed),
}

impl OpenFile {
    fn open(path: &Path) -> Result<Self, RagError> {
        let flat = Flat::open(path)?;
        Ok(Listed::of(flat).map_or_else(Self::Flat, Self::Listed))
    }

    fn exact(&self) -> &Flat {
        match self {
            Self::Flat(flat) => flat,
            Self::Listed(listed) => listed.exact(),
        }
    }

    /// The lists, where looking through a part of them is all that a usual question needs.
    fn lists(&self) -> Option<&Listed> {
        match self {
            Self::Listed(listed) if listed.probes() < listed.n_lists() => Some(listed),
            Self::Listed(_) | Self::Flat(_) => None,
        }
    }
}

impl Lanes {
    pub(super) fn open(folder: &Path, payload: &Payload) -> Result<Self, RagError> {
        let open = |files: &LaneFiles| {
            let opened = files.files.iter().map(|name| OpenFile::open(&folder.join(name)));
            let info = LaneInfo {
                lane: files.lane,
                version: files.embedder.clone(),
                source: files.source.clone(),
            };
            Ok(OpenLane { info, files: opened.collect::<Result<_, RagError>>()? })
        };
        let lanes = payload.lanes.iter().map(open).collect::<Result<_, RagError>>()?;
        Ok(Self { lanes, approximate: payload.approximate != Approximate::Off })
    }

    /// Names of the lists that are used.
    pub(super) fn digests(&self) -> Vec<[u8; 8]> {
        let files = self.lanes.iter().flat_map(|open| &open.files);
        let used = files.filter_map(OpenFile::lists).filter(|_| self.approximate);
        used.map(Listed::digest).collect()
    }

    fn get(&self, lane: Lane) -> Option<&OpenLane> {
        self.lanes.iter().find(|open| open.info.lane == lane)
    }
}

impl Snapshot {
    /// The lanes that there are vectors of.
    pub fn lanes(&self) -> Vec<LaneInfo> {
        self.lanes.lanes.iter().map(|open| open.info.clone()).collect()
    }

    /// How many documents have vectors, in each lane.
    pub(super) fn embedded(&self) -> Result<Vec<usize>, RagError> {
        if self.lanes.lanes.is_empty() {
            return Ok(Vec::new());
        }
        let order = self.order()?;
        let is_alive = |number: &&u64| order.binary_search_by_key(*number, |(n, _)| *n).is_ok();
        let count = |open: &OpenLane| -> usize {
            let living = |file: &OpenFile| file.exact().numbers().iter().filter(is_alive).count();
            open.files.iter().map(living).sum()
        };
        Ok(self.lanes.lanes.iter().map(count).collect())
    }

    /// At most `n` documents that a lane could have vectors of and has not, with their numbers. All,
    /// where the vectors were made by an embedder of another version.
    ///
    /// # Errors
    ///
    /// When the files cannot be read.
    pub fn without_vectors(
        &self,
        lane: Lane,
        version: &str,
        n: usize,
    ) -> Result<Vec<(u64, Document)>, RagError> {
        let open = self.lanes.get(lane).filter(|open| open.info.version == version);
        let files = open.map_or(&[][..], |open| &open.files);
        let have: HashSet<u64> =
            files.iter().flat_map(|file| file.exact().numbers()).copied().collect();
        let mut missing = Vec::new();
        for (number, address) in self.order()? {
            if missing.len() == n {
                break;
            }
            if have.contains(number) {
                continue;
            }
            let document = self.record(*address)?.document;
            if lane.is_of(&document) {
                missing.push((*number, document));
            }
        }
        Ok(missing)
    }

    /// How the vectors of a lane are looked through, if there are any.
    pub fn lane_search(&self, lane: Lane) -> Option<LaneSearch> {
        let open = self.lanes.get(lane)?;
        let mut search = LaneSearch::default();
        for file in &open.files {
            search.vectors += file.exact().len();
            if let Some(listed) = file.lists().filter(|_| self.lanes.approximate) {
                search.in_lists += listed.len();
                search.lists += listed.n_lists();
                search.probes += listed.probes();
            }
        }
        Some(search)
    }

    /// The `k` documents of a lane whose vectors are most like a query, as hits of this source.
    /// Where vectors are in lists, most of these.
    ///
    /// # Errors
    ///
    /// When the query has another length than the vectors, or the files cannot be read.
    pub fn nearest(
        &self,
        lane: Lane,
        source: Source,
        query: &[f32],
        k: usize,
    ) -> Result<Vec<Hit>, RagError> {
        self.nearest_by(lane, source, query, k, self.lanes.approximate)
    }

    /// As [`Snapshot::nearest`], all vectors being looked at.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn nearest_exactly(
        &self,
        lane: Lane,
        source: Source,
        query: &[f32],
        k: usize,
    ) -> Result<Vec<Hit>, RagError> {
        self.nearest_by(lane, source, query, k, false)
    }

    fn nearest_by(
        &self,
        lane: Lane,
        source: Source,
        query: &[f32],
        k: usize,
        by_lists: bool,
    ) -> Result<Vec<Hit>, RagError> {
        let Some(open) = self.lanes.get(lane) else { return Ok(Vec::new()) };
        let order = self.order()?;
        let find = |number: u64| order.binary_search_by_key(&number, |(number, _)| *number);
        let is_alive = |number: u64| find(number).is_ok();
        let (mut near, mut approximate): (Vec<Near>, _) = (Vec::new(), false);
        for file in &open.files {
            let lists = file.lists().filter(|_| by_lists);
            approximate |= lists.is_some();
            let index: &dyn VectorIndex = match lists {
                Some(listed) => listed,
                None => file.exact(),
            };
            if index.width() != query.len() {
                return Err(RagError::OtherWidth { found: query.len(), expected: index.width() });
            }
            // What could not be embedded has zeros.
            let found = index.search(query, k, &is_alive);
            near.extend(found.into_iter().filter(|near| near.score != 0.0));
        }
        near.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.number.cmp(&b.number)));
        near.truncate(k);
        let mut hits = Vec::with_capacity(near.len());
        for (i, near) in near.into_iter().enumerate() {
            let at = find(near.number).expect("the living alone are found");
            let record = self.record(order[at].1)?;
            let place = SourceRank::exact(source, i + 1, f64::from(near.score));
            hits.push(Hit {
                document: Arc::new(record.document),
                origin: record.origin,
                sources: vec![SourceRank { approximate, ..place }],
            });
        }
        Ok(hits)
    }
}
