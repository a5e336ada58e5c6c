//! The filter's verdicts over whole data sets: the threshold, and what it keeps.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use mmrag_core::{Choose, Example, Generate, Prompt, Sampling};
use mmrag_rag::{ConfidenceMap, FilterStage, answer_confidence};
use mmrag_task::calibration::{keep, threshold};
use mmrag_task::{Case, Stage};

use crate::dev::exact;
use crate::loading::verdict_tokens;
use crate::notes::Keep;
use crate::progress::Meter;
use crate::settings::KeepSettings;

/// Questions whose candidates are judged at once.
pub(crate) const AT_ONCE: usize = 16;

/// P(Yes) / (P(Yes) + P(No)) of each candidate of each example. What the filter cannot tell is not
/// a number. Stops early, with fewer examples, when `stop` is set.
///
/// # Errors
///
/// When the engine fails.
pub(crate) fn verdicts<E: Choose + Generate>(
    engine: &E,
    stage: &Stage,
    examples: &[Example],
    title: &str,
    stop: &AtomicBool,
) -> anyhow::Result<Vec<Vec<f64>>> {
    let filter = FilterStage {
        stage,
        engine,
        writer: Some(engine),
        max_new_tokens: verdict_tokens(stage),
        threshold: 0.0,
        k_min: 0,
        k_max: usize::MAX,
    };
    let meter = Meter::new(title, examples.len());
    let mut all = Vec::with_capacity(examples.len());
    for batch in examples.chunks(AT_ONCE) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let cases: Vec<Case> = batch
            .iter()
            .flat_map(|example| {
                let case = |document| Case::pointwise(&example.question, document);
                example.candidates.iter().map(case)
            })
            .collect();
        let opinions = filter.opinions(&cases).context("failed to filter the candidates")?;
        let mut chosen = opinions.into_iter().map(|opinion| opinion.p.unwrap_or(f64::NAN));
        all.extend(
            batch.iter().map(|e| chosen.by_ref().take(e.candidates.len()).collect::<Vec<_>>()),
        );
        meter.at(all.len(), "");
    }
    Ok(all)
}

/// How often a ranker is right at a confidence, from its greedy replies to examples. Nothing if it
/// was stopped.
///
/// # Errors
///
/// When the engine fails.
pub(crate) fn confidence(
    engine: &dyn Generate,
    stage: &Stage,
    examples: &[Example],
    sampling: &Sampling,
    stop: &AtomicBool,
) -> anyhow::Result<Option<ConfidenceMap>> {
    let meter = Meter::new("confidence", examples.len());
    let mut answers = Vec::with_capacity(examples.len());
    for (nth, batch) in examples.chunks(AT_ONCE).enumerate() {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let case = |e: &Example| Case::listwise(&e.question, &e.candidates, 0);
        let cases: Vec<Case> = batch.iter().map(case).collect();
        let prompts: Vec<Prompt> = cases.iter().map(|case| stage.prompt(case)).collect();
        let replies = engine.generate(&prompts, sampling).context("failed to draw replies")?;
        for ((case, example), completions) in cases.iter().zip(batch).zip(&replies) {
            let Some(completion) = completions.first() else { continue };
            let Ok(reply) = stage.parse(case, &completion.text) else { continue };
            if let Some(raw) = answer_confidence(engine, completion) {
                answers.push((raw, exact(&reply, &example.gold) == 1.0));
            }
        }
        meter.at((nth * AT_ONCE + batch.len()).min(examples.len()), "");
    }
    Ok(Some(ConfidenceMap::fit(&answers)))
}

/// The threshold that keeps every gold document for the wanted share of the questions that have
/// gold documents.
pub(crate) fn calibrated(
    settings: &KeepSettings,
    examples: &[Example],
    verdicts: &[Vec<f64>],
) -> Keep {
    let least: Vec<f64> = examples
        .iter()
        .zip(verdicts)
        .filter(|(example, _)| !example.gold.documents.is_empty())
        .map(|(example, p)| least_gold(example, p))
        .collect();
    let KeepSettings { share, k_min, k_max } = *settings;
    Keep { threshold: threshold(&least, share), k_min, k_max }
}

