//! `POST /v1/ask`: the explanation, whole or as it grows; `POST /v1/why`: why not this document?

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::response::{IntoResponse as _, Response};
use mmrag_core::{Document, DocumentId, Question, QuestionId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::Instant;

use super::access::Access;
use super::body::{Body, Json};
use super::collections::Store;
use super::documents::{Given, in_background, of_request};
use super::error::ApiError;
use super::limits::Limits;
use super::pictures;
use super::sse::Events;
use super::state::Shared;
use super::unfold::unfold;
use super::worker::{Answer, AskJob, Event, From, Job, WhyJob};

/// Documents found for a question, if the request does not say.
const TOP_K: usize = 12;

/// A question.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asking {
    /// The words.
    pub(crate) question: String,
    /// Pictures that belong to it, as data URLs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) images: Vec<String>,
    /// What to answer from; absent: a collection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) documents: Option<Vec<Given>>,
    /// The collection; absent: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) collection: Option<String>,
    /// How many documents to find.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) top_k: Option<usize>,
    /// Documents that are shown to the ranker whatever the filter says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) include: Vec<String>,
    /// Documents that are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) exclude: Vec<String>,
    /// The question's identity: labels are shuffled by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    /// Whether to tell the answer as it grows.
    #[serde(default)]
    pub(crate) stream: bool,
    /// Whether to tell prompts and raw replies too.
    #[serde(default)]
    pub(crate) trace: bool,
    /// Whether to say which parts of the cited pictures the answer rests on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) attribute: bool,
}

/// A question on its way: where its events come, and which collection it is answered from.
pub(crate) struct Asked {
    events: UnboundedReceiver<Event>,
    /// Came already, and is still to be told.
    next: Option<Event>,
    pub(crate) collection: Option<String>,
    end: Instant,
    limit: Duration,
}

impl Asked {
    /// The next event; of several replies so far that wait, the last. What does not come in time,
    /// or not at all, is a failure.
    pub(crate) async fn next(&mut self) -> Event {
        let mut event = match self.next.take() {
            Some(event) => event,
            None => match tokio::time::timeout_at(self.end, self.events.recv()).await {
                Ok(Some(event)) => event,
                Ok(None) => Event::Failed(lost()),
                Err(_) => Event::Failed(ApiError::late(self.limit)),
            },
        };
        while let Event::Written(_) = event
            && let Ok(later) = self.events.try_recv()
        {
            if !matches!(later, Event::Written(_)) {
                self.next = Some(later);
                break;
            }
            event = later;
        }
        event
    }

    /// Waits for the end.
    ///
    /// # Errors
    ///
    /// When the question could not be answered.
    pub(crate) async fn finish(&mut self) -> Result<Answer, ApiError> {
        loop {
            match self.next().await {
                Event::Done(answer) => return Ok(*answer),
                Event::Failed(error) => return Err(error),
                Event::Found(_) | Event::Filtered(_) | Event::Written(_) => {}
            }
        }
    }
}

/// Reads a question and hands it to the worker.
///
/// # Errors
///
/// When it is not as it should be, or too much waits already.
pub(crate) async fn begin(
    app: &Shared,
    access: &Access,
    asking: Asking,
    count: bool,
) -> Result<Asked, ApiError> {
    let (collection, store) = if asking.documents.is_some() {
        (None, None)
    } else {
        let (name, store) = app.collections.find(access, asking.collection.as_deref())?;
        (Some(name), Some(store))
    };
    if asking.attribute && !app.worker.attributes {
        return Err(ApiError::not_offered(
            "this server asks an engine that does not show the inside of its model: `attribute` \
             takes a server with a local model",
        ));
    }
    let limits = app.limits;
    let (tell, events) = unbounded_channel();
    let span = tracing::Span::current();
    let job = in_background(move || {
        let question = question(&asking, &limits)?;
        let top_k = asking.top_k.unwrap_or(TOP_K).clamp(1, limits.top_k);
        let from = match (&asking.documents, store) {
            (Some(given), _) => From::Documents(of_request(given, &limits)?),
            (None, Some(store)) => From::Collection { store, top_k },
            (None, None) => return Err(ApiError::field("documents", "there is nothing to ask")),
        };
        let include =
            asking.include.iter().map(|id| included(&from, id)).collect::<Result<_, _>>()?;
        let exclude = asking.exclude.iter().map(DocumentId::new).collect();
        let attribute = asking.attribute;
        Ok(AskJob { question, from, include, exclude, count, attribute, span, events: tell })
    })
    .await?;
    app.worker.submit(Job::Ask(Box::new(job)))?;
    let end = Instant::now() + limits.time;
    Ok(Asked { events, next: None, collection, end, limit: limits.time })
}

