//! The span of a cited document that the answer or its reasoning repeats.

use mmrag_core::{Content, Document};
use mmrag_task::without_labels;

/// A span of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// The span as it stands in the document.
    pub text: String,
    /// Where it begins and ends, in characters of the text, of the cell or of the caption.
    pub span: [usize; 2],
    /// Of a table, the row and column of the cell.
    pub cell: Option<[usize; 2]>,
}

/// Words that alone are no quote.
const SMALL_WORDS: [&str; 24] = [
    "a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "has", "in", "is", "it", "its",
    "of", "on", "or", "that", "the", "this", "to", "was", "with",
];

/// The longest run of words in the document's text, in one cell of its table or in its caption
/// that one of `repeats` repeats: the answer first, then the steps that name the document. Case
/// and punctuation do not count; a run of only small words is no quote. Of equally long ones the
/// earliest text in `repeats` wins, then the earliest place in the document.
pub fn find_quote<S: AsRef<str>>(document: &Document, repeats: &[S]) -> Option<Quote> {
    let repeats: Vec<String> = repeats.iter().map(|text| without_labels(text.as_ref())).collect();
    let repeated: Vec<Vec<Word>> = repeats.iter().map(|text| words(text)).collect();
    let mut best: Option<(usize, Quote)> = None;
    for words_repeated in &repeated {
        for (cell, text) in places(document) {
            let Some((length, span)) = longest_run(&words(text), words_repeated) else { continue };
            if best.as_ref().is_none_or(|(longest, _)| length > *longest) {
                best = Some((length, quote(text, span, cell)));
            }
        }
    }
    best.map(|(_, quote)| quote)
}

/// The texts of a document that can be quoted, with the cell each stands in.
fn places(document: &Document) -> Vec<(Option<[usize; 2]>, &str)> {
    match &document.content {
        Content::Text(text) => vec![(None, text.as_str())],
        Content::Image(_) => vec![(None, document.title.as_str())],
        Content::Table(table) => {
            let cells = table.rows.iter().enumerate().flat_map(|(r, row)| {
                row.iter().enumerate().map(move |(c, cell)| (Some([r, c]), cell.as_str()))
            });
            cells.collect()
        }
    }
}

struct Word {
    /// In lower case.
    text: String,
    /// In bytes.
    start: usize,
    end: usize,
}

fn words(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    for (at, c) in text.char_indices().filter(|(_, c)| c.is_alphanumeric()) {
        match words.last_mut() {
            Some(word) if word.end == at => {
                word.text.extend(c.to_lowercase());
                word.end = at + c.len_utf8();
            }
            _ => {
                let text = c.to_lowercase().collect();
                words.push(Word { text, start: at, end: at + c.len_utf8() });
            }
        }
    }
    words
}

/// The longest run of words of `text` that stands in `repeated` and holds a word that is not
/// small: its length in words, and its bytes in the text.
fn longest_run(text: &[Word], repeated: &[Word]) -> Option<(usize, [usize; 2])> {
    let mut best: Option<(usize, [usize; 2])> = None;
    // runs[j]: length of the common run that ends at the current word of the text and word j - 1.
    let mut runs = vec![0usize; repeated.len() + 1];
    for (i, word) in text.iter().enumerate() {
        for j in (0..repeated.len()).rev() {
            runs[j + 1] = if word.text == repeated[j].text { runs[j] + 1 } else { 0 };
            let length = runs[j + 1];
            let run = &text[i + 1 - length..=i];
            let says_something = || run.iter().any(|w| !SMALL_WORDS.contains(&w.text.as_str()));
            if length > best.map_or(0, |(longest, _)| longest) && says_something() {
                best = Some((length, [run[0].start, word.end]));
            }
        }
    }
    best
}

fn quote(text: &str, [start, end]: [usize; 2], cell: Option<[usize; 2]>) -> Quote {
    let first = text[..start].chars().count();
    let span = [first, first + text[start..end].chars().count()];
    Quote { text: text[start..end].to_owned(), span, cell }
}

#[cfg(test)]
mod tests {
    use mmrag_core::{DocumentId, ImageSource, Table};

    use super::*;

    fn document(content: Content) -> Document {
        Document { id: DocumentId::new("d"), title: "Harbour of Olm".into(), content }
    }

    fn check(content: Content, repeats: &[&str], expected: Option<(&str, [usize; 2])>) {
        let found = find_quote(&document(content), repeats);
        assert_eq!(found.as_ref().map(|q| (q.text.as_str(), q.span)), expected);
    }

    #[test]
    fn the_longest_repeated_span_is_quoted() {
        let text = || Content::Text("Élan: the river Aru, 120 km long, ends in Olm.".into());
        check(text(), &["120 km"], Some(("120 km", [21, 27])));
        check(text(), &["Olm", "[1] The RIVER Aru ends."], Some(("the river Aru", [6, 19])));
        check(text(), &["Olm", "Aru"], Some(("Olm", [42, 45])));
        check(text(), &["in the end"], None);
        check(text(), &[""], None);
        check(text(), &[], None);
    }

    #[test]
    fn a_label_is_no_number_of_the_text() {
        check(Content::Text("It has 2 doors".into()), &["It is blue [2]"], None);
    }

    #[test]
    fn of_a_table_one_cell_is_quoted() {
        let row = |cells: &[&str]| cells.iter().map(ToString::to_string).collect();
        let table = Table {
            name: String::new(),
            header: row(&["City", "Mayor"]),
            rows: vec![row(&["Olm", "Ada Voss"]), row(&["Rin", "Ada"])],
        };
        let found = find_quote(&document(Content::Table(table)), &["Ada Voss"]).unwrap();
        assert_eq!((found.text.as_str(), found.cell), ("Ada Voss", Some([0, 1])));
    }

    #[test]
    fn of_a_picture_the_caption_is_quoted() {
        let picture = Content::Image(ImageSource::Path("missing.png".into()));
        check(picture, &["the harbour"], Some(("Harbour", [0, 7])));
    }
}
