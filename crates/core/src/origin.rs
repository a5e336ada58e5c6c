//! Where a document was read.

use serde::{Deserialize, Serialize};

/// The place a document was read from: the file, and where in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// The file, or the name it was given by who added it.
    pub source: String,
    /// The headings above it, the outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub section: Vec<String>,
    /// The page, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<usize>,
    /// Where on the page or picture: left, top, right and bottom edge as shares of its width and
    /// height, in [0, 1].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boxes: Vec<[f32; 4]>,
    /// The first and the last row of a table or line of a file, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<[usize; 2]>,
    /// The name of the sheet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sheet: Option<String>,
    /// Of a text on a page: where its words stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<WordBox>,
    /// Of a document of a data set: which one, and what it is called there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<DatasetOrigin>,
}

/// A document's place in a data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatasetOrigin {
    /// The data set's form, such as `webqa`.
    pub name: String,
    /// The document's id in its files.
    pub id: String,
    /// The parts, such as `dev`, whose questions come with it, of those that were read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub splits: Vec<String>,
}

/// Where a word stands on its page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WordBox {
    /// Where it begins and ends in the text, in characters.
    pub span: [usize; 2],
    /// Left, top, right and bottom edge as shares of the page, in [0, 1].
    pub area: [f32; 4],
}

impl Origin {
    /// An origin that is a whole file.
    pub fn of(source: impl Into<String>) -> Self {
        Self { source: source.into(), ..Self::default() }
    }

    /// Where a part of the text stands on its page: a box for each line it runs over. `span` is
    /// where it begins and ends, in characters. Of a word that is cut, the share of its letters.
    pub fn boxes_of(&self, span: [usize; 2]) -> Vec<[f32; 4]> {
        let mut boxes: Vec<[f32; 4]> = Vec::new();
        for word in &self.words {
            let [begins, ends] = word.span;
            let (from, to) = (span[0].max(begins), span[1].min(ends));
            if from >= to {
                continue;
            }
            let [left, top, right, bottom] = word.area;
            let letter = (right - left) / (ends - begins) as f32;
            let left = left + letter * (from - begins) as f32;
            let right = right - letter * (ends - to) as f32;
            match boxes.last_mut() {
                // The same line goes on.
                Some(last) if top < last[3] && bottom > last[1] && left >= last[0] => {
                    *last = [last[0], last[1].min(top), last[2].max(right), last[3].max(bottom)];
                }
                _ => boxes.push([left, top, right, bottom]),
            }
        }
        boxes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_text_has_a_box_for_each_line() {
        let word = |span, area| WordBox { span, area };
        let words = vec![
            word([0, 4], [0.1, 0.1, 0.5, 0.2]),
            word([5, 7], [0.6, 0.1, 0.8, 0.2]),
            word([8, 10], [0.1, 0.3, 0.3, 0.4]),
        ];
        let origin = Origin { words, ..Origin::of("x") };
        let close = |a: &[[f32; 4]], b: &[[f32; 4]]| {
            assert_eq!(a.len(), b.len());
            let pairs = a.iter().flatten().zip(b.iter().flatten());
            pairs.for_each(|(x, y)| assert!((x - y).abs() < 1e-6, "{a:?} {b:?}"));
        };
        close(&origin.boxes_of([2, 9]), &[[0.3, 0.1, 0.8, 0.2], [0.1, 0.3, 0.2, 0.4]]);
        close(&origin.boxes_of([4, 5]), &[]);
    }
}
