//! `POST /v1/chat/completions`, in OpenAI's form.
//!
//! The last turn of the user is the question; earlier turns are not read, since an answer rests on
//! documents alone. The answer's citations are `annotations` whose URLs open the documents here,
//! the reasoning is `reasoning_content`, and the explanation stands in the field `mmrag`, which the
//! official client keeps.

mod reply;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use mmrag_core::Role;
use serde::Deserialize;
use serde_json::Value;

use super::access::Access;
use super::ask::{Asked, Asking, begin};
use super::body::{Body, Json};
use super::documents::{Given, GivenPart, GivenUrl, Parts};
use super::error::ApiError;
use super::models::collection_of;
use super::sse::Events;
use super::state::Shared;
use super::unfold::unfold;
use super::worker::Event;

use reply::{Frame, delta};

/// A chat. What is not named here is not read, as with other engines that know fewer knobs; what
/// would change what comes back is refused.
#[derive(Deserialize)]
pub(crate) struct Chat {
    messages: Vec<Turn>,
    model: String,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    n: Option<usize>,
    #[serde(default)]
    tools: Option<Vec<Value>>,
    #[serde(default)]
    response_format: Option<Format>,
    #[serde(default)]
    logprobs: Option<bool>,
    /// Ours: what to answer from.
    #[serde(default)]
    documents: Option<Vec<Given>>,
    /// Ours: how many documents to find.
    #[serde(default)]
    top_k: Option<usize>,
}

#[derive(Deserialize)]
struct Turn {
    role: String,
    #[serde(default)]
    content: Option<Parts>,
}

#[derive(Clone, Copy, Default, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Deserialize)]
struct Format {
    r#type: String,
}

impl Chat {
    fn check(&self) -> Result<(), ApiError> {
        if self.n.is_some_and(|n| n != 1) {
            return Err(ApiError::field("n", "there is one answer to a question: leave `n` out"));
        }
        if self.tools.as_ref().is_some_and(|tools| !tools.is_empty()) {
            return Err(ApiError::field("tools", "tools are not called here: leave `tools` out"));
        }
        if self.response_format.as_ref().is_some_and(|format| format.r#type != "text") {
            let message = "answers are text; the parts are in the field `mmrag`";
            return Err(ApiError::field("response_format", message));
        }
        if self.logprobs == Some(true) {
            let message =
                "tokens are not told here; `mmrag.confidence` says how sure the answer is";
            return Err(ApiError::field("logprobs", message));
        }
        Ok(())
    }

    fn asking(&mut self) -> Result<Asking, ApiError> {
        let is_users = |turn: &&mut Turn| turn.role == Role::User.as_str();
        let last = self.messages.iter_mut().rev().find(is_users);
        let content = last.and_then(|turn| turn.content.take());
        let (mut texts, mut images) = (Vec::new(), Vec::new());
        match content {
            None => return Err(ApiError::field("messages", "there is no turn of the user")),
            Some(Parts::Text(text)) => texts.push(text),
            Some(Parts::Parts(parts)) => {
                for part in parts {
                    match part {
                        GivenPart::Text { text } => texts.push(text),
                        GivenPart::ImageUrl {
                            image_url: GivenUrl::Object { url } | GivenUrl::Plain(url),
                        } => images.push(url),
                    }
                }
            }
        }
        let collection = collection_of(&self.model)?.map(str::to_owned);
        Ok(Asking {
            question: texts.join("\n"),
            images,
            documents: self.documents.take(),
            collection,
            top_k: self.top_k,
            ..Asking::default()
        })
    }
}

/// Answers the last turn of a chat.
pub(crate) async fn completions(
    State(app): State<Shared>,
    Extension(access): Extension<Access>,
    headers: HeaderMap,
    Body(mut chat): Body<Chat>,
) -> Result<Response, ApiError> {
    chat.check()?;
    let asking = chat.asking()?;
    let mut asked = begin(&app, &access, asking.clone(), true).await?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    let frame = Frame::new(chat.model, host, asked.collection.clone());
    if chat.stream {
        let (events, response) = Events::new();
        let usage = chat.stream_options.unwrap_or_default().include_usage;
        let streaming = Streaming { app, access, asking, asked, frame, usage };
        tokio::spawn(streaming.run(events));
        return Ok(response);
    }
    let answer = asked.finish().await?;
    let id = app.history.keep(&access, &asking, asked.collection.as_deref(), &answer);
    Ok(Json(frame.whole(&id, &answer)).into_response())
}

/// A chat whose answer is told as it grows: well-formed chunks and nothing else, since official
/// clients read every event as one.
struct Streaming {
    app: Shared,
    access: Access,
    asking: Asking,
    asked: Asked,
    frame: Frame,
    usage: bool,
}

impl Streaming {
    async fn run(mut self, events: Events) {
        let opening = self.frame.chunk(&delta("role", "assistant"), None);
        let mut goes_on = events.plain(&opening).await;
        let (mut reasoning, mut content) = (String::new(), String::new());
        while goes_on {
            match self.asked.next().await {
                Event::Found(_) | Event::Filtered(_) => {}
                Event::Written(text) => {
                    let now = unfold(&text);
                    goes_on = self
                        .more(&events, "reasoning_content", &mut reasoning, &now.reasoning)
                        .await
                        && (reply::may_abstain(&now.answer)
                            || self.more(&events, "content", &mut content, &now.answer).await);
                }
                Event::Done(answer) => {
                    let keep = |asked: &Asked| {
                        let collection = asked.collection.as_deref();
                        self.app.history.keep(&self.access, &self.asking, collection, &answer)
                    };
                    let id = keep(&self.asked);
                    let whole = reply::content(&answer.explanation);
                    self.more(&events, "content", &mut content, &whole.text).await;
                    events.plain(&self.frame.last(&id, &answer, &whole)).await;
                    if self.usage {
                        events.plain(&self.frame.usage(&answer)).await;
                    }
                    return events.done().await;
                }
                Event::Failed(error) => {
                    events.plain(&error.body()).await;
                    return events.done().await;
                }
            }
        }
    }

    /// Tells what a text has more than was told of it; whether anybody still reads.
    async fn more(&self, events: &Events, key: &str, told: &mut String, now: &str) -> bool {
        let Some(new) = now.strip_prefix(told.as_str()).filter(|new| !new.is_empty()) else {
            return true;
        };
        let chunk = self.frame.chunk(&delta(key, new), None);
        now.clone_into(told);
        events.plain(&chunk).await
    }
}
