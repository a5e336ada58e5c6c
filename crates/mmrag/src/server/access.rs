//! Who may ask: keys, and on the loopback address without keys, pages of this server alone.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::error::ApiError;
use super::keys::Keys;
use super::state::Shared;

/// What guards the server.
#[derive(Clone, Debug)]
pub(crate) enum Guard {
    /// Nobody but this machine can reach it.
    Loopback,
    /// A key is needed.
    Keys(Keys),
}

/// What the one who asks may see.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    /// The key's name; empty without keys.
    pub(crate) name: String,
    collections: Option<Vec<String>>,
}

impl Access {
    /// Whether a collection is open to them.
    pub(crate) fn opens(&self, collection: &str) -> bool {
        self.collections.as_ref().is_none_or(|open| open.iter().any(|name| name == collection))
    }

    /// Whether everything is.
    pub(crate) fn opens_all(&self) -> bool {
        self.collections.is_none()
    }
}

/// Lets requests with a known key in, and notes what it opens.
pub(crate) async fn check(State(app): State<Shared>, mut request: Request, next: Next) -> Response {
    let access = match &app.guard {
        Guard::Loopback => Access { name: String::new(), collections: None },
        Guard::Keys(keys) => match by_key(keys, request.headers()) {
            Ok(access) => access,
            Err(error) => return error.into_response(),
        },
    };
    request.extensions_mut().insert(access);
    next.run(request).await
}

fn by_key(keys: &Keys, headers: &HeaderMap) -> Result<Access, ApiError> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| {
        let (scheme, secret) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(secret.trim())
    });
    let Some(secret) = bearer else {
        return Err(ApiError::unknown_key("send an API key: Authorization: Bearer KEY"));
    };
    let Some(key) = keys.find(secret) else {
        return Err(ApiError::unknown_key("the API key is not known"));
    };
    Ok(Access { name: key.name.clone(), collections: key.collections.clone() })
}

/// Without keys, refuses requests that come by another name than this machine's own or from a page
/// of another site: else a page that somebody visits could reach the server through their browser.
pub(crate) async fn check_host(
    State(app): State<Shared>,
    request: Request,
    next: Next,
) -> Response {
    if matches!(app.guard, Guard::Loopback)
        && let Err(error) = from_here(request.headers())
    {
        return error.into_response();
    }
    next.run(request).await
}

fn from_here(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if text(header::HOST).is_some_and(|host| !is_loopback(host)) {
        return Err(ApiError::forbidden(
            "without API keys this server answers to localhost alone; start it with --api-keys",
        ));
    }
    let origin = text(header::ORIGIN).map(|origin| origin.rsplit("//").next().unwrap_or_default());
    if origin.is_some_and(|origin| !is_loopback(origin)) {
        return Err(ApiError::forbidden("pages of other sites may not ask this server"));
    }
    Ok(())
}

/// Whether `host` or `host:port` names this machine.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1:7878", "[::1]:7878", "127.9.9.9"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["example.org", "127.0.0.1.example.org", "10.0.0.1:80", "", "null"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
