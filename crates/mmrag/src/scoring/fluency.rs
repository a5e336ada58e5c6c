//! QA-FL of answers, by a BART.

use std::collections::HashMap;

use anyhow::Context as _;
use mmrag_model::BartScorer;
use mmrag_task::metrics::{ReferenceScores, fluency, fluency_text};

use crate::progress::Meter;

/// Pairs of texts between two looks at the progress.
const CHUNK: usize = 64;

/// An answer, if there is one, and the answers that it should be like.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) answer: Option<&'a str>,
    pub(crate) references: &'a [String],
}

/// The fluency of each answer, in 0..=1: 0 where there is no answer, nothing where there are no
/// references.
///
/// # Errors
///
/// When the model cannot read a text.
pub(crate) fn fluencies(
    scorer: &BartScorer,
    questions: &[Question<'_>],
) -> anyhow::Result<Vec<Option<f64>>> {
    let mut pairs = Pairs::default();
    let asked: Vec<Vec<[usize; 2]>> =
        questions.iter().map(|question| pairs.add_question(*question)).collect();
    let scores = pairs.scores(scorer)?;
    let of_question = |(question, asked): (&Question<'_>, Vec<[usize; 2]>)| {
        let references = asked.into_iter().map(|[answer, itself]| ReferenceScores {
            answer: scores[answer],
            itself: scores[itself],
        });
        (!question.references.is_empty()).then(|| fluency(&references.collect::<Vec<_>>()))
    };
    Ok(questions.iter().zip(asked).map(of_question).collect())
}

/// Sources with targets, each pair once.
#[derive(Default)]
struct Pairs {
    list: Vec<(String, String)>,
    places: HashMap<(String, String), usize>,
}

impl Pairs {
    /// For each reference the places of reference → answer and reference → reference.
    fn add_question(&mut self, question: Question<'_>) -> Vec<[usize; 2]> {
        let Some(answer) = question.answer.map(fluency_text) else { return Vec::new() };
        let references = question.references.iter().map(|text| fluency_text(text));
        references
            .map(|text| [self.add((text.clone(), answer.clone())), self.add((text.clone(), text))])
            .collect()
    }

    fn add(&mut self, pair: (String, String)) -> usize {
        let next = self.list.len();
        *self.places.entry(pair).or_insert_with_key(|pair| {
            self.list.push(pair.clone());
            next
        })
    }

    fn scores(&self, scorer: &BartScorer) -> anyhow::Result<Vec<f64>> {
        let meter = Meter::new("fluency", self.list.len());
        let mut scores = Vec::with_capacity(self.list.len());
        for chunk in self.list.chunks(CHUNK) {
            let pairs: Vec<(&str, &str)> =
                chunk.iter().map(|(source, target)| (&**source, &**target)).collect();
            scores.extend(scorer.scores(&pairs).context("failed to score the answers' fluency")?);
            meter.at(scores.len(), "");
        }
        Ok(scores)
    }
}
