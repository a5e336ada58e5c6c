//! Where a cited picture helped: asked for, and shown in a terminal.

use clap::ValueEnum;
use mmrag_rag::explanation::{Attribution, Told};
use serde::{Deserialize, Serialize};

/// Which part of a reply is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ToldName {
    /// The answer, without its citations
    Answer,
    /// The steps of the reasoning that name the picture
    Reasoning,
}

impl From<ToldName> for Told {
    fn from(name: ToldName) -> Self {
        match name {
            ToldName::Answer => Self::Answer,
            ToldName::Reasoning => Self::Reasoning,
        }
    }
}

/// More rows or columns of patches than these are shown in a terminal as these.
const MOST: usize = 24;

/// From nothing to all.
const SHADES: [&str; 5] = ["··", "░░", "▒▒", "▓▓", "██"];

/// An attribution as text: the picture's patches, darker where they add more. The patches of a fine
/// grid are shown several as one, as dark as the strongest of them.
pub(crate) fn shown(found: &Attribution) -> String {
    let support = found.support();
    let most = support.iter().copied().fold(0.0, f64::max);
    let [rows, columns] = found.grid;
    let step = rows.max(columns).div_ceil(MOST).max(1);
    let shade = |row: usize, column: usize| {
        let ys = row..(row + step).min(rows);
        let strongest = ys
            .flat_map(|y| (column..(column + step).min(columns)).map(move |x| y * columns + x))
            .map(|patch| support[patch])
            .fold(0.0, f64::max);
        let level = if most > 0.0 { strongest / most * (SHADES.len() - 1) as f64 } else { 0.0 };
        SHADES[level.round() as usize]
    };
    let mut lines = vec![format!(
        "looks at  [{}], {} of {}",
        found.label,
        found.method.title(),
        found.told.title()
    )];
    for row in (0..rows).step_by(step) {
        let line: String = (0..columns).step_by(step).map(|column| shade(row, column)).collect();
        lines.push(format!("  {line}"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use mmrag_core::{DocumentId, PatchShares};

    use super::*;

    fn text(rows: usize, columns: usize, values: Vec<f32>) -> String {
        let shares = PatchShares { rows, columns, values };
        shown(&Attribution::of(2, &DocumentId::new("x"), Told::Answer, &shares))
    }

    #[test]
    fn stronger_patches_are_darker() {
        assert_eq!(
            text(2, 2, vec![1.0, 0.5, 0.0, -1.0]),
            "looks at  [2], gradient × input of the answer\n  ██▒▒\n  ····"
        );
    }

    #[test]
    fn a_fine_grid_is_shown_coarser() {
        let mut values = vec![0.0; 30 * 50];
        values[50 + 49] = 1.0;
        let lines: Vec<String> = text(30, 50, values).lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 1 + 10);
        assert_eq!(lines[1].chars().count(), 2 + 2 * 17);
        assert!(lines[1].ends_with("··██"));
    }
}
