//! The server: questions over HTTP, in OpenAI's, Cohere's and our own form, and a page for people.
//!
//! A handler reads a request, hands one job to the worker, and maps what comes back. The worker is
//! one thread that owns the model and answers what waits together; what does not fit into its queue
//! is refused at once with a time to come back. [`router`] needs no socket, so tests call it as a
//! function.

mod access;
mod ask;
mod body;
mod chat;
mod collections;
mod documents;
mod embeddings;
mod error;
mod feedback;
mod files;
mod history;
mod keys;
mod limits;
mod listen;
mod metrics;
mod models;
mod openapi;
mod page;
mod pictures;
mod rerank;
mod runs;
mod score;
mod spans;
mod sse;
mod state;
mod turns;
mod unfold;
mod worker;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{delete, get, post};

pub(crate) use access::Guard;
#[cfg(test)]
pub(crate) use body::Json;
pub(crate) use collections::{Collections, DiskStore, Embedders, MemoryStore, Store};
pub(crate) use feedback::Feedback;
pub(crate) use history::History;
pub(crate) use keys::Keys;
pub(crate) use limits::Limits;
pub(crate) use listen::{Address, serve};
pub(crate) use metrics::Metrics;
pub(crate) use spans::Spans;
pub(crate) use state::{App, Shared};
pub(crate) use turns::Turns;
pub(crate) use worker::Worker;

/// Every path, with what guards it.
pub(crate) fn router(app: &Shared) -> Router {
    let guarded = Router::new()
        .route("/v1/ask", post(ask::ask))
        .route("/v1/why", post(ask::why_not))
        .route("/v1/asked", get(history::list))
        .route("/v1/asked/{id}", get(history::one))
        .route("/v1/asked/{id}/replay", post(history::replay))
        .route("/v1/feedback", post(feedback::give))
        .route("/v1/models", get(models::list))
        .route("/v1/chat/completions", post(chat::completions))
        .route("/v1/embeddings", post(embeddings::embed))
        .route("/rerank", post(rerank::rerank))
        .route("/v1/rerank", post(rerank::rerank))
        .route("/v2/rerank", post(rerank::rerank))
        .route("/v1/score", post(score::score))
        .route("/get_reward", post(score::get_reward))
        .route("/v1/collections", get(collections::list))
        .route("/v1/documents", get(documents::list).post(documents::add))
        .route("/v1/files", post(files::add))
        .route("/v1/documents/{*id}", delete(documents::remove).get(documents::one))
        .route("/v1/pictures/{*id}", get(documents::picture))
        .route("/v1/runs", get(runs::list))
        .route("/v1/runs/metrics", get(runs::metrics))
        .route("/v1/runs/report", get(runs::report))
        .route("/metrics", get(metrics::render))
        .layer(from_fn_with_state(app.clone(), access::check));
    let open = Router::new()
        .route("/health", get(models::health))
        .route("/openapi.json", get(openapi::describe))
        .merge(page::routes());
    open.merge(guarded)
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method)
        .layer(DefaultBodyLimit::max(app.limits.body_bytes))
        .layer(from_fn_with_state(app.clone(), limits::in_time))
        .layer(from_fn_with_state(app.clone(), access::check_host))
        .layer(from_fn_with_state(app.clone(), metrics::measure))
        .layer(from_fn(page::safe_headers))
        .with_state(app.clone())
}

#[cfg(test)]
mod tests;
