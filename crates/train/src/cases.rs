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

/// Says of point-wise cases how likely the policy thinks it that their document helps.
pub(crate) type Judge<'a> = dyn Fn(&[TrainingCase]) -> Result<Vec<f64>, TrainError> + 'a;

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

    /// Exactly as many cases as are wanted. Mined negatives are those that `judge` scores highest.
    pub(crate) fn draw(
        &mut self,
        draw: Draw,
        judge: &Judge<'_>,
    ) -> Result<Vec<TrainingCase>, TrainError> {
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
                StageName::Filter => cases.extend(self.pointwise(&example, draw, judge)?),
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
    fn pointwise(
        &self,
        example: &Example,
        draw: Draw,
        judge: &Judge<'_>,
    ) -> Result<Vec<TrainingCase>, TrainError> {
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
        if settings.mined_negatives > 0 {
            let pool: Vec<TrainingCase> = hard.iter().map(|document| case(document, 1.0)).collect();
            let scored: Vec<_> = hard.iter().cloned().zip(judge(&pool)?).collect();
            let count = settings.mined_negatives;
            let mined = negatives::mine(&scored, &example.gold, &helping, count);
            // The mined ones first, each once, then the others as they were drawn.
            let first = mined.iter().map(|&index| scored[index].0.clone());
            let rest = (0..hard.len()).filter(|index| !mined.contains(index));
            hard = first.chain(rest.map(|index| scored[index].0.clone())).collect();
        }
        let positive = helping.iter().take(1).map(|d| case(d, settings.positive_weight));
        let n_own = settings.hard_negatives + settings.mined_negatives;
        let negative = hard.iter().take(n_own).chain(&easy);
        Ok(positive.chain(negative.map(|d| case(d, 1.0))).collect())
    }

    /// All gold documents, or all but one, and as many distractors as the curriculum and the limit
    /// allow.
    fn listwise(&self, example: &Example, draw: Draw) -> Option<TrainingCase> {
        let mut draws = self.stream("documents", example, draw);
        let (mut documents, mut distractors) = split(example);
        let settings = &self.settings.cases;
        shuffle(&mut draws, &mut distractors);
        let lacks = settings.lacking > 0.0
            && (below(&mut draws, 1 << 20) as f64) < settings.lacking * f64::from(1 << 20);
        if lacks && !documents.is_empty() {
            documents.remove(below(&mut draws, documents.len()));
        }
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

/// The cases that the steps of a training begin with, step by step: without those that replace
/// others later, and with mined negatives as they come, for no policy has judged them.
///
/// # Errors
///
/// When there are too few examples, or one cannot be had.
pub fn planned_cases(
    stage: StageName,
    examples: &dyn Examples,
    settings: &GrpoSettings,
) -> Result<Vec<Vec<Case>>, TrainError> {
    let mut cases = Cases::new(stage, examples, settings)?;
    let steps = settings.total_steps(stage, examples.len());
    let alike: &Judge<'_> = &|cases| Ok(vec![0.0; cases.len()]);
    let of_step = |step| {
        let progress = step as f64 / steps.max(1) as f64;
        let draw = Draw { step, attempt: 0, wanted: settings.prompts_per_step, progress };
        Ok(cases.draw(draw, alike)?.into_iter().map(|training| training.case).collect())
    };
    (0..steps).map(of_step).collect()
}

/// The example's gold documents and its distractors.
fn split(example: &Example) -> (Vec<Arc<Document>>, Vec<Arc<Document>>) {
    let is_gold = |document: &&Arc<Document>| example.gold.documents.contains(&document.id);
    example.candidates.iter().cloned().partition(|document| is_gold(&document))
}

#[cfg(test)]
mod tests {
    use mmrag_core::{Content, DocumentId, Question, QuestionId};

    use super::*;

    /// A question with four documents: `d0` helps, `d3` holds the answer though nobody marked it.
    fn example() -> Example {
        let document = |index: usize| {
            let text = if index == 3 { "It is in Rome." } else { "Something." };
            Arc::new(Document {
                id: DocumentId::new(format!("d{index}")),
                title: format!("title {index}"),
                content: Content::Text(text.into()),
            })
        };
        Example {
            question: Question { id: QuestionId::new("q"), text: "Where?".into(), images: vec![] },
            candidates: (0..4).map(document).collect(),
            gold: Gold {
                documents: vec![DocumentId::new("d0")],
                answers: vec!["Rome".into()],
                ..Gold::default()
            },
            kind: String::new(),
            steps: vec![],
        }
    }

    #[test]
    fn planned_cases_are_those_that_steps_draw() {
        let mut settings = GrpoSettings::demo(StageName::Filter);
        (settings.steps, settings.prompts_per_step) = (Some(3), 3);
        let examples = vec![example(), example()];
        let planned = planned_cases(StageName::Filter, &examples, &settings).unwrap();
        assert_eq!(planned.len(), 3);
        let mut cases = Cases::new(StageName::Filter, &examples, &settings).unwrap();
        for (step, planned) in planned.iter().enumerate() {
            let draw = Draw { step, attempt: 0, wanted: 3, progress: step as f64 / 3.0 };
            let drawn = cases.draw(draw, &|_| Ok(Vec::new())).unwrap();
            assert!(drawn.iter().map(|training| &training.case).eq(planned), "step {step}");
        }
    }

    #[test]
    fn a_share_of_the_lists_lacks_a_gold_document() {
        let mut settings = GrpoSettings::demo(StageName::Rank);
        settings.cases.lacking = 0.3;
        let examples = vec![example()];
        let mut cases = Cases::new(StageName::Rank, &examples, &settings).unwrap();
        let none: &Judge<'_> = &|_| Ok(Vec::new());
        let draw = |step| Draw { step, attempt: 0, wanted: 1, progress: 1.0 };
        let drawn = (0..200).flat_map(|step| cases.draw(draw(step), none).unwrap());
        let lists: Vec<TrainingCase> = drawn.collect();
        let n_lacking = lists.iter().filter(|case| !case.shows_gold()).count();
        assert!((40..80).contains(&n_lacking), "{n_lacking}");
        assert!(lists.iter().all(|case| case.case.documents.len() >= 3));
    }

    #[test]
    fn the_likeliest_document_that_cannot_be_gold_is_mined() {
        let mut settings = GrpoSettings::robust(StageName::Filter);
        settings.cases.hard_negatives = 0;
        settings.cases.easy_negatives = 0;
        settings.cases.mined_negatives = 1;
        settings.prompts_per_step = 2;
        let examples = vec![example()];
        for favourite in ["d1", "d2"] {
            let judge = |cases: &[TrainingCase]| {
                let score = |case: &TrainingCase| match case.case.documents[0].id.as_str() {
                    id if id == favourite => 0.4,
                    "d3" => 0.9,
                    _ => 0.1,
                };
                Ok(cases.iter().map(score).collect())
            };
            let mut cases = Cases::new(StageName::Filter, &examples, &settings).unwrap();
            let draw = Draw { step: 0, attempt: 0, wanted: 2, progress: 0.0 };
            let drawn = cases.draw(draw, &judge).unwrap();
            let ids: Vec<&str> = drawn.iter().map(|c| c.case.documents[0].id.as_str()).collect();
            assert_eq!(ids, ["d0", favourite]);
        }
    }
}
