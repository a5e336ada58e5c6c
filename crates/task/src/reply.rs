//! Replies: what a completion says, once it is read.

use serde::{Deserialize, Serialize};

/// The filter's word for a document that helps.
pub const YES: &str = "Yes";

/// The filter's word for a document that does not help.
pub const NO: &str = "No";

/// The answer that says that the documents hold none.
pub const NONE: &str = "none";

/// What a completion says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// The filter's verdict on one document.
    Filter {
        /// The reasoning, trimmed; absent in direct mode.
        think: Option<String>,
        /// Whether the document helps.
        helps: bool,
    },
    /// An order of all shown documents, and an answer.
    Rank {
        /// The reasoning, trimmed, with labels as `[2]`; absent where the grammar has none.
        think: Option<String>,
        /// The labels of all shown documents, the most helpful first.
        order: Vec<usize>,
        /// The answer without its citations, trimmed; the items of a list joined by `"; "`.
        answer: String,
        /// The labels the answer cites, each once, in order of mention.
        citations: Vec<usize>,
    },
}

impl Reply {
    /// The reasoning, if the reply holds some.
    pub fn think(&self) -> Option<&str> {
        match self {
            Self::Filter { think, .. } | Self::Rank { think, .. } => think.as_deref(),
        }
    }

    /// Whether the reply says that the documents hold no answer.
    pub fn abstains(&self) -> bool {
        match self {
            Self::Filter { .. } => false,
            Self::Rank { answer, .. } => answer.eq_ignore_ascii_case(NONE),
        }
    }
}

/// The items of a list answer: split at `;`, trimmed, blank items left out.
pub fn answer_items(answer: &str) -> Vec<String> {
    answer.split(';').map(str::trim).filter(|item| !item.is_empty()).map(String::from).collect()
}
