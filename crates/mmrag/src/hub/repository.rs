//! A repository on the hub: what it holds, and the beginning of each file's answer.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use hf_hub::api::RepoInfo;
use hf_hub::api::sync::{Api, ApiBuilder, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use ureq::http::Response;
use ureq::tls::TlsConfig;
use ureq::{Agent, Body};

use super::name::{HubName, is_part};
use super::variables::Variables;
use crate::certificates;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// How long nothing may come.
const SILENCE_TIMEOUT: Duration = Duration::from_mins(1);

/// How often an answer may lead elsewhere.
const MAX_HOPS: usize = 10;

/// Characters of what the hub says that are shown.
const SAID: usize = 200;

/// A model's repository.
pub(super) struct Repository<'a> {
    name: &'a HubName,
    variables: &'a Variables,
    api: Api,
    tls: TlsConfig,
    agent: Agent,
}

/// What a repository holds at its revision.
pub(super) struct Listing {
    /// The commit that the revision is now.
    pub(super) commit: String,
    /// The names of its files.
    pub(super) files: BTreeSet<String>,
}

/// The beginning of a file's answer.
pub(super) struct Reply {
    /// The name that the hub gives the content: of large files their SHA-256.
    pub(super) etag: Option<String>,
    /// Bytes of the whole file, if it is said.
    pub(super) size: Option<u64>,
    /// The byte of the file that the body begins with.
    pub(super) start: u64,
    /// The bytes.
    pub(super) body: Box<dyn Read>,
}

/// Why something did not come.
pub(super) enum Trouble {
    /// Nobody answered.
    Unreachable(ureq::Error),
    /// The hub said no.
    Refused {
        /// The status of its answer.
        status: u16,
        /// Its words, if it had some.
        said: Option<String>,
    },
    /// Not all came, or something else. Asking again may help.
    Broken(String),
    /// Asking again does not help.
    Other(anyhow::Error),
}

impl<'a> Repository<'a> {
    /// The repository of this name. Nothing is asked yet.
    ///
    /// # Errors
    ///
    /// When the client cannot be set up.
    pub(super) fn new(variables: &'a Variables, name: &'a HubName) -> anyhow::Result<Self> {
        let api = ApiBuilder::from_cache(Cache::new(variables.cache.clone()))
            .with_endpoint(variables.endpoint.clone())
            .with_token(variables.token.clone())
            .with_user_agent("mmrag", env!("CARGO_PKG_VERSION"))
            .with_progress(false)
            .build()
            .context("failed to set up the client of the hub")?;
        let tls = certificates::tls()?;
        let agent = Agent::config_builder()
            .user_agent(concat!("mmrag/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            .tls_config(tls.clone())
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(SILENCE_TIMEOUT))
            .timeout_per_read(Some(SILENCE_TIMEOUT))
            .build();
        Ok(Self { name, variables, api, tls, agent: agent.into() })
    }

    /// Asks what the repository holds.
    ///
    /// # Errors
    ///
    /// When the hub cannot be reached, refuses, or does not answer as a hub does.
    pub(super) fn listing(&self) -> Result<Listing, Trouble> {
        let request = self.at(&self.name.revision).info_request();
        let request = request
            .config()
            .http_status_as_error(false)
            .tls_config(self.tls.clone())
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(SILENCE_TIMEOUT))
            .timeout_per_read(Some(SILENCE_TIMEOUT))
            .build();
        let mut response = accepted(request.call().map_err(Trouble::Unreachable)?)?;
        let strange = || format!("{} does not answer as a hub does", self.variables.endpoint);
        let info: RepoInfo = response.body_mut().read_json().with_context(strange)?;
        if !is_part(&info.sha) || info.sha.len() > 64 {
            return Err(anyhow!("`{}` is no commit", info.sha.escape_default())
                .context(strange())
                .into());
        }
        let files = info.siblings.into_iter().map(|sibling| sibling.rfilename);
        Ok(Listing { commit: info.sha, files: files.collect() })
    }

    /// Asks for a file from a byte on. The token is for the hub alone: where it sends us on to
    /// another host, that host is asked without.
    ///
    /// # Errors
    ///
    /// When the hub cannot be reached or refuses.
    pub(super) fn open(&self, commit: &str, file: &str, start: u64) -> Result<Reply, Trouble> {
        let mut url = self.at(commit).url(file);
        let (mut etag, mut size) = (None, None);
        for _ in 0..=MAX_HOPS {
            let response = accepted(self.get(&url, start)?)?;
            etag = etag.or_else(|| plain_etag(&response));
            size = size.or_else(|| header(&response, "x-linked-size")?.parse().ok());
            if !response.status().is_redirection() {
                return reply(response, etag, size);
            }
            let next = header(&response, "location").and_then(|to| joined(&url, to));
            url = next.ok_or_else(|| {
                Trouble::Other(anyhow!("{url} leads elsewhere without saying where"))
            })?;
        }
        Err(Trouble::Other(anyhow!("{file} is behind more than {MAX_HOPS} redirections")))
    }

