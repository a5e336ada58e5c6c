//! From which documents questions are answered: the choice that makes figures comparable or not.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Split;

/// Which documents are read as the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// What the questions of the split come with. MultimodalQA's files hold the documents of all
    /// splits: of them those that a question of this split has as a candidate.
    #[default]
    Split,
    /// All documents of the data set's files.
    Whole,
}

/// How a data set's questions are answered, as a report has to state it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocol {
    /// The data set's name.
    pub dataset: String,
    /// The part of it.
    pub split: Split,
    /// From which documents.
    pub setting: Setting,
    /// Questions that were asked.
    pub questions: usize,
    /// Documents in the pool, where one is searched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documents: Option<usize>,
}

/// From which documents a question is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// From those that come with it, gold and distractors ("distractor setting").
    #[default]
    Candidates,
    /// From those that come with any question of the split, by search.
    SplitPool,
    /// From all documents of the data set's files, by search ("full-scale").
    FullPool,
}

impl Setting {
    /// The pool that is searched, if one is.
    pub fn pool(self) -> Option<Pool> {
        match self {
            Self::Candidates => None,
            Self::SplitPool => Some(Pool::Split),
            Self::FullPool => Some(Pool::Whole),
        }
    }
}

impl fmt::Display for Protocol {
    /// One line, as the head of a report states it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dataset, split, setting, questions, documents } = self;
        write!(f, "{dataset} {}, {questions} questions, ", split.as_str())?;
        let n_documents = documents.map(|n| format!(" of {n} documents")).unwrap_or_default();
        match setting {
            Setting::Candidates => f.write_str("each answered from the documents it comes with"),
            Setting::SplitPool => {
                write!(f, "answered by search over the split's pool{n_documents}")
            }
            Setting::FullPool => write!(f, "answered by search over the full pool{n_documents}"),
        }
    }
}
