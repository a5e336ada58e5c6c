//! What can be odd about a table.

use mmrag_core::Table;

/// What is odd about a table, in words; it can be used as it is.
pub(crate) fn irregularities<'t>(
    id: &'t str,
    table: &'t Table,
) -> impl Iterator<Item = String> + 't {
    let width = table.header.len();
    let ragged = move |(i, row): (usize, &Vec<String>)| {
        let n_cells = row.len();
        (n_cells != width)
            .then(|| format!("table {id}: row {} has {n_cells} cells under {width} columns", i + 1))
    };
    table.rows.iter().enumerate().filter_map(ragged)
}
