//! A run file laid over a preset: what the file names is changed, everything else stays as the
//! preset says, and a key the preset does not know is an error that helps.
//!
//! The preset is asked for its keys by writing it out, so that no list of keys stands anywhere
//! a second time.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use toml::de::{DeTable, DeValue};

/// A run file as it was read: the text for line numbers, the table for its values.
pub(crate) struct RunFile {
    path: PathBuf,
    text: String,
}

/// Why a run file cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RunFileError {
    place: String,
    what: String,
}

impl std::fmt::Display for RunFileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

impl std::error::Error for RunFileError {}

impl RunFile {
    /// A run file of the given text; the path is for messages.
    pub(crate) fn new(path: &Path, text: String) -> Self {
        Self { path: path.to_path_buf(), text }
    }

    /// The settings that come of laying the file over `preset`.
    ///
    /// # Errors
    ///
    /// When the file is no TOML, names a key that `preset` does not have, or gives a key a value
    /// it cannot have. The error names the file, the line and the key.
    pub(crate) fn over<T: Serialize + DeserializeOwned>(
        &self,
        preset: &T,
    ) -> Result<T, RunFileError> {
        let table = DeTable::parse(&self.text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            self.error(span, error.message().to_owned())
        })?;
        let mut resolved = serde_json::to_value(preset)
            .map_err(|error| self.error(0..0, format!("preset: {error}")))?;
        self.lay::<T>(&mut resolved, &[], table.get_ref())?;
        serde_json::from_value(resolved).map_err(|error| self.error(0..0, error.to_string()))
    }

    /// The value of one key at the top, if the file has it.
    ///
    /// A file that is no TOML has none: [`RunFile::over`] says so.
    pub(crate) fn key<T: DeserializeOwned>(&self, name: &str) -> Option<Result<T, RunFileError>> {
        let table = DeTable::parse(&self.text).ok()?;
        let (key, value) = table.get_ref().iter().find(|(key, _)| key.get_ref() == name)?;
        let value = serde_json::from_value(plain(value.get_ref()));
        Some(value.map_err(|error| self.error(key.span(), format!("`{name}`: {error}"))))
    }

    /// Lays `table` over the part of `resolved` at `place`, one key at a time, so that the first
    /// value that does not fit is the one that is named.
    fn lay<T: DeserializeOwned>(
        &self,
        resolved: &mut Value,
        place: &[&str],
        table: &DeTable<'_>,
    ) -> Result<(), RunFileError> {
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let place = [place, &[name]].concat();
            let Some(slot) = slot(resolved, &place) else {
                return Err(self.unknown(resolved, &place, key.span()));
            };
            match (slot, value.get_ref()) {
                (Value::Object(_), DeValue::Table(inner)) => {
                    self.lay::<T>(resolved, &place, inner)?;
                }
                (slot, value) => {
                    *slot = plain(value);
                    if let Err(error) = serde_json::from_value::<T>(resolved.clone()) {
                        let what = format!("`{}`: {error}", place.join("."));
                        return Err(self.error(key.span(), what));
                    }
                }
            }
        }
        Ok(())
    }

    fn unknown(&self, resolved: &mut Value, place: &[&str], span: Range<usize>) -> RunFileError {
        let (name, parents) = place.split_last().expect("a key has a name");
        let known: Vec<String> = match slot(resolved, parents) {
            Some(Value::Object(object)) => object.keys().cloned().collect(),
            _ => Vec::new(),
        };
        let advice = match nearest(name, &known) {
            Some(near) => format!("; did you mean `{near}`?"),
            None => format!("; known here: {}", known.join(", ")),
        };
        self.error(span, format!("unknown key `{}`{advice}", place.join(".")))
    }

    fn error(&self, span: Range<usize>, what: String) -> RunFileError {
        let line = self.text[..span.start.min(self.text.len())].matches('\n').count() + 1;
        RunFileError { place: format!("{}:{line}", self.path.display()), what }
    }
}

fn slot<'v>(value: &'v mut Value, place: &[&str]) -> Option<&'v mut Value> {
    place.iter().try_fold(value, |value, name| value.as_object_mut()?.get_mut(*name))
}

/// The known name that is spelled most alike, if one is alike at all.
pub(crate) fn nearest<'k>(name: &str, known: &'k [String]) -> Option<&'k str> {
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate.as_str()))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

fn plain(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Array(items) => items.iter().map(|item| plain(item.get_ref())).collect(),
        DeValue::Table(table) => table
            .iter()
            .map(|(key, value)| (key.get_ref().to_string(), plain(value.get_ref())))
            .collect(),
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Integer(_) | DeValue::Float(_) => number(value),
    }
}

fn number(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::Integer(integer) => {
            i64::from_str_radix(integer.as_str(), integer.radix()).map_or(Value::Null, Value::from)
        }
        DeValue::Float(float) => float.as_str().parse::<f64>().map_or(Value::Null, Value::from),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde::{Deserialize, Serialize};

    use super::RunFile;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Settings {
        seed: u64,
        beta: Option<f64>,
        loss: Loss,
        phases: Vec<Loss>,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Loss {
        kind: Kind,
        epsilon: f64,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Grpo,
        Dapo,
    }

    fn preset() -> Settings {
        let loss = Loss { kind: Kind::Dapo, epsilon: 0.2 };
        Settings { seed: 1, beta: None, loss, phases: Vec::new() }
    }

    fn lay(text: &str) -> Result<Settings, String> {
        let file = RunFile::new(Path::new("run.toml"), text.to_owned());
        file.over(&preset()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_the_file_names_is_changed_and_the_rest_stays() {
        let settings = lay("beta = 1\n[loss]\nkind = 'grpo'\n").unwrap();
        let loss = Loss { kind: Kind::Grpo, epsilon: 0.2 };
        assert_eq!(settings, Settings { beta: Some(1.0), loss, ..preset() });
        assert_eq!(lay(""), Ok(preset()));
        assert_eq!(lay("seed = 1_000").unwrap().seed, 1000);
        let phases = lay("[[phases]]\nkind = 'grpo'\nepsilon = 1e-3").unwrap().phases;
        assert_eq!(phases, [Loss { kind: Kind::Grpo, epsilon: 1e-3 }]);
    }

    #[track_caller]
    fn check_error(text: &str, parts: &[&str]) {
        let error = lay(text).unwrap_err();
        for part in parts {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn an_error_names_file_line_key_and_what_was_meant() {
        check_error("\nsede = 1", &["run.toml:2: unknown key `sede`", "did you mean `seed`?"]);
        check_error("[loss]\nepsilonn = 1", &["run.toml:2", "`loss.epsilonn`", "`epsilon`"]);
        check_error("zzz = 1", &["known here: seed, beta, loss, phases"]);
        check_error("seed = 'x'", &["run.toml:1: `seed`", "invalid type"]);
        check_error("[loss]\n\nkind = 'gpro'", &["run.toml:3: `loss.kind`", "unknown variant"]);
        check_error("seed = \n", &["run.toml:1"]);
        check_error("seed = -1", &["run.toml:1: `seed`"]);
        check_error("[seed]\nx = 1", &["`seed`"]);
    }
}
