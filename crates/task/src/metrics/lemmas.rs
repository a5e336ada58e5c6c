//! The lemmas of English words, by a table that lies in this crate.

use std::collections::HashMap;
use std::sync::LazyLock;

use flate2::read::GzDecoder;

/// What the table is, with its version: a figure made with it is reported with this name.
///
/// Its origin and licences stand beside it, in `data/README.md`.
pub const ENGLISH_LEMMAS: &str = "spacy-lookups-data 0.3.2 en_lemma_lookup";

static TABLE: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    let file = include_bytes!("../../data/en_lemma_lookup.json.gz");
    serde_json::from_reader(GzDecoder::new(&file[..])).expect("the table lies in the crate whole")
});

/// Words with their lemmas, of words that differ from them. Read once, when first asked for.
///
/// ```
/// use mmrag_task::metrics::english_lemmas;
/// assert_eq!(english_lemmas()["geese"], "goose");
/// assert!(!english_lemmas().contains_key("goose"));
/// ```
pub fn english_lemmas() -> &'static HashMap<String, String> {
    &TABLE
}

#[cfg(test)]
mod tests {
    use super::english_lemmas;

    #[test]
    fn the_table_is_whole() {
        let table = english_lemmas();
        assert_eq!(table.len(), 41_582);
        let check = |word: &str, lemma: &str| assert_eq!(table[word], lemma);
        check("were", "be");
        check("umbrellas", "umbrella");
        check("zygotes", "zygote");
        // Words in which other versions of the table differ.
        check("first", "\u{feff}1");
        check("singing", "singe");
    }
}
