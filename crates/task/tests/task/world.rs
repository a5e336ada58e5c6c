//! A small world to ask about.

use std::path::PathBuf;
use std::sync::Arc;

use mmrag_core::{
    Completion, Content, Document, DocumentId, Finish, Gold, ImageSource, Question, QuestionId,
    Table,
};
use mmrag_task::Case;

pub(crate) fn question(text: &str) -> Question {
    Question { id: QuestionId::new("q"), text: text.into(), images: Vec::new() }
}

pub(crate) fn picture(name: &str) -> ImageSource {
    ImageSource::Path(PathBuf::from(name))
}

pub(crate) fn document(id: &str, title: &str, content: Content) -> Arc<Document> {
    Arc::new(Document { id: DocumentId::new(id), title: title.into(), content })
}

pub(crate) fn text(id: &str, title: &str, text: &str) -> Arc<Document> {
    document(id, title, Content::Text(text.into()))
}

pub(crate) fn table(id: &str, title: &str, name: &str, rows: &[&[&str]]) -> Arc<Document> {
    let cells = |row: &&[&str]| row.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut rows = rows.iter().map(cells);
    let header = rows.next().unwrap_or_default();
    let table = Table { name: name.into(), header, rows: rows.collect() };
    document(id, title, Content::Table(table))
}

pub(crate) fn image(id: &str, caption: &str, name: &str) -> Arc<Document> {
    document(id, caption, Content::Image(picture(name)))
}

/// A case of `n` texts `d1`, `d2` … with the labels `[1]`, `[2]` …
pub(crate) fn case_of(n: usize) -> Case {
    let documents = (1..=n).map(|label| text(&format!("d{label}"), "", "words")).collect();
    Case { question: question("Who?"), documents }
}

pub(crate) fn gold(documents: &[&str], answers: &[&str]) -> Gold {
    Gold {
        documents: documents.iter().map(DocumentId::new).collect(),
        answers: answers.iter().map(ToString::to_string).collect(),
        ..Gold::default()
    }
}

pub(crate) fn completion(text: &str) -> Completion {
    Completion {
        text: text.into(),
        tokens: Vec::new(),
        sampled_logprobs: Vec::new(),
        finish: Finish::Stop,
    }
}
