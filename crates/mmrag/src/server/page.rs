//! The page for people, inside the binary.
//!
//! It asks nobody but this server, and no script runs in it but its own: what documents say is only
//! ever set as text.

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::state::Shared;

/// What the page may do: its own scripts and styles, pictures from here and those that somebody
/// picks, requests to here.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";

const FILES: [(&str, &str, &str); 14] = [
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/page/style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
    ("/page/app.js", SCRIPT, include_str!("page/app.js")),
    ("/page/dom.js", SCRIPT, include_str!("page/dom.js")),
    ("/page/api.js", SCRIPT, include_str!("page/api.js")),
    ("/page/ask.js", SCRIPT, include_str!("page/ask.js")),
    ("/page/answer.js", SCRIPT, include_str!("page/answer.js")),
    ("/page/evidence.js", SCRIPT, include_str!("page/evidence.js")),
    ("/page/rejected.js", SCRIPT, include_str!("page/rejected.js")),
    ("/page/trace.js", SCRIPT, include_str!("page/trace.js")),
    ("/page/past.js", SCRIPT, include_str!("page/past.js")),
    ("/page/collections.js", SCRIPT, include_str!("page/collections.js")),
    ("/page/runs.js", SCRIPT, include_str!("page/runs.js")),
    ("/page/files.js", SCRIPT, include_str!("page/files.js")),
];

/// The page's files.
pub(crate) fn routes() -> Router<Shared> {
    FILES.iter().fold(Router::new(), |router, (path, kind, text)| {
        router.route(path, get(move || async move { file(kind, text) }))
    })
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text).into_response()
}

/// Headers that keep a browser from making anything of a response but what it is.
pub(crate) async fn safe_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}
