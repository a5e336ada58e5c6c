//! The vectors of a collection's documents.
//!
//! Documents that have none yet are embedded and their vectors added as another file, so that an
//! embedding that is stopped goes on where it was. A document that is changed gets another number,
//! and so loses its vector.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use mmrag_core::{Content, Document, DocumentId, Embed};

use super::VECTORS;
use super::payload::{Lane, LaneFiles};
use super::{Snapshot, Writer};
use crate::error::RagError;
use crate::retriever::{Hit, Source, SourceRank};
use crate::vectors::{Flat, Near, Precision, VectorIndex as _};

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

/// What became of documents that were to be embedded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embedded {
    /// How many were looked at.
    pub documents: usize,
    /// Those that cannot be embedded, and why.
    pub failures: Vec<(DocumentId, String)>,
}

/// The opened files of all lanes.
pub(super) struct Lanes(Vec<OpenLane>);

struct OpenLane {
    info: LaneInfo,
    files: Vec<Arc<Flat>>,
}

impl Lanes {
    pub(super) fn open(folder: &Path, lanes: &[LaneFiles]) -> Result<Self, RagError> {
        let open = |files: &LaneFiles| {
            let opened =
                files.files.iter().map(|name| Flat::open(&folder.join(name)).map(Arc::new));
            let info = LaneInfo {
                lane: files.lane,
                version: files.embedder.clone(),
                source: files.source.clone(),
            };
            Ok(OpenLane { info, files: opened.collect::<Result<_, RagError>>()? })
        };
        lanes.iter().map(open).collect::<Result<_, RagError>>().map(Self)
    }

    fn get(&self, lane: Lane) -> Option<&OpenLane> {
        self.0.iter().find(|open| open.info.lane == lane)
    }
}

impl Snapshot {
    /// The lanes that there are vectors of.
    pub fn lanes(&self) -> Vec<LaneInfo> {
        self.lanes.0.iter().map(|open| open.info.clone()).collect()
    }

    /// How many documents have vectors, in each lane.
    pub(super) fn embedded(&self) -> Result<Vec<usize>, RagError> {
        if self.lanes.0.is_empty() {
            return Ok(Vec::new());
        }
        let order = self.order()?;
        let is_alive = |number: &&u64| order.binary_search_by_key(*number, |(n, _)| *n).is_ok();
        let count = |open: &OpenLane| -> usize {
            open.files.iter().map(|file| file.numbers().iter().filter(is_alive).count()).sum()
        };
        Ok(self.lanes.0.iter().map(count).collect())
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
        let have: HashSet<u64> = files.iter().flat_map(|file| file.numbers()).copied().collect();
        let mut missing = Vec::new();
        for (number, address) in self.order()? {
            if missing.len() == n {
                break;
            }
            if have.contains(number) {
                continue;
            }
            let document = self.record(*address)?.document;
            if lane == Lane::Text || matches!(document.content, Content::Image(_)) {
                missing.push((*number, document));
            }
        }
        Ok(missing)
    }

    /// The `k` documents of a lane whose vectors are most like a query, as hits of this source.
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
        let Some(open) = self.lanes.get(lane) else { return Ok(Vec::new()) };
        let order = self.order()?;
        let find = |number: u64| order.binary_search_by_key(&number, |(number, _)| *number);
        let is_alive = |number: u64| find(number).is_ok();
        let mut near: Vec<Near> = Vec::new();
        for file in &open.files {
            if file.width() != query.len() {
                return Err(RagError::OtherWidth { found: query.len(), expected: file.width() });
            }
            // What could not be embedded has zeros.
            let found = file.search(query, k, &is_alive);
            near.extend(found.into_iter().filter(|near| near.score != 0.0));
        }
        near.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.number.cmp(&b.number)));
        near.truncate(k);
        let mut hits = Vec::with_capacity(near.len());
        for (i, near) in near.into_iter().enumerate() {
            let at = find(near.number).expect("the living alone are found");
            let record = self.record(order[at].1)?;
            let score = f64::from(near.score);
            hits.push(Hit {
                document: Arc::new(record.document),
                origin: record.origin,
                sources: vec![SourceRank { source, rank: i + 1, score }],
            });
        }
        Ok(hits)
    }
}

