//! What the environment says about the hub, in the variables of the Python library.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

const ENDPOINT: &str = "https://huggingface.co";

/// Where the hub and its cache are, and who asks.
#[derive(Debug)]
pub(super) struct Variables {
    /// The hub's address, without a slash at the end.
    pub(super) endpoint: String,
    /// The folder of the cache.
    pub(super) cache: PathBuf,
    /// Who asks.
    pub(super) token: Option<String>,
    /// Whether the hub may not be asked.
    pub(super) offline: bool,
}

impl Variables {
    /// Reads the environment.
    ///
    /// # Errors
    ///
    /// When it names no place for the cache, or an endpoint that is none.
    pub(super) fn read() -> anyhow::Result<Self> {
        Self::of(&|name| std::env::var_os(name), std::env::home_dir())
    }

    fn of(
        variable: &dyn Fn(&str) -> Option<OsString>,
        user: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let value = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| value(name).and_then(|value| value.into_string().ok());
        let path = |name: &str| value(name).map(PathBuf::from);
        let is_on = |name: &str| text(name).is_some_and(|value| is_true(&value));
        let caches = || path("XDG_CACHE_HOME").or_else(|| Some(user?.join(".cache")));
        let home = path("HF_HOME").or_else(|| Some(caches()?.join("huggingface")));
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(home.as_ref()?.join("hub")))
            .context("failed to place the cache of the hub: set HF_HOME or HF_HUB_CACHE")?;
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        ensure!(
            endpoint.starts_with("https://") || endpoint.starts_with("http://"),
            "failed to read HF_ENDPOINT: `{endpoint}` does not begin with https:// or http://"
        );
        let token_file = path("HF_TOKEN_PATH").or_else(|| Some(home.as_ref()?.join("token")));
        let token = text("HF_TOKEN")
            .or_else(|| text("HUGGING_FACE_HUB_TOKEN"))
            .or_else(|| token_in(&token_file?))
            .map(|token| token.trim().to_owned());
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache,
            token: token.filter(|_| !is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN")),
            offline: is_on("HF_HUB_OFFLINE"),
        })
    }
}

/// The token that `hf auth login` leaves. Without one the hub is asked without.
fn token_in(file: &Path) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    Some(text).filter(|text| !text.trim().is_empty())
}

fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> anyhow::Result<Variables> {
        let value = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
        };
        Variables::of(&value, Some("/user".into()))
    }

    #[track_caller]
    fn check_cache(variables: &[(&str, &str)], expected: &str) {
        assert_eq!(read(variables).unwrap().cache, Path::new(expected));
    }

    #[test]
    fn the_cache_is_where_the_python_library_has_it() {
        check_cache(&[], "/user/.cache/huggingface/hub");
        check_cache(&[("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub");
        check_cache(&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/h")], "/h/hub");
        check_cache(&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")], "/c");
        check_cache(&[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HUB_CACHE", "")], "/old");
        let error = Variables::of(&|_| None, None).unwrap_err().to_string();
        assert!(error.contains("HF_HOME"), "{error}");
    }

    #[test]
    fn a_token_comes_from_the_variable_or_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        std::fs::write(folder.path().join("token"), "of the file\n").unwrap();
        let token =
            |more: &[(&str, &str)]| read(&[&[("HF_HOME", home)], more].concat()).unwrap().token;
        assert_eq!(token(&[]).as_deref(), Some("of the file"));
        assert_eq!(token(&[("HF_TOKEN", "said\n")]).as_deref(), Some("said"));
        assert_eq!(token(&[("HF_TOKEN_PATH", "/none")]), None);
        assert_eq!(token(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
    }

    #[test]
    fn endpoint_and_offline_are_read() {
        let variables = read(&[("HF_ENDPOINT", "http://mirror/"), ("HF_HUB_OFFLINE", "True")]);
        let variables = variables.unwrap();
        assert_eq!(variables.endpoint, "http://mirror");
        assert!(variables.offline);
        assert!(!read(&[("HF_HUB_OFFLINE", "0")]).unwrap().offline);
        let error = read(&[("HF_ENDPOINT", "mirror")]).unwrap_err().to_string();
        assert!(error.contains("HF_ENDPOINT") && error.contains("mirror"), "{error}");
    }
}
