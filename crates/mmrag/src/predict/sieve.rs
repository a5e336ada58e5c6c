//! What a filter that is used, or to be trained, will be asked and will drop.

use std::path::Path;
use std::sync::Arc;

use mmrag_core::{Document, Example};
use mmrag_task::{FilterMode, PromptStyle, Stage};
use serde_json::{Value, json};

use crate::notes::Notes;

/// The share of the documents beside the gold ones that a filter drops if nothing is known of it:
/// what that of the built-in model does on the atlas.
const ASSUMED: f64 = 0.8;

/// A filter that stands before a ranker.
pub(super) struct Sieve {
    /// How it is asked.
    pub(super) stage: Stage,
    dropped: f64,
    known: bool,
}

impl Sieve {
    /// Of a filter's folder, if one is named. One that is not there yet is as this run's wording
    /// says.
    ///
    /// # Errors
    ///
    /// When its notes cannot be read.
    pub(super) fn of(adapter: &Path, prompts: PromptStyle) -> anyhow::Result<Option<Self>> {
        if adapter.as_os_str().is_empty() {
            return Ok(None);
        }
        let notes = Notes::of(adapter)?;
        let stage = match notes.keep {
            Some(_) => Stage::filter(notes.prompts, notes.filter_mode()),
            None => Stage::filter(prompts, FilterMode::Direct),
        };
        let known = notes.dropped.is_some();
        Ok(Some(Self { stage, dropped: notes.dropped.unwrap_or(ASSUMED), known }))
    }

    /// The examples with about as many documents as it will leave: which ones nobody knows yet.
    pub(super) fn pass(&self, examples: &[Example]) -> Vec<Example> {
        let mut all = 0.0;
        let mut left = |example: &Example| {
            let mut stays = |document: &Arc<Document>| {
                if example.gold.documents.contains(&document.id) {
                    return true;
                }
                let before = all * (1.0 - self.dropped);
                all += 1.0;
                (all * (1.0 - self.dropped)).floor() > f64::floor(before)
            };
            let candidates = example.candidates.iter().filter(|document| stays(document));
            Example { candidates: candidates.cloned().collect(), ..example.clone() }
        };
        examples.iter().map(&mut left).collect()
    }

    /// What is taken of it, and where from.
    pub(super) fn told(&self) -> Value {
        let source = if self.known { "its notes" } else { "assumed" };
        json!({ "drops_of_others": self.dropped, "source": source })
    }
}

#[cfg(test)]
mod tests {
    use mmrag_data::atlas::{self, AtlasOptions, NameSplit};

    use super::*;

    #[test]
    fn gold_stays_and_of_the_others_as_many_as_the_notes_say() {
        let example = |index| atlas::example(1, NameSplit::Dev, index, &AtlasOptions::default());
        let examples: Vec<Example> = (0..40).map(example).collect();
        let folder = tempfile::tempdir().unwrap();
        let notes = Notes { dropped: Some(0.7), ..Notes::default() };
        notes.write(folder.path()).unwrap();
        assert!(Sieve::of(Path::new(""), PromptStyle::Compact).unwrap().is_none());
        let sieve = Sieve::of(folder.path(), PromptStyle::Compact).unwrap().unwrap();
        let left = sieve.pass(&examples);
        let others = |examples: &[Example]| -> usize {
            let of = |e: &Example| {
                e.candidates.iter().filter(|d| !e.gold.documents.contains(&d.id)).count()
            };
            examples.iter().map(of).sum()
        };
        let gold = |examples: &[Example]| -> usize {
            examples.iter().map(|e| e.candidates.len()).sum::<usize>() - others(examples)
        };
        assert_eq!(gold(&left), gold(&examples));
        let share = others(&left) as f64 / others(&examples) as f64;
        assert!((share - 0.3).abs() < 0.01, "{share}");
        assert_eq!(sieve.told(), json!({ "drops_of_others": 0.7, "source": "its notes" }));
    }
}
