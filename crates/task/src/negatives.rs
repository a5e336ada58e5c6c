//! Mining of hard negatives: documents that score high without being gold.

use std::collections::HashSet;
use std::sync::Arc;

use mmrag_core::{Content, Document, DocumentId, Gold};

use crate::metrics::multimodalqa::normalize;

/// The indices of up to `count` negatives among the candidates, highest score first, ties in the
/// order given. `candidates` hold each document with the score a retriever or the last checkpoint
/// gave it; `gold_documents` are the gold documents where they are at hand, the rest of gold is
/// known by id.
///
/// Left out, as it may be gold that nobody marked: a document whose text (title, text, cells)
/// holds one of the gold answers in normal form, yes and no aside; one with the title of a gold
/// document and the same kind of content; one with the same picture.
pub fn mine(
    candidates: &[(Arc<Document>, f64)],
    gold: &Gold,
    gold_documents: &[Arc<Document>],
    count: usize,
) -> Vec<usize> {
    let answers: Vec<Vec<String>> = gold
        .answers
        .iter()
        .map(|answer| words(answer))
        .filter(|words| !matches!(words.join(" ").as_str(), "" | "yes" | "no"))
        .collect();
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by(|&a, &b| candidates[b].1.total_cmp(&candidates[a].1));
    let mut seen: HashSet<&DocumentId> = gold.documents.iter().collect();
    order.retain(|&index| {
        let document = &candidates[index].0;
        seen.insert(&document.id)
            && !gold_documents.iter().any(|gold| is_twin(document, gold))
            && !holds_any(document, &answers)
    });
    order.truncate(count);
    order
}

/// Whether a document may stand for a gold one.
fn is_twin(document: &Document, gold: &Document) -> bool {
    let same_title = !document.title.is_empty() && document.title == gold.title;
    match (&document.content, &gold.content) {
        (Content::Image(image), Content::Image(gold_image)) => image == gold_image || same_title,
        _ => same_title && document.modality() == gold.modality(),
    }
}

/// Whether one of the texts of a document holds one of the answers as a run of words.
fn holds_any(document: &Document, answers: &[Vec<String>]) -> bool {
    texts(document).into_iter().any(|text| {
        let words = words(text);
        answers.iter().any(|answer| words.windows(answer.len()).any(|run| run == answer))
    })
}

fn texts(document: &Document) -> Vec<&str> {
    let mut texts = vec![document.title.as_str()];
    match &document.content {
        Content::Text(text) => texts.push(text),
        Content::Table(table) => {
            texts.push(&table.name);
            texts
                .extend(table.header.iter().chain(table.rows.iter().flatten()).map(String::as_str));
        }
        Content::Image(_) => {}
    }
    texts
}

fn words(text: &str) -> Vec<String> {
    normalize(text).split_whitespace().map(String::from).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use mmrag_core::{ImageSource, Table};

    use super::*;

    fn document(id: &str, title: &str, content: Content) -> Arc<Document> {
        Arc::new(Document { id: DocumentId::new(id), title: title.into(), content })
    }

    fn text(id: &str, text: &str) -> Arc<Document> {
        document(id, "", Content::Text(text.into()))
    }

    fn image(id: &str, title: &str, path: &str) -> Arc<Document> {
        document(id, title, Content::Image(ImageSource::Path(PathBuf::from(path))))
    }

    fn check(candidates: &[Arc<Document>], answers: &[&str], expected: &[usize]) {
        let gold = Gold {
            documents: vec![DocumentId::new("gold")],
            answers: answers.iter().map(ToString::to_string).collect(),
            ..Gold::default()
        };
        let gold_documents = [image("gold", "A red kite", "kite.png")];
        let candidates: Vec<_> =
            candidates.iter().enumerate().map(|(i, d)| (Arc::clone(d), i as f64)).collect();
        assert_eq!(mine(&candidates, &gold, &gold_documents, 2), expected);
    }

    #[test]
    fn negatives_are_the_best_that_cannot_be_gold() {
        check(&[text("a", "x"), text("b", "x"), text("c", "x")], &["Rome"], &[2, 1]);
        check(&[text("a", "x"), text("gold", "x")], &["Rome"], &[0]);
        check(&[text("a", "x"), text("a", "x")], &["Rome"], &[1]);
        check(&[text("a", "x"), text("b", "He went to rome!")], &["Rome"], &[0]);
        check(&[text("a", "x"), text("b", "He went to Rometta")], &["Rome"], &[1, 0]);
        check(&[text("a", "no"), text("b", "yes it is")], &["Yes"], &[1, 0]);
        check(&[text("a", "it has five"), text("b", "it has 55")], &["5"], &[1]);
        check(&[image("a", "Other", "kite.png"), image("b", "A red kite", "b.png")], &["x y"], &[]);
        let table = Table { rows: vec![vec!["1".into(), "the Rome".into()]], ..Table::default() };
        check(&[document("a", "", Content::Table(table))], &["Rome"], &[]);
        check(&[], &["Rome"], &[]);
    }
}
