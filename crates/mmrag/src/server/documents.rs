//! Documents as requests give them, and the collections' documents over HTTP.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::{Extension, Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use mmrag_core::{Content, Document, DocumentId, ImageSource, Question, QuestionId, Table};
use mmrag_data::picture_bytes;
use mmrag_rag::{RagError, contents_version};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::access::Access;
use super::body::{Body, Json};
use super::collections::Store;
use super::error::ApiError;
use super::limits::Limits;
use super::pictures;
use super::state::Shared;

/// A document as somebody sends it: a text, or an object in our form or in one of those that rerank
/// clients send.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Given {
    /// Running text.
    Text(String),
    /// Anything else.
    Fields(Box<Fields>),
}

/// Just one of `text`, `table`, `image` and `content` says what the document holds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Fields {
    /// Its identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// Its title; of an image, the caption.
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<GivenTable>,
    /// A data URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    /// Parts as in a chat: texts, and at most one picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Parts>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct GivenTable {
    name: String,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// What is said in a turn or stands in a document.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Parts {
    /// Text alone.
    Text(String),
    /// Texts and pictures.
    Parts(Vec<GivenPart>),
}

/// A part in OpenAI's form.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum GivenPart {
    /// Text.
    Text { text: String },
    /// A picture.
    ImageUrl { image_url: GivenUrl },
}

/// A picture's address, by itself or in an object.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum GivenUrl {
    /// As OpenAI has it.
    Object { url: String },
    /// As some have it.
    Plain(String),
}

impl Parts {
    /// The texts, joined by line ends, and the pictures.
    ///
    /// # Errors
    ///
    /// When a picture is not taken.
    pub(crate) fn read(&self, limits: &Limits) -> Result<(String, Vec<ImageSource>), ApiError> {
        let parts = match self {
            Self::Text(text) => return Ok((text.clone(), Vec::new())),
            Self::Parts(parts) => parts,
        };
        let (mut texts, mut images) = (Vec::new(), Vec::new());
        for part in parts {
            match part {
                GivenPart::Text { text } => texts.push(text.as_str()),
                GivenPart::ImageUrl {
                    image_url: GivenUrl::Object { url } | GivenUrl::Plain(url),
                } => images.push(pictures::from_url(url, limits)?),
            }
        }
        Ok((texts.join("\n"), images))
    }
}

impl Given {
    fn read(
        &self,
        unnamed: impl Fn(&Document) -> String,
        limits: &Limits,
    ) -> Result<Document, ApiError> {
        let empty = Box::default();
        let (fields, content) = match self {
            Self::Text(text) => (&empty, Content::Text(text.clone())),
            Self::Fields(fields) => (fields, fields.content(limits)?),
        };
        let caption = fields.caption();
        let title = fields.title.clone().or(caption).unwrap_or_default();
        let mut document = Document { id: DocumentId::new(""), title, content };
        let id = fields.id.clone().filter(|id| !id.is_empty());
        document.id = DocumentId::new(id.unwrap_or_else(|| unnamed(&document)));
        Ok(document)
    }
}

impl Fields {
    fn content(&self, limits: &Limits) -> Result<Content, ApiError> {
        match (&self.text, &self.table, &self.image, &self.content) {
            (Some(text), None, None, None) => Ok(Content::Text(text.clone())),
            (None, Some(table), None, None) => {
                let GivenTable { name, header, rows } = table.clone();
                Ok(Content::Table(Table { name, header, rows }))
            }
            // A text beside a picture is its caption.
            (_, None, Some(url), None) => Ok(Content::Image(pictures::from_url(url, limits)?)),
            (None, None, None, Some(parts)) => {
                let (text, mut images) = parts.read(limits)?;
                match images.len() {
                    0 => Ok(Content::Text(text)),
                    1 => Ok(Content::Image(images.remove(0))),
                    n => Err(ApiError::field(
                        "documents",
                        format!("a document has {n} pictures; give each one of its own"),
                    )),
                }
            }
            _ => Err(ApiError::field(
                "documents",
                "a document holds just one of `text`, `table`, `image` and `content`",
            )),
        }
    }

