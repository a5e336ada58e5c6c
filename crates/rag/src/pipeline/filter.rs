//! Retrieved → filtered.

use std::time::Instant;

use mmrag_core::{EngineError, Modality, Prompt};
use mmrag_task::{Case, NO, YES, calibration};

use super::{Dropped, FilterStage, Filtered, Pipeline, Retrieved, elapsed_ms};
use crate::error::RagError;
use crate::explanation::{DroppedAt, Filtering, Verdict};

/// Less than this for Yes and No together is neither.
const LEAST_MASS: f64 = 1e-9;
const CHOICES: [&str; 2] = [YES, NO];
const ACTION: &str = "filter the candidates";

type Probabilities = Result<Vec<f64>, EngineError>;

impl<'a> Pipeline<'a> {
    /// Filters the candidates of many questions with one call of the engine.
    pub fn filter_all(
        &self,
        retrieved: Vec<Result<Retrieved<'a>, RagError>>,
    ) -> Vec<Result<Filtered<'a>, RagError>> {
        let Some(filter) = self.filter else {
            return retrieved.into_iter().map(|r| Ok(keep_all(r?))).collect();
        };
        if filter.stage.grammar.think {
            let refuse = |r: Result<_, RagError>| r.and(Err(RagError::ThinkingFilter));
            return retrieved.into_iter().map(refuse).collect();
        }
        let start = Instant::now();
        let prompts: Vec<Vec<Prompt>> = retrieved
            .iter()
            .map(|r| r.as_ref().map_or_else(|_| vec![], |r| filter.prompts(r)))
            .collect();
        let probabilities = filter.choose_all(&prompts);
        let share_ms = elapsed_ms(start) / retrieved.len().max(1) as f64;
        let pairs = retrieved.into_iter().zip(probabilities);
        pairs.map(|(retrieved, rows)| filter.judge(retrieved?, rows, share_ms)).collect()
    }
}

impl FilterStage<'_> {
    fn prompts(&self, retrieved: &Retrieved) -> Vec<Prompt> {
        let case = |document| Case::pointwise(retrieved.question, document);
        let hits = retrieved.hits.iter();
        hits.map(|hit| self.stage.choice_prompt(&case(&hit.document))).collect()
    }

    /// The probabilities of Yes and No for each prompt of each question. If the engine fails on
    /// all together, each question is tried alone, and then each prompt: one broken picture costs
    /// its own document and nothing else.
    fn choose_all(&self, prompts: &[Vec<Prompt>]) -> Vec<Vec<Probabilities>> {
        if let Ok(rows) = self.choose(&prompts.concat()) {
            let mut rows = rows.into_iter();
            let take = |of: &Vec<Prompt>| rows.by_ref().take(of.len()).map(Ok).collect();
            return prompts.iter().map(take).collect();
        }
        let alone = |of: &Vec<Prompt>| match self.choose(of) {
            Ok(rows) => rows.into_iter().map(Ok).collect(),
            Err(_) => of.iter().map(|prompt| self.choose_one(prompt)).collect(),
        };
        prompts.iter().map(alone).collect()
    }

    fn choose_one(&self, prompt: &Prompt) -> Probabilities {
        let mut rows = self.choose(std::slice::from_ref(prompt))?;
        Ok(rows.pop().expect("the number of rows is checked"))
    }

    fn choose(&self, prompts: &[Prompt]) -> Result<Vec<Vec<f64>>, EngineError> {
        if prompts.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self.engine.choose(prompts, &CHOICES)?;
        if rows.len() == prompts.len() && rows.iter().all(|row| row.len() == CHOICES.len()) {
            return Ok(rows);
        }
        let message = format!(
            "the engine gave {} rows of probabilities for {} prompts",
            rows.len(),
            prompts.len()
        );
        Err(EngineError::new(message))
    }

    fn judge<'a>(
        &self,
        retrieved: Retrieved<'a>,
        rows: Vec<Probabilities>,
        filter_ms: f64,
    ) -> Result<Filtered<'a>, RagError> {
        let (mut dropped, mut read, mut scores) = (Vec::new(), Vec::new(), Vec::new());
        for (hit, row) in rows.into_iter().enumerate() {
            match row {
                Ok(row) => {
                    read.push(hit);
                    scores.push(share_of_yes(row[0], row[1]));
                }
                Err(source) if retrieved.hits[hit].document.modality() == Modality::Image => {
                    let why = format!("the picture cannot be read: {source}");
                    dropped.push(Dropped { hit, at: DroppedAt::Read, why });
                }
                Err(source) => {
                    let question = retrieved.question.id.clone();
                    return Err(RagError::Engine { action: ACTION, question, source });
                }
            }
        }
        let or_nan: Vec<f64> = scores.iter().map(|p| p.unwrap_or(f64::NAN)).collect();
        let kept = calibration::keep(&or_nan, self.threshold, self.k_min, self.k_max);
        let mut filtering = vec![None; retrieved.hits.len()];
        for (i, (&hit, &p)) in read.iter().zip(&scores).enumerate() {
            let verdict = if kept.contains(&i) { Verdict::Keep } else { Verdict::Drop };
            let why = self.why(verdict, p);
            if verdict == Verdict::Drop {
                dropped.push(Dropped { hit, at: DroppedAt::Filter, why: why.clone() });
            }
            filtering[hit] = Some(Filtering { verdict, p, threshold: self.threshold, why });
        }
        let kept = kept.into_iter().map(|i| read[i]).collect();
        Ok(Filtered { retrieved, filtering, kept, dropped, filter_ms })
    }

    fn why(&self, verdict: Verdict, p: Option<f64>) -> String {
        let Some(p) = p else {
            return match verdict {
                Verdict::Keep => "the filter said neither Yes nor No, so the document stays".into(),
                Verdict::Drop => format!(
                    "the filter said neither Yes nor No, and at most {} documents stay",
                    self.k_max
                ),
            };
        };
        let threshold = self.threshold;
        let compared = if p >= threshold {
            format!("P(helps) {p:.3} reaches the threshold {threshold:.3}")
        } else {
            format!("P(helps) {p:.3} is below the threshold {threshold:.3}")
        };
        match verdict {
            Verdict::Keep if p < threshold => {
                format!("{compared}, but the best {} stay in any case", self.k_min)
            }
            Verdict::Drop if p >= threshold => {
                format!("{compared}, but at most {} documents stay", self.k_max)
            }
            Verdict::Keep | Verdict::Drop => compared,
        }
    }
}

/// P(Yes) / (P(Yes) + P(No)); none if the engine said neither.
fn share_of_yes(yes: f64, no: f64) -> Option<f64> {
    let mass = yes + no;
    (mass.is_finite() && mass >= LEAST_MASS && yes >= 0.0 && no >= 0.0).then(|| yes / mass)
}

fn keep_all(retrieved: Retrieved) -> Filtered {
    Filtered {
        filtering: vec![None; retrieved.hits.len()],
        kept: (0..retrieved.hits.len()).collect(),
        dropped: Vec::new(),
        filter_ms: 0.0,
        retrieved,
    }
}
