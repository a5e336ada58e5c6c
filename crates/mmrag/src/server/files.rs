//! `POST /v1/files`: the documents of a file into a collection, read as `mmrag index` reads it, in a
//! process with bounds. The response is one object, or events that tell how far it is.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use mmrag_read::Bounds;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::access::Access;
use super::ask::lost;
use super::body::Json;
use super::collections::Store;
use super::error::ApiError;
use super::sse::Events;
use super::state::Shared;
use super::turns::Place;
use crate::ingest::read_given;

const KIND: &str = "application/octet-stream";
/// Characters of a file's name.
const LONGEST_NAME: usize = 200;

/// Where the file goes, and what it is called.
#[derive(Deserialize)]
pub(crate) struct Which {
    collection: Option<String>,
    name: String,
    #[serde(default)]
    stream: bool,
}

/// How far it is with a file.
enum Step {
    /// It is being read.
    Reading,
    /// So many documents are in it.
    Read(usize),
    /// So many of them were looked at by an embedder.
    Embedded(usize),
    Done(Value),
    Failed(ApiError),
}

struct Upload {
    name: String,
    bytes: Bytes,
    collection: String,
    store: Arc<dyn Store>,
    bounds: Bounds,
}

/// Adds the documents of a file. What was added before of a file of this name, and is not in it any
/// more, is taken out.
pub(crate) async fn add(
    State(app): State<Shared>,
    Extension(access): Extension<Access>,
    Query(which): Query<Which>,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    // A page of another site cannot send this without asking the browser for leave.
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if kind != Some(KIND) {
        let message = format!("send the file's bytes, with Content-Type: {KIND}");
        return Err(ApiError::media_type(message));
    }
    let bytes = bytes.map_err(|rejection| match rejection.into_response().status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            ApiError::too_large("the file is larger than this server takes (--max-body)")
        }
        _ => ApiError::bad("the file could not be received"),
    })?;
    let (collection, store) = app.collections.find(&access, which.collection.as_deref())?;
    let name = checked(which.name)?;
    let bounds = Bounds { seconds: app.limits.time.as_secs().max(1), ..Bounds::default() };
    let upload = Upload { name, bytes, collection, store, bounds };
    let place = app.reading.place()?;
    let (tell, mut steps) = unbounded_channel();
    tokio::spawn(take_turn(place, upload, tell));
    if which.stream {
        let (events, response) = Events::new();
        tokio::spawn(stream(steps, events));
        return Ok(response);
    }
    loop {
        match steps.recv().await {
            Some(Step::Done(done)) => return Ok(Json(done).into_response()),
            Some(Step::Failed(error)) => return Err(error),
            Some(Step::Reading | Step::Read(_) | Step::Embedded(_)) => {}
            None => return Err(lost()),
        }
    }
}

/// A name without folders.
fn checked(name: String) -> Result<String, ApiError> {
    let is_long = name.chars().count() > LONGEST_NAME;
    if name.is_empty()
        || is_long
        || name.contains(['/', '\\'])
        || name.chars().any(char::is_control)
    {
        let message = format!("a file's name has 1 to {LONGEST_NAME} characters and no folders");
        return Err(ApiError::field("name", message));
    }
    Ok(name)
}

async fn take_turn(place: Place, upload: Upload, tell: UnboundedSender<Step>) {
    let turn = place.turn().await;
    let done = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        // Nobody may listen any more; the file is added all the same.
        let step = match work(upload, &|step| drop(tell.send(step))) {
            Ok(done) => Step::Done(done),
            Err(error) => Step::Failed(error),
        };
        drop(tell.send(step));
    });
    // If it panicked, who waits is told by the closed channel.
    drop(done.await);
    drop(place);
}

fn work(upload: Upload, tell: &dyn Fn(Step)) -> Result<Value, ApiError> {
    let Upload { name, bytes, collection, store, bounds } = upload;
    tell(Step::Reading);
    let given = read_given(&name, &bytes, bounds)
        .map_err(|error| ApiError::bad(format!("{name} cannot be read: {error:#}")))?;
    tell(Step::Read(given.records.len()));
    let ids: Vec<String> =
        given.records.iter().map(|record| record.document.id.to_string()).collect();
    let failed = store
        .add_file(&name, given.records, &|n| tell(Step::Embedded(n)))
        .map_err(|error| ApiError::of_collection(&error))?;
    let mut told = json!({ "collection": collection, "added": ids, "documents": store.len() });
    if !given.notes.is_empty() {
        told["notes"] = json!(given.notes);
    }
    if !failed.is_empty() {
        let failed = failed.iter().map(|(id, why)| json!({ "document": id, "why": why }));
        told["not_embedded"] = failed.collect();
    }
    Ok(told)
}

/// Tells the steps under their names: `reading`, `read`, `embedded`, then `done` or `error`.
async fn stream(mut steps: UnboundedReceiver<Step>, events: Events) {
    loop {
        let step = steps.recv().await.unwrap_or_else(|| Step::Failed(lost()));
        let goes_on = match step {
            Step::Reading => events.named("reading", &json!({})).await,
            Step::Read(n) => events.named("read", &json!({ "documents": n })).await,
            Step::Embedded(n) => events.named("embedded", &json!({ "documents": n })).await,
            Step::Done(done) => {
                events.named("done", &done).await;
                false
            }
            Step::Failed(error) => {
                events.named("error", &error.body()).await;
                false
            }
        };
        if !goes_on {
            return;
        }
    }
}
