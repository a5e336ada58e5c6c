//! Documents that tell another answer: what if the truth were otherwise?

use std::collections::HashMap;
use std::sync::Arc;

use mmrag_core::{Content, Document, Example};

use crate::atlas::draw::{Draw, digest};

/// A document that tells another answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Edited {
    /// The document as edited, under its own id.
    pub document: Document,
    /// What is right once it stands there.
    pub answer: String,
}

/// Other answers and pictures for questions, from other questions of their type.
pub struct Counterfactuals<'a> {
    by_kind: HashMap<&'a str, Vec<&'a Example>>,
    seed: u64,
}

impl<'a> Counterfactuals<'a> {
    /// What these examples can lend each other.
    pub fn new(examples: &'a [Example], seed: u64) -> Self {
        let mut by_kind: HashMap<&str, Vec<&Example>> = HashMap::new();
        for example in examples {
            by_kind.entry(&example.kind).or_default().push(example);
        }
        Self { by_kind, seed }
    }

    /// A gold text or table of the question with the answer's words replaced by another answer to
    /// a question of this type. None if the answer is no single one, is yes or no, stands word for
    /// word in no gold text or table or in several, or no other answer is of its form.
    pub fn words_of(&self, example: &Example) -> Option<Edited> {
        let answer = single(example)?;
        let others = self.others(example);
        let other = others.iter().filter_map(|other| single(other)).find(|other| {
            *other != answer
                && is_number(other) == is_number(answer)
                && example.candidates.iter().all(|d| replacing(d, other, "").is_none())
        })?;
        let mut edited = gold(example).filter_map(|d| replacing(d, answer, other));
        let document = edited.next().filter(|_| edited.next().is_none())?;
        Some(Edited { document, answer: other.to_owned() })
    }

    /// The gold picture of a question about one picture, with what another picture shows: one of
    /// which the same is asked, in the same words but for the name, and that has another answer.
    pub fn picture_of(&self, example: &Example) -> Option<Edited> {
        let of = |example: &'a Example| Some((only_picture(example)?, single_any(example)?));
        let (document, answer) = (only_picture(example)?, single_any(example)?);
        let others = self.others(example);
        let same_words = |other: &&&'a Example| skeleton(other) == skeleton(example);
        let donors = others.iter().filter(same_words).filter_map(|other| of(other));
        let (donor, other) = donors.into_iter().find(|(_, other)| *other != answer)?;
        let content = donor.content.clone();
        let document = Document { content, ..(**document).clone() };
        Some(Edited { document, answer: other.to_owned() })
    }

    /// The question over the edited document, with what is then right; words before pictures.
    pub fn of(&self, example: &Example) -> Option<Example> {
        let Edited { document, answer } =
            self.words_of(example).or_else(|| self.picture_of(example))?;
        let mut example = example.clone();
        let place = example.candidates.iter().position(|d| d.id == document.id)?;
        example.candidates[place] = Arc::new(document);
        example.gold.answers = vec![answer];
        Some(example)
    }

    /// The other questions of its type, those that ask the same of another name first, and else in
    /// an order that the seed and the question decide.
    fn others(&self, example: &Example) -> Vec<&'a Example> {
        let all = self.by_kind.get(example.kind.as_str()).map_or(&[][..], |all| all);
        let mut others: Vec<&Example> =
            all.iter().copied().filter(|other| other.question.id != example.question.id).collect();
        let name = digest(example.question.id.as_str(), &[]);
        Draw::new("counterfactual", &[self.seed, u64::from(name[0]) << 8 | u64::from(name[1])])
            .shuffle(&mut others);
        let asked = skeleton(example);
        others.sort_by_cached_key(|other| skeleton(other) != asked);
        others
    }
}

