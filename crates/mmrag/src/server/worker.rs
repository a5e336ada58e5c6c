//! The one thread that owns the model.
//!
//! What waits is taken together: the questions of many requests go through each stage in one call
//! of the engine, and so do the documents of many rerank requests. A panic costs its own batch.

mod answering;
mod judging;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::mpsc::{Receiver, Sender, channel, error::TrySendError};

use super::error::ApiError;
use super::limits::Limits;
use super::metrics::Metrics;
use crate::answerer::{AnswerArgs, Answerer, Engine};

pub(crate) use answering::{Answer, AskJob, Event, From, Trace};
pub(crate) use judging::{Judged, RerankJob, WhyJob};

/// Something for the worker to do. Each holds the end of a channel to tell how it went.
pub(crate) enum Job {
    /// Answer a question.
    Ask(Box<AskJob>),
    /// Say of documents how likely they help.
    Rerank(RerankJob),
    /// Say why a document is not among those shown.
    Why(Box<WhyJob>),
}

impl Job {
    /// Whether nobody waits for it any more.
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Ask(job) => job.events.is_closed(),
            Self::Rerank(job) => job.reply.is_closed(),
            Self::Why(job) => job.reply.is_closed(),
        }
    }
}

/// The way to the worker.
pub(crate) struct Worker {
    jobs: Sender<Job>,
    metrics: Arc<Metrics>,
    /// What answers.
    pub(crate) model: String,
    /// Whether it can say which parts of pictures its replies rest on.
    pub(crate) attributes: bool,
}

impl Worker {
    /// Starts the thread. It ends when the worker is dropped and all jobs are done.
    ///
    /// # Errors
    ///
    /// When an adapter does not fit the model, or the system gives no thread.
    pub(crate) fn start(
        engine: Engine,
        arguments: AnswerArgs,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<(Self, JoinHandle<()>)> {
        let (jobs, waiting) = channel(limits.waiting);
        let (told, ready) = std::sync::mpsc::channel();
        let counted = Arc::clone(&metrics);
        let work = move || {
            let answerer = match Answerer::new(&engine, &arguments) {
                Ok(answerer) => answerer,
                Err(error) => return drop(told.send(Err(error))),
            };
            let _ = told.send(Ok((answerer.model_name().to_owned(), answerer.attributes())));
            run(&answerer, waiting, limits, &counted);
        };
        let thread = std::thread::Builder::new()
            .name("worker".to_owned())
            .spawn(work)
            .context("failed to start the worker")?;
        let (model, attributes) = ready.recv().context("the worker ended before it began")??;
        Ok((Self { jobs, metrics, model, attributes }, thread))
    }

    /// Hands a job over.
    ///
    /// # Errors
    ///
    /// When too many wait already, or the worker is gone.
    pub(crate) fn submit(&self, job: Job) -> Result<(), ApiError> {
        let queued = self.jobs.max_capacity() - self.jobs.capacity();
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => {
                self.metrics.rejected.inc();
                ApiError::busy(self.wait_for(queued))
            }
            TrySendError::Closed(_) => ApiError::stopping(),
        })?;
        self.metrics.queue.set(queued as i64 + 1);
        Ok(())
    }

    /// When there should be room again: from how long batches took so far.
    fn wait_for(&self, queued: usize) -> Duration {
        Duration::from_secs_f64((self.metrics.seconds_a_job() * queued as f64).clamp(1.0, 60.0))
    }
}

fn run(answerer: &Answerer<'_>, mut waiting: Receiver<Job>, limits: Limits, metrics: &Metrics) {
    while let Some(first) = waiting.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < limits.together
            && let Ok(job) = waiting.try_recv()
        {
            batch.push(job);
        }
        metrics.queue.set(waiting.len() as i64);
        batch.retain(|job| !job.is_abandoned());
        let (size, start) = (batch.len(), Instant::now());
        metrics.batch_begun(size);
        let done = std::panic::catch_unwind(AssertUnwindSafe(|| work(answerer, batch, metrics)));
        if done.is_err() {
            tracing::error!(jobs = size, "the worker panicked: a bug; these requests failed");
        }
        metrics.batch_done(size, start.elapsed());
    }
}

fn work(answerer: &Answerer<'_>, batch: Vec<Job>, metrics: &Metrics) {
    let (mut asks, mut reranks, mut whys) = (Vec::new(), Vec::new(), Vec::new());
    for job in batch {
        match job {
            Job::Ask(job) => asks.push(*job),
            Job::Rerank(job) => reranks.push(job),
            Job::Why(job) => whys.push(*job),
        }
    }
    answerer.with_pipeline(None, 0, |pipeline| {
        if !reranks.is_empty() {
            judging::rerank(pipeline, reranks, metrics);
        }
        for job in whys {
            judging::why_not(pipeline, job);
        }
        if !asks.is_empty() {
            answering::answer(pipeline, &asks, metrics);
        }
    });
}
