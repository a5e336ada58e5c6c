//! What is counted, in Prometheus' text form.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use mmrag_rag::Explanation;
use mmrag_rag::explanation::Verdict;
use prometheus::{
    Histogram, HistogramOpts, HistogramTimer, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};
use tracing::Instrument as _;

use super::spans;
use super::state::Shared;

const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// All counters.
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    seconds: HistogramVec,
    in_flight: IntGauge,
    stages: HistogramVec,
    candidates: IntCounterVec,
    abstained: IntCounter,
    unparsable: IntCounter,
    together: Histogram,
    documents: IntGaugeVec,
    memory: IntGauge,
    /// Jobs that wait for the worker.
    pub(super) queue: IntGauge,
    /// Requests refused because too many waited.
    pub(super) rejected: IntCounter,
    /// Seconds that a job took, as a moving mean.
    seconds_a_job: Mutex<f64>,
}

const DISTINCT: &str = "every counter has a name of its own";

impl Metrics {
    /// Counters at zero.
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let add = |metric: Box<dyn prometheus::core::Collector>| {
            registry.register(metric).expect(DISTINCT);
        };
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(name, help), labels).expect(DISTINCT);
            add(Box::new(made.clone()));
            made
        };
        let counter = |name: &str, help: &str| {
            let made = IntCounter::new(name, help).expect(DISTINCT);
            add(Box::new(made.clone()));
            made
        };
        let gauge = |name: &str, help: &str| {
            let made = IntGauge::new(name, help).expect(DISTINCT);
            add(Box::new(made.clone()));
            made
        };
        let times = |name: &str, help: &str, labels: &[&str]| {
            let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
            let made = HistogramVec::new(options, labels).expect(DISTINCT);
            add(Box::new(made.clone()));
            made
        };
        let together = HistogramOpts::new("mmrag_batch_jobs", "Jobs that were done together.")
            .buckets(vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]);
        let together = Histogram::with_opts(together).expect(DISTINCT);
        add(Box::new(together.clone()));
        let documents = Opts::new("mmrag_index_documents", "Documents in a collection.");
        let documents = IntGaugeVec::new(documents, &["collection"]).expect(DISTINCT);
        add(Box::new(documents.clone()));
        let by_path = ["method", "path"];
        Self {
            requests: counters(
                "http_requests_total",
                "Requests by path and status.",
                &["method", "path", "status"],
            ),
            seconds: times(
                "http_request_duration_seconds",
                "Time to the response's head.",
                &by_path,
            ),
            in_flight: gauge("http_requests_in_flight", "Requests under way."),
            stages: times(
                "mmrag_stage_duration_seconds",
                "Time of a stage of a question.",
                &["stage"],
            ),
            candidates: counters(
                "mmrag_candidates_total",
                "Candidates by what the filter said.",
                &["verdict"],
            ),
            abstained: counter("mmrag_abstentions_total", "Questions without an answer."),
            unparsable: counter("mmrag_unparsable_total", "Replies that could not be read."),
            queue: gauge("mmrag_queue_depth", "Jobs that wait for the worker."),
            rejected: counter("mmrag_rejected_total", "Requests refused because too many waited."),
            together,
            documents,
            memory: gauge("process_resident_memory_bytes", "Memory of this process."),
            seconds_a_job: Mutex::new(0.1),
            registry,
        }
    }

    /// Times a stage until the timer is dropped.
    pub(super) fn stage(&self, stage: &str) -> HistogramTimer {
        self.stages.with_label_values(&[stage]).start_timer()
    }

    /// Counts an answered question.
    pub(super) fn answered(&self, explanation: &Explanation) {
        let times = &explanation.timings_ms;
        for (stage, ms) in
            [("retrieve", times.retrieve), ("filter", times.filter), ("rank", times.rank)]
        {
            self.stages.with_label_values(&[stage]).observe(ms / 1e3);
        }
        for candidate in &explanation.candidates {
            let verdict = match candidate.filter.as_ref().map(|filter| filter.verdict) {
                Some(Verdict::Keep) => "keep",
                Some(Verdict::Drop) => "drop",
                None => "none",
            };
            self.candidates.with_label_values(&[verdict]).inc();
        }
        self.abstained.inc_by(u64::from(explanation.abstained));
        self.unparsable.inc_by(u64::from(explanation.is_unparsable()));
    }

    /// Counts a batch. Whoever has an answer out of it finds it counted.
    pub(super) fn batch_begun(&self, jobs: usize) {
        if jobs > 0 {
            self.together.observe(jobs as f64);
        }
    }

    /// Remembers how long a batch took.
    pub(super) fn batch_done(&self, jobs: usize, took: Duration) {
        if jobs > 0 {
            let mut mean = self.seconds_a_job.lock().expect("no thread panics while it holds it");
            *mean = 0.8 * *mean + 0.2 * took.as_secs_f64() / jobs as f64;
        }
    }

    /// Seconds that a job took lately.
    pub(super) fn seconds_a_job(&self) -> f64 {
        *self.seconds_a_job.lock().expect("no thread panics while it holds it")
    }
}

/// Counts a request, by the pattern of its path: a path as it was sent could be anything.
pub(crate) async fn measure(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let path = path.unwrap_or_else(|| "none".to_owned());
    let method = match request.method().as_str() {
        known @ ("GET" | "POST" | "DELETE" | "HEAD" | "OPTIONS" | "PUT" | "PATCH") => {
            known.to_owned()
        }
        _ => "other".to_owned(),
    };
    let metrics = &app.metrics;
    metrics.in_flight.inc();
    let start = Instant::now();
    let span = spans::request(&method, &path, request.headers());
    let response = next.run(request).instrument(span.clone()).await;
    metrics.in_flight.dec();
    let (status, took) = (response.status(), start.elapsed());
    span.record("http.response.status_code", status.as_u16());
    metrics.requests.with_label_values(&[method.as_str(), &path, status.as_str()]).inc();
    metrics.seconds.with_label_values(&[method.as_str(), &path]).observe(took.as_secs_f64());
    tracing::info!(method, path, status = status.as_u16(), ms = took.as_millis() as u64, "request");
    response
}

/// `GET /metrics`.
pub(crate) async fn render(State(app): State<Shared>) -> Response {
    let metrics = &app.metrics;
    for (name, documents) in app.collections.sizes() {
        metrics.documents.with_label_values(&[name]).set(documents as i64);
    }
    if let Some(bytes) = crate::bench::resident_bytes() {
        metrics.memory.set(bytes as i64);
    }
    let text = TextEncoder::new().encode_to_string(&metrics.registry.gather());
    let kind = [(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)];
    match text {
        Ok(text) => (kind, text).into_response(),
        Err(error) => super::error::ApiError::failed(&error).into_response(),
    }
}
