//! What documents say and show, told again.

use std::sync::Arc;

use mmrag_core::{Content, Document, Question, QuestionId};
use mmrag_data::atlas::{self, NameSplit};
use mmrag_task::{Case, named_cells};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::{Composed, LessonPlan, Phase, example};

impl LessonPlan {
    /// One of several documents, by a title that no other bears, or all with their labels. Every
    /// token of the reply is copied or seen, so that a lesson teaches far more of both than a
    /// question's short answer does.
    pub(super) fn recite(&self, world: u64, phase: &Phase, draws: &mut ChaCha8Rng) -> Composed {
        let [least, most] = phase.documents;
        let count = draws.random_range(least..=most.max(least));
        let example = example(world, None);
        let mut written: Vec<_> = example.candidates.iter().filter_map(written).collect();
        if draws.random_bool(0.5) {
            // Numbers are many and each is rare: without this they are never learned to copy.
            written.sort_by_key(|(_, text)| !text.contains(|c: char| c.is_ascii_digit()));
        }
        let mut written = written.into_iter();
        let told: Vec<(Arc<Document>, String)> = (0..count)
            .map_while(|_| {
                if draws.random_bool(0.5) {
                    let picture = u64::from(draws.random::<u32>());
                    let (picture, shown) = atlas::description(world, NameSplit::Sft, picture);
                    Some((picture, shown))
                } else {
                    written.next()
                }
            })
            .collect();
        let (documents, texts): (Vec<_>, Vec<_>) = told.into_iter().unzip();
        let bears = |title: &str| documents.iter().filter(|other| other.title == title).count();
        let mut unique = (0..documents.len()).collect::<Vec<_>>();
        unique.retain(|&at| bears(&documents[at].title) == 1);
        let (which, reply) = if unique.is_empty() || documents.len() <= 4 && draws.random_bool(0.5)
        {
            let all = texts.iter().enumerate().map(|(nth, text)| format!("{text}[{}]", nth + 1));
            ("all".to_owned(), all.collect::<Vec<_>>().join("\n"))
        } else {
            let target = unique[draws.random_range(0..unique.len())];
            (documents[target].title.clone(), texts[target].clone())
        };
        let question = Question { id: QuestionId::new("recite"), text: which, images: Vec::new() };
        let case = Case { question, documents };
        Composed { prompt: self.recital.render(&case), reply }
    }
}

/// What a text or a table says.
fn written(document: &Arc<Document>) -> Option<(Arc<Document>, String)> {
    let text = match &document.content {
        Content::Text(text) => format!("{}: {text}", document.title),
        Content::Table(table) => {
            let rows = table.rows.iter().map(|row| named_cells(&table.header, row));
            rows.collect::<Vec<_>>().join("\n ")
        }
        Content::Image(_) => return None,
    };
    // The blank makes the first word the token that it is everywhere else.
    Some((document.clone(), format!(" {text}")))
}