    /// What stands beside a picture.
    fn caption(&self) -> Option<String> {
        if self.image.is_some() {
            return self.text.clone();
        }
        let Some(Parts::Parts(parts)) = &self.content else { return None };
        let has_picture = parts.iter().any(|part| matches!(part, GivenPart::ImageUrl { .. }));
        let text = |part: &GivenPart| match part {
            GivenPart::Text { text } => Some(text.clone()),
            GivenPart::ImageUrl { .. } => None,
        };
        has_picture.then(|| parts.iter().filter_map(text).collect::<Vec<_>>().join(" "))
    }
}

/// Documents that come with a question; unnamed ones are called by their place.
///
/// # Errors
///
/// When there are too many, two have one id, or one cannot be read.
pub(crate) fn of_request(given: &[Given], limits: &Limits) -> Result<Vec<Arc<Document>>, ApiError> {
    if given.len() > limits.documents {
        return Err(ApiError::field(
            "documents",
            format!("{} documents are more than {}", given.len(), limits.documents),
        ));
    }
    let mut ids = HashSet::new();
    let read = |(place, given): (usize, &Given)| {
        let document = given.read(|_| format!("document-{place}"), limits)?;
        if !ids.insert(document.id.clone()) {
            let message = format!("two documents have the id {}", document.id);
            return Err(ApiError::field("documents", message));
        }
        Ok(Arc::new(document))
    };
    given.iter().enumerate().map(read).collect()
}

/// A body that adds documents.
#[derive(Deserialize)]
pub(crate) struct Addition {
    collection: Option<String>,
    documents: Vec<Given>,
}

/// `POST /v1/documents`. They are there, and stay there, when the response comes.
pub(crate) async fn add(
    State(app): State<Shared>,
    Extension(access): Extension<Access>,
    Body(addition): Body<Addition>,
) -> Result<Json<Value>, ApiError> {
    let (name, store) = app.collections.find(&access, addition.collection.as_deref())?;
    let limits = app.limits;
    if addition.documents.len() > limits.documents {
        let message = format!("at most {} documents are added at once", limits.documents);
        return Err(ApiError::field("documents", message));
    }
    let added = in_background(move || {
        let mut documents = Vec::with_capacity(addition.documents.len());
        for given in &addition.documents {
            let by_contents =
                |document: &Document| contents_version(std::slice::from_ref(document));
            documents.push(given.read(by_contents, &limits)?);
        }
        let ids: Vec<String> = documents.iter().map(|d| d.id.to_string()).collect();
        let failed = store.add(documents).map_err(|error| ApiError::of_collection(&error))?;
        Ok((ids, failed, store.len()))
    })
    .await?;
    let (ids, failed, total) = added;
    let mut told = json!({ "collection": name, "added": ids, "documents": total });
    if !failed.is_empty() {
        let failed = failed.iter().map(|(id, why)| json!({ "document": id, "why": why }));
        told["not_embedded"] = failed.collect();
    }
    Ok(Json(told))
}

/// Which documents are asked for.
#[derive(Deserialize)]
pub(crate) struct Which {
    collection: Option<String>,
    from: Option<usize>,
    limit: Option<usize>,
    search: Option<String>,
}

/// `GET /v1/documents`.
pub(crate) async fn list(
    State(app): State<Shared>,
    Extension(access): Extension<Access>,
    Query(which): Query<Which>,
) -> Result<Json<Value>, ApiError> {
    let (name, store) = app.collections.find(&access, which.collection.as_deref())?;
    let most = which.limit.unwrap_or(100).clamp(1, 1000);
    let from = which.from.unwrap_or(0);
    let found = in_background(move || {
        let found = match which.search {
            Some(words) => searched(&*store, &words, most),
            None => store.list(from, most + 1),
        };
        found.map_err(|error| ApiError::of_collection(&error))
    })
    .await?;
    let has_more = found.len() > most;
    let rows: Vec<Value> = found
        .iter()
        .take(most)
        .map(|d| json!({ "object": "document", "id": d.id, "title": d.title, "modality": d.modality() }))
        .collect();
    Ok(Json(json!({ "object": "list", "collection": name, "data": rows, "has_more": has_more })))
}

