//! The questions on the page, with filters.

use rayon::prelude::*;

use super::examples::{ReportExample, fold};
use super::filters;

/// The filters, then each question as a fold.
pub(super) fn section(examples: &[ReportExample]) -> String {
    let rows = filters::rows(examples);
    let controls: Vec<String> = rows.iter().map(filters::Filters::controls).collect();
    let folds: Vec<String> = examples
        .par_iter()
        .enumerate()
        .map(|(place, shown)| {
            let classes: Vec<String> = rows.iter().map(|row| row.classes(place)).collect();
            fold(shown, place, &classes.join(" "))
        })
        .collect();
    format!("<div class=\"controls\">{}</div>{}", controls.concat(), folds.concat())
}
