//! The figures of a report, from outcomes.

use std::collections::BTreeMap;

use mmrag_task::metrics::SetScore;

use super::{
    Figures, FunnelStep, Group, Named, Reliability, ReliabilityBin, ReportInput, SliceTest, Test,
    Variant,
};
use crate::error::RagError;
use crate::evaluation::{Failure, Metric, Outcome, Slicing};
use crate::statistics::{
    Interval, MOST_SEEDS, Resamples, Scores, holm, mcnemar_exact, paired_permutation,
};

const RELIABILITY_BINS: usize = 10;
const RISK_POINTS: usize = 99;
/// Groups are many and their intervals wide: fewer resamples than for the main figures will do.
const GROUP_RESAMPLES: usize = 2_000;
/// Standard errors between the ends of a 95 % interval of a normal variable.
const INTERVAL_WIDTH: f64 = 2.0 * 1.96;
/// Standard errors of a difference that a two-sided test at 5 % finds in four of five cases: the
/// normal quantiles at 0.975 and 0.8 together.
const DETECTABLE: f64 = 1.96 + 0.84;

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

/// The metrics that are told: those of every run, and of the others those that some answer has.
fn told(variants: &[Variant]) -> Vec<Metric> {
    let outcomes =
        || variants.iter().flat_map(|variant| &variant.runs).flat_map(|run| &run.outcomes);
    let has = |metric: Metric| outcomes().any(|outcome| metric.of(outcome).is_some());
    Metric::all().filter(|metric| Metric::CORE.contains(metric) || has(*metric)).collect()
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
        told(variants).into_iter().map(figure).collect()
    };
    variants.iter().map(|variant| (variant.name.clone(), figures(variant))).collect()
}

/// Every metric of every pair that is compared. Holm's correction is over all of them.
pub(super) fn tests(input: &ReportInput, resamples: &Resamples) -> Result<Vec<Test>, RagError> {
    let mut tests = Vec::new();
    for (a, b) in &input.comparisons {
        let pair = (find(&input.variants, a)?, find(&input.variants, b)?);
        let n = pair.0.runs.first().map_or(0, |run| run.outcomes.len());
        let questions: Vec<usize> = (0..n).collect();
        let of_metric = |metric| test(input, pair, metric, &questions, resamples);
        tests.extend(Metric::all().filter_map(of_metric));
    }
    let adjusted = holm(&tests.iter().map(|test| test.p).collect::<Vec<f64>>());
    for (test, p) in tests.iter_mut().zip(adjusted) {
        test.p_holm = p;
    }
    Ok(tests)
}

/// The tests of answer EM and F1 over every slice, if two variants are compared and no more.
/// Holm's correction is over all rows of a way of slicing.
pub(super) fn slice_tests(input: &ReportInput) -> Result<Vec<SliceTest>, RagError> {
    let [(a, b)] = &input.comparisons[..] else { return Ok(Vec::new()) };
    let pair = (find(&input.variants, a)?, find(&input.variants, b)?);
    let count = input.resamples.min(GROUP_RESAMPLES);
    let mut all = Vec::new();
    for slicing in Slicing::ALL {
        let slices = members(&input.variants, slicing);
        if slices.len() < 2 {
            continue;
        }
        let mut rows = Vec::new();
        for (slice, questions) in slices {
            let resamples = Resamples::new(questions.len(), count, input.seed);
            let metrics = [Metric::AnswerEm, Metric::AnswerF1].into_iter();
            let tests = metrics.filter_map(|m| test(input, pair, m, &questions, &resamples));
            rows.extend(tests.map(|test| SliceTest {
                slicing: slicing.name(),
                slice: slice.clone(),
                questions: questions.len(),
                test,
            }));
        }
        let adjusted = holm(&rows.iter().map(|row| row.test.p).collect::<Vec<f64>>());
        for (row, p) in rows.iter_mut().zip(adjusted) {
            row.test.p_holm = p;
        }
        all.append(&mut rows);
    }
    Ok(all)
}

