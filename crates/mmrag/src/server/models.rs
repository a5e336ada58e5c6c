//! `GET /v1/models` and `GET /health`.

use axum::extract::{Extension, State};
use serde_json::{Value, json};

use super::access::Access;
use super::body::Json;
use super::error::ApiError;
use super::state::Shared;

/// The name under which questions are answered; `mmrag/NAME` answers from a collection.
pub(crate) const MODEL: &str = "mmrag";

/// What clients may name as a model: the first collection, and each by its name.
pub(crate) async fn list(
    State(app): State<Shared>,
    Extension(access): Extension<Access>,
) -> Json<Value> {
    let model = |id: String, collection: Option<&str>| {
        json!({
            "id": id,
            "object": "model",
            "created": 0,
            "owned_by": "mmrag",
            "policy": app.worker.model,
            "collection": collection,
        })
    };
    let named =
        app.collections.open(&access).map(|(name, _)| model(format!("{MODEL}/{name}"), Some(name)));
    let rows: Vec<Value> = std::iter::once(model(MODEL.to_owned(), None)).chain(named).collect();
    Json(json!({ "object": "list", "data": rows }))
}

/// The collection that a model's name means; absent: the first.
///
/// # Errors
///
/// When there is no such model.
pub(crate) fn collection_of(model: &str) -> Result<Option<&str>, ApiError> {
    match model.split_once('/') {
        Some((MODEL, name)) => Ok(Some(name)),
        _ if model == MODEL => Ok(None),
        _ => {
            let message = format!("there is no model {model}; /v1/models lists them");
            Err(ApiError::missing(message))
        }
    }
}

/// Says that the server is there.
pub(crate) async fn health() -> Json<Value> {
    Json(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }))
}
