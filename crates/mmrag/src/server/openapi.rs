//! `GET /openapi.json`.

use axum::http::header;
use axum::response::{IntoResponse, Response};

/// What this server can be asked, for people and for programs that make clients.
pub(crate) const DESCRIPTION: &str = include_str!("openapi.json");

/// The description.
pub(crate) async fn describe() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DESCRIPTION).into_response()
}
