//! Workbooks.

use std::path::Path;

use calamine::{Data, Dimensions, Range, Reader as _, open_workbook_auto};
use mmrag_core::Origin;

use crate::piece::{Options, ReadError, Reading, title_of};
use crate::table;

/// A sheet of more cells is left out: a file of a few bytes may claim billions.
const MOST_CELLS: usize = 5_000_000;

pub(crate) fn read(path: &Path, options: &Options) -> Result<Reading, ReadError> {
    let failed = |error: calamine::Error| ReadError::new(format!("the workbook: {error}"));
    let mut book = open_workbook_auto(path).map_err(failed)?;
    let mut reading = Reading::default();
    for sheet in book.sheet_names() {
        let range = match book.worksheet_range(&sheet) {
            Ok(range) => range,
            Err(error) => {
                reading.notes.push(format!("sheet {sheet}: {error}"));
                continue;
            }
        };
        let (height, width) = range.get_size();
        if height.saturating_mul(width) > MOST_CELLS {
            reading.notes.push(format!("sheet {sheet} has {height} x {width} cells"));
            continue;
        }
        let merged = merged(&mut book, &sheet);
        let origin = Origin { sheet: Some(sheet.clone()), ..Origin::default() };
        let grid = grid(&range, &merged);
        reading.pieces.extend(table::pieces(&title_of(path), &sheet, grid, &origin, options));
    }
    if reading.pieces.is_empty() && !reading.notes.is_empty() {
        return Err(ReadError::new(reading.notes.join("; ")));
    }
    Ok(reading)
}

/// Cells that are one: of XLSX; other formats do not tell.
fn merged<R: std::io::Read + std::io::Seek>(
    book: &mut calamine::Sheets<R>,
    sheet: &str,
) -> Vec<Dimensions> {
    let calamine::Sheets::Xlsx(book) = book else { return Vec::new() };
    book.merge_cells_by_sheet_name(sheet).unwrap_or_default()
}

/// The cells' texts. A merged cell says what it says in each place that it covers.
fn grid(range: &Range<Data>, merged: &[Dimensions]) -> Vec<Vec<String>> {
    let mut grid: Vec<Vec<String>> =
        range.rows().map(|row| row.iter().map(shown).collect()).collect();
    let Some((top, left)) = range.start() else { return grid };
    for area in merged {
        let (Some(row), Some(column)) =
            (area.start.0.checked_sub(top), area.start.1.checked_sub(left))
        else {
            continue;
        };
        let cell = grid.get(row as usize).and_then(|cells| cells.get(column as usize));
        let Some(cell) = cell.cloned() else { continue };
        let rows = grid.iter_mut().take((area.end.0 - top) as usize + 1).skip(row as usize);
        for cells in rows {
            let last = (area.end.1 - left) as usize + 1;
            cells.iter_mut().take(last).skip(column as usize).for_each(|c| c.clone_from(&cell));
        }
    }
    grid
}

fn shown(cell: &Data) -> String {
    match cell {
        Data::Float(number) if number.fract() == 0.0 && number.abs() < 1e15 => {
            format!("{number:.0}")
        }
        Data::DateTime(time) if time.is_datetime() => {
            let (year, month, day, hour, minute, second, _) = time.to_ymd_hms_milli();
            let date = format!("{year:04}-{month:02}-{day:02}");
            if (hour, minute, second) == (0, 0, 0) {
                date
            } else {
                format!("{date} {hour:02}:{minute:02}:{second:02}")
            }
        }
        other => other.to_string().trim().to_owned(),
    }
}
