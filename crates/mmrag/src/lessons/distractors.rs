//! Which documents stand beside the gold ones in a lesson.

use std::collections::HashSet;
use std::sync::Arc;

use mmrag_core::{Content, Document, Example};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

/// The gold documents among the candidates, and the others.
pub(super) fn split_gold(example: &Example) -> (Vec<Arc<Document>>, Vec<Arc<Document>>) {
    let is_gold = |document: &Arc<Document>| example.gold.documents.contains(&document.id);
    example.candidates.iter().cloned().partition(is_gold)
}

/// How many of a thousand words, names aside, a document shares with the gold document that it is
/// most like: of the same relation of another thing, or of a picture of its like, all.
pub(super) fn likeness(document: &Document, gold: &[Arc<Document>]) -> usize {
    let found = words(document);
    let share = |gold: &Arc<Document>| {
        let wanted = words(gold);
        1000 * found.intersection(&wanted).count() / found.union(&wanted).count().max(1)
    };
    gold.iter().map(share).max().unwrap_or(0)
}

/// The words of a document that are no names, and what sort of document it is.
fn words(document: &Document) -> HashSet<String> {
    let (sort, said) = match &document.content {
        Content::Text(text) => ("<text>", text.clone()),
        Content::Table(table) => ("<table>", table.header.join(" ")),
        Content::Image(_) => ("<image>", String::new()),
    };
    let words = document.title.split_whitespace().chain(said.split_whitespace());
    let plain = words.filter(|word| !word.starts_with(char::is_uppercase)).map(str::to_owned);
    plain.chain([sort.to_owned()]).collect()
}

/// Every gold document, and distractors drawn until there are `count`: any, or the most alike.
pub(super) fn gold_and_distractors(
    example: &Example,
    count: usize,
    alike: bool,
    draws: &mut ChaCha8Rng,
) -> Vec<Arc<Document>> {
    let (mut shown, mut others) = split_gold(example);
    let mut drawn = Vec::new();
    while !others.is_empty() {
        drawn.push(others.swap_remove(draws.random_range(0..others.len())));
    }
    if alike {
        drawn.sort_by_cached_key(|other| std::cmp::Reverse(likeness(other, &shown)));
    }
    let missing = count.saturating_sub(shown.len());
    shown.extend(drawn.into_iter().take(missing));
    shown
}

#[cfg(test)]
mod tests {
    use mmrag_core::{DocumentId, Gold, Question, QuestionId, Table};
    use rand::SeedableRng as _;

    use super::*;

    fn document(title: &str, content: Content) -> Arc<Document> {
        Arc::new(Document { id: DocumentId::new(title), title: title.into(), content })
    }

    fn text(title: &str, text: &str) -> Arc<Document> {
        document(title, Content::Text(text.into()))
    }

    #[test]
    fn alike_takes_the_most_alike_and_every_gold_document_stays() {
        let candidates = ["rice", "born", "figs"].map(|word| match word {
            "born" => text("Ada", "Ada was born in Cy."),
            word => text(word, &format!("Bo trades in {word}.")),
        });
        let gold = Gold {
            documents: vec![candidates[2].id.clone()],
            answers: vec!["figs".into()],
            ..Gold::default()
        };
        let example = Example {
            question: Question { id: QuestionId::new("q"), text: "?".into(), images: Vec::new() },
            candidates: candidates.to_vec(),
            gold,
            kind: String::new(),
            steps: Vec::new(),
        };
        for seed in 0..10 {
            let mut draws = ChaCha8Rng::seed_from_u64(seed);
            let shown = gold_and_distractors(&example, 2, true, &mut draws);
            assert_eq!(shown, [candidates[2].clone(), candidates[0].clone()]);
            assert_eq!(gold_and_distractors(&example, 0, true, &mut draws), shown[..1]);
        }
    }

    #[test]
    fn the_same_said_of_another_is_most_alike() {
        let gold = [text("Ada", "Ada trades in figs.")];
        let like = likeness(&text("Bo", "Bo trades in figs."), &gold);
        let less = likeness(&text("Bo", "Bo trades in rice."), &gold);
        let other = likeness(&text("Ada", "Ada was born in Cy."), &gold);
        let table = likeness(&document("Ada", Content::Table(Table::default())), &gold);
        assert_eq!(like, 1000);
        assert!(like > less && less > other && other > table, "{less} {other} {table}");
    }
}
