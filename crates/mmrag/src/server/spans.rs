//! Spans for an OpenTelemetry collector, by choice: a request, and in it what was done to answer it.
//!
//! They go by OTLP over HTTP, in batches and from a thread of their own. Requests of many are
//! answered together; each has spans of its own for the stages, as long as those of the batch.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{Bytes, HeaderExtractor, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::field::Empty;
use tracing::{Level, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

/// What spans are told apart from the log by.
const TARGET: &str = "spans";

/// The standard's variables that name a collector: of traces, and of everything.
const VARIABLES: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// A collector gets so long to take spans.
const PATIENCE: Duration = Duration::from_secs(10);

/// The way to the collector.
pub(crate) struct Spans {
    provider: SdkTracerProvider,
}

impl Spans {
    /// Begins to send spans to the collector at an address, or to the one that the standard's
    /// variables name. None if neither names one, or the variable `OTEL_SDK_DISABLED` says no.
    ///
    /// # Errors
    ///
    /// When the address is none.
    pub(crate) fn start(address: Option<&str>) -> anyhow::Result<Option<Self>> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let is_off = variable("OTEL_SDK_DISABLED").is_some_and(|v| v.eq_ignore_ascii_case("true"));
        let is_named = address.is_some() || VARIABLES.iter().any(|name| variable(name).is_some());
        if is_off || !is_named {
            return Ok(None);
        }
        let mut exporter = SpanExporter::builder().with_http().with_http_client(Sender::new());
        if let Some(address) = address {
            exporter = exporter.with_endpoint(traces_at(address)?);
        }
        let exporter = exporter.build().context("failed to use the collector's address")?;
        let mut resource = Resource::builder();
        if variable("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("mmrag");
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build();
        Ok(Some(Self { provider }))
    }

    /// What hands spans on.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let layer = tracing_opentelemetry::layer().with_tracer(self.provider.tracer("mmrag"));
        layer.with_filter(Targets::new().with_target(TARGET, Level::INFO))
    }

    /// Sends what is left.
    pub(crate) fn end(self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// Where a collector takes traces.
fn traces_at(address: &str) -> anyhow::Result<String> {
    ensure!(
        address.starts_with("http://") || address.starts_with("https://"),
        "failed to use the collector {address}: its address begins with http:// or https://"
    );
    let base = address.trim_end_matches('/');
    let is_whole = base.ends_with("/v1/traces");
    Ok(if is_whole { base.to_owned() } else { format!("{base}/v1/traces") })
}

/// The span of a request, within that of who sent it if it names one (W3C's `traceparent`).
pub(crate) fn request(method: &str, path: &str, headers: &HeaderMap) -> Span {
    let span = tracing::info_span!(
        target: TARGET,
        "request",
        otel.name = format!("{method} {path}"),
        otel.kind = "server",
        http.request.method = method,
        http.route = path,
        http.response.status_code = Empty,
    );
    if !span.is_disabled() {
        let sender = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
        // Nobody may listen to spans.
        let _ = span.set_parent(sender);
    }
    span
}

/// The span of a stage of a request, of which `jobs` go through it together. It ends when it is
/// dropped.
pub(crate) fn stage(of: &Span, name: &'static str, jobs: usize) -> Span {
    tracing::info_span!(target: TARGET, parent: of, "stage", otel.name = name, jobs, documents = Empty)
}

/// Sends spans from the thread that makes the batches.
#[derive(Debug)]
struct Sender {
    agent: ureq::Agent,
    /// Whether the last batch did not arrive: that is told once.
    is_lost: AtomicBool,
}

impl Sender {
    fn new() -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .build();
        Self { agent: config.into(), is_lost: AtomicBool::new(false) }
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let response = self.agent.run(request.map(|body| body.to_vec()))?;
        let (parts, mut body) = response.into_parts();
        Ok(Response::from_parts(parts, body.read_to_vec()?.into()))
    }

    fn tell(&self, sent: &Result<Response<Bytes>, HttpError>) {
        let problem = match sent {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("it answered {}", response.status())),
            Err(error) => Some(error.to_string()),
        };
        let was_lost = self.is_lost.swap(problem.is_some(), Ordering::Relaxed);
        if let Some(problem) = problem.filter(|_| !was_lost) {
            tracing::warn!(problem, "the collector does not take spans");
        }
    }
}

impl HttpClient for Sender {
    fn send_bytes<'sender, 'sent>(
        &'sender self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'sent>>
    where
        'sender: 'sent,
        Self: 'sent,
    {
        Box::pin(async move {
            let sent = self.send(request);
            self.tell(&sent);
            sent
        })
    }
}

#[cfg(test)]
mod tests {
    use super::traces_at;

    #[test]
    fn a_collector_is_named_with_or_without_the_path() {
        let check =
            |address: &str, expected: &str| assert_eq!(traces_at(address).unwrap(), expected);
        check("http://localhost:4318", "http://localhost:4318/v1/traces");
        check("http://localhost:4318/", "http://localhost:4318/v1/traces");
        check("https://a.b/x/v1/traces", "https://a.b/x/v1/traces");
        let error = traces_at("localhost:4318").unwrap_err().to_string();
        assert!(error.contains("begins with http://"), "{error}");
    }
}