/// The vectors of documents of which one or more cannot be embedded: those have one of zeros.
fn one_by_one(
    embedder: &Embedder<'_>,
    documents: &[&Document],
    failures: &mut Vec<(DocumentId, String)>,
) -> Result<Vec<Vec<f32>>, RagError> {
    let mut vectors = Vec::with_capacity(documents.len());
    let mut last = None;
    for document in documents {
        let embedded = embedder.engine.embed_documents(&[document]);
        match embedded.map(|mut vectors| vectors.pop()) {
            Ok(Some(vector)) => vectors.push(vector),
            Ok(None) => vectors.push(vec![0.0; embedder.engine.width()]),
            Err(error) => {
                failures.push((document.id.clone(), error.to_string()));
                vectors.push(vec![0.0; embedder.engine.width()]);
                last = Some(error);
            }
        }
    }
    match last {
        Some(source) if failures.len() == documents.len() && documents.len() > 1 => {
            Err(RagError::Embedding { source })
        }
        _ => Ok(vectors),
    }
}

impl Writer {
    /// Embeds documents that have no vectors yet, at most `n` of those that are committed. They are
    /// found by their vectors after the next commit. A document that cannot be embedded, such as a
    /// broken picture, is told, and is not found by its vector.
    ///
    /// # Errors
    ///
    /// When none of several documents can be embedded, or the files cannot be written.
    pub fn embed(&mut self, embedder: &Embedder<'_>, n: usize) -> Result<Embedded, RagError> {
        let missing = self.snapshot.without_vectors(embedder.lane, embedder.version, n)?;
        let mut embedded = Embedded { documents: missing.len(), failures: Vec::new() };
        if missing.is_empty() {
            return Ok(embedded);
        }
        let documents: Vec<&Document> = missing.iter().map(|(_, document)| document).collect();
        let vectors = match embedder.engine.embed_documents(&documents) {
            Ok(vectors) => vectors,
            Err(_) => one_by_one(embedder, &documents, &mut embedded.failures)?,
        };
        let numbers = missing.iter().map(|(number, _)| *number);
        let rows: Vec<(u64, Vec<f32>)> = numbers.zip(vectors).collect();
        self.add_vectors(embedder, &rows)?;
        Ok(embedded)
    }

    /// Adds vectors of documents by their numbers.
    ///
    /// # Errors
    ///
    /// When the files cannot be written.
    pub fn add_vectors(
        &mut self,
        embedder: &Embedder<'_>,
        rows: &[(u64, Vec<f32>)],
    ) -> Result<(), RagError> {
        let at = self.lane_of(embedder);
        let place = self.collection.place().to_path_buf();
        let folder = place.join(VECTORS);
        std::fs::create_dir_all(&folder).map_err(RagError::io("make", &folder))?;
        let order = self.snapshot.order()?;
        let is_alive = |number: u64| order.binary_search_by_key(&number, |(n, _)| *n).is_ok();
        let mut rows = rows.to_vec();
        // A file that is not longer than what is added is put together with it: so there are few
        // files, and a row is written again only when their number doubles.
        let files = &mut self.payload.lanes[at].files;
        while let Some(name) = files.last() {
            let file = Flat::open(&place.join(name))?;
            if file.len() > rows.len() {
                break;
            }
            let numbers = file.numbers().iter().enumerate();
            let living = numbers.filter(|(_, number)| is_alive(**number));
            rows.extend(living.map(|(row, number)| (*number, file.row(row))));
            self.leftovers.extend(files.pop());
        }
        let lane_name = match embedder.lane {
            Lane::Text => "text",
            Lane::Image => "image",
        };
        let (commit, n) = (self.payload.commit, self.vector_files);
        let name = format!("{VECTORS}/{lane_name}-{commit}-{n}.vec");
        self.vector_files += 1;
        Flat::write(&place.join(&name), embedder.engine.width(), Precision::F16, &rows)?;
        files.push(name);
        Ok(())
    }

    /// The place of an embedder's lane. Vectors of another embedder there are given up.
    fn lane_of(&mut self, embedder: &Embedder<'_>) -> usize {
        let lanes = &mut self.payload.lanes;
        let is_other =
            |files: &LaneFiles| files.lane == embedder.lane && files.embedder != embedder.version;
        if let Some(other) = lanes.iter().position(is_other) {
            self.leftovers.extend(lanes.remove(other).files);
        }
        lanes.iter().position(|files| files.lane == embedder.lane).unwrap_or_else(|| {
            lanes.push(LaneFiles {
                lane: embedder.lane,
                embedder: embedder.version.to_owned(),
                source: embedder.source.to_owned(),
                files: Vec::new(),
            });
            lanes.len() - 1
        })
    }
}