/// The document of this id, or those with words in common.
fn searched(store: &dyn Store, words: &str, most: usize) -> Result<Vec<Arc<Document>>, RagError> {
    if let Some(named) = store.document(&DocumentId::new(words))? {
        return Ok(vec![named]);
    }
    let id = QuestionId::new("search");
    let question = Question { id, text: words.to_owned(), images: Vec::new() };
    let hits = store.with_words(&question, most)?;
    Ok(hits.into_iter().map(|hit| hit.document).collect())
}

/// `GET /v1/documents/ID`: the whole document; of a picture, its size.
pub(crate) async fn one(
    State(app): State<Shared>,
    Extension(access): Extension<Access>,
    Path(id): Path<String>,
    Query(which): Query<Which>,
) -> Result<Json<Value>, ApiError> {
    let document = find(&app, &access, which.collection.as_deref(), &id).await?;
    let (_, store) = app.collections.find(&access, which.collection.as_deref())?;
    let wanted = document.id.clone();
    let origin = in_background(move || {
        store.origin(&wanted).map_err(|error| ApiError::of_collection(&error))
    })
    .await?;
    let mut shown = json!({
        "object": "document",
        "id": document.id,
        "title": document.title,
        "modality": document.modality(),
        "origin": origin,
    });
    match &document.content {
        Content::Text(text) => shown["text"] = json!(text),
        Content::Table(table) => shown["table"] = json!(table),
        Content::Image(_) => {}
    }
    Ok(Json(shown))
}

/// `GET /v1/pictures/ID`: the picture's file.
pub(crate) async fn picture(
    State(app): State<Shared>,
    Extension(access): Extension<Access>,
    Path(id): Path<String>,
    Query(which): Query<Which>,
) -> Result<Response, ApiError> {
    let document = find(&app, &access, which.collection.as_deref(), &id).await?;
    let Content::Image(source) = document.content.clone() else {
        return Err(ApiError::missing(format!("the document {id} is no picture")));
    };
    let bytes = in_background(move || {
        let bytes = picture_bytes(&source);
        let bytes = bytes.map(std::borrow::Cow::into_owned);
        bytes.map_err(|_| ApiError::missing("the picture's file is not there any more"))
    })
    .await?;
    // Only what is a picture by its own first bytes goes out as one; nothing goes out as a page.
    let kind = match image::guess_format(&bytes) {
        Ok(format) => format.to_mime_type(),
        Err(_) => return Err(ApiError::missing(format!("the file of {id} is no picture"))),
    };
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "private, max-age=3600")];
    Ok((headers, bytes).into_response())
}

/// `DELETE /v1/documents/ID`.
pub(crate) async fn remove(
    State(app): State<Shared>,
    Extension(access): Extension<Access>,
    Path(id): Path<String>,
    Query(which): Query<Which>,
) -> Result<Json<Value>, ApiError> {
    let (name, store) = app.collections.find(&access, which.collection.as_deref())?;
    let wanted = DocumentId::new(&id);
    let removed = in_background(move || {
        store.remove(&wanted).map_err(|error| ApiError::of_collection(&error))
    })
    .await?;
    if !removed {
        return Err(ApiError::missing(format!("{name} has no document {id}")));
    }
    Ok(Json(json!({ "object": "document", "id": id, "deleted": true })))
}

async fn find(
    app: &Shared,
    access: &Access,
    collection: Option<&str>,
    id: &str,
) -> Result<Arc<Document>, ApiError> {
    let (name, store) = app.collections.find(access, collection)?;
    let wanted = DocumentId::new(id);
    let found = in_background(move || {
        store.document(&wanted).map_err(|error| ApiError::of_collection(&error))
    })
    .await?;
    found.ok_or_else(|| ApiError::missing(format!("{name} has no document {id}")))
}

/// Does what may wait for a disk on a thread that may wait.
pub(super) async fn in_background<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, ApiError> + Send + 'static,
) -> Result<R, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(ApiError::failed(&error)),
    }
}
