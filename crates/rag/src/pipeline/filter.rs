//! Retrieved → filtered.

use std::time::Instant;

use mmrag_core::{EngineError, Modality};
use mmrag_task::{Case, calibration};

use super::{Dropped, FilterStage, Filtered, Opinion, Pipeline, Retrieved, elapsed_ms};
use crate::error::RagError;
use crate::explanation::{DroppedAt, Filtering, Verdict};

const ACTION: &str = "filter the candidates";

impl<'a> Pipeline<'a> {
    /// Filters the candidates of many questions with one call of the engine.
    pub fn filter_all(
        &self,
        retrieved: Vec<Result<Retrieved<'a>, RagError>>,
    ) -> Vec<Result<Filtered<'a>, RagError>> {
        let Some(filter) = self.filter else {
            return retrieved.into_iter().map(|r| Ok(keep_all(r?))).collect();
        };
        let start = Instant::now();
        let cases = |r: &Retrieved| {
            let case = |document| Case::pointwise(r.question, document);
            r.hits.iter().map(|hit| case(&hit.document)).collect()
        };
        let cases: Vec<Vec<Case>> =
            retrieved.iter().map(|r| r.as_ref().map_or_else(|_| vec![], cases)).collect();
        let opinions = filter.opinions_all(&cases);
        let share_ms = elapsed_ms(start) / retrieved.len().max(1) as f64;
        let pairs = retrieved.into_iter().zip(opinions);
        pairs.map(|(retrieved, rows)| filter.judge(retrieved?, rows, share_ms)).collect()
    }
}

impl FilterStage<'_> {
    fn judge<'a>(
        &self,
        retrieved: Retrieved<'a>,
        opinions: Vec<Result<Opinion, EngineError>>,
        filter_ms: f64,
    ) -> Result<Filtered<'a>, RagError> {
        let (mut dropped, mut read, mut held) = (Vec::new(), Vec::new(), Vec::new());
        for (hit, opinion) in opinions.into_iter().enumerate() {
            match opinion {
                Ok(opinion) => {
                    read.push(hit);
                    held.push(opinion);
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
        let or_nan: Vec<f64> = held.iter().map(|held| held.p.unwrap_or(f64::NAN)).collect();
        let kept = calibration::keep(&or_nan, self.threshold, self.k_min, self.k_max);
        let mut filtering = vec![None; retrieved.hits.len()];
        for (i, (&hit, Opinion { p, reply })) in read.iter().zip(held).enumerate() {
            let verdict = if kept.contains(&i) { Verdict::Keep } else { Verdict::Drop };
            let judged = self.filtering(verdict, Opinion { p, reply });
            if verdict == Verdict::Drop {
                dropped.push(Dropped { hit, at: DroppedAt::Filter, why: judged.why.clone() });
            }
            filtering[hit] = Some(judged);
        }
        let kept = kept.into_iter().map(|i| read[i]).collect();
        Ok(Filtered { retrieved, filtering, kept, dropped, filter_ms })
    }

    /// An opinion with the verdict that came of it, and why.
    fn filtering(&self, verdict: Verdict, opinion: Opinion) -> Filtering {
        let Opinion { p, reply } = opinion;
        let (why, threshold) = (self.why(verdict, p), self.threshold);
        Filtering { verdict, p, threshold, why, reply }
    }

    /// What an opinion alone comes to, whatever else there is to keep. No opinion keeps.
    pub fn alone(&self, opinion: Opinion) -> Filtering {
        let stays = opinion.p.is_none_or(|p| p >= self.threshold);
        self.filtering(if stays { Verdict::Keep } else { Verdict::Drop }, opinion)
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
        let relation = if p >= threshold { "reaches" } else { "is below" };
        let compared =
            format!("P(helps) {} {relation} the threshold {}", shown(p), shown(threshold));
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

/// A probability to three places, or by its power of ten where those say nothing.
pub(super) fn shown(p: f64) -> String {
    if p == 0.0 || p >= 0.001 { format!("{p:.3}") } else { format!("{p:.1e}") }
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

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn small_probabilities_can_be_told_apart() {
        let told = [0.0, 4.2e-4, 7.41e-5, 0.001, 0.9961].map(shown);
        assert_eq!(told, ["0.000", "4.2e-4", "7.4e-5", "0.001", "0.996"]);
    }
}
