//! Giving documents vectors.
//!
//! Documents that have none yet are embedded and their vectors added as another file, so that an
//! embedding that is stopped goes on where it was. A document that is changed gets another number,
//! and so loses its vector.

use std::collections::HashSet;

use mmrag_core::{Document, DocumentId};

use super::lanes::Embedder;
use super::payload::{Lane, LaneFiles};
use super::{VECTORS, Writer};
use crate::error::RagError;
use crate::vectors::{Flat, Precision, VectorIndex as _};

/// What became of documents that were to be embedded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embedded {
    /// How many were looked at.
    pub documents: usize,
    /// Those that cannot be embedded, and why.
    pub failures: Vec<(DocumentId, String)>,
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
        let missing: Vec<_> =
            missing.iter().map(|(number, document)| (*number, document)).collect();
        self.embed_these(embedder, &missing)
    }

    /// Embeds those of these documents that were put since the last commit, so that they and their
    /// vectors are committed together.
    ///
    /// # Errors
    ///
    /// As [`Writer::embed`].
    pub fn embed_put(
        &mut self,
        embedder: &Embedder<'_>,
        documents: &[Document],
    ) -> Result<Embedded, RagError> {
        let mut seen = HashSet::new();
        // Of several with one id the last is what was put.
        let last = documents.iter().rev().filter(|document| seen.insert(&document.id));
        let of_lane = last.filter(|document| embedder.lane.is_of(document));
        let put: Vec<(u64, &Document)> = of_lane
            .filter_map(|document| Some((*self.numbers.get(&document.id)?, document)))
            .collect();
        self.embed_these(embedder, &put)
    }

    fn embed_these(
        &mut self,
        embedder: &Embedder<'_>,
        numbered: &[(u64, &Document)],
    ) -> Result<Embedded, RagError> {
        let mut embedded = Embedded { documents: numbered.len(), failures: Vec::new() };
        if numbered.is_empty() {
            return Ok(embedded);
        }
        let documents: Vec<&Document> = numbered.iter().map(|(_, document)| *document).collect();
        let vectors = match embedder.engine.embed_documents(&documents) {
            Ok(vectors) => vectors,
            Err(_) => one_by_one(embedder, &documents, &mut embedded.failures)?,
        };
        let numbers = numbered.iter().map(|(number, _)| *number);
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
        let put: HashSet<u64> = self.numbers.values().copied().collect();
        let is_alive = |number: u64| {
            put.contains(&number) || order.binary_search_by_key(&number, |(n, _)| *n).is_ok()
        };
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
        let name = self.next_vector_file(embedder.lane);
        Flat::write(&place.join(&name), embedder.engine.width(), Precision::F16, &rows)?;
        self.payload.lanes[at].files.push(name);
        Ok(())
    }

    /// A name that no file of vectors has.
    pub(super) fn next_vector_file(&mut self, lane: Lane) -> String {
        let lane = match lane {
            Lane::Text => "text",
            Lane::Image => "image",
        };
        let (commit, n) = (self.payload.commit, self.vector_files);
        self.vector_files += 1;
        format!("{VECTORS}/{lane}-{commit}-{n}.vec")
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
