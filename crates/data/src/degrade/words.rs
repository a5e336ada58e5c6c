//! Worse texts and tables.

use mmrag_core::Table;

use crate::atlas::draw::Draw;

/// The share of letters and digits that is misread at strength 1.
const MISREAD: f64 = 0.3;

/// What a scanner takes for what.
const ALIKE: [(char, &str); 26] = [
    ('0', "O"),
    ('1', "l"),
    ('2', "Z"),
    ('5', "S"),
    ('6', "b"),
    ('8', "B"),
    ('9', "g"),
    ('O', "0"),
    ('l', "1"),
    ('I', "l"),
    ('S', "5"),
    ('B', "8"),
    ('Z', "2"),
    ('a', "o"),
    ('c', "e"),
    ('e', "c"),
    ('h', "b"),
    ('i', "l"),
    ('m', "rn"),
    ('n', "u"),
    ('o', "0"),
    ('q', "g"),
    ('t', "f"),
    ('u', "v"),
    ('v', "u"),
    ('w', "vv"),
];

/// The text as a poor scan would have it: some letters and digits taken for others alike, left out
/// or followed by a speck.
pub(super) fn misread(text: &str, strength: f64, draw: &mut Draw) -> String {
    let mut read = String::with_capacity(text.len());
    for c in text.chars() {
        // Drawn for every letter, so that a stronger noise misreads the same ones and more.
        let (chance, how) = (draw.unit(), draw.below(10));
        if !c.is_alphanumeric() || chance >= MISREAD * strength {
            read.push(c);
            continue;
        }
        let alike = ALIKE.iter().find(|(known, _)| *known == c).map(|(_, alike)| *alike);
        match (how, alike) {
            (0, _) => {}
            (1, _) => read.extend([c, '.']),
            (_, Some(alike)) => read.push_str(alike),
            (_, None) => read.push('~'),
        }
    }
    read
}

/// The table with its cells misread; the header too.
pub(super) fn misread_cells(table: &Table, strength: f64, draw: &mut Draw) -> Table {
    let mut row = |cells: &Vec<String>| -> Vec<String> {
        cells.iter().map(|cell| misread(cell, strength, draw)).collect()
    };
    Table {
        name: table.name.clone(),
        header: row(&table.header),
        rows: table.rows.iter().map(row).collect(),
    }
}

/// The table with this share of its cells moved to another row of their column.
pub(super) fn shuffled(table: &Table, share: f64, draw: &mut Draw) -> Table {
    let mut shuffled = table.clone();
    let columns = table.rows.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns {
        let has = |row: &usize| table.rows[*row].len() > column;
        let mut chosen: Vec<usize> = (0..table.rows.len()).filter(has).collect();
        chosen.retain(|_| draw.chance(share));
        draw.shuffle(&mut chosen);
        for (nth, &row) in chosen.iter().enumerate() {
            let from = chosen[(nth + 1) % chosen.len()];
            shuffled.rows[row][column].clone_from(&table.rows[from][column]);
        }
    }
    shuffled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_strength_misreads_more() {
        let text = "The beetle lives in the forest of Olm since 1905. ".repeat(40);
        let kept = |strength: f64| {
            let read = misread(&text, strength, &mut Draw::new("test", &[5]));
            read.matches("forest").count()
        };
        assert_eq!(misread(&text, 0.0, &mut Draw::new("test", &[])), text);
        assert!(kept(0.1) > kept(0.4) && kept(0.4) > kept(1.0), "{} {}", kept(0.1), kept(1.0));
    }

    #[test]
    fn shuffled_cells_stay_in_their_column() {
        let cell = |text: &str| text.to_owned();
        let rows = (0..8).map(|i| vec![format!("name{i}"), format!("{i}")]).collect();
        let table = Table { name: cell(""), header: vec![cell("Name"), cell("No")], rows };
        let after = shuffled(&table, 1.0, &mut Draw::new("test", &[1]));
        assert_eq!(after.header, table.header);
        for column in 0..2 {
            let sorted = |table: &Table| {
                let mut cells: Vec<String> =
                    table.rows.iter().map(|row| row[column].clone()).collect();
                cells.sort();
                cells
            };
            assert_eq!(sorted(&after), sorted(&table));
        }
        assert!(after.rows.iter().zip(&table.rows).all(|(a, b)| a[0] != b[0] && a[1] != b[1]));
        // Ragged rows are no trouble.
        let ragged = Table { rows: vec![vec![], vec![cell("x")]], ..table };
        assert_eq!(shuffled(&ragged, 1.0, &mut Draw::new("test", &[1])).rows, ragged.rows);
    }
}
