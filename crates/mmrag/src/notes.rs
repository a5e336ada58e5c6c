//! `mmrag.json`: what this program knows of a model or adapter folder beside the folder's own
//! files, so that one is used as it was trained. Other programs overlook it.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context as _;
use mmrag_rag::ConfidenceMap;
use mmrag_task::{FilterMode, PromptStyle};
use serde::{Deserialize, Serialize};

const FILE: &str = "mmrag.json";

/// How a model or adapter is to be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Notes {
    /// The wording it was trained on.
    pub(crate) prompts: PromptStyle,
    /// Whether it reasons before it ranks, or before its verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning: Option<bool>,
    /// Of a filter: what it keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) keep: Option<Keep>,
    /// Of a filter: the share of the documents beside the gold ones that it drops, as measured on
    /// dev.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dropped: Option<f64>,
    /// Of a ranker: how often it is right at a confidence, as learned on dev.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) confidence: Option<ConfidenceMap>,
}

/// What a filter keeps, as calibrated on dev.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keep {
    /// A candidate stays from this P(Yes) / (P(Yes) + P(No)) up.
    pub(crate) threshold: f64,
    /// At least so many candidates stay.
    pub(crate) k_min: usize,
    /// At most so many candidates stay.
    pub(crate) k_max: usize,
}

impl Default for Notes {
    fn default() -> Self {
        Self {
            prompts: PromptStyle::Standard,
            reasoning: None,
            keep: None,
            dropped: None,
            confidence: None,
        }
    }
}

impl Notes {
    /// How a filter is asked. One that says nothing gives its verdict at once.
    pub(crate) fn filter_mode(&self) -> FilterMode {
        if self.reasoning == Some(true) { FilterMode::Think } else { FilterMode::Direct }
    }

    /// The notes in a folder; the defaults if there are none.
    ///
    /// # Errors
    ///
    /// When the file is there but cannot be read.
    pub(crate) fn of(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => {
                return Err(error).with_context(|| format!("failed to read {}", path.display()));
            }
        };
        serde_json::from_str(&text).with_context(|| format!("failed to read {}", path.display()))
    }

    /// Writes the notes into a folder.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        crate::output::file(&folder.join(FILE), &serde_json::to_string_pretty(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_back_and_default_where_there_are_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Notes::of(folder.path()).unwrap(), Notes::default());
        let keep = Keep { threshold: 0.25, k_min: 1, k_max: 10 };
        let confidence = Some(ConfidenceMap { points: vec![[0.2, 0.1], [0.9, 0.7]] });
        let (prompts, dropped) = (PromptStyle::Compact, Some(0.75));
        let notes = Notes { prompts, reasoning: None, keep: Some(keep), dropped, confidence };
        notes.write(folder.path()).unwrap();
        assert_eq!(Notes::of(folder.path()).unwrap(), notes);
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        let error = format!("{:#}", Notes::of(folder.path()).unwrap_err());
        assert!(error.contains("mmrag.json"), "{error}");
    }
}
