//! Reasoning as steps: sentences, each with the documents it names.

use mmrag_core::DocumentId;
use mmrag_task::{Case, labels_in};
use serde::{Deserialize, Serialize};

/// One sentence of the reasoning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReasoningStep {
    /// The sentence, with the labels as written.
    pub text: String,
    /// The documents it names, each once, in order of mention.
    pub documents: Vec<DocumentId>,
}

/// Words before a full stop that end no sentence.
const ABBREVIATIONS: [&str; 11] =
    ["mr", "mrs", "ms", "dr", "st", "vs", "e.g", "i.e", "cf", "approx", "prof"];

/// The reasoning's sentences with the documents that the case's labels stand for. Labels that are
/// not shown name nothing.
pub fn reasoning_steps(think: &str, case: &Case) -> Vec<ReasoningStep> {
    sentences(think)
        .into_iter()
        .map(|text| {
            let mut documents: Vec<DocumentId> = Vec::new();
            for label in labels_in(text) {
                if let Some(document) = case.document(label)
                    && !documents.contains(&document.id)
                {
                    documents.push(document.id.clone());
                }
            }
            ReasoningStep { text: text.to_owned(), documents }
        })
        .collect()
}

/// Splits a text into sentences: after `.`, `!` or `?` (and closing quotes or brackets) before a
/// blank, and at line ends. Not after common abbreviations and single capital letters. No sentence
/// is empty; together they hold every non-blank character of the text.
///
/// ```
/// use mmrag_rag::explanation::sentences;
/// let found = sentences("[2] names J. Oro. It is 3.5 km away!\nSo: yes");
/// assert_eq!(found, ["[2] names J. Oro.", "It is 3.5 km away!", "So: yes"]);
/// ```
pub fn sentences(text: &str) -> Vec<&str> {
    let mut sentences = Vec::new();
    let mut start = 0;
    for (at, c) in text.char_indices() {
        let end = at + c.len_utf8();
        let is_end = c == '\n'
            || c.is_whitespace() && at > start && ends_sentence(text[start..at].trim_end());
        if is_end {
            sentences.push(text[start..at].trim());
            start = end;
        }
    }
    sentences.push(text[start..].trim());
    sentences.retain(|sentence| !sentence.is_empty());
    sentences
}

fn ends_sentence(text: &str) -> bool {
    let bare = text.trim_end_matches(['"', '\'', ')', '”', '’']);
    if bare.ends_with(['!', '?']) {
        return true;
    }
    let Some(before) = bare.strip_suffix('.') else { return false };
    let word = before.rsplit([' ', '\t', '(', '"']).next().unwrap_or(before);
    let is_initial = word.chars().count() == 1 && word.chars().all(char::is_uppercase);
    !is_initial && !ABBREVIATIONS.contains(&word.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mmrag_core::{Content, Document, Question, QuestionId};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sentences_end_where_a_reader_would_say() {
        let check = |text: &str, expected: &[&str]| assert_eq!(sentences(text), expected);
        check("", &[]);
        check(" \n ", &[]);
        check("One. Two", &["One.", "Two"]);
        check("He said \"no.\" Then [1].", &["He said \"no.\"", "Then [1]."]);
        check("Dr. Oro saw 1.5 m. Fine", &["Dr. Oro saw 1.5 m.", "Fine"]);
        check("a\n\nb. ", &["a", "b."]);
        check("Really?! Yes", &["Really?!", "Yes"]);
    }

    #[test]
    fn a_step_names_shown_documents_once() {
        let document = |id: &str| {
            Arc::new(Document {
                id: DocumentId::new(id),
                title: String::new(),
                content: Content::Text(String::new()),
            })
        };
        let case = Case {
            question: Question { id: QuestionId::new("q"), text: String::new(), images: vec![] },
            documents: vec![document("a"), document("b")],
        };
        let steps = reasoning_steps("[2] and [2] say so, with [1]. [7] does not. Done.", &case);
        let named: Vec<Vec<&str>> =
            steps.iter().map(|s| s.documents.iter().map(DocumentId::as_str).collect()).collect();
        assert_eq!(named, [vec!["b", "a"], vec![], vec![]]);
    }

    proptest! {
        #[test]
        fn no_character_is_lost(text in "[a-z.!? \n\"\\[\\]0-9A-Z…é]{0,60}") {
            let kept: String = sentences(&text).concat();
            let bare = |t: &str| t.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(bare(&kept), bare(&text));
        }
    }
}
