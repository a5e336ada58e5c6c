//! Questions, and what is known about their answers.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Document, DocumentId, ImageSource};

/// The identity of a question within its data set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QuestionId(Arc<str>);

impl QuestionId {
    /// An id from the name the data set gives the question.
    pub fn new(name: impl AsRef<str>) -> Self {
        Self(Arc::from(name.as_ref()))
    }

    /// The name the data set gives the question.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for QuestionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What somebody asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Its identity.
    pub id: QuestionId,
    /// The words.
    pub text: String,
    /// Pictures that belong to the question itself, in order. Usually none.
    pub images: Vec<ImageSource>,
}

/// What is known to be right. Only metrics and rewards see it; a prompt never does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gold {
    /// The documents that together support the answer. Empty if the question cannot be answered.
    pub documents: Vec<DocumentId>,
    /// The answer: several entries are the items of one list answer, not alternatives. Empty if
    /// the question cannot be answered.
    pub answers: Vec<String>,
    /// Several answers by several people, each right by itself, where the data set has them: of
    /// WebQA all reference answers, of VQA what ten people said, the same words as often as they
    /// were said. `answers` then holds one of them. Usually empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// The words of the answer that count, where the data set tells them (WebQA's `Keywords_A`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keywords: Option<String>,
}

impl Gold {
    /// Whether the documents of the example hold an answer.
    pub fn is_answerable(&self) -> bool {
        !self.answers.is_empty()
    }
}

/// A question with its candidates and what is known about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// The question.
    pub question: Question,
    /// The documents that come with the question, each once, in the data set's order.
    pub candidates: Vec<Arc<Document>>,
    /// What is right.
    pub gold: Gold,
    /// The data set's name for the type of question, such as `Compose(ImageQ,TextQ)`. May be empty.
    pub kind: String,
    /// Worked reasoning, in order, where the data set has it. Only supervised demonstrations use
    /// it; no prompt shows it and no reward reads it.
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// One step of worked reasoning: what one document contributes to the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The document the step reads.
    pub document: DocumentId,
    /// What it finds there, in one short sentence.
    pub text: String,
}
