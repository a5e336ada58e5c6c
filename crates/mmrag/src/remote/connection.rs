//! Requests to an engine, with patience that has an end.

use std::io::{BufRead as _, BufReader};
use std::time::Duration;

use mmrag_core::EngineError;
use serde_json::Value;

/// The environment variable whose value goes along as the engine's API key.
const KEY_VARIABLE: &str = "MMRAG_POLICY_KEY";

/// Bytes of an error's text that are told.
const TOLD: usize = 400;

/// How long to wait, and how often to try.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// One request ends after this at the latest.
    pub(crate) timeout: Duration,
    /// So often a request that may succeed later is tried.
    pub(crate) tries: u32,
    /// Waited before the second try; doubled before each further one.
    pub(crate) pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { timeout: Duration::from_mins(5), tries: 4, pause: Duration::from_millis(500) }
    }
}

pub(super) struct Connection {
    agent: ureq::Agent,
    /// Ends in `/v1`.
    base: String,
    key: Option<String>,
    patience: Patience,
}

/// Why a try failed, and whether another may help.
enum Failed {
    ForGood(EngineError),
    ForNow { error: EngineError, wait: Option<Duration> },
}

impl Connection {
    pub(super) fn new(address: &str, patience: Patience) -> anyhow::Result<Self> {
        let address = address.trim_end_matches('/');
        anyhow::ensure!(
            address.starts_with("http://") || address.starts_with("https://"),
            "the address has to begin with http:// or https://"
        );
        let base = match address.strip_suffix("/v1") {
            Some(_) => address.to_owned(),
            None => format!("{address}/v1"),
        };
        let agent = ureq::Agent::config_builder()
            .tls_config(crate::certificates::tls()?)
            .timeout_global(Some(patience.timeout))
            .http_status_as_error(false)
            .build()
            .new_agent();
        let key = std::env::var(KEY_VARIABLE).ok().filter(|key| !key.is_empty());
        Ok(Self { agent, base, key, patience })
    }

    pub(super) fn get(&self, path: &str) -> Result<Value, EngineError> {
        let url = format!("{}/{path}", self.base);
        self.patiently(&url, || {
            let mut request = self.agent.get(&url);
            if let Some(key) = &self.key {
                request = request.header("authorization", format!("Bearer {key}"));
            }
            read_json(check(request.call())?)
        })
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, EngineError> {
        let url = format!("{}/{path}", self.base);
        self.patiently(&url, || read_json(self.send(&url, body)?))
    }

    /// Posts once to a path beside `/v1`.
    pub(super) fn post_beside(&self, path: &str, body: &Value) -> Result<Value, EngineError> {
        let url = format!("{}/{path}", self.base.trim_end_matches("/v1"));
        self.send(&url, body).and_then(read_json).map_err(|failed| match failed {
            Failed::ForGood(error) | Failed::ForNow { error, .. } => error,
        })
    }

    /// Posts, and hands on the JSON of each event until `[DONE]`. Only what fails before the first
    /// event is tried again.
    pub(super) fn stream(
        &self,
        path: &str,
        body: &Value,
        take: &mut dyn FnMut(Value) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let url = format!("{}/{path}", self.base);
        let mut response = self.patiently(&url, || self.send(&url, body))?;
        for line in BufReader::new(response.body_mut().as_reader()).lines() {
            let line = line.map_err(|e| failed(&url, "the stream broke", e))?;
            let Some(data) = line.strip_prefix("data:").map(str::trim) else { continue };
            if data == "[DONE]" {
                return Ok(());
            }
            let chunk: Value =
                serde_json::from_str(data).map_err(|e| failed(&url, "an event is no JSON", e))?;
            if let Some(told) = chunk["error"]["message"].as_str() {
                return Err(EngineError::new(format!("ask {url}: the engine says: {told}")));
            }
            take(chunk)?;
        }
        Ok(())
    }

    fn send(&self, url: &str, body: &Value) -> Result<ureq::http::Response<ureq::Body>, Failed> {
        let mut request = self.agent.post(url);
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        check(request.send_json(body))
    }

    fn patiently<R>(
        &self,
        url: &str,
        mut attempt: impl FnMut() -> Result<R, Failed>,
    ) -> Result<R, EngineError> {
        let mut pause = self.patience.pause;
        let mut tried = 1;
        loop {
            match attempt() {
                Ok(found) => return Ok(found),
                Err(Failed::ForGood(error)) => return Err(failed(url, "", error)),
                Err(Failed::ForNow { error, .. }) if tried >= self.patience.tries => {
                    return Err(failed(url, &format!("tried {tried} times"), error));
                }
                Err(Failed::ForNow { wait, .. }) => {
                    std::thread::sleep(wait.unwrap_or(pause).min(self.patience.timeout));
                    pause *= 2;
                    tried += 1;
                }
            }
        }
    }
}

fn failed(
    url: &str,
    how: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> EngineError {
    let source = source.into();
    let how = if how.is_empty() { String::new() } else { format!(" ({how})") };
    EngineError::caused_by(format!("ask {url}{how}: {source}"), source)
}

/// A response with a status of success.
fn check(
    sent: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<ureq::http::Response<ureq::Body>, Failed> {
    let mut response = match sent {
        Ok(response) => response,
        Err(error) => {
            let error = EngineError::new(format!("the engine does not answer: {error}"));
            return Err(Failed::ForNow { error, wait: None });
        }
    };
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let wait = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
    let wait = wait.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
    let text = response.body_mut().read_to_string().unwrap_or_default();
    let told = serde_json::from_str::<Value>(&text)
        .ok()
        .and_then(|value| Some(value.pointer("/error/message")?.as_str()?.to_owned()))
        .unwrap_or(text);
    let told: String = told.chars().take(TOLD).collect();
    let error = EngineError::new(format!("the engine says {status}: {told}"));
    let passes = status.is_server_error() || matches!(status.as_u16(), 408 | 409 | 425 | 429);
    Err(if passes && status.as_u16() != 501 {
        Failed::ForNow { error, wait }
    } else {
        Failed::ForGood(error)
    })
}

fn read_json(mut response: ureq::http::Response<ureq::Body>) -> Result<Value, Failed> {
    response.body_mut().read_json().map_err(|error| {
        Failed::ForGood(EngineError::new(format!("the engine's answer is no JSON: {error}")))
    })
}
