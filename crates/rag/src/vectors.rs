//! Vectors of documents in a file, searched exactly.
//!
//! A file is a header of 64 bytes, then for each row its number (u64), its scale (f32, of whole
//! numbers alone) and its values, each of the three parts beginning at a multiple of 64 bytes, all
//! little-endian. It is mapped, not read: what is not searched takes no memory.
//!
//! A score is the inner product. Half floats are widened a row at a time; whole numbers are
//! multiplied as they are, by those of the query.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::io::{BufWriter, Write};
use std::path::Path;

use half::f16;
use half::slice::HalfFloatSliceExt as _;
use mmrag_map::FileMap;
use rayon::prelude::*;
use simsimd::SpatialSimilarity as _;

use crate::error::RagError;

const MAGIC: &[u8; 8] = b"MMRAGVEC";
const HEADER: usize = 64;
/// Rows that one thread searches at a time.
const BLOCK: usize = 4096;

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

    /// The `k` rows of those that `keep` allows with the largest inner products, the largest first,
    /// equal ones by their numbers.
    ///
    /// # Panics
    ///
    /// When the query has another length than the vectors.
    fn search(&self, query: &[f32], k: usize, keep: &(dyn Fn(u64) -> bool + Sync)) -> Vec<Near>;
}

/// Vectors in a mapped file; each search looks at all of them.
pub struct Flat {
    map: FileMap,
    width: usize,
    count: usize,
    precision: Precision,
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
        let draft = path.with_extension("draft");
        let write = || -> std::io::Result<()> {
            let mut out = Padded { out: BufWriter::new(std::fs::File::create(&draft)?), at: 0 };
            out.add(MAGIC)?;
            out.add(&(width as u64).to_le_bytes())?;
            out.add(&(rows.len() as u64).to_le_bytes())?;
            out.add(&[u8::from(precision == Precision::Int8)])?;
            out.pad()?;
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
            out.out.flush()?;
            out.out.get_ref().sync_data()?;
            std::fs::rename(&draft, path)
        };
        write().map_err(RagError::io("write", path))
    }

    /// Maps a file of vectors.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened or is none.
    pub fn open(path: &Path) -> Result<Self, RagError> {
        let map = FileMap::open(path).map_err(|error| RagError::io("open", path)(error.source))?;
        let damaged = |reason: &str| RagError::NotAnIndex {
            path: path.to_path_buf(),
            reason: reason.to_owned(),
        };
        let header = map.get(..HEADER).ok_or_else(|| damaged("it is cut off"))?;
        if !header.starts_with(MAGIC) {
            return Err(damaged("it holds no vectors"));
        }
        let number = |at: usize| {
            u64::from_le_bytes(header[at..at + 8].try_into().expect("a slice of 8 bytes")) as usize
        };
        let precision = if header[24] == 0 { Precision::F16 } else { Precision::Int8 };
        let flat = Self { width: number(8), count: number(16), precision, map };
        let sizes = (flat.width < 1 << 20) && (flat.count < 1 << 40);
        if !sizes || flat.map.len() < flat.values_at() + flat.count * flat.row_bytes() {
            return Err(damaged("it is cut off"));
        }
        Ok(flat)
    }

    /// The numbers of the rows, in their order.
    pub fn numbers(&self) -> &[u64] {
        bytemuck::cast_slice(&self.map[HEADER..HEADER + 8 * self.count])
    }

    /// The values of a row.
    pub fn row(&self, row: usize) -> Vec<f32> {
        let bytes = self.row_at(row);
        match self.precision {
            Precision::F16 => bytemuck::cast_slice::<u8, f16>(bytes).to_f32_vec(),
            Precision::Int8 => {
                let scale = self.scales()[row];
                bytes.iter().map(|value| f32::from(*value as i8) * scale).collect()
            }
        }
    }

    fn scales(&self) -> &[f32] {
        let at = padded(HEADER + 8 * self.count);
        bytemuck::cast_slice(&self.map[at..at + 4 * self.count])
    }

    fn row_bytes(&self) -> usize {
        match self.precision {
            Precision::F16 => 2 * self.width,
            Precision::Int8 => self.width,
        }
    }

    fn values_at(&self) -> usize {
        let after_numbers = padded(HEADER + 8 * self.count);
        match self.precision {
            Precision::F16 => after_numbers,
            Precision::Int8 => padded(after_numbers + 4 * self.count),
        }
    }

    fn row_at(&self, row: usize) -> &[u8] {
        let at = self.values_at() + row * self.row_bytes();
        &self.map[at..at + self.row_bytes()]
    }

    /// The best of some rows.
    fn search_rows(
        &self,
        query: &Query,
        rows: std::ops::Range<usize>,
        k: usize,
        keep: &(dyn Fn(u64) -> bool + Sync),
    ) -> Best {
        let (numbers, mut best) = (self.numbers(), Best::new(k));
        let mut widened = vec![0.0f32; self.width];
        for row in rows {
            let bytes = self.row_at(row);
            let score = match self.precision {
                Precision::F16 => {
                    bytemuck::cast_slice::<u8, f16>(bytes).convert_to_f32_slice(&mut widened);
                    f32::dot(&widened, query.values).expect("the lengths are equal") as f32
                }
                Precision::Int8 => {
                    let values = bytemuck::cast_slice::<u8, i8>(bytes);
                    let dot = i8::dot(values, &query.whole).expect("the lengths are equal") as f32;
                    dot * query.scale * self.scales()[row]
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
        self.width
    }

    fn len(&self) -> usize {
        self.count
    }

    fn search(&self, query: &[f32], k: usize, keep: &(dyn Fn(u64) -> bool + Sync)) -> Vec<Near> {
        assert_eq!(query.len(), self.width, "a query has the length of the vectors");
        let query = Query { values: query, whole: whole(query), scale: scale(query) };
        let blocks = (0..self.count).into_par_iter().step_by(BLOCK);
        let best = blocks
            .map(|start| {
                let rows = start..(start + BLOCK).min(self.count);
                self.search_rows(&query, rows, k, keep)
            })
            .reduce(|| Best::new(k), Best::merge);
        best.sorted()
    }
}

struct Query<'a> {
    values: &'a [f32],
    whole: Vec<i8>,
    scale: f32,
}

/// The best so far, the worst of them on top.
struct Best {
    k: usize,
    heap: BinaryHeap<Worst>,
}

struct Worst(Near);

impl Best {
    fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::with_capacity(k.min(BLOCK) + 1) }
    }

    fn would_take(&self, score: f32) -> bool {
        self.heap.len() < self.k || self.heap.peek().is_some_and(|worst| score >= worst.0.score)
    }

    fn take(&mut self, near: Near) {
        self.heap.push(Worst(near));
        if self.heap.len() > self.k {
            self.heap.pop();
        }
    }

    fn merge(mut self, other: Self) -> Self {
        other.heap.into_iter().for_each(|near| self.take(near.0));
        self
    }

    fn sorted(self) -> Vec<Near> {
        self.heap.into_sorted_vec().into_iter().map(|worst| worst.0).collect()
    }
}

impl Ord for Worst {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = other.0.score.total_cmp(&self.0.score);
        by_score.then_with(|| self.0.number.cmp(&other.0.number))
    }
}

impl PartialOrd for Worst {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Worst {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Worst {}

/// What a whole number of a vector stands for.
fn scale(row: &[f32]) -> f32 {
    row.iter().fold(0.0f32, |most, value| most.max(value.abs())) / 127.0
}

fn whole(row: &[f32]) -> Vec<i8> {
    let scale = scale(row);
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    row.iter().map(|value| (value * inverse).round() as i8).collect()
}

fn padded(at: usize) -> usize {
    at.next_multiple_of(HEADER)
}

struct Padded<W> {
    out: W,
    at: usize,
}

impl<W: Write> Padded<W> {
    fn add(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.at += bytes.len();
        self.out.write_all(bytes)
    }

    fn pad(&mut self) -> std::io::Result<()> {
        let zeros = [0; HEADER];
        let missing = padded(self.at) - self.at;
        self.add(&zeros[..missing])
    }
}