/// The document with every place where `words` stand as whole words, whatever their case, replaced
/// by `other`; none if they stand nowhere in its text or cells.
pub fn replacing(document: &Document, words: &str, other: &str) -> Option<Document> {
    let mut count = 0;
    let mut replace = |text: &str| {
        let (text, found) = replaced(text, words, other);
        count += found;
        text
    };
    let content = match &document.content {
        Content::Text(text) => Content::Text(replace(text)),
        Content::Table(table) => {
            let mut table = table.clone();
            table.rows.iter_mut().flatten().for_each(|cell| *cell = replace(cell));
            Content::Table(table)
        }
        Content::Image(_) => return None,
    };
    (count > 0).then(|| Document { content, ..document.clone() })
}

fn replaced(text: &str, words: &str, other: &str) -> (String, usize) {
    let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let (mut result, mut count, mut start) = (String::new(), 0, 0);
    let is_there = |at: usize| {
        let end = at + words.len();
        text.get(at..end).is_some_and(|found| found.eq_ignore_ascii_case(words))
            && !is_word(text[..at].chars().next_back())
            && !is_word(text[end..].chars().next())
    };
    let places = text.char_indices().map(|(at, _)| at);
    for at in places {
        if at >= start && !words.is_empty() && is_there(at) {
            result.push_str(&text[start..at]);
            result.push_str(other);
            start = at + words.len();
            count += 1;
        }
    }
    result.push_str(&text[start..]);
    (result, count)
}

fn gold(example: &Example) -> impl Iterator<Item = &Arc<Document>> {
    example.candidates.iter().filter(|d| example.gold.documents.contains(&d.id))
}

/// The only answer, if it is no yes or no.
fn single(example: &Example) -> Option<&str> {
    single_any(example).filter(|answer| !matches!(answer.to_lowercase().as_str(), "yes" | "no"))
}

fn single_any(example: &Example) -> Option<&str> {
    match &example.gold.answers[..] {
        [answer] => Some(answer),
        _ => None,
    }
}

fn only_picture(example: &Example) -> Option<&Arc<Document>> {
    let [id] = &example.gold.documents[..] else { return None };
    let is_it = |d: &&Arc<Document>| d.id == *id && matches!(d.content, Content::Image(_));
    example.candidates.iter().find(is_it)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | ','))
}

/// The question's words but for those with a capital, the first aside.
fn skeleton(example: &Example) -> Vec<String> {
    let words = example.question.text.split_whitespace().enumerate();
    let is_name = |(nth, word): &(usize, &str)| {
        *nth > 0 && word.chars().next().is_some_and(char::is_uppercase)
    };
    words.filter(|word| !is_name(word)).map(|(_, word)| word.to_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atlas::{AtlasOptions, NameSplit, example};

    #[test]
    fn whole_words_are_replaced_and_others_not() {
        let check = |text: &str, expected: &str, count: usize| {
            assert_eq!(replaced(text, "red", "blue"), (expected.to_owned(), count));
        };
        check("A red door, Red!", "A blue door, blue!", 2);
        check("A reddish shred", "A reddish shred", 0);
        check("é red", "é blue", 1);
        assert_eq!(replaced("x", "", "y"), ("x".to_owned(), 0));
    }

    #[test]
    fn edited_documents_tell_the_other_answer() {
        let options = AtlasOptions::default();
        let examples: Vec<Example> =
            (0..300).map(|index| example(4, NameSplit::Dev, index, &options)).collect();
        let counterfactuals = Counterfactuals::new(&examples, 1);
        let (mut words, mut pictures) = (0, 0);
        for example in &examples {
            if let Some(Edited { document, answer }) = counterfactuals.words_of(example) {
                words += 1;
                assert!(replacing(&document, &answer, "").is_some());
                assert!(replacing(&document, &example.gold.answers[0], "").is_none());
            }
            if let Some(Edited { document, answer }) = counterfactuals.picture_of(example) {
                pictures += 1;
                assert_ne!(answer, example.gold.answers[0]);
                assert!(example.candidates.iter().any(|d| d.id == document.id
                    && d.title == document.title
                    && d.content != document.content));
            }
            let edited = counterfactuals.of(example);
            assert_eq!(edited, counterfactuals.of(example));
        }
        assert!(words > 60 && pictures > 20, "{words} {pictures}");
    }
}
