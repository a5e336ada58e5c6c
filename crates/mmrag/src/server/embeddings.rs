//! `POST /v1/embeddings`: texts as vectors, by the embedder of a collection.

use std::sync::Arc;

use axum::extract::{Extension, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mmrag_core::{Content, Document, DocumentId, EngineError};
use mmrag_rag::Lane;
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::Access;
use super::body::{Body, Json};
use super::documents::in_background;
use super::error::ApiError;
use super::models::collection_of;
use super::state::Shared;
use crate::embedding::Loaded;

/// Texts in one request.
const MOST: usize = 2048;
/// Texts that are embedded before it is somebody else's turn.
const TOGETHER: usize = 64;

/// Texts to embed.
#[derive(Deserialize)]
pub(crate) struct Embedding {
    input: Input,
    model: String,
    #[serde(default)]
    dimensions: Option<usize>,
    #[serde(default)]
    encoding_format: Encoding,
    /// Ours, as other engines have it: what the texts are to be compared as.
    #[serde(default)]
    input_type: Sort,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    One(String),
    Many(Vec<String>),
    Tokens(serde::de::IgnoredAny),
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    #[default]
    Float,
    Base64,
}

/// Some embedders put other words before a question than before a document.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Sort {
    #[default]
    Query,
    #[serde(alias = "passage")]
    Document,
}

impl Input {
    fn texts(self) -> Result<Vec<String>, ApiError> {
        let texts = match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
            Self::Tokens(_) => {
                let message = "texts are embedded, tokens are not: send a string or strings";
                return Err(ApiError::field("input", message));
            }
        };
        if texts.is_empty() || texts.len() > MOST {
            return Err(ApiError::field("input", format!("send 1 to {MOST} texts")));
        }
        if let Some(empty) = texts.iter().position(String::is_empty) {
            return Err(ApiError::field("input", format!("text {empty} is empty")));
        }
        Ok(texts)
    }
}

impl Encoding {
    /// Base64 holds the values one after the other, each as four bytes, the lowest first.
    fn write(self, vector: &[f32]) -> Value {
        match self {
            Self::Float => json!(vector),
            Self::Base64 => {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                json!(STANDARD.encode(bytes))
            }
        }
    }
}

/// The vectors of texts.
pub(crate) async fn embed(
    State(app): State<Shared>,
    Extension(access): Extension<Access>,
    Body(asked): Body<Embedding>,
) -> Result<Json<Value>, ApiError> {
    let texts = asked.input.texts()?;
    let loaded = embedder(&app, &access, &asked.model).await?;
    let width = loaded.engine().width();
    if asked.dimensions.is_some_and(|dimensions| dimensions != width) {
        let message = format!("the embedder's vectors have {width}, and are not cut");
        return Err(ApiError::field("dimensions", message));
    }
    let place = app.turns.place()?;
    let (mut rows, mut tokens) = (Vec::with_capacity(texts.len()), 0);
    for texts in texts.chunks(TOGETHER) {
        let turn = place.turn().await;
        let (loaded, texts) = (Arc::clone(&loaded), texts.to_vec());
        // Who does not wait any more costs at most one piece of work.
        let (vectors, read) = in_background(move || {
            let _turn = turn;
            vectors(&loaded, &texts, asked.input_type).map_err(|error| ApiError::failed(&error))
        })
        .await?;
        tokens += read;
        for vector in vectors {
            let (index, vector) = (rows.len(), asked.encoding_format.write(&vector));
            rows.push(json!({ "object": "embedding", "index": index, "embedding": vector }));
        }
    }
    Ok(Json(json!({
        "object": "list",
        "data": rows,
        "model": asked.model,
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
        "mmrag": { "embedder": loaded.info().version, "of": loaded.info().lane },
    })))
}

/// What embeds texts for the collection that a model's name means: the embedder of texts, else
/// that of pictures and what is said of them.
async fn embedder(app: &Shared, access: &Access, model: &str) -> Result<Arc<Loaded>, ApiError> {
    let (name, store) = app.collections.find(access, collection_of(model)?)?;
    let found =
        in_background(move || store.embedders().map_err(|error| ApiError::of_collection(&error)))
            .await?;
    let of_text = found.iter().find(|loaded| loaded.info().lane == Lane::Text);
    of_text.or(found.first()).cloned().ok_or_else(|| {
        ApiError::not_offered(format!(
            "the collection {name} has no embedder, so there are no embeddings and it is searched by \
             words (BM25): make vectors with `mmrag index --embedder MODEL`, or start the server with \
             --embedder MODEL"
        ))
    })
}

/// The vectors of texts, and how many tokens were read.
fn vectors(
    loaded: &Loaded,
    texts: &[String],
    sort: Sort,
) -> Result<(Vec<Vec<f32>>, usize), EngineError> {
    let engine = loaded.engine();
    let tokens = texts.iter().map(|text| engine.count_tokens(text)).sum::<Result<usize, _>>()?;
    let vectors = match (sort, loaded.info().lane) {
        // What is said of pictures is embedded in one way alone.
        (Sort::Query, _) | (Sort::Document, Lane::Image) => {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            engine.embed_questions(&texts)?
        }
        (Sort::Document, Lane::Text) => {
            let documents: Vec<Document> = texts.iter().map(|text| untitled(text)).collect();
            engine.embed_documents(&documents.iter().collect::<Vec<_>>())?
        }
    };
    Ok((vectors, tokens))
}

fn untitled(text: &str) -> Document {
    let (id, title) = (DocumentId::new("text"), String::new());
    Document { id, title, content: Content::Text(text.to_owned()) }
}
