//! The figures of a report, from outcomes.

use std::collections::BTreeMap;

use super::{
    Figures, FunnelStep, Group, Named, Reliability, ReliabilityBin, ReportInput, Test, Variant,
};
use crate::error::RagError;
use crate::evaluation::{Metric, Outcome};
use crate::statistics::{MOST_SEEDS, Resamples, Scores, holm, paired_permutation};

const RELIABILITY_BINS: usize = 10;
/// Groups are many and their intervals wide: fewer resamples than for the main figures will do.
const GROUP_RESAMPLES: usize = 2_000;

/// Every run must be over the questions of the first, in the same order, and seeds must be few.
pub(super) fn check(variants: &[Variant]) -> Result<(), RagError> {
    if let Some(variant) = variants.iter().find(|variant| variant.runs.len() > MOST_SEEDS) {
        let (name, found) = (variant.name.clone(), variant.runs.len());
        return Err(RagError::TooManySeeds { name, found, most: MOST_SEEDS });
    }
    let mut runs = variants.iter().flat_map(|v| v.runs.iter().map(move |run| (v, run)));
    let Some((_, first)) = runs.next() else { return Ok(()) };
    let same = |outcomes: &[Outcome]| {
        outcomes.len() == first.outcomes.len()
            && outcomes.iter().zip(&first.outcomes).all(|(a, b)| a.question == b.question)
    };
    match runs.find(|(_, run)| !same(&run.outcomes)) {
        None => Ok(()),
        Some((variant, run)) => {
            Err(RagError::DifferentQuestions { name: variant.name.clone(), seed: run.seed })
        }
    }
}

/// Every metric of every variant over some of the questions.
pub(super) fn of_variants(
    variants: &[Variant],
    questions: &[usize],
    resamples: &Resamples,
) -> Named<Figures> {
    let figures = |variant: &Variant| -> Figures {
        let figure = |metric: Metric| {
            let interval = resamples.interval(&scores(variant, metric, questions));
            (metric.name().to_owned(), interval)
        };
        Metric::ALL.into_iter().map(figure).collect()
    };
    variants.iter().map(|variant| (variant.name.clone(), figures(variant))).collect()
}

/// Every metric of every pair that is compared. Holm's correction is over all of them.
pub(super) fn tests(input: &ReportInput, resamples: &Resamples) -> Result<Vec<Test>, RagError> {
    let mut tests = Vec::new();
    for (a, b) in &input.comparisons {
        let (first, second) = (find(&input.variants, a)?, find(&input.variants, b)?);
        for metric in Metric::ALL {
            let questions: Vec<usize> =
                (0..first.runs.first().map_or(0, |run| run.outcomes.len())).collect();
            let scores_a = scores(first, metric, &questions);
            let scores_b = scores(second, metric, &questions);
            let Some(found) = resamples.difference(&scores_a, &scores_b) else { continue };
            let pairs = scores_a.by_question().into_iter().zip(scores_b.by_question());
            let differences: Vec<f64> = pairs.filter_map(|(a, b)| Some(a? - b?)).collect();
            tests.push(Test {
                metric: metric.name(),
                a: a.clone(),
                b: b.clone(),
                diff: found.value,
                low: found.low,
                high: found.high,
                p: paired_permutation(&differences, input.resamples, input.seed),
                p_holm: 1.0,
            });
        }
    }
    let adjusted = holm(&tests.iter().map(|test| test.p).collect::<Vec<f64>>());
    for (test, p) in tests.iter_mut().zip(adjusted) {
        test.p_holm = p;
    }
    Ok(tests)
}

