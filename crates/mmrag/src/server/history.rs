//! What was asked: for permalinks, past questions, and asking again.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use axum::extract::{Extension, Path as UrlPath, State};
use mmrag_rag::Explanation;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::access::Access;
use super::ask::{Asking, begin};
use super::body::Json;
use super::error::ApiError;
use super::state::Shared;
use super::worker::{Answer, Trace};

/// Questions that are remembered.
const REMEMBERED: usize = 500;

/// A request of more bytes is remembered without its documents and pictures, and cannot be asked
/// again.
const MOST_BYTES: usize = 1 << 20;

/// A question with its answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    /// Seconds since 1970.
    pub(crate) at: u64,
    /// The name of the key it was asked with.
    by: String,
    pub(crate) collection: Option<String>,
    /// What was asked; absent if it was too large to keep.
    pub(crate) asking: Option<Asking>,
    pub(crate) explanation: Explanation,
    pub(crate) trace: Trace,
}

/// The last questions, in memory and, if there is a place, in a file.
pub(crate) struct History {
    held: Mutex<Held>,
}

struct Held {
    records: VecDeque<Arc<Record>>,
    file: Option<File>,
}

const UNPOISONED: &str = "no thread panics while it holds the lock";

impl History {
    /// Remembers while the server runs, and in `folder` for longer.
    ///
    /// # Errors
    ///
    /// When the file in the folder cannot be read or written.
    pub(crate) fn open(folder: Option<&Path>) -> anyhow::Result<Self> {
        let Some(folder) = folder else {
            return Ok(Self { held: Mutex::new(Held { records: VecDeque::new(), file: None }) });
        };
        let path = folder.join("asked.jsonl");
        let context = || format!("failed to open {}", path.display());
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(context),
        };
        // A line without its end is what a killed server left; one of another version is skipped.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let records = whole.lines().filter_map(|line| serde_json::from_str(line).ok());
        let mut records: VecDeque<Arc<Record>> = records.map(Arc::new).collect();
        records.drain(..records.len().saturating_sub(REMEMBERED));
        std::fs::create_dir_all(folder).with_context(context)?;
        let mut file =
            OpenOptions::new().create(true).append(true).open(&path).with_context(context)?;
        if !text.is_empty() && !text.ends_with('\n') {
            file.write_all(b"\n").with_context(context)?;
        }
        Ok(Self { held: Mutex::new(Held { records, file: Some(file) }) })
    }

    /// Remembers an answered question; its id.
    pub(crate) fn keep(
        &self,
        access: &Access,
        asking: &Asking,
        collection: Option<&str>,
        answer: &Answer,
    ) -> String {
        let id = format!("{:016x}", rand::random::<u64>());
        let asking = serde_json::to_vec(asking)
            .is_ok_and(|json| json.len() <= MOST_BYTES)
            .then(|| Asking { stream: false, trace: true, ..asking.clone() });
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let record = Record {
            id: id.clone(),
            at,
            by: access.name.clone(),
            collection: collection.map(str::to_owned),
            asking,
            explanation: answer.explanation.clone(),
            trace: answer.trace.clone(),
        };
        self.add(record);
        id
    }

    fn add(&self, record: Record) {
        let mut held = self.held.lock().expect(UNPOISONED);
        if let Some(file) = &mut held.file {
            let line = serde_json::to_vec(&record).map(|mut line| {
                line.push(b'\n');
                line
            });
            let written = line.map_err(std::io::Error::from).and_then(|line| file.write_all(&line));
            if let Err(error) = written {
                tracing::error!(%error, "a question could not be written down");
            }
        }
        held.records.push_back(Arc::new(record));
        if held.records.len() > REMEMBERED {
            held.records.pop_front();
        }
    }

    /// A question that the asker may see.
    ///
    /// # Errors
    ///
    /// When there is none of this id.
    pub(crate) fn find(&self, access: &Access, id: &str) -> Result<Arc<Record>, ApiError> {
        let held = self.held.lock().expect(UNPOISONED);
        let found = held.records.iter().rev().find(|record| record.id == id);
        found.filter(|record| record.is_open(access)).cloned().ok_or_else(|| {
            ApiError::missing(format!("no question {id} is remembered; the last {REMEMBERED} are"))
        })
    }
}

impl Record {
    fn is_open(&self, access: &Access) -> bool {
        let is_theirs = self.by == access.name;
        let is_open = self.collection.as_ref().is_none_or(|name| access.opens(name));
        is_open && (is_theirs || access.opens_all())
    }
}

/// `GET /v1/asked`: the last questions, the latest first.
pub(crate) async fn list(
    State(app): State<Shared>,
    Extension(access): Extension<Access>,
) -> Json<Value> {
    let held = app.history.held.lock().expect(UNPOISONED);
    let rows: Vec<Value> = held
        .records
        .iter()
        .rev()
        .filter(|record| record.is_open(&access))
        .map(|record| {
            json!({
                "id": record.id,
                "at": record.at,
                "collection": record.collection,
                "question": record.explanation.question.text,
                "answer": record.explanation.answer,
                "abstained": record.explanation.abstained,
            })
        })
        .collect();
    Json(json!({ "object": "list", "data": rows }))
}

/// `GET /v1/asked/ID`.
pub(crate) async fn one(
    State(app): State<Shared>,
    Extension(access): Extension<Access>,
    UrlPath(id): UrlPath<String>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!(*app.history.find(&access, &id)?)))
}

/// `POST /v1/asked/ID/replay`: asks again, and says whether the explanation is the same, timings
/// aside.
pub(crate) async fn replay(
    State(app): State<Shared>,
    Extension(access): Extension<Access>,
    UrlPath(id): UrlPath<String>,
) -> Result<Json<Value>, ApiError> {
    let record = app.history.find(&access, &id)?;
    let Some(asking) = record.asking.clone() else {
        return Err(ApiError::bad(
            "the question was too large to keep, so it cannot be asked again",
        ));
    };
    let asking = Asking { collection: record.collection.clone(), ..asking };
    let mut asked = begin(&app, &access, asking, false).await?;
    let now = asked.finish().await?.explanation.without_timings();
    let then = record.explanation.clone().without_timings();
    let (now_json, then_json) = (json!(now), json!(then));
    let keys = then_json.as_object().into_iter().flatten().map(|(key, _)| key);
    let differs: Vec<&String> =
        keys.filter(|key| then_json.get(*key) != now_json.get(*key)).collect();
    Ok(Json(json!({
        "id": id,
        "same": now == then,
        "differs": differs,
        "then": then_json,
        "now": now_json,
    })))
}