    fn get(&self, url: &str, start: u64) -> Result<Response<Body>, Trouble> {
        // Bytes are counted as they lie on the disk.
        let mut request = self.agent.get(url).header("Accept-Encoding", "identity");
        if let Some(token) = &self.variables.token
            && origin(url) == origin(&self.variables.endpoint)
        {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if start > 0 {
            request = request.header("Range", format!("bytes={start}-"));
        }
        request.call().map_err(Trouble::Unreachable)
    }

    fn at(&self, revision: &str) -> ApiRepo {
        let repository = self.name.repository.clone();
        self.api.repo(Repo::with_revision(repository, RepoType::Model, revision.to_owned()))
    }
}

/// The answer, unless the hub said no.
fn accepted(response: Response<Body>) -> Result<Response<Body>, Trouble> {
    let status = response.status().as_u16();
    if status < 400 {
        return Ok(response);
    }
    let said = header(&response, "x-error-message")
        .map(|text| text.chars().filter(|sign| !sign.is_control()).take(SAID).collect());
    Err(Trouble::Refused { status, said })
}

fn reply(
    response: Response<Body>,
    etag: Option<String>,
    linked_size: Option<u64>,
) -> Result<Reply, Trouble> {
    let (start, size) = match response.status().as_u16() {
        200 => (0, header(&response, "content-length").and_then(|size| size.parse().ok())),
        206 => {
            let range = header(&response, "content-range").and_then(content_range);
            range.ok_or_else(|| Trouble::Other(anyhow!("the hub sends a part of it unasked")))?
        }
        status => return Err(Trouble::Refused { status, said: None }),
    };
    let body = Box::new(response.into_body().into_reader());
    Ok(Reply { etag, size: size.or(linked_size), start, body })
}

/// First byte and size of the whole, of `bytes 3-9/10`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, size.trim().parse().ok()))
}

/// The ETag of the content that is linked to, else of the answer, without quotes.
fn plain_etag(response: &Response<Body>) -> Option<String> {
    let etag = header(response, "x-linked-etag").or_else(|| header(response, "etag"))?;
    Some(etag.trim_start_matches("W/").trim_matches('"').to_owned())
}

fn header<'r>(response: &'r Response<Body>, name: &str) -> Option<&'r str> {
    response.headers().get(name)?.to_str().ok()
}

/// Where a redirection from `url` leads.
fn joined(url: &str, to: &str) -> Option<String> {
    if to.starts_with("http://") || to.starts_with("https://") {
        return Some(to.to_owned());
    }
    (to.starts_with('/') && !to.starts_with("//")).then(|| format!("{}{to}", origin(url)))
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    url[host..].find(['/', '?', '#']).map_or(url, |end| &url[..host + end])
}

impl From<anyhow::Error> for Trouble {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => write!(f, "the hub cannot be reached ({error})"),
            Self::Refused { status, said: None } => write!(f, "the hub answers with HTTP {status}"),
            Self::Refused { status, said: Some(said) } => {
                write!(f, "the hub answers with HTTP {status}: {said}")
            }
            Self::Broken(reason) => f.write_str(reason),
            Self::Other(error) => write!(f, "{error:#}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{content_range, joined, origin};

    #[test]
    fn redirections_and_origins_are_read() {
        assert_eq!(origin("https://hub:8443/a/b?c"), "https://hub:8443");
        assert_eq!(origin("https://hub"), "https://hub");
        // A host that only begins like the hub's is another one.
        assert_ne!(origin("https://hub.elsewhere/x"), origin("https://hub/x"));
        assert_eq!(joined("http://hub/a/b", "/c?d").as_deref(), Some("http://hub/c?d"));
        assert_eq!(joined("http://hub/a", "https://store/c").as_deref(), Some("https://store/c"));
        assert_eq!(joined("http://hub/a", "//store/c"), None);
        assert_eq!(joined("http://hub/a", "file:///etc/passwd"), None);
    }

    #[test]
    fn ranges_say_where_they_begin() {
        assert_eq!(content_range("bytes 3-9/10"), Some((3, Some(10))));
        assert_eq!(content_range("bytes 0-9/*"), Some((0, None)));
        assert_eq!(content_range("3-9"), None);
    }
}
