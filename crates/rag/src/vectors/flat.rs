//! Vectors in a mapped file; each search looks at all of them.
//!
//! The file is mapped, not read: what is not searched takes no memory. Half floats are widened where
//! they are multiplied; whole numbers are multiplied as they are, by those of the query.

use std::ops::Range;
use std::path::Path;

use half::f16;
use half::slice::HalfFloatSliceExt as _;
use mmrag_map::FileMap;
use rayon::prelude::*;
use simsimd::SpatialSimilarity as _;

use super::best::Best;
use super::halves::Lifted;
use super::layout::{self, HEADER, Layout};
use super::{Near, Precision, VectorIndex};
use crate::error::RagError;

/// Rows that one thread searches at a time.
const BLOCK: usize = 4096;

/// Vectors in a mapped file, searched exactly.
pub struct Flat {
    map: FileMap,
    pub(super) layout: Layout,
}

impl Flat {
    /// Writes vectors with their numbers into a file, which appears whole or not at all.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    ///
    /// # Panics
    ///
    /// When a vector has another length than `width`.
    pub fn write(
        path: &Path,
        width: usize,
        precision: Precision,
        rows: &[(u64, Vec<f32>)],
    ) -> Result<(), RagError> {
        layout::write(path, |out| {
            out.add(&Layout::flat(width, rows.len(), precision).header())?;
            rows.iter().try_for_each(|(number, _)| out.add(&number.to_le_bytes()))?;
            out.pad()?;
            if precision == Precision::Int8 {
                rows.iter().try_for_each(|(_, row)| out.add(&scale(row).to_le_bytes()))?;
                out.pad()?;
            }
            for (_, row) in rows {
                assert_eq!(row.len(), width, "vectors of one file have one length");
                match precision {
                    Precision::F16 => {
                        for value in row {
                            out.add(&f16::from_f32(*value).to_le_bytes())?;
                        }
                    }
                    Precision::Int8 => out.add(bytemuck::cast_slice(&whole(row)))?,
                }
            }
            Ok(())
        })
    }

    /// Maps a file of vectors. Those in lists are searched exactly too.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened or is none.
    pub fn open(path: &Path) -> Result<Self, RagError> {
        let map = FileMap::open(path).map_err(|error| RagError::io("open", path)(error.source))?;
        let layout = Layout::read(path, &map)?;
        Ok(Self { map, layout })
    }

    /// The numbers of the rows, in their order.
    pub fn numbers(&self) -> &[u64] {
        bytemuck::cast_slice(&self.map[HEADER..HEADER + 8 * self.layout.count])
    }

    /// The values of a row.
    pub fn row(&self, row: usize) -> Vec<f32> {
        let bytes = self.row_at(row);
        match self.layout.precision {
            Precision::F16 => bytemuck::cast_slice::<u8, f16>(bytes).to_f32_vec(),
            Precision::Int8 => {
                let scale = self.scales()[row];
                bytes.iter().map(|value| f32::from(*value as i8) * scale).collect()
            }
        }
    }

    /// What stands in the file from a place on.
    pub(super) fn bytes(&self, from: usize, n: usize) -> &[u8] {
        &self.map[from..from + n]
    }

    /// What the whole numbers of each row stand for.
    pub(super) fn scales(&self) -> &[f32] {
        let (at, n) = (self.layout.scales_at(), self.layout.count);
        bytemuck::cast_slice(&self.map[at..at + 4 * n])
    }

    /// A row as it lies in the file.
    pub(super) fn row_at(&self, row: usize) -> &[u8] {
        let bytes = self.layout.row_bytes();
        self.bytes(self.layout.values_at() + row * bytes, bytes)
    }

    /// The best of some rows.
    pub(super) fn search_rows(
        &self,
        query: &Query,
        rows: Range<usize>,
        k: usize,
        keep: &(dyn Fn(u64) -> bool + Sync),
    ) -> Best {
        let (numbers, mut best) = (self.numbers(), Best::new(k));
        for row in rows {
            let bytes = self.row_at(row);
            let score = match self.layout.precision {
                Precision::F16 => query.halves.dot(bytemuck::cast_slice::<u8, f16>(bytes)),
                Precision::Int8 => {
                    let values = bytemuck::cast_slice::<u8, i8>(bytes);
                    dot(values, &query.whole) * query.scale * self.scales()[row]
                }
            };
            // What is allowed is asked last: most rows are not good enough.
            if best.would_take(score) && keep(numbers[row]) {
                best.take(Near { number: numbers[row], score });
            }
        }
        best
    }
}

impl VectorIndex for Flat {
    fn width(&self) -> usize {
        self.layout.width
    }

    fn len(&self) -> usize {
        self.layout.count
    }

    fn search(&self, query: &[f32], k: usize, keep: &(dyn Fn(u64) -> bool + Sync)) -> Vec<Near> {
        let query = Query::new(query, self.layout.width);
        let blocks = (0..self.layout.count).into_par_iter().step_by(BLOCK);
        let best = blocks
            .map(|start| {
                let rows = start..(start + BLOCK).min(self.layout.count);
                self.search_rows(&query, rows, k, keep)
            })
            .reduce(|| Best::new(k), Best::merge);
        best.sorted()
    }
}

/// What is looked for, in both precisions.
pub(super) struct Query {
    halves: Lifted,
    whole: Vec<i8>,
    scale: f32,
}

impl Query {
    pub(super) fn new(values: &[f32], width: usize) -> Self {
        assert_eq!(values.len(), width, "a query has the length of the vectors");
        Self { halves: Lifted::new(values), whole: whole(values), scale: scale(values) }
    }
}

/// The inner product of whole numbers.
pub(super) fn dot(a: &[i8], b: &[i8]) -> f32 {
    i8::dot(a, b).expect("the lengths are equal") as f32
}

/// What a whole number of a vector stands for.
pub(super) fn scale(row: &[f32]) -> f32 {
    row.iter().fold(0.0f32, |most, value| most.max(value.abs())) / 127.0
}

/// The values as whole numbers from -127 to 127.
pub(super) fn whole(row: &[f32]) -> Vec<i8> {
    let scale = scale(row);
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    row.iter().map(|value| (value * inverse).round() as i8).collect()
}
