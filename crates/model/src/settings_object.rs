//! Reading settings files: every key is asked for by kind, and an error says where it stands.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::ModelError;

/// An object of a settings file that can say where it stands.
#[derive(Clone, Copy)]
pub(crate) struct Object<'a> {
    pub(crate) path: &'a Path,
    prefix: &'a str,
    map: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    pub(crate) fn new(
        path: &'a Path,
        prefix: &'a str,
        value: &'a Value,
    ) -> Result<Self, ModelError> {
        let map = value.as_object().ok_or_else(|| ModelError::BadKey {
            path: path.to_owned(),
            key: prefix.trim_end_matches('.').to_owned(),
            expected: "an object".into(),
            found: short(value),
        })?;
        Ok(Self { path, prefix, map })
    }

    /// The object under `key`, if there is one.
    pub(crate) fn child(&self, key: &'static str) -> Result<Option<Self>, ModelError> {
        match self.get(key) {
            Some(value) => Self::new(self.path, key, value).map(Some),
            None => Ok(None),
        }
    }

    /// The object that has the key: this one, or else the other.
    pub(crate) fn or(&self, other: &Self, key: &str) -> Self {
        if self.get(key).is_some() { *self } else { *other }
    }

    /// What stands under the key; `null` is nothing.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn take<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T, ModelError> {
        let value = self.get(key).ok_or_else(|| self.missing(key))?;
        read(value).ok_or_else(|| self.bad(key, expected))
    }

    pub(crate) fn size(&self, key: &str) -> Result<usize, ModelError> {
        let read = |value: &Value| value.as_u64().filter(|n| (1..1 << 32).contains(n));
        Ok(self.take(key, "a whole number above 0", read)? as usize)
    }

    pub(crate) fn sizes(&self, key: &str) -> Result<Vec<usize>, ModelError> {
        let number = |value: &Value| value.as_u64().filter(|n| *n < 1 << 32).map(|n| n as usize);
        let read = |value: &Value| value.as_array()?.iter().map(number).collect();
        self.take(key, "a list of whole numbers", read)
    }

    pub(crate) fn float(&self, key: &str) -> Result<f64, ModelError> {
        let read = |value: &Value| value.as_f64().filter(|x| *x > 0.0);
        self.take(key, "a number above 0", read)
    }

    pub(crate) fn bool(&self, key: &str) -> Result<bool, ModelError> {
        self.take(key, "true or false", Value::as_bool)
    }

    pub(crate) fn str(&self, key: &str) -> Result<&'a str, ModelError> {
        self.take(key, "a text", Value::as_str)
    }

    pub(crate) fn id(&self, key: &str) -> Result<u32, ModelError> {
        self.take(key, "a token id", |value| u32::try_from(value.as_u64()?).ok())
    }

    pub(crate) fn maybe_id(&self, key: &str) -> Result<Option<u32>, ModelError> {
        self.get(key).map(|_| self.id(key)).transpose()
    }

    /// One id or a list of ids.
    pub(crate) fn ids_in(path: &Path, key: &str, value: &Value) -> Result<Vec<u32>, ModelError> {
        let one = |value: &Value| u32::try_from(value.as_u64()?).ok();
        let ids: Option<Vec<u32>> = match value {
            Value::Array(values) => values.iter().map(one).collect(),
            value => one(value).map(|id| vec![id]),
        };
        ids.filter(|ids| !ids.is_empty()).ok_or_else(|| ModelError::BadKey {
            path: path.to_owned(),
            key: key.to_owned(),
            expected: "a token id or a list of them".into(),
            found: short(value),
        })
    }

    pub(crate) fn key(&self, key: &str) -> String {
        if self.prefix.is_empty() { key.to_owned() } else { format!("{}.{key}", self.prefix) }
    }

    pub(crate) fn missing(&self, key: &str) -> ModelError {
        ModelError::MissingKey { path: self.path.to_owned(), key: self.key(key) }
    }

    pub(crate) fn bad(&self, key: &str, expected: &str) -> ModelError {
        ModelError::BadKey {
            path: self.path.to_owned(),
            key: self.key(key),
            expected: expected.to_owned(),
            found: self.map.get(key).map_or_else(|| "nothing".into(), short),
        }
    }

    pub(crate) fn unsupported(&self, what: String) -> ModelError {
        ModelError::Unsupported { path: PathBuf::from(self.path), what }
    }
}

/// A value as an error shows it.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
