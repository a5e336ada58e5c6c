//! Whole trainings of a policy that is a table: it learns, and a run that was interrupted ends with
//! the bytes of one that was not.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

mod questions;
mod table;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use mmrag_core::{ImageSource, Message, Part, Prompt, Role};
use mmrag_task::{FilterMode, PromptStyle, Stage, StageName};
use mmrag_train::{
    Cadence, Estimator, Evaluate, Evaluation, Event, GrpoSettings, Lesson, Outcome, Progress, Run,
    RunFolder, SftSettings, Silent, SourceError, TrainError, train_grpo, train_sft,
};
use questions::examples;
use table::TablePolicy;

fn stage() -> Stage {
    Stage::filter(PromptStyle::Compact, FilterMode::Direct)
}

/// Only documents that help, so that Yes is worth more than No.
fn settings(estimator: Estimator) -> GrpoSettings {
    let mut settings = GrpoSettings::demo(StageName::Filter);
    settings.estimator = estimator;
    settings.cases.positive_weight = 1.0;
    settings.steps = Some(20);
    settings.prompts_per_step = 4;
    settings.cases.hard_negatives = 0;
    settings.cases.easy_negatives = 0;
    settings.schedule.learning_rate = 0.1;
    settings.cadence = Cadence { evaluate: 0, checkpoint: 4, samples: 3 };
    settings
}

/// Stops a run after a step.
struct StopAfter<'a> {
    step: usize,
    stop: &'a AtomicBool,
}

