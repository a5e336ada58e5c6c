//! JSON of requests, with errors that say what is wrong, and of responses.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ApiError;

/// A body that was JSON. It has to say so: a page of another site cannot send that without asking
/// the browser for leave, which this server never gives.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let is_json = kind.is_some_and(|kind| {
            let essence = kind.split(';').next().unwrap_or_default().trim();
            essence.eq_ignore_ascii_case("application/json")
        });
        if !is_json {
            return Err(ApiError::media_type("send JSON, with Content-Type: application/json"));
        }
        let bytes =
            Bytes::from_request(request, state).await.map_err(|rejection| {
                match rejection.into_response().status() {
                    StatusCode::PAYLOAD_TOO_LARGE => {
                        ApiError::too_large("the body is larger than this server takes")
                    }
                    _ => ApiError::bad("the body could not be read"),
                }
            })?;
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        let value = T::deserialize(&mut json).and_then(|value| json.end().map(|()| value));
        value
            .map(Self)
            .map_err(|error| ApiError::bad(format!("the body is not as it should: {error}")))
    }
}

/// A response that is JSON.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    }
}
