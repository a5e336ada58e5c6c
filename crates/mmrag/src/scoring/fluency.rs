//! QA-FL of answers, by a BART.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use clap::Args;
use mmrag_model::BartScorer;
use mmrag_task::metrics::{ReferenceScores, fluency, fluency_text};

use super::score_log::ScoreLog;
use crate::hub;
use crate::progress::Meter;
use crate::weights::bart_version;

/// Pairs of texts between two looks at the progress.
const CHUNK: usize = 64;

/// The BART of WebQA's fluency.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct BartArgs {
    /// For WebQA's QA-FL and QA: a BART such as facebook/bart-large-cnn, by its folder or by its
    /// name on the hub
    #[arg(long, value_name = "MODEL")]
    bart: Option<PathBuf>,
    /// Weights to use instead of the folder's, such as BARTScore's bart.pth
    #[arg(long, value_name = "FILE", requires = "bart")]
    bart_weights: Option<PathBuf>,
    /// Keep the scores of texts here as they are made: the same command goes on where it was stopped
    #[arg(long, value_name = "FILE", requires = "bart")]
    bart_scores: Option<PathBuf>,
}

impl BartArgs {
    /// Whether there is one.
    pub(crate) fn is_given(&self) -> bool {
        self.bart.is_some()
    }

    /// The BART, loaded, if one is given. Scores are kept where the arguments say, else in `log`.
    ///
    /// # Errors
    ///
    /// When the folder does not hold a BART, or the kept scores cannot be read.
    pub(crate) fn fluency(&self, log: Option<&Path>) -> anyhow::Result<Option<Fluency>> {
        let Some(named) = &self.bart else { return Ok(None) };
        let folder = &*hub::folder(named)?;
        let weights = self.bart_weights.as_deref();
        let log = match self.bart_scores.as_deref().or(log) {
            Some(path) => Some(ScoreLog::open(path, &bart_version(folder, weights)?)?),
            None => None,
        };
        let scorer = BartScorer::load(folder, weights).context("failed to load the BART")?;
        Ok(Some(Fluency { scorer, log }))
    }
}

/// An answer, if there is one, and the answers that it should be like.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) answer: Option<&'a str>,
    pub(crate) references: &'a [String],
}

/// A BART, and what else a scoring of many texts takes.
pub(crate) struct Fluency {
    pub(crate) scorer: BartScorer,
    /// Where scores are kept, if anywhere.
    pub(crate) log: Option<ScoreLog>,
}

/// The fluency of each answer, in 0..=1: 0 where there is no answer, nothing where there are no
/// references. Nothing at all where the user stopped it.
///
/// # Errors
///
/// When the model cannot read a text, or the scores cannot be kept.
pub(crate) fn fluencies(
    fluency_of: &mut Fluency,
    questions: &[Question<'_>],
    stop: &AtomicBool,
) -> anyhow::Result<Option<Vec<Option<f64>>>> {
    let mut pairs = Pairs::default();
    let asked: Vec<Vec<[usize; 2]>> =
        questions.iter().map(|question| pairs.add_question(*question)).collect();
    let Some(scores) = pairs.scores(fluency_of, stop)? else { return Ok(None) };
    let of_question = |(question, asked): (&Question<'_>, Vec<[usize; 2]>)| {
        let references = asked.into_iter().map(|[answer, itself]| ReferenceScores {
            answer: scores[answer],
            itself: scores[itself],
        });
        (!question.references.is_empty()).then(|| fluency(&references.collect::<Vec<_>>()))
    };
    Ok(Some(questions.iter().zip(asked).map(of_question).collect()))
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

    /// The pairs' scores; those that the log lacks are made, and kept there.
    fn scores(
        &self,
        Fluency { scorer, log }: &mut Fluency,
        stop: &AtomicBool,
    ) -> anyhow::Result<Option<Vec<f64>>> {
        let meter = Meter::new("fluency", self.list.len());
        let known = |pair| log.as_ref().and_then(|log| log.score(pair));
        let mut scores: Vec<Option<f64>> = self.list.iter().map(known).collect();
        let left: Vec<usize> = (0..scores.len()).filter(|at| scores[*at].is_none()).collect();
        let mut done = scores.len() - left.len();
        for chunk in left.chunks(CHUNK) {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            meter.at(done, "");
            let pair = |at: &usize| (&*self.list[*at].0, &*self.list[*at].1);
            let pairs: Vec<(&str, &str)> = chunk.iter().map(pair).collect();
            let made = scorer.scores(&pairs).context("failed to score the answers' fluency")?;
            for (at, score) in chunk.iter().zip(made) {
                if let Some(log) = log {
                    log.add(&self.list[*at], score)?;
                }
                scores[*at] = Some(score);
            }
            done += chunk.len();
        }
        meter.at(done, "");
        Ok(scores.into_iter().collect())
    }
}
