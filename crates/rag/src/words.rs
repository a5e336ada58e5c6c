//! The words of a document: what is searched, and how a text is cut into words.

use mmrag_core::{Content, Document};
use tantivy::tokenizer::{
    AsciiFoldingFilter, LowerCaser, RemoveLongFilter, SimpleTokenizer, TextAnalyzer, TokenStream,
};

/// Words longer than this many bytes are not searched for: they are no words.
const LONGEST_WORD: usize = 40;

/// What of a document is searched: its title (of a picture, the caption), then its text or the
/// table's name, header and cells. What a picture shows is not in it.
pub fn searched_text(document: &Document) -> String {
    let mut text = document.title.clone();
    let mut add = |piece: &str| {
        text.push('\n');
        text.push_str(piece);
    };
    match &document.content {
        Content::Text(body) => add(body),
        Content::Table(table) => {
            add(&table.name);
            table.header.iter().chain(table.rows.iter().flatten()).for_each(|cell| add(cell));
        }
        Content::Image(_) => {}
    }
    text
}

/// How texts are cut into words: at everything that is no letter or digit, in lower case, without
/// accents. No stemming and no stop words, so that the language of the collection does not matter.
pub(crate) fn analyzer() -> TextAnalyzer {
    TextAnalyzer::builder(SimpleTokenizer::default())
        .filter(RemoveLongFilter::limit(LONGEST_WORD))
        .filter(LowerCaser)
        .filter(AsciiFoldingFilter)
        .build()
}

/// The words of `text`, in order.
pub(crate) fn words(analyzer: &mut TextAnalyzer, text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut stream = analyzer.token_stream(text);
    while let Some(token) = stream.next() {
        words.push(token.text.clone());
    }
    words
}

/// The different words of `text`, in order of their first appearance.
pub(crate) fn distinct_words(analyzer: &mut TextAnalyzer, text: &str) -> Vec<String> {
    let mut distinct: Vec<String> = Vec::new();
    for word in words(analyzer, text) {
        if !distinct.contains(&word) {
            distinct.push(word);
        }
    }
    distinct
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_lower_case_without_accents() {
        let found = words(&mut analyzer(), "Crème brûlée, 12-inch [2] <rank>");
        assert_eq!(found, ["creme", "brulee", "12", "inch", "2", "rank"]);
    }

    #[test]
    fn a_word_asked_twice_counts_once() {
        assert_eq!(distinct_words(&mut analyzer(), "who is WHO"), ["who", "is"]);
    }
}
