//! How much, how long, how many at once.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::error::ApiError;
use super::state::Shared;

/// Bounds on requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// A larger body is refused.
    pub(crate) body_bytes: usize,
    /// A picture of more pixels is refused by its header.
    pub(crate) picture_pixels: u64,
    /// Documents in one request.
    pub(crate) documents: usize,
    /// Documents found for a question, at most.
    pub(crate) top_k: usize,
    /// Characters of a question.
    pub(crate) question_chars: usize,
    /// A request ends after this.
    pub(crate) time: Duration,
    /// Requests that wait for the worker.
    pub(crate) waiting: usize,
    /// Requests that are answered together.
    pub(crate) together: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 32 << 20,
            picture_pixels: 50_000_000,
            documents: 1000,
            top_k: 100,
            question_chars: 10_000,
            time: Duration::from_mins(2),
            waiting: 128,
            together: 16,
        }
    }
}

/// Ends a request that takes too long; one that streams has to watch the time itself.
pub(crate) async fn in_time(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let limit = app.limits.time;
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::late(limit).into_response(),
    }
}
