//! What a request could not have, in OpenAI's form.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mmrag_rag::RagError;
use serde_json::{Value, json};

use super::body::Json;

/// Why a request was not done.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    message: String,
    param: Option<String>,
    code: Option<&'static str>,
    retry_after: Option<Duration>,
}

impl ApiError {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, code: None, retry_after: None }
    }

    /// The request itself is wrong.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// One field of the request is wrong.
    pub(crate) fn field(param: &str, message: impl Into<String>) -> Self {
        Self { param: Some(param.to_owned()), ..Self::bad(message) }
    }

    /// There is no such thing.
    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self { code: Some("not_found"), ..Self::new(StatusCode::NOT_FOUND, message) }
    }

    /// No key, or one that is not known.
    pub(crate) fn unknown_key(message: impl Into<String>) -> Self {
        Self { code: Some("invalid_api_key"), ..Self::new(StatusCode::UNAUTHORIZED, message) }
    }

    /// A known key that may not do this.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self { code: Some("forbidden"), ..Self::new(StatusCode::FORBIDDEN, message) }
    }

    /// Too much for one request.
    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self { code: Some("too_large"), ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, message) }
    }

    /// The body is not of a kind that is read.
    pub(crate) fn media_type(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
    }

    /// Too much waits already.
    pub(crate) fn busy(retry_after: Duration) -> Self {
        Self {
            code: Some("rate_limit_exceeded"),
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too many requests wait already; come back")
        }
    }

    /// It took too long.
    pub(crate) fn late(limit: Duration) -> Self {
        let message = format!("the request was not done within {} s", limit.as_secs_f64());
        Self { code: Some("timeout"), ..Self::new(StatusCode::GATEWAY_TIMEOUT, message) }
    }

    /// This server is going away.
    pub(crate) fn stopping() -> Self {
        Self {
            retry_after: Some(Duration::from_secs(10)),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping")
        }
    }

    /// Not set up here.
    pub(crate) fn not_offered(message: impl Into<String>) -> Self {
        Self { code: Some("not_offered"), ..Self::new(StatusCode::NOT_IMPLEMENTED, message) }
    }

    /// Something failed that the asker cannot mend.
    pub(crate) fn failed(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut message = format!("failed to {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            message.extend([": ", &cause.to_string()]);
            source = cause.source();
        }
        tracing::error!(%message, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// What a collection said; that somebody else writes to it passes.
    pub(crate) fn of_collection(error: &RagError) -> Self {
        match error {
            RagError::BeingWritten { .. } => Self {
                code: Some("being_written"),
                retry_after: Some(Duration::from_secs(5)),
                ..Self::new(StatusCode::CONFLICT, "another program writes to the collection")
            },
            error => Self::failed(error),
        }
    }

    fn kind(&self) -> &'static str {
        match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_client_error() => "invalid_request_error",
            _ => "server_error",
        }
    }

    /// The body that says so.
    pub(crate) fn body(&self) -> Value {
        json!({ "error": {
            "message": self.message,
            "type": self.kind(),
            "param": self.param,
            "code": self.code,
        } })
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// For every path that is none.
pub(crate) async fn no_such_path() -> ApiError {
    ApiError::missing("there is no such path; /openapi.json lists those that are")
}

/// For a path that is asked in another way.
pub(crate) async fn no_such_method() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "the path is not asked by this method")
}
