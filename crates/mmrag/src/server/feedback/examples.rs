//! Opinions as examples to train on.
//!
//! For the filter, a question comes with the documents that somebody judged, and gold are those that
//! help. For the ranker, a question whose right answer is known comes with all its candidates. They
//! are two sets of questions, because an example without an answer tells the ranker that there is
//! none.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What an opinion is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum About {
    /// What the filter said of a document.
    Verdict,
    /// That the answer cites a document.
    Citation,
    /// The answer.
    Answer,
}

/// A candidate of the question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Its id in the folder of examples.
    pub(crate) id: String,
    /// Whether the filter kept it.
    pub(crate) kept: bool,
}

/// An opinion with all that an example needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// Seconds since 1970.
    pub(crate) at: u64,
    /// The name of the key that gave it.
    pub(crate) by: String,
    /// The question's id in the history.
    pub(crate) asked: String,
    pub(crate) about: About,
    /// The document's id in the folder of examples.
    pub(crate) document: Option<String>,
    pub(crate) right: bool,
    /// The right answer, if somebody said it.
    pub(crate) answer: Option<String>,
    pub(crate) question: String,
    /// Pictures of the question, by their path in the folder of examples.
    pub(crate) images: Vec<String>,
    pub(crate) candidates: Vec<Seen>,
    /// What was answered.
    pub(crate) answered: String,
    /// Whether that was that there is no answer.
    pub(crate) abstained: bool,
}

/// Questions in the canonical form.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Examples {
    pub(crate) filter: Vec<Value>,
    pub(crate) rank: Vec<Value>,
}

/// What opinions come to; of two about one thing the later counts.
pub(crate) fn examples(opinions: &[Kept]) -> Examples {
    let mut by_question: BTreeMap<&str, Vec<&Kept>> = BTreeMap::new();
    for opinion in opinions {
        by_question.entry(&opinion.asked).or_default().push(opinion);
    }
    let mut all = Examples::default();
    for (asked, opinions) in by_question {
        let (judged, answers) = (judged(&opinions), answers(&opinions));
        let gold: Vec<&str> =
            judged.iter().filter(|(_, helps)| **helps).map(|(id, _)| *id).collect();
        let last = opinions[opinions.len() - 1];
        let question = |candidates: Vec<&str>| {
            let mut row = json!({
                "id": asked, "question": last.question, "candidates": candidates, "gold": gold,
            });
            if !last.images.is_empty() {
                row["images"] = json!(last.images);
            }
            row
        };
        if !judged.is_empty() {
            all.filter.push(question(judged.keys().copied().collect()));
        }
        if let Some(answers) = answers {
            let mut row = question(last.candidates.iter().map(|seen| seen.id.as_str()).collect());
            row["answers"] = json!(answers);
            all.rank.push(row);
        }
    }
    all
}

/// The documents that were judged, and whether each helps.
fn judged<'k>(opinions: &[&'k Kept]) -> BTreeMap<&'k str, bool> {
    let mut judged = BTreeMap::new();
    for opinion in opinions {
        let Some(document) = opinion.document.as_deref() else { continue };
        let kept = opinion.candidates.iter().any(|seen| seen.id == document && seen.kept);
        let helps = match opinion.about {
            // A right verdict helps if it kept, a wrong one if it did not.
            About::Verdict => opinion.right == kept,
            About::Citation => opinion.right,
            About::Answer => continue,
        };
        judged.insert(document, helps);
    }
    judged
}

/// The items of the right answer, none if there is no answer; nothing if it is not known.
fn answers(opinions: &[&Kept]) -> Option<Vec<String>> {
    let last = opinions.iter().rev().find(|opinion| opinion.about == About::Answer)?;
    match (last.right, &last.answer) {
        (true, _) if last.abstained => Some(Vec::new()),
        (true, _) => Some(mmrag_task::answer_items(&last.answered)),
        (false, Some(answer)) => Some(mmrag_task::answer_items(answer)),
        (false, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(about: About, document: Option<&str>, right: bool, answer: Option<&str>) -> Kept {
        let seen = |id: &str, kept| Seen { id: id.into(), kept };
        Kept {
            at: 0,
            by: String::new(),
            asked: "q".into(),
            about,
            document: document.map(str::to_owned),
            right,
            answer: answer.map(str::to_owned),
            question: "Who?".into(),
            images: Vec::new(),
            candidates: vec![seen("a", true), seen("b", false), seen("c", true)],
            answered: "Ada; Bo".into(),
            abstained: false,
        }
    }

    #[test]
    fn judged_documents_teach_the_filter_and_known_answers_the_ranker() {
        let verdict = |id, right| kept(About::Verdict, Some(id), right, None);
        let found = examples(&[verdict("a", true), verdict("b", false), verdict("c", false)]);
        assert_eq!(found.rank, [Value::Null; 0]);
        assert_eq!(found.filter.len(), 1);
        assert_eq!(found.filter[0]["candidates"], json!(["a", "b", "c"]));
        assert_eq!(found.filter[0]["gold"], json!(["a", "b"]));

        let citation = kept(About::Citation, Some("a"), true, None);
        let found = examples(&[citation.clone(), kept(About::Answer, None, true, None)]);
        assert_eq!(found.rank[0]["answers"], json!(["Ada", "Bo"]));
        assert_eq!(found.rank[0]["candidates"], json!(["a", "b", "c"]));
        assert_eq!(found.rank[0]["gold"], json!(["a"]));

        let wrong = kept(About::Answer, None, false, None);
        assert_eq!(examples(std::slice::from_ref(&wrong)), Examples::default());
        let told = kept(About::Answer, None, false, Some("Cy"));
        assert_eq!(examples(&[wrong, told]).rank[0]["answers"], json!(["Cy"]));
        let none = kept(About::Answer, None, false, Some(""));
        assert_eq!(examples(&[none]).rank[0]["answers"], json!([]));
    }

    #[test]
    fn of_two_opinions_about_one_thing_the_later_counts() {
        let first = kept(About::Verdict, Some("a"), true, None);
        let second = kept(About::Verdict, Some("a"), false, None);
        assert_eq!(examples(&[first, second]).filter[0]["gold"], json!([]));
    }
}
