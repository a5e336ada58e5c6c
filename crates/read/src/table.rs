//! Tables with separated values, and cutting long tables into several that keep their header.

use std::path::Path;

use mmrag_core::{Content, Origin, Table};

use crate::piece::{Options, Piece, ReadError, Reading, title_of};
use crate::text::decoded;

/// A piece of a long table has so many rows at most.
const MOST_ROWS: usize = 40;
const SEPARATORS: [char; 4] = [',', ';', '\t', '|'];

pub(crate) fn read(path: &Path, options: &Options) -> Result<Reading, ReadError> {
    let text = decoded(std::fs::read(path)?)?;
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator(&text) as u8)
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());
    let mut grid: Vec<Vec<String>> = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| ReadError::new(error.to_string()))?;
        grid.push(record.iter().map(|cell| cell.trim().to_owned()).collect());
    }
    let title = title_of(path);
    Ok(Reading::of(pieces(&title, "", grid, &Origin::default(), options)))
}

/// The separator that the first line has most of.
fn separator(text: &str) -> char {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let count = |separator: &char| line.matches(*separator).count();
    SEPARATORS.into_iter().rev().max_by_key(count).unwrap_or(',')
}

/// The pieces of a grid whose first row is its header. `origin` is where the grid stands.
pub(crate) fn pieces(
    title: &str,
    name: &str,
    grid: Vec<Vec<String>>,
    origin: &Origin,
    options: &Options,
) -> Vec<Piece> {
    let mut rows =
        grid.into_iter().enumerate().filter(|(_, row)| row.iter().any(|c| !c.is_empty()));
    let Some((_, header)) = rows.next() else { return Vec::new() };
    let rows: Vec<(usize, Vec<String>)> = rows.collect();
    let mut pieces = Vec::new();
    let mut start = 0;
    while start < rows.len() || (start == 0 && pieces.is_empty()) {
        let (mut end, mut chars) = (start, 0);
        while end < rows.len() && end - start < MOST_ROWS {
            chars += rows[end].1.iter().map(|cell| cell.chars().count() + 1).sum::<usize>();
            if chars > 2 * options.chunk_chars && end > start {
                break;
            }
            end += 1;
        }
        let part = &rows[start..end];
        let span = part.first().zip(part.last()).map(|(first, last)| [first.0 + 1, last.0 + 1]);
        let table = Table {
            name: name.to_owned(),
            header: header.clone(),
            rows: part.iter().map(|(_, row)| row.clone()).collect(),
        };
        pieces.push(Piece {
            name: None,
            title: title.to_owned(),
            content: Content::Table(table),
            origin: Origin { rows: span.or(Some([1, 1])), ..origin.clone() },
        });
        start = end.max(start + 1);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_are_found() {
        assert_eq!(separator("a;b;c\n1,2"), ';');
        assert_eq!(separator("a\tb"), '\t');
        assert_eq!(separator("alone"), ',');
    }

    #[test]
    fn long_tables_are_cut_between_rows_and_keep_their_header() {
        let grid: Vec<Vec<String>> =
            (0..100).map(|i| vec![format!("k{i}"), format!("v{i}")]).collect();
        let pieces = pieces("T", "", grid, &Origin::default(), &Options::default());
        let rows: Vec<_> = pieces.iter().map(|p| p.origin.rows.unwrap()).collect();
        assert_eq!(rows, [[2, 41], [42, 81], [82, 100]]);
        for piece in &pieces {
            let Content::Table(table) = &piece.content else { panic!("tables stay tables") };
            assert_eq!(table.header, ["k0", "v0"]);
        }
    }
}
