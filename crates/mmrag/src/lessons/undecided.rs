//! Replies over a list that take up the question that is asked or another one like it, or none,
//! whichever: they teach how a reply over a long list is written, and leave open which documents a
//! question is about, and whether any is.

use std::sync::Arc;

use mmrag_core::Document;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::Phase;
use super::distractors::{gold_and_distractors, likeness, split_gold};
use super::exercise::Exercise;
use super::happens;

/// How many other questions of the world are looked at for the one that is most alike.
const LOOKED_AT: u64 = 12;
/// How many of a thousand words, names aside, its documents must share with those of the question
/// that is asked.
const LIKE: usize = 900;

/// A question with the documents of another one of its kind beside its own, and one of both.
pub(super) struct Undecided {
    /// The question that is asked.
    pub(super) asked: Exercise,
    /// The one that the reply answers: either is as likely. Where no other is like enough, or the
    /// reply is a search, the one that is asked. It may have lost its answer, to be replied to with none.
    pub(super) told: Exercise,
    /// What both are answered from, and distractors of the one that is asked.
    pub(super) documents: Vec<Arc<Document>>,
}

impl Undecided {
    /// Beside `asked`, with about `count` documents, `alike` or any.
    pub(super) fn new(
        asked: Exercise,
        (count, alike): (usize, bool),
        phase: &Phase,
        draws: &mut ChaCha8Rng,
    ) -> Self {
        let searches = asked.kind().is_some_and(|kind| phase.searches(kind));
        let rival = (!searches).then(|| rival(&asked)).flatten();
        let mut documents: Vec<Arc<Document>> = Vec::new();
        let golds = std::iter::once(&asked).chain(&rival).map(|one| split_gold(&one.example).0);
        for document in golds.flatten() {
            if !documents.contains(&document) {
                documents.push(document);
            }
        }
        for other in gold_and_distractors(&asked.example, count, alike, draws) {
            if documents.len() < count && !documents.contains(&other) {
                documents.push(other);
            }
        }
        let takes_rival = draws.random_range(0..=usize::from(rival.is_some())) == 1;
        let mut told = rival.filter(|_| takes_rival).unwrap_or_else(|| asked.clone());
        if happens(phase.abstaining, draws) {
            told.withdraw();
        }
        Self { asked, told, documents }
    }
}

/// The question of the same kind whose documents are most like those of `asked`, and none of them.
fn rival(asked: &Exercise) -> Option<Exercise> {
    let (gold, _) = split_gold(&asked.example);
    let likenesses = |exercise: &Exercise| {
        let (own, _) = split_gold(&exercise.example);
        let is_apart = !own.iter().any(|document| gold.contains(document));
        let alike = own.iter().map(|document| likeness(document, &gold)).sum::<usize>();
        (is_apart && alike >= LIKE * own.len().max(1)).then_some(alike)
    };
    let others = (1..=LOOKED_AT)
        .filter_map(|steps| asked.further(steps))
        .filter_map(|other| likenesses(&other).map(|alike| (alike, other)));
    // The first of those that are equally alike.
    let best = others.reduce(|best, next| if next.0 > best.0 { next } else { best })?;
    Some(best.1)
}

#[cfg(test)]
mod tests {
    use mmrag_data::atlas::{AtlasOptions, Kind};
    use mmrag_task::Case;
    use rand::SeedableRng as _;

    use super::*;

    fn undecided(kind: Kind, seed: u64, phase: &Phase) -> Undecided {
        let options = AtlasOptions { kinds: Some(vec![kind]), ..AtlasOptions::default() };
        let asked = Exercise::new(seed, 3, options);
        Undecided::new(asked, (10, false), phase, &mut ChaCha8Rng::seed_from_u64(seed))
    }

    #[test]
    fn either_question_can_be_answered_and_both_are() {
        let mut n_other = 0;
        for seed in 0..60 {
            let Undecided { asked, told, documents } =
                undecided(Kind::ImageColour, seed, &Phase::default());
            let case = Case::listwise(&asked.example.question, &documents, seed);
            for document in asked.example.gold.documents.iter().chain(&told.example.gold.documents)
            {
                assert!(case.label_of(document).is_some(), "{document:?} is not shown");
            }
            assert_eq!(asked.kind(), told.kind());
            assert!((1..=15).contains(&documents.len()));
            n_other += usize::from(asked.example.question != told.example.question);
        }
        assert!((15..45).contains(&n_other), "{n_other} of 60");
    }

    #[test]
    fn some_are_replied_to_with_none() {
        let phase = Phase { abstaining: 0.5, ..Phase::default() };
        let told = (0..60).map(|seed| undecided(Kind::ImageColour, seed, &phase).told.example);
        let n_none = told.filter(|example| example.gold.answers.is_empty()).count();
        assert!((18..42).contains(&n_none), "{n_none} of 60");
    }

    #[test]
    fn what_no_document_answers_and_what_is_searched_for_has_no_rival() {
        let searching = Phase { survey: 1.0, ..Phase::default() };
        for seed in 0..10 {
            for (kind, phase) in
                [(Kind::Unanswerable, &Phase::default()), (Kind::ImageListQ, &searching)]
            {
                let Undecided { asked, told, .. } = undecided(kind, seed, phase);
                assert_eq!(asked.example, told.example);
            }
        }
    }
}
