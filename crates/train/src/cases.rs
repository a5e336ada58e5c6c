//! From examples to the cases of a step.

use std::sync::Arc;

use mmrag_core::{Document, Example, Gold};
use mmrag_task::{Case, StageName, negatives};
use rand_chacha::ChaCha8Rng;

use crate::error::TrainError;
use crate::seed::{Key, below, seed, shuffle, stream};
use crate::settings::GrpoSettings;
use crate::source::{Examples, Walk, example};

/// Examples looked at for each one wanted, before a step gives up.
const PATIENCE: usize = 8;

/// A case with what is right, and how much its advantages weigh.
#[derive(Clone, Debug)]
pub(crate) struct TrainingCase {
    pub(crate) case: Case,
    pub(crate) gold: Gold,
    pub(crate) weight: f64,
}

impl TrainingCase {
    /// Whether a gold document is shown.
    pub(crate) fn shows_gold(&self) -> bool {
        !self.case.gold_labels(&self.gold).is_empty()
    }
}

/// Which cases a step asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draw {
    pub(crate) step: usize,
    /// 0 for the step's own cases, in the order of the pass; above 0 for those that replace some.
    pub(crate) attempt: usize,
    pub(crate) wanted: usize,
    /// Share of the training that is done.
    pub(crate) progress: f64,
}

/// Makes cases of a source's examples.
pub(crate) struct Cases<'a> {
    stage: StageName,
    examples: &'a dyn Examples,
    settings: &'a GrpoSettings,
    walk: Walk,
}

impl<'a> Cases<'a> {
    pub(crate) fn new(
        stage: StageName,
        examples: &'a dyn Examples,
        settings: &'a GrpoSettings,
    ) -> Result<Self, TrainError> {
        if examples.is_empty() {
            return Err(TrainError::TooFewCases { wanted: settings.prompts_per_step, found: 0 });
        }
        let walk = Walk::new(settings.seed, examples.len());
        Ok(Self { stage, examples, settings, walk })
    }

    /// Exactly as many cases as are wanted.
    pub(crate) fn draw(&mut self, draw: Draw) -> Result<Vec<TrainingCase>, TrainError> {
        let patience = PATIENCE * draw.wanted.max(1);
        let mut cases = Vec::with_capacity(draw.wanted);
        let mut others =
            stream("replace", self.settings.seed, &[draw.step.into(), draw.attempt.into()]);
        let own = self.settings.examples_per_step(self.stage);
        for nth in 0..patience {
            if cases.len() >= draw.wanted {
                break;
            }
            let index = if draw.attempt == 0 && nth < own {
                self.walk.at(draw.step * own + nth)
            } else {
                below(&mut others, self.examples.len())
            };
            let example = example(self.examples, index)?;
            match self.stage {
                StageName::Filter => cases.extend(self.pointwise(&example, draw)?),
                StageName::Rank => cases.extend(self.listwise(&example, draw)),
            }
        }
        cases.truncate(draw.wanted);
        if cases.len() < draw.wanted {
            return Err(TrainError::TooFewCases { wanted: draw.wanted, found: cases.len() });
        }
        Ok(cases)
    }

    /// One document that helps, and some that do not. Where there is none of a kind, the question
    /// gives fewer cases.
    fn pointwise(&self, example: &Example, draw: Draw) -> Result<Vec<TrainingCase>, TrainError> {
        let mut draws = self.stream("documents", example, draw);
        let (mut helping, mut hard) = split(example);
        shuffle(&mut draws, &mut helping);
        shuffle(&mut draws, &mut hard);
        let settings = &self.settings.cases;
        let easy = self.foreign_documents(example, settings.easy_negatives, &mut draws)?;
        let case = |document: &Arc<Document>, weight| TrainingCase {
            case: Case::pointwise(&example.question, document),
            gold: example.gold.clone(),
            weight,
        };
        let positive = helping.iter().take(1).map(|d| case(d, settings.positive_weight));
        let negative = hard.iter().take(settings.hard_negatives).chain(&easy);
        Ok(positive.chain(negative.map(|d| case(d, 1.0))).collect())
    }

    /// All gold documents and as many distractors as the curriculum and the limit allow.
    fn listwise(&self, example: &Example, draw: Draw) -> Option<TrainingCase> {
        let mut draws = self.stream("documents", example, draw);
        let (mut documents, mut distractors) = split(example);
        let settings = &self.settings.cases;
        shuffle(&mut draws, &mut distractors);
        let room = settings.max_documents.saturating_sub(documents.len());
        let count = settings.curriculum.distractors(draw.progress, distractors.len()).min(room);
        documents.extend(distractors.into_iter().take(count));
        if documents.is_empty() {
            return None;
        }
        let keys = [draw.step.into(), draw.attempt.into(), example.question.id.as_str().into()];
        let labels = seed("labels", self.settings.seed, &keys);
        let case = Case::listwise(&example.question, &documents, labels);
        Some(TrainingCase { case, gold: example.gold.clone(), weight: 1.0 })
    }

    /// Documents of other questions that cannot help this one.
    fn foreign_documents(
        &self,
        example: &Example,
        count: usize,
        draws: &mut ChaCha8Rng,
    ) -> Result<Vec<Arc<Document>>, TrainError> {
        let mut found: Vec<Arc<Document>> = Vec::new();
        let gold_documents = split(example).0;
        for _ in 0..PATIENCE * count {
            if found.len() >= count {
                break;
            }
            let other = self::example(self.examples, below(draws, self.examples.len()))?;
            if other.candidates.is_empty() {
                continue;
            }
            let document = other.candidates[below(draws, other.candidates.len())].clone();
            let known = example.candidates.iter().chain(&found).any(|d| d.id == document.id);
            let candidate = [(document, 0.0)];
            if !known && !negatives::mine(&candidate, &example.gold, &gold_documents, 1).is_empty()
            {
                let [(document, _)] = candidate;
                found.push(document);
            }
        }
        Ok(found)
    }

    fn stream(&self, purpose: &str, example: &Example, draw: Draw) -> ChaCha8Rng {
        let question = Key::Name(example.question.id.as_str());
        stream(purpose, self.settings.seed, &[draw.step.into(), draw.attempt.into(), question])
    }
}

/// The example's gold documents and its distractors.
fn split(example: &Example) -> (Vec<Arc<Document>>, Vec<Arc<Document>>) {
    let is_gold = |document: &&Arc<Document>| example.gold.documents.contains(&document.id);
    example.candidates.iter().cloned().partition(|document| is_gold(&document))
}