/// One metric of one pair over some questions, not corrected yet.
fn test(
    input: &ReportInput,
    (first, second): (&Variant, &Variant),
    metric: Metric,
    questions: &[usize],
    resamples: &Resamples,
) -> Option<Test> {
    let (scores_a, scores_b) =
        (scores(first, metric, questions), scores(second, metric, questions));
    let Interval { value, low, high } = resamples.difference(&scores_a, &scores_b)?;
    let pairs = scores_a.by_question().into_iter().zip(scores_b.by_question());
    let differences: Vec<f64> = pairs.filter_map(|(a, b)| Some(a? - b?)).collect();
    let better = if metric.less_is_better() { -1.0 } else { 1.0 };
    let count = |sign: f64| differences.iter().filter(|d| **d * sign * better > 0.0).count();
    let is_one_run = first.runs.len() == 1 && second.runs.len() == 1;
    let is_mcnemar = metric == Metric::AnswerEm && is_one_run;
    let permutation = || paired_permutation(&differences, input.resamples, input.seed);
    Some(Test {
        metric: metric.name(),
        a: first.name.clone(),
        b: second.name.clone(),
        diff: value,
        low,
        high,
        p: if is_mcnemar { mcnemar_exact(count(1.0), count(-1.0)) } else { permutation() },
        p_holm: 1.0,
        how: if is_mcnemar { "mcnemar" } else { "permutation" },
        detectable: DETECTABLE * (high - low) / INTERVAL_WIDTH,
        wins: count(1.0),
        losses: count(-1.0),
    })
}

/// The figures of groups of questions, the largest group first.
pub(super) fn groups(input: &ReportInput, slicing: Slicing) -> Named<Group> {
    let members = members(&input.variants, slicing);
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

/// The slices with the places of their questions, the largest first.
pub(super) fn members(variants: &[Variant], slicing: Slicing) -> Vec<(String, Vec<usize>)> {
    let mut members: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let first = variants.iter().flat_map(|variant| &variant.runs).next();
    for (i, outcome) in first.iter().flat_map(|run| &run.outcomes).enumerate() {
        members.entry(slicing.of(outcome)).or_default().push(i);
    }
    let mut members: Vec<(String, Vec<usize>)> = members.into_iter().collect();
    members.sort_by_key(|(_, questions)| std::cmp::Reverse(questions.len()));
    members
}

/// How many answers of a variant are right, then how many are in each class of failure that there
/// is, over all its runs.
pub(super) fn failures(variant: &Variant) -> Named<usize> {
    let outcomes = || variant.runs.iter().flat_map(|run| &run.outcomes);
    let count = |class: Option<Failure>| outcomes().filter(|o| Failure::of(o) == class).count();
    let classes =
        Failure::ALL.into_iter().map(|class| (class.name().to_owned(), count(Some(class))));
    let right = std::iter::once(("right".to_owned(), count(None)));
    right.chain(classes.filter(|(_, count)| *count > 0)).collect()
}

/// Recall and precision of the gold documents after each step, and at last the right answers.
pub(super) fn funnel(variant: &Variant) -> Vec<FunnelStep> {
    let mean = |value: &dyn Fn(&Outcome) -> Option<f64>| {
        let outcomes = variant.runs.iter().flat_map(|run| &run.outcomes);
        let values: Vec<f64> = outcomes.filter_map(value).collect();
        values.iter().sum::<f64>() / values.len().max(1) as f64
    };
    let step = |step, score: fn(&Outcome) -> Option<SetScore>| FunnelStep {
        step,
        recall: mean(&|outcome| Some(score(outcome)?.recall)),
        precision: Some(mean(&|outcome| Some(score(outcome)?.precision))),
    };
    let right = mean(&|outcome| outcome.retrieved.map(|_| outcome.answer_em));
    vec![
        step("retrieved", |outcome| outcome.retrieved),
        step("filtered", |outcome| outcome.filtered),
        step("ranked", |outcome| outcome.ranked),
        step("cited", |outcome| outcome.cited),
        FunnelStep { step: "right", recall: right, precision: None },
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
    let questions: usize = variant.runs.iter().map(|run| run.outcomes.len()).sum();
    let (aurc, risk) = risk(answers.clone(), questions);
    (!answers.is_empty()).then_some(Reliability { ece, bins, aurc, risk })
}

/// The mean share wrong over all numbers of answers given, and its course, from answers as
/// confidence and being right (El-Yaniv and Wiener, 2010).
fn risk(mut answers: Vec<(f64, f64)>, questions: usize) -> (f64, Vec<[f64; 2]>) {
    answers.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut wrong, mut points) = (0.0, Vec::with_capacity(answers.len()));
    for (nth, (_, right)) in answers.iter().enumerate() {
        wrong += 1.0 - right;
        let given = (nth + 1) as f64;
        points.push([given / questions.max(1) as f64, wrong / given]);
    }
    let mean = points.iter().map(|point| point[1]).sum::<f64>() / points.len().max(1) as f64;
    let every = points.len().div_ceil(RISK_POINTS).max(1);
    let last = points.len().saturating_sub(1);
    let is_shown = |(nth, _): &(usize, &[f64; 2])| nth % every == 0 || *nth == last;
    (mean, points.iter().enumerate().filter(is_shown).map(|(_, point)| *point).collect())
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
