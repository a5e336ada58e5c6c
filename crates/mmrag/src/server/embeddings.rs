//! `POST /v1/embeddings`.

use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{Body, Json};
use super::documents::in_background;
use super::error::ApiError;
use super::state::Shared;

/// Texts in one request.
const MOST: usize = 2048;

/// Texts to embed.
#[derive(Deserialize)]
pub(crate) struct Embedding {
    input: Input,
    #[serde(default)]
    model: String,
    #[serde(default)]
    dimensions: Option<usize>,
    #[serde(default)]
    encoding_format: Encoding,
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

/// The vectors of texts.
pub(crate) async fn embed(
    State(app): State<Shared>,
    Body(asked): Body<Embedding>,
) -> Result<Json<Value>, ApiError> {
    let texts = match asked.input {
        Input::One(text) => vec![text],
        Input::Many(texts) => texts,
        Input::Tokens(_) => {
            return Err(ApiError::field(
                "input",
                "texts are embedded, tokens are not: send strings",
            ));
        }
    };
    if texts.is_empty() || texts.len() > MOST {
        return Err(ApiError::field("input", format!("send 1 to {MOST} texts")));
    }
    let Some(embedder) = app.embedder.clone() else {
        return Err(ApiError::not_offered(
            "this server has no embedder, so it makes no embeddings; it searches by words (BM25)",
        ));
    };
    let width = embedder.width();
    if asked.dimensions.is_some_and(|dimensions| dimensions != width) {
        return Err(ApiError::field("dimensions", format!("the embedder's vectors have {width}")));
    }
    let vectors = in_background(move || {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        embedder.embed_questions(&texts).map_err(|error| ApiError::failed(&error))
    })
    .await?;
    let written = |vector: &Vec<f32>| match asked.encoding_format {
        Encoding::Float => json!(vector),
        Encoding::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            json!(STANDARD.encode(bytes))
        }
    };
    let rows: Vec<Value> = vectors
        .iter()
        .enumerate()
        .map(|(i, v)| json!({ "object": "embedding", "index": i, "embedding": written(v) }))
        .collect();
    // The embedder does not tell tokens; clients want the fields to be there.
    let usage = json!({ "prompt_tokens": 0, "total_tokens": 0 });
    Ok(Json(json!({ "object": "list", "data": rows, "model": asked.model, "usage": usage })))
}
