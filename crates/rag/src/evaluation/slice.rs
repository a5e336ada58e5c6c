//! Ways to cut questions into slices that figures are told of one by one.

use super::Outcome;

/// A way to cut the questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slicing {
    /// By the data set's type of question.
    Kind,
    /// By the kinds of the gold documents, such as `image + text`.
    Modality,
    /// By how many documents the answer needs.
    Documents,
    /// By whether a picture is needed.
    Picture,
    /// By whether there is an answer.
    Answerable,
}

impl Slicing {
    /// All, in the order of tables.
    pub const ALL: [Self; 5] =
        [Self::Kind, Self::Modality, Self::Documents, Self::Picture, Self::Answerable];

    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::Modality => "modality",
            Self::Documents => "documents",
            Self::Picture => "picture",
            Self::Answerable => "answerable",
        }
    }

    /// Its name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Kind => "Type of question",
            Self::Modality => "Gold documents",
            Self::Documents => "Documents needed",
            Self::Picture => "Needs a picture",
            Self::Answerable => "Has an answer",
        }
    }

    /// The slice that an outcome is in.
    pub fn of(self, outcome: &Outcome) -> String {
        let either = |is: bool, yes: &str, no: &str| if is { yes } else { no }.to_owned();
        match self {
            Self::Kind if outcome.kind.is_empty() => "(no type)".to_owned(),
            Self::Kind => outcome.kind.clone(),
            Self::Modality if outcome.modalities.is_empty() => "none".to_owned(),
            Self::Modality => {
                let names: Vec<String> =
                    outcome.modalities.iter().map(ToString::to_string).collect();
                names.join(" + ")
            }
            Self::Documents => match outcome.gold_documents.len() {
                0 => "none".to_owned(),
                1 => "1 document".to_owned(),
                2 => "2 documents".to_owned(),
                _ => "3 or more".to_owned(),
            },
            Self::Picture => {
                either(outcome.picture_dependent, "needs a picture", "needs no picture")
            }
            Self::Answerable => either(outcome.answerable, "has an answer", "has no answer"),
        }
    }
}