fn least_gold(example: &Example, probabilities: &[f64]) -> f64 {
    example
        .candidates
        .iter()
        .zip(probabilities)
        .filter(|(document, p)| example.gold.documents.contains(&document.id) && !p.is_nan())
        .fold(1.0, |least, (_, p)| f64::min(least, *p))
}

/// Shares of what a filter does to examples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct KeepShares {
    /// Questions with gold documents of which every one stays.
    pub(crate) gold_kept: f64,
    /// Other documents that go.
    pub(crate) distractors_dropped: f64,
}

/// What a filter does to examples.
pub(crate) fn shares(rule: Keep, examples: &[Example], verdicts: &[Vec<f64>]) -> KeepShares {
    let (mut with_gold, mut whole, mut others, mut dropped) = (0, 0, 0, 0);
    for (example, probabilities) in examples.iter().zip(verdicts) {
        let kept = keep(probabilities, rule.threshold, rule.k_min, rule.k_max);
        let mut lost = false;
        for (index, document) in example.candidates.iter().enumerate() {
            let (is_gold, stays) =
                (example.gold.documents.contains(&document.id), kept.contains(&index));
            lost |= is_gold && !stays;
            others += usize::from(!is_gold);
            dropped += usize::from(!is_gold && !stays);
        }
        if !example.gold.documents.is_empty() {
            with_gold += 1;
            whole += usize::from(!lost);
        }
    }
    let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
    KeepShares { gold_kept: share(whole, with_gold), distractors_dropped: share(dropped, others) }
}

/// The examples with the candidates that a filter keeps, and every gold one: a ranker learns
/// nothing from a question whose gold the filter lost.
pub(crate) fn kept(rule: Keep, examples: &[Example], verdicts: &[Vec<f64>]) -> Vec<Example> {
    let restricted = |(example, probabilities): (&Example, &Vec<f64>)| {
        let stays = keep(probabilities, rule.threshold, rule.k_min, rule.k_max);
        let candidates = example.candidates.iter().enumerate();
        let candidates = candidates
            .filter(|(index, document)| {
                stays.contains(index) || example.gold.documents.contains(&document.id)
            })
            .map(|(_, document)| document.clone())
            .collect();
        Example { candidates, ..example.clone() }
    };
    examples.iter().zip(verdicts).map(restricted).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mmrag_core::{Content, Document, DocumentId, Gold, Question, QuestionId};

    use super::*;

    /// An example of `n` documents named by their place, some of them gold.
    fn example(n: usize, gold: &[usize]) -> Example {
        let id = |index: usize| DocumentId::new(index.to_string());
        let document = |index| {
            let content = Content::Text(String::new());
            Arc::new(Document { id: id(index), title: String::new(), content })
        };
        Example {
            question: Question {
                id: QuestionId::new("q"),
                text: String::new(),
                images: Vec::new(),
            },
            candidates: (0..n).map(document).collect(),
            gold: Gold {
                documents: gold.iter().copied().map(id).collect(),
                answers: vec!["a".into()],
                ..Gold::default()
            },
            kind: String::new(),
            steps: Vec::new(),
        }
    }

    #[test]
    fn the_threshold_keeps_what_it_should_and_the_shares_say_so() {
        let examples = [example(3, &[0]), example(3, &[1, 2]), example(2, &[])];
        let verdicts = [vec![0.9, 0.3, 0.1], vec![0.2, 0.8, 0.6], vec![0.1, 0.2]];
        let settings = KeepSettings { share: 1.0, k_min: 1, k_max: 9 };
        let rule = calibrated(&settings, &examples, &verdicts);
        assert_eq!(rule.threshold, 0.6);
        let shares = shares(rule, &examples, &verdicts);
        assert_eq!(shares, KeepShares { gold_kept: 1.0, distractors_dropped: 0.8 });
        let strict = Keep { threshold: 0.95, k_min: 0, k_max: 9 };
        let kept = kept(strict, &examples, &verdicts);
        let sizes: Vec<usize> = kept.iter().map(|example| example.candidates.len()).collect();
        assert_eq!(sizes, [1, 2, 0]);
    }
}