fn question(asking: &Asking, limits: &Limits) -> Result<Question, ApiError> {
    if asking.question.trim().is_empty() {
        return Err(ApiError::field("question", "there is no question"));
    }
    if asking.question.chars().count() > limits.question_chars {
        let most = limits.question_chars;
        return Err(ApiError::field(
            "question",
            format!("a question has at most {most} characters"),
        ));
    }
    let images = asking.images.iter().map(|url| pictures::from_url(url, limits));
    Ok(Question {
        id: QuestionId::new(asking.id.as_deref().unwrap_or("ask")),
        text: asking.question.clone(),
        images: images.collect::<Result<_, _>>()?,
    })
}

fn included(from: &From, id: &str) -> Result<Arc<Document>, ApiError> {
    let wanted = DocumentId::new(id);
    let found = match from {
        From::Documents(documents) => documents.iter().find(|d| d.id == wanted).cloned(),
        From::Collection { store, .. } => {
            store.document(&wanted).map_err(|error| ApiError::failed(&error))?
        }
    };
    found.ok_or_else(|| ApiError::field("include", format!("there is no document {id}")))
}

/// The worker let go of a question.
pub(crate) fn lost() -> ApiError {
    ApiError::failed(&mmrag_core::EngineError::new("answer: the worker let the question go"))
}

/// `POST /v1/ask`.
pub(crate) async fn ask(
    State(app): State<Shared>,
    Extension(access): Extension<Access>,
    Body(asking): Body<Asking>,
) -> Result<Response, ApiError> {
    let told = asking.clone();
    let mut asked = begin(&app, &access, asking, told.trace).await?;
    if told.stream {
        let (events, response) = Events::new();
        tokio::spawn(stream(app, access, told, asked, events));
        return Ok(response);
    }
    let answer = asked.finish().await?;
    Ok(Json(keep(&app, &access, &told, asked.collection.as_deref(), &answer)).into_response())
}

/// Notes what was asked, and puts the answer into the form of a response.
fn keep(
    app: &Shared,
    access: &Access,
    asking: &Asking,
    collection: Option<&str>,
    answer: &Answer,
) -> Value {
    let id = app.history.keep(access, asking, collection, answer);
    shown(&id, asking, collection, answer)
}

fn shown(id: &str, asking: &Asking, collection: Option<&str>, answer: &Answer) -> Value {
    let mut value = json!({ "id": id, "object": "explanation", "collection": collection });
    if let (Value::Object(value), Ok(Value::Object(explanation))) =
        (&mut value, serde_json::to_value(&answer.explanation))
    {
        value.extend(explanation);
    }
    if asking.trace {
        value["trace"] = json!(answer.trace);
    }
    value
}

/// Tells a question's events under their names: `found`, `filtered`, `written`, then `done` or
/// `error`.
async fn stream(app: Shared, access: Access, asking: Asking, mut asked: Asked, events: Events) {
    loop {
        let goes_on = match asked.next().await {
            Event::Found(found) => events.named("found", &json!({ "candidates": found })).await,
            Event::Filtered(found) => {
                events.named("filtered", &json!({ "candidates": found })).await
            }
            Event::Written(text) => {
                let unfolded = unfold(&text);
                let (reasoning, answer) = (unfolded.reasoning, unfolded.answer);
                events.named("written", &json!({ "reasoning": reasoning, "answer": answer })).await
            }
            Event::Done(answer) => {
                let shown = keep(&app, &access, &asking, asked.collection.as_deref(), &answer);
                events.named("done", &shown).await;
                false
            }
            Event::Failed(error) => {
                events.named("error", &error.body()).await;
                false
            }
        };
        if !goes_on {
            return;
        }
    }
}

/// A document that is asked about.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WhyAsking {
    question: String,
    #[serde(default)]
    images: Vec<String>,
    document: String,
    collection: Option<String>,
    top_k: Option<usize>,
}

/// `POST /v1/why`: why a document of a collection is not among those shown.
pub(crate) async fn why_not(
    State(app): State<Shared>,
    Extension(access): Extension<Access>,
    Body(why): Body<WhyAsking>,
) -> Result<Json<Value>, ApiError> {
    let (name, store) = app.collections.find(&access, why.collection.as_deref())?;
    let limits = app.limits;
    let (reply, answer) = tokio::sync::oneshot::channel();
    let id = why.document.clone();
    let job = in_background(move || {
        let asking = Asking { question: why.question, images: why.images, ..Asking::default() };
        let question = question(&asking, &limits)?;
        let wanted = DocumentId::new(&why.document);
        let found = store.document(&wanted).map_err(|error| ApiError::failed(&error))?;
        let document =
            found.ok_or_else(|| ApiError::missing(format!("{name} has no document {wanted}")))?;
        let top_k = why.top_k.unwrap_or(TOP_K).clamp(1, limits.top_k);
        let from: (Arc<dyn Store>, usize) = (store, top_k);
        Ok(WhyJob { question, document, from, reply })
    })
    .await?;
    app.worker.submit(Job::Why(Box::new(job)))?;
    let found = answer.await.map_err(|_| lost())??;
    let mut value = json!(found);
    value["document"] = json!(id);
    Ok(Json(value))
}
