//! Supervised fine-tuning: lessons in batches, the mean negative log-probability of their replies.
//!
//! The next batches are read and encoded on a thread of their own while the current one trains.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

use crate::batch::{PassSettings, gradients, group_tokens};
use crate::error::TrainError;
use crate::learner::{Learner, ReplyGroup};
use crate::metrics::Metrics;
use crate::progress::{Outcome, Run};
use crate::session::{Plan, Session};
use crate::settings::SftSettings;
use crate::source::{Lessons, Walk, lesson};

/// Batches that are ready before they are needed.
const AHEAD: usize = 2;

/// Batches that are held at a time: the one that is learned from, those ahead, the next one.
pub const LESSON_BATCHES_READY: usize = AHEAD + 2;

/// The lessons of one step, ready for the policy.
struct Batch<E> {
    groups: Vec<ReplyGroup<E>>,
    /// Lessons that could not be made ready.
    skipped: Vec<TrainError>,
    /// All tokens, prompts included.
    tokens: usize,
    reply_tokens: usize,
}

/// Trains on lessons until the settings' steps are done or the run is stopped; goes on from the
/// run folder's last checkpoint if it has one.
///
/// # Errors
///
/// When the settings contradict themselves, a lesson cannot be had, the policy cannot run one, the
/// gradient is not finite, or the run folder cannot be written.
pub fn train_sft<L: Learner>(
    learner: &L,
    lessons: &dyn Lessons,
    settings: &SftSettings,
    run: &mut Run<'_, L>,
) -> Result<Outcome, TrainError> {
    settings.check()?;
    if lessons.is_empty() {
        return Err(TrainError::TooFewCases { wanted: settings.lessons_per_step, found: 0 });
    }
    let SftSettings { schedule, optimizer, cadence, .. } = settings;
    let plan = Plan { schedule, optimizer, cadence };
    let steps = settings.total_steps(lessons.len());
    let mut session = Session::begin(learner, run, plan, steps)?;
    if settings.lora.is_some() {
        session.measure_start()?;
    }
    thread::scope(|scope| {
        let (ready, batches) = sync_channel(AHEAD);
        let from = session.next().unwrap_or(steps);
        scope.spawn(move || encode_batches(learner, lessons, settings, from..steps, &ready));
        // Dropping `batches` at the end of the steps ends the thread.
        train_batches(session, settings, lessons.len(), batches)
    })
}

fn train_batches<L: Learner>(
    mut session: Session<'_, '_, L>,
    settings: &SftSettings,
    lessons: usize,
    batches: Receiver<Result<Batch<L::Encoded>, TrainError>>,
) -> Result<Outcome, TrainError> {
    while let Some(step) = session.next() {
        let began = Instant::now();
        let batch = batches.recv().expect("the encoder ends only after the last step")?;
        let waited = began.elapsed();
        let how =
            PassSettings { tokens_per_pass: settings.tokens_per_pass, temperature: 1.0, step };
        let share = 1.0 / batch.reply_tokens.max(1) as f64;
        let (mut loss, mut entropy) = (0.0, 0.0);
        let gradients = gradients(session.learner, &batch.groups, &how, |_, scores| {
            let slopes = scores.rows().map(|row| {
                loss -= share * row.logprobs.iter().sum::<f64>();
                entropy += share * row.entropies.iter().sum::<f64>();
                vec![-share; row.logprobs.len()]
            });
            slopes.collect()
        })?;
        let (norm, rate) = session.update(&gradients)?;
        let mut metrics = Metrics::default();
        session.tell_skipped(&batch.skipped, &mut metrics);
        metrics.set("loss", loss);
        metrics.set("entropy", entropy);
        metrics.set("grad_norm", norm);
        metrics.set("learning_rate", rate);
        metrics.set("num_tokens", session.count_tokens(batch.tokens));
        let seen = (step + 1) * settings.lessons_per_step;
        metrics.set("epoch", seen as f64 / lessons as f64);
        let mut timings = Metrics::default();
        timings.set("wait_time", waited.as_secs_f64());
        timings.set("tokens_per_second", batch.tokens as f64 / began.elapsed().as_secs_f64());
        session.end_step(&metrics, timings, began)?;
    }
    drop(batches);
    session.end()
}

/// Sends the batches of the steps until there are no more or nobody wants them.
fn encode_batches<L: Learner>(
    learner: &L,
    lessons: &dyn Lessons,
    settings: &SftSettings,
    steps: std::ops::Range<usize>,
    ready: &SyncSender<Result<Batch<L::Encoded>, TrainError>>,
) {
    let mut walk = Walk::new(settings.seed, lessons.len());
    for step in steps {
        let first = step * settings.lessons_per_step;
        let positions = first..first + settings.lessons_per_step;
        let groups = positions.map(|position| {
            let in_order = lessons.is_ordered();
            let index = if in_order { position % lessons.len() } else { walk.at(position) };
            encode_lesson(learner, lessons, index, step)
        });
        let batch = batch(learner, groups);
        let failed = batch.is_err();
        if ready.send(batch).is_err() || failed {
            return;
        }
    }
}

/// The lessons that could be made ready; an error only if none could.
fn batch<L: Learner>(
    learner: &L,
    lessons: impl Iterator<Item = Result<ReplyGroup<L::Encoded>, TrainError>>,
) -> Result<Batch<L::Encoded>, TrainError> {
    let (mut groups, mut skipped) = (Vec::new(), Vec::new());
    for lesson in lessons {
        match lesson {
            Ok(group) => groups.push(group),
            Err(error @ TrainError::Encode { .. }) => skipped.push(error),
            Err(error) => return Err(error),
        }
    }
    if groups.is_empty()
        && let Some(error) = skipped.pop()
    {
        return Err(error);
    }
    let tokens = groups.iter().map(|group| group_tokens(learner, group)).sum();
    let reply_tokens = groups.iter().flat_map(|group| &group.replies).map(Vec::len).sum();
    Ok(Batch { groups, skipped, tokens, reply_tokens })
}

fn encode_lesson<L: Learner>(
    learner: &L,
    lessons: &dyn Lessons,
    index: usize,
    step: usize,
) -> Result<ReplyGroup<L::Encoded>, TrainError> {
    let lesson = lesson(lessons, index)?;
    let encode = || {
        let prompt = learner.encode(&lesson.prompt)?;
        Ok(ReplyGroup { prompt, replies: vec![learner.encode_reply(&lesson.reply)?] })
    };
    encode().map_err(TrainError::encode(format!("lesson {index}"), step))
}
