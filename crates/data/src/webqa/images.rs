//! `imgs.tsv`: a row a picture, `image_id <TAB> base64 <LF>`, tens of gigabytes in all.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mmrag_core::{Packed, Packing};
use mmrag_map::FileMap;

use crate::{DataError, Place, Problem};

const ROWS: &str = "imgs.tsv";
const BY_NUMBER: &str = "imgs.lineidx";
const BY_ID: &str = "imgs.lineidx.new";
/// The row of a picture in `imgs.tsv` is its id modulo this.
const ROW_RULE: u64 = 10_000_000;
/// An id and its tab take no more bytes.
const LONGEST_ID: usize = 21;

/// The pictures of a folder, mapped. Finding one touches a page of the map.
#[derive(Debug)]
pub struct Images {
    file: PathBuf,
    map: FileMap,
    index_file: PathBuf,
    index: Index,
    /// Where rows begin, ascending.
    starts: Vec<u64>,
}

/// Where the row of a picture begins.
#[derive(Debug)]
enum Index {
    /// One offset a line; the line of a picture follows from its id. Nothing where a line is
    /// broken.
    ByNumber(Vec<Option<u64>>),
    /// One id and offset a line.
    ById(HashMap<u64, Row>),
}

#[derive(Clone, Copy, Debug)]
struct Row {
    start: u64,
    line: usize,
}

/// A row that the index names.
#[derive(Clone, Debug)]
pub struct NamedRow {
    /// The line of the index.
    pub place: Place,
    /// The picture's id and where it lies, or what is wrong.
    pub found: Result<(u64, Packed), String>,
}

impl Images {
    /// Whether a folder has `imgs.tsv`.
    pub fn are_in(dir: &Path) -> bool {
        dir.join(ROWS).is_file()
    }

    /// Maps `imgs.tsv` of a folder and reads its index: `imgs.lineidx.new` if there is one, else
    /// `imgs.lineidx`. What is wrong with lines of the index is added to the problems.
    ///
    /// # Errors
    ///
    /// When a file is missing or cannot be read.
    pub fn open(dir: &Path, problems: &mut Vec<Problem>) -> Result<Self, DataError> {
        let file = dir.join(ROWS);
        if !file.is_file() {
            return Err(DataError::Missing { dir: dir.to_owned(), name: ROWS.to_owned() });
        }
        let map = FileMap::open(&file)
            .map_err(|error| DataError::File { path: file.clone(), source: error.source })?;
        map.expect_random();
        let by_id = dir.join(BY_ID);
        let (index_file, is_by_id) =
            if by_id.is_file() { (by_id, true) } else { (dir.join(BY_NUMBER), false) };
        if !index_file.is_file() {
            return Err(DataError::Missing { dir: dir.to_owned(), name: BY_NUMBER.to_owned() });
        }
        let bytes = fs::read(&index_file)
            .map_err(|source| DataError::File { path: index_file.clone(), source })?;
        let mut report = |line: usize, what: String| {
            problems.push(Problem { file: index_file.clone(), line, what });
        };
        let index = if is_by_id {
            Index::ById(ids(&bytes, &mut report))
        } else {
            Index::ByNumber(numbers(&bytes, &mut report))
        };
        let mut starts: Vec<u64> = match &index {
            Index::ByNumber(starts) => starts.iter().copied().flatten().collect(),
            Index::ById(rows) => rows.values().map(|row| row.start).collect(),
        };
        starts.sort_unstable();
        starts.dedup();
        Ok(Self { file, map, index_file, index, starts })
    }

    /// How many pictures the index names.
    pub fn len(&self) -> usize {
        match &self.index {
            Index::ByNumber(starts) => starts.iter().flatten().count(),
            Index::ById(rows) => rows.len(),
        }
    }

    /// Whether the index names no picture.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where a picture lies.
    ///
    /// # Errors
    ///
    /// When the index has no line for it, or the row there is another picture's or none at all; in
    /// words.
    pub fn find(&self, id: u64) -> Result<Packed, String> {
        let row = self
            .row(id)
            .ok_or_else(|| format!("picture {id} has no line in {}", self.index_file.display()))?;
        match self.packed(row.start)? {
            (found, packed) if found == id => Ok(packed),
            (found, _) => Err(format!("the row of picture {id} is that of {found}")),
        }
    }

    /// The index.
    pub(super) fn index_file(&self) -> &Path {
        &self.index_file
    }

    /// The line of the index that names a picture.
    pub(super) fn line(&self, id: u64) -> Option<usize> {
        Some(self.row(id)?.line)
    }

