//! Load on a running server: how long requests take, what fails, and whether memory grows.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

/// What is let at a server.
pub(crate) struct Load {
    /// The server's address.
    pub(crate) address: String,
    /// Its key, if it needs one.
    pub(crate) key: Option<String>,
    /// Clients that ask one question after the other.
    pub(crate) clients: usize,
    /// For so long.
    pub(crate) time: Duration,
    /// Documents of each question.
    pub(crate) documents: usize,
}

/// One request.
struct Sample {
    status: u16,
    took: Duration,
}

impl Load {
    /// Asks, and tells the times.
    ///
    /// # Errors
    ///
    /// When there is no such server.
    pub(crate) fn run(&self) -> anyhow::Result<Value> {
        ensure!(self.clients > 0 && self.documents > 0, "there is nothing to ask");
        let before = self.memory()?;
        let (number, end) = (AtomicUsize::new(0), Instant::now() + self.time);
        let client = || {
            let agent = Self::agent();
            let mut samples = Vec::new();
            while Instant::now() < end {
                let n = number.fetch_add(1, Ordering::Relaxed);
                let sample = self.ask(&agent, n);
                // Who is told to come back later does, but not for so long as a person would.
                if sample.status == 429 {
                    std::thread::sleep(Duration::from_millis(100));
                }
                samples.push(sample);
            }
            samples
        };
        let samples: Vec<Sample> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..self.clients).map(|_| scope.spawn(client)).collect();
            let done = clients.into_iter().map(|client| client.join().expect("no client panics"));
            done.flatten().collect()
        });
        let after = self.memory()?;
        Ok(summary(self, &samples, [before, after]))
    }

    fn agent() -> ureq::Agent {
        ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_mins(5)))
            .http_status_as_error(false)
            .build()
            .new_agent()
    }

    /// 0 stands for a request that got no response at all.
    fn ask(&self, agent: &ureq::Agent, n: usize) -> Sample {
        let documents: Vec<Value> = (0..self.documents)
            .map(|d| {
                json!({ "id": d.to_string(), "title": format!("Place {d}"),
                "text": format!("Place {d} lies in country {}.", (d + n) % 97) })
            })
            .collect();
        let question = format!("Where does place {} lie?", n % self.documents);
        let start = Instant::now();
        let mut request = agent.post(format!("{}/v1/ask", self.address));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let sent = request.send_json(json!({ "question": question, "documents": documents }));
        let status = match sent {
            Ok(mut response) => match response.body_mut().read_to_vec() {
                Ok(_) => response.status().as_u16(),
                Err(_) => 0,
            },
            Err(_) => 0,
        };
        Sample { status, took: start.elapsed() }
    }

    /// Bytes that the server holds, as it tells them itself.
    fn memory(&self) -> anyhow::Result<f64> {
        let mut request = Self::agent().get(format!("{}/metrics", self.address));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let context = || format!("failed to ask {}", self.address);
        let mut response = request.call().with_context(context)?;
        ensure!(response.status().is_success(), "{} says {}", self.address, response.status());
        let text = response.body_mut().read_to_string().with_context(context)?;
        let line =
            text.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
        Ok(line.and_then(|value| value.parse().ok()).unwrap_or(f64::NAN))
    }
}

fn summary(load: &Load, samples: &[Sample], [before, after]: [f64; 2]) -> Value {
    let mut answered: Vec<f64> =
        samples.iter().filter(|s| s.status == 200).map(|s| s.took.as_secs_f64() * 1e3).collect();
    answered.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = (share * answered.len() as f64).ceil() as usize;
        answered.get(place.saturating_sub(1)).copied()
    };
    let count = |wanted: fn(u16) -> bool| samples.iter().filter(|s| wanted(s.status)).count();
    json!({
        "clients": load.clients,
        "seconds": load.time.as_secs_f64(),
        "documents": load.documents,
        "answered": answered.len(),
        "per_second": answered.len() as f64 / load.time.as_secs_f64(),
        "told_to_wait": count(|status| status == 429),
        "errors": count(|status| status != 200 && status != 429),
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        "max_ms": answered.last(),
        "memory_before_bytes": before,
        "memory_after_bytes": after,
    })
}