impl Progress for StopAfter<'_> {
    fn tell(&self, event: &Event<'_>) {
        if matches!(event, Event::Stepped { step, .. } if *step == self.step) {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// Says what the probability of Yes is; breaks down when it is asked at `broken`.
struct Scripted {
    broken: Option<usize>,
}

impl Evaluate<TablePolicy> for Scripted {
    fn evaluate(&mut self, policy: &TablePolicy, step: usize) -> Result<Evaluation, SourceError> {
        if self.broken == Some(step) {
            return Err("the lights went out".into());
        }
        // Best in the middle of a run that always improves.
        let score = if step <= 6 { policy.p_yes() } else { 0.0 };
        Ok(Evaluation { score, ..Evaluation::default() })
    }
}

fn grpo(
    place: &Path,
    settings: &GrpoSettings,
    broken: Option<usize>,
    stop_after: usize,
) -> Result<(Outcome, TablePolicy), TrainError> {
    let policy = TablePolicy::new();
    let folder = RunFolder::open(place, settings).unwrap();
    let stop = AtomicBool::new(false);
    let mut evaluate = Scripted { broken };
    let progress = StopAfter { step: stop_after, stop: &stop };
    let mut run =
        Run { folder: &folder, evaluate: Some(&mut evaluate), progress: &progress, stop: &stop };
    let examples = examples(9);
    let outcome = train_grpo(&policy, &stage(), &examples, settings, &mut run)?;
    Ok((outcome, policy))
}

fn metric(place: &Path, name: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(place.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    lines.filter_map(|line| line.get(name)?.as_f64()).collect()
}

/// Every file of a run but the timings.
fn bytes(place: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![place.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("timings.jsonl") {
                let name = path.strip_prefix(place).unwrap().to_string_lossy().into_owned();
                files.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

#[test]
fn what_is_worth_more_becomes_more_probable() {
    for estimator in [Estimator::Sampled, Estimator::Exact] {
        let place = tempfile::tempdir().unwrap();
        let (outcome, policy) = grpo(place.path(), &settings(estimator), None, usize::MAX).unwrap();
        assert!(outcome.finished && outcome.step == 20);
        assert!(TablePolicy::new().p_yes() < 0.34);
        assert!(policy.p_yes() > 0.7, "{estimator:?}: {}", policy.p_yes());
        let rewards = metric(place.path(), "reward");
        assert_eq!(rewards.len(), 20);
        assert!(rewards[19] > rewards[0] + 0.2, "{estimator:?}: {rewards:?}");
    }
}

#[test]
fn documents_that_do_not_help_pull_the_other_way() {
    let place = tempfile::tempdir().unwrap();
    let mut settings = settings(Estimator::Exact);
    settings.cases.hard_negatives = 2;
    settings.cases.easy_negatives = 1;
    settings.prompts_per_step = 8;
    let (_, policy) = grpo(place.path(), &settings, None, usize::MAX).unwrap();
    assert!(policy.p_yes() < 0.2, "{}", policy.p_yes());
    assert!(metric(place.path(), "filter/p_helping").len() == 20);
}

#[test]
fn an_interrupted_run_ends_with_the_bytes_of_one_that_was_not() {
    for estimator in [Estimator::Sampled, Estimator::Exact] {
        let mut settings = settings(estimator);
        settings.cadence.evaluate = 3;
        let whole = tempfile::tempdir().unwrap();
        grpo(whole.path(), &settings, None, usize::MAX).unwrap();
        // A stop between checkpoints, then a breakdown after the step was logged.
        let parts = tempfile::tempdir().unwrap();
        let (stopped, _) = grpo(parts.path(), &settings, None, 5).unwrap();
        assert!(!stopped.finished && stopped.step == 5);
        let error = grpo(parts.path(), &settings, Some(15), usize::MAX).unwrap_err();
        assert!(error.to_string().contains("step 15"), "{error}");
        let (outcome, _) = grpo(parts.path(), &settings, None, usize::MAX).unwrap();
        assert!(outcome.finished);
        let (whole, parts) = (bytes(whole.path()), bytes(parts.path()));
        assert!(whole.keys().eq(parts.keys()), "{:?} {:?}", whole.keys(), parts.keys());
        for (name, content) in &whole {
            assert!(*content == parts[name], "{estimator:?}: {name} differs");
        }
    }
}

#[test]
fn the_best_checkpoint_is_kept() {
    let place = tempfile::tempdir().unwrap();
    let mut settings = settings(Estimator::Exact);
    settings.cadence.evaluate = 3;
    let (outcome, _) = grpo(place.path(), &settings, None, usize::MAX).unwrap();
    assert_eq!(outcome.best.unwrap().step, 6);
    let best = outcome.best_checkpoint.unwrap();
    assert!(best.ends_with("step-000006") && best.join("weights/table.safetensors").exists());
    assert!(outcome.last_checkpoint.unwrap().ends_with("step-000020"));
}

#[test]
fn what_a_training_begins_with_is_kept_if_nothing_is_better() {
    let place = tempfile::tempdir().unwrap();
    let mut settings = settings(Estimator::Exact);
    // What does not help pulls P(Yes) down, and with it the score.
    settings.cases.hard_negatives = 2;
    settings.cases.easy_negatives = 1;
    settings.prompts_per_step = 8;
    settings.cadence.evaluate = 3;
    let (outcome, _) = grpo(place.path(), &settings, None, usize::MAX).unwrap();
    assert_eq!(outcome.best.unwrap().step, 0);
    let best = outcome.best_checkpoint.unwrap();
    assert!(best.ends_with("step-000000") && best.join("weights/table.safetensors").exists());
}

#[test]
fn threads_and_passes_change_nothing() {
    let run = |threads: usize, tokens_per_pass: usize| {
        let place = tempfile::tempdir().unwrap();
        let mut settings = settings(Estimator::Sampled);
        settings.tokens_per_pass = tokens_per_pass;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (_, policy) = pool.install(|| grpo(place.path(), &settings, None, usize::MAX)).unwrap();
        (policy.table(), metric(place.path(), "grad_norm")[0])
    };
    let (table, norm) = run(1, 10_000);
    assert_eq!((table, norm), run(2, 10_000));
    // Adam turns rounding of a gradient near 0 into a step, so of passes only the norm is compared.
    assert!((norm - run(1, 1).1).abs() < 1e-6 * norm);
}

#[test]
fn groups_without_a_difference_teach_nothing() {
    let place = tempfile::tempdir().unwrap();
    let mut settings = settings(Estimator::Sampled);
    settings.rollout.max_completion_tokens = 1;
    settings.steps = Some(2);
    let (_, policy) = grpo(place.path(), &settings, None, usize::MAX).unwrap();
    assert_eq!(policy.table(), TablePolicy::new().table());
    assert_eq!(metric(place.path(), "frac_reward_zero_std"), [1.0, 1.0]);
    assert_eq!(metric(place.path(), "dynamic/kept_groups"), [0.0, 0.0]);
    assert_eq!(metric(place.path(), "dynamic/drawn_groups"), [8.0, 8.0]);
}

#[test]
fn several_updates_are_clipped_and_held_to_the_reference() {
    let place = tempfile::tempdir().unwrap();
    let mut settings = settings(Estimator::Sampled);
    settings.iterations = 3;
    settings.loss.beta = 0.5;
    settings.steps = Some(6);
    let (_, policy) = grpo(place.path(), &settings, None, usize::MAX).unwrap();
    let kl = metric(place.path(), "kl");
    assert!(kl.last().unwrap() > &0.0 && kl.iter().all(|kl| *kl >= 0.0), "{kl:?}");
    assert!(metric(place.path(), "clip_ratio/region_mean").iter().any(|share| *share > 0.0));
    let difference = metric(place.path(), "sampling/sampling_logp_difference/max");
    assert!(difference.iter().all(|d| *d < 1e-5), "{difference:?}");
    let alone = tempfile::tempdir().unwrap();
    settings.loss.beta = 0.0;
    let (_, free) = grpo(alone.path(), &settings, None, usize::MAX).unwrap();
    assert!(free.p_yes() > policy.p_yes());
}

fn sft(place: &Path, stop_after: usize) -> (Outcome, TablePolicy) {
    let mut settings = SftSettings::demo();
    settings.steps = Some(30);
    settings.lessons_per_step = 4;
    settings.tokens_per_pass = 20;
    settings.schedule.learning_rate = 0.2;
    settings.cadence = Cadence { evaluate: 0, checkpoint: 7, samples: 0 };
    let lessons: Vec<Lesson> = (0..6)
        .map(|n| Lesson {
            prompt: Prompt {
                messages: vec![Message {
                    role: Role::User,
                    parts: vec![Part::Text(format!("Question {n}"))],
                }],
                reply_prefix: String::new(),
                reasons: true,
            },
            reply: format!("<answer>{}</answer>", if n < 5 { "Yes" } else { "No" }),
        })
        .collect();
    let policy = TablePolicy::new();
    let folder = RunFolder::open(place, &settings).unwrap();
    let stop = AtomicBool::new(false);
    let progress = StopAfter { step: stop_after, stop: &stop };
    let mut run = Run { folder: &folder, evaluate: None, progress: &progress, stop: &stop };
    let outcome = train_sft(&policy, &lessons, &settings, &mut run).unwrap();
    (outcome, policy)
}

#[test]
fn lessons_are_learned_and_an_interrupted_course_ends_alike() {
    let whole = tempfile::tempdir().unwrap();
    let (outcome, policy) = sft(whole.path(), usize::MAX);
    assert!(outcome.finished);
    assert!((policy.p_yes() - 5.0 / 6.0).abs() < 0.1, "{}", policy.p_yes());
    let loss = metric(whole.path(), "loss");
    let last = loss[18..].iter().sum::<f64>() / 12.0;
    assert!(last < 0.6 * loss[0], "{loss:?}");
    let parts = tempfile::tempdir().unwrap();
    assert_eq!(sft(parts.path(), 10).0.step, 10);
    sft(parts.path(), usize::MAX);
    let (whole, parts) = (bytes(whole.path()), bytes(parts.path()));
    for (name, content) in &whole {
        assert!(*content == parts[name], "{name} differs");
    }
}

#[test]
fn nothing_to_train_on_is_said() {
    let place = tempfile::tempdir().unwrap();
    let settings = settings(Estimator::Sampled);
    let folder = RunFolder::open(place.path(), &settings).unwrap();
    let stop = AtomicBool::new(false);
    let mut run = Run { folder: &folder, evaluate: None, progress: &Silent, stop: &stop };
    let mut examples = examples(2);
    for example in &mut examples {
        example.candidates.clear();
    }
    let policy = TablePolicy::new();
    let result = train_grpo(&policy, &stage(), &examples, &settings, &mut run);
    assert!(matches!(result, Err(TrainError::TooFewCases { wanted: 4, found: 0 })));
}

#[test]
fn a_question_that_cannot_be_shown_is_named() {
    for estimator in [Estimator::Sampled, Estimator::Exact] {
        let place = tempfile::tempdir().unwrap();
        let settings = settings(estimator);
        let folder = RunFolder::open(place.path(), &settings).unwrap();
        let stop = AtomicBool::new(false);
        let mut run = Run { folder: &folder, evaluate: None, progress: &Silent, stop: &stop };
        let mut examples = examples(1);
        examples[0].question.images = vec![ImageSource::Path("gone.png".into())];
        let policy = TablePolicy::new();
        let error =
            train_grpo(&policy, &stage(), &examples, &settings, &mut run).unwrap_err().to_string();
        assert!(error.contains("question q0 at step 0"), "{error}");
    }
}

/// Keeps what was left out.
#[derive(Default)]
struct Skips(std::sync::Mutex<Vec<String>>);

impl Progress for Skips {
    fn tell(&self, event: &Event<'_>) {
        if let Event::Skipped { error } = event {
            self.0.lock().unwrap().push(error.to_string());
        }
    }
}

#[test]
fn one_broken_question_does_not_end_a_run() {
    for estimator in [Estimator::Sampled, Estimator::Exact] {
        let place = tempfile::tempdir().unwrap();
        let settings = settings(estimator);
        let folder = RunFolder::open(place.path(), &settings).unwrap();
        let (stop, skips) = (AtomicBool::new(false), Skips::default());
        let mut run = Run { folder: &folder, evaluate: None, progress: &skips, stop: &stop };
        let mut examples = examples(9);
        examples[3].question.images = vec![ImageSource::Path("gone.png".into())];
        let policy = TablePolicy::new();
        let outcome = train_grpo(&policy, &stage(), &examples, &settings, &mut run).unwrap();
        assert!(outcome.finished && policy.p_yes() > 0.6, "{estimator:?}: {}", policy.p_yes());
        let skips = skips.0.into_inner().unwrap();
        assert!(!skips.is_empty() && skips.iter().all(|skip| skip.contains("question q3")));
        let counted: f64 = metric(place.path(), "skipped").iter().sum();
        assert_eq!(counted as usize, skips.len());
    }
}
