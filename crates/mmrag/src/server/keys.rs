//! API keys: a file of hashes, each with what it opens.
//!
//! A key is 256 random bits, so a plain SHA-256 of it cannot be turned back; a slow hash would only
//! slow down requests.

use std::collections::HashMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::hexadecimal::hexadecimal;

const PREFIX: &str = "mmrag-";

/// What a key opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Key {
    /// Whose it is, for logs and history.
    pub(crate) name: String,
    /// SHA-256 of the key in hexadecimal.
    sha256: String,
    /// The collections it opens; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) collections: Option<Vec<String>>,
    /// When it was made, in seconds since 1970.
    created: u64,
}

/// All keys of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    by_hash: HashMap<String, Key>,
}

impl Keys {
    /// Reads a file of keys, one JSON object a line.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or holds no key.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("failed to read {}", path.display()))?;
        let mut by_hash = HashMap::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let key: Key = serde_json::from_str(line).with_context(|| {
                format!("failed to read line {} of {}", index + 1, path.display())
            })?;
            by_hash.insert(key.sha256.clone(), key);
        }
        ensure!(
            !by_hash.is_empty(),
            "{} holds no key; make one by `mmrag serve key new --api-keys {0} --name NAME`",
            path.display()
        );
        Ok(Self { by_hash })
    }

    /// What a key opens, if it is known. Keys are found by their hash, so that the time this takes
    /// says nothing about how much of a guess is right.
    pub(crate) fn find(&self, secret: &str) -> Option<&Key> {
        self.by_hash.get(&hash(secret))
    }

    /// Makes a key, adds its hash to a file, and gives the key: this is the only time it is seen.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written, or has a key of this name.
    pub(crate) fn add(
        path: &Path,
        name: &str,
        collections: Option<Vec<String>>,
    ) -> anyhow::Result<String> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                return Err(error).with_context(|| format!("failed to read {}", path.display()));
            }
        };
        if !text.trim().is_empty() {
            let known = Self::read(path)?;
            ensure!(
                known.by_hash.values().all(|key| key.name != name),
                "{} has a key of the name {name}; remove its line to take it back",
                path.display()
            );
        }
        let mut random = [0u8; 32];
        rand::rng().fill(&mut random);
        let secret = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let key = Key { name: name.to_owned(), sha256: hash(&secret), collections, created };
        let mut lines = text;
        if !lines.is_empty() && !lines.ends_with('\n') {
            lines.push('\n');
        }
        lines += &serde_json::to_string(&key)?;
        lines.push('\n');
        crate::output::file(path, &lines)?;
        Ok(secret)
    }
}

fn hash(secret: &str) -> String {
    hexadecimal(&Sha256::digest(secret.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_stored_as_its_hash_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.jsonl");
        let secret = Keys::add(&path, "ada", Some(vec!["stars".into()])).unwrap();
        let other = Keys::add(&path, "bo", None).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&secret) && !text.contains(&secret[6..]));
        let keys = Keys::read(&path).unwrap();
        assert_eq!(keys.find(&secret).unwrap().name, "ada");
        assert_eq!(keys.find(&other).unwrap().collections, None);
        assert_eq!(keys.find(&secret[..secret.len() - 1]), None);
        assert!(Keys::add(&path, "ada", None).unwrap_err().to_string().contains("ada"));
        std::fs::write(&path, "{}\n").unwrap();
        assert!(format!("{:#}", Keys::read(&path).unwrap_err()).contains("line 1"));
    }
}
