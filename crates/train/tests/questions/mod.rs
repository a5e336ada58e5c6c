//! Examples that more than one test trains on.

use std::sync::Arc;

use mmrag_core::{Content, Document, DocumentId, Example, Gold, Question, QuestionId};

/// Questions with one document that helps and two that do not.
pub(crate) fn examples(count: usize) -> Vec<Example> {
    let document = |name: String| {
        Arc::new(Document {
            id: DocumentId::new(&name),
            title: name,
            content: Content::Text("Something.".into()),
        })
    };
    (0..count)
        .map(|n| Example {
            question: Question {
                id: QuestionId::new(format!("q{n}")),
                text: "What is it?".into(),
                images: vec![],
            },
            candidates: (0..3).map(|d| document(format!("d{n}.{d}"))).collect(),
            gold: Gold {
                documents: vec![DocumentId::new(format!("d{n}.1"))],
                answers: vec!["a thing".into()],
                ..Gold::default()
            },
            kind: String::new(),
            steps: vec![],
        })
        .collect()
}