/// The figures of groups of questions, the largest group first.
pub(super) fn groups(input: &ReportInput, name: impl Fn(&Outcome) -> String) -> Named<Group> {
    let mut members: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let first = input.variants.iter().flat_map(|variant| &variant.runs).next();
    for (i, outcome) in first.iter().flat_map(|run| &run.outcomes).enumerate() {
        members.entry(name(outcome)).or_default().push(i);
    }
    let mut members: Vec<(String, Vec<usize>)> = members.into_iter().collect();
    members.sort_by_key(|(_, questions)| std::cmp::Reverse(questions.len()));
    let count = input.resamples.min(GROUP_RESAMPLES);
    let group = |questions: &[usize]| Group {
        questions: questions.len(),
        variants: of_variants(
            &input.variants,
            questions,
            &Resamples::new(questions.len(), count, input.seed),
        ),
    };
    members.into_iter().map(|(name, questions)| (name, group(&questions))).collect()
}

/// The kinds of a question's gold documents, such as `image + text`.
pub(super) fn modality_name(outcome: &Outcome) -> String {
    if outcome.modalities.is_empty() {
        return "none".to_owned();
    }
    let names: Vec<String> = outcome.modalities.iter().map(ToString::to_string).collect();
    names.join(" + ")
}

/// Recall and precision of the gold documents after each step.
pub(super) fn funnel(variant: &Variant) -> Vec<FunnelStep> {
    let mean = |value: &dyn Fn(&Outcome) -> Option<f64>| {
        let outcomes = variant.runs.iter().flat_map(|run| &run.outcomes);
        let values: Vec<f64> = outcomes.filter_map(value).collect();
        values.iter().sum::<f64>() / values.len().max(1) as f64
    };
    let step = |step, score: fn(&Outcome) -> Option<mmrag_task::metrics::SetScore>| FunnelStep {
        step,
        recall: mean(&|outcome| Some(score(outcome)?.recall)),
        precision: mean(&|outcome| Some(score(outcome)?.precision)),
    };
    vec![
        step("retrieved", |outcome| outcome.retrieved),
        step("filtered", |outcome| outcome.filtered),
        step("cited", |outcome| outcome.cited),
    ]
}

/// Confidence against being right; none if no answer has a confidence.
pub(super) fn reliability(variant: &Variant) -> Option<Reliability> {
    let outcomes = variant.runs.iter().flat_map(|run| &run.outcomes);
    let answers: Vec<(f64, f64)> =
        outcomes.filter_map(|o| Some((o.confidence?, o.answer_em))).collect();
    let mut bins = vec![(0usize, 0.0, 0.0); RELIABILITY_BINS];
    for (confidence, right) in &answers {
        let bin = (confidence * RELIABILITY_BINS as f64) as usize;
        let bin = &mut bins[bin.min(RELIABILITY_BINS - 1)];
        *bin = (bin.0 + 1, bin.1 + confidence, bin.2 + right);
    }
    let bins: Vec<ReliabilityBin> = bins
        .into_iter()
        .filter(|(answers, ..)| *answers > 0)
        .map(|(answers, confidence, right)| ReliabilityBin {
            answers,
            confidence: confidence / answers as f64,
            right: right / answers as f64,
        })
        .collect();
    let far = |bin: &ReliabilityBin| (bin.confidence - bin.right).abs() * bin.answers as f64;
    let ece = bins.iter().map(far).sum::<f64>() / answers.len() as f64;
    (!answers.is_empty()).then_some(Reliability { ece, bins })
}

fn scores(variant: &Variant, metric: Metric, questions: &[usize]) -> Scores {
    let of_run = |outcomes: &[Outcome]| {
        questions.iter().map(|&q| outcomes.get(q).and_then(|outcome| metric.of(outcome))).collect()
    };
    Scores { by_seed: variant.runs.iter().map(|run| of_run(&run.outcomes)).collect() }
}

fn find<'a>(variants: &'a [Variant], name: &str) -> Result<&'a Variant, RagError> {
    variants.iter().find(|variant| variant.name == name).ok_or_else(|| RagError::UnknownVariant {
        name: name.to_owned(),
        known: variants.iter().map(|v| v.name.as_str()).collect::<Vec<_>>().join(", "),
    })
}