    /// Every row that the index names, by its lines.
    pub fn rows(&self) -> Vec<NamedRow> {
        let file = Arc::new(self.index_file.clone());
        let row = |line: usize, start: u64| NamedRow {
            place: Place { file: file.clone(), line },
            found: self.packed(start),
        };
        match &self.index {
            Index::ByNumber(starts) => starts
                .iter()
                .enumerate()
                .filter_map(|(i, start)| Some(row(i + 1, (*start)?)))
                .collect(),
            Index::ById(rows) => {
                let mut rows: Vec<Row> = rows.values().copied().collect();
                rows.sort_unstable_by_key(|row| row.line);
                rows.into_iter().map(|Row { start, line }| row(line, start)).collect()
            }
        }
    }

    /// The encoded bytes (JPEG, …) of a picture that [`Self::find`] found, read through the map,
    /// whose pages are then given back.
    ///
    /// # Errors
    ///
    /// When it cannot be unpacked; in words.
    pub fn unpack(&self, packed: &Packed) -> Result<Vec<u8>, String> {
        let range = packed.start as usize..packed.range().end as usize;
        let bytes = self.map.get(range.clone()).ok_or("the row ends behind the file")?;
        let unpacked = packed.unpack(bytes).map(std::borrow::Cow::into_owned);
        self.map.release(range);
        unpacked.map_err(|error| error.what)
    }

    /// The first bytes of a picture, about so many.
    pub(super) fn beginning(&self, packed: &Packed, most: u64) -> Result<Vec<u8>, String> {
        // Whole groups of base64, so that none is cut.
        let length = packed.length.min(most / 4 * 4);
        self.unpack(&Packed { length, ..packed.clone() })
    }

    fn row(&self, id: u64) -> Option<Row> {
        match &self.index {
            Index::ByNumber(starts) => {
                let place = usize::try_from(id % ROW_RULE).ok()?;
                Some(Row { start: (*starts.get(place)?)?, line: place + 1 })
            }
            Index::ById(rows) => rows.get(&id).copied(),
        }
    }

    /// The id of the row that begins at an offset, and where its picture lies.
    fn packed(&self, start: u64) -> Result<(u64, Packed), String> {
        let next = self.starts.partition_point(|other| *other <= start);
        let end = self.starts.get(next).copied().unwrap_or(self.map.len() as u64);
        let end = end.min(self.map.len() as u64);
        let row = usize::try_from(start)
            .ok()
            .and_then(|start| self.map.get(start..end as usize))
            .ok_or_else(|| {
            format!("byte {start} is behind the end of {}", self.file.display())
        })?;
        let head = &row[..row.len().min(LONGEST_ID)];
        let id = head
            .iter()
            .position(|byte| *byte == b'\t')
            .and_then(|tab| std::str::from_utf8(&head[..tab]).ok()?.parse().ok().zip(Some(tab)));
        let Some((id, tab)) = id else {
            return Err(format!(
                "no row of a picture begins at byte {start} of {}",
                self.file.display()
            ));
        };
        let tab = tab as u64 + 1;
        let start = start + tab;
        let packing = Packing::Base64Line;
        Ok((id, Packed { file: self.file.clone(), start, length: end - start, packing }))
    }
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    lines.map(|(i, line)| (i + 1, line.trim_ascii()))
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// The offsets of `imgs.lineidx`, a line each.
fn numbers(bytes: &[u8], report: &mut impl FnMut(usize, String)) -> Vec<Option<u64>> {
    let mut starts = Vec::new();
    let n_lines = lines(bytes).filter(|(_, line)| !line.is_empty()).map(|(i, _)| i).last();
    for (line, text) in lines(bytes).take(n_lines.unwrap_or(0)) {
        let start = number(text);
        if start.is_none() {
            report(line, format!("{:?} is no offset", String::from_utf8_lossy(text)));
        }
        starts.push(start);
    }
    starts
}

/// The ids and offsets of `imgs.lineidx.new`.
fn ids(bytes: &[u8], report: &mut impl FnMut(usize, String)) -> HashMap<u64, Row> {
    let mut rows = HashMap::new();
    for (line, text) in lines(bytes).filter(|(_, text)| !text.is_empty()) {
        let tab = text.iter().position(|byte| *byte == b'\t');
        let parts = tab.and_then(|tab| number(&text[..tab]).zip(number(&text[tab + 1..])));
        let Some((id, start)) = parts else {
            report(line, format!("{:?} is no id and offset", String::from_utf8_lossy(text)));
            continue;
        };
        if rows.contains_key(&id) {
            report(line, format!("picture {id} stands in an earlier line too"));
            continue;
        }
        rows.insert(id, Row { start, line });
    }
    rows
}
