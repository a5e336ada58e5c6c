//! What a run's folder says of it: the settings that decide the answers, and what is told besides.

use std::path::Path;

use anyhow::{Context as _, ensure};
use mmrag_core::{DocumentId, Example};
use mmrag_rag::runs::SETTINGS_FILE;
use mmrag_rag::{AnsweredRun, contents_version};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::answerer::AnswerArgs;
use crate::dataset::DatasetArgs;
use crate::hexadecimal::hexadecimal;
use crate::host::host;
use crate::output;

/// What is asked: how the documents of a question come about.
const CANDIDATES: &str = "each question over the documents that come with it";

/// What is told of replies that are not written freely.
const HELD: &str = "held to their form while they are written";

/// The settings of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RunSettings {
    /// Where the questions come from.
    pub(crate) data: DatasetArgs,
    /// Who answers.
    pub(crate) answer: AnswerArgs,
    /// Names of the weights of the model and of its adapters.
    pub(crate) weights: Value,
    /// How the documents of a question come about.
    pub(crate) protocol: String,
    /// Documents that are searched for, where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) top_k: Option<usize>,
}

impl RunSettings {
    /// The settings of a run, with paths that hold from anywhere.
    ///
    /// # Errors
    ///
    /// When the weights cannot be read.
    pub(crate) fn new(data: &DatasetArgs, answer: &AnswerArgs) -> anyhow::Result<Self> {
        let mut data = data.clone();
        if let Ok(path) = std::path::absolute(&data.data) {
            data.data = path;
        }
        let weights = answer.weights()?;
        let (answer, protocol) = (answer.clone(), CANDIDATES.to_owned());
        Ok(Self { data, answer, weights, protocol, top_k: None })
    }

    /// Reads them back from what a folder has.
    ///
    /// # Errors
    ///
    /// When the folder's settings are of another kind.
    pub(crate) fn of(settings: &Value) -> anyhow::Result<Self> {
        serde_json::from_value(settings.clone()).context("failed to read the run's settings")
    }
}

/// The settings and the questions of a finished run, to ask them again. `data` is where the data set
/// lies now, if not where the run read it.
///
/// # Errors
///
/// When the data set, the model or an adapter cannot be read or is not the run's own.
pub(crate) fn again(
    run: &AnsweredRun,
    data: Option<&Path>,
) -> anyhow::Result<(RunSettings, Vec<Example>)> {
    let mut settings = RunSettings::of(&run.settings)?;
    if let Some(data) = data {
        settings.data.data = data.to_path_buf();
    }
    let examples = settings.data.examples(Some(run.outcomes.len()))?;
    ensure!(
        run.settings["data_version"] == data_version(&examples).as_str(),
        "the data set is not what the run was over: its documents or questions changed"
    );
    ensure!(
        settings.answer.weights()? == settings.weights,
        "the model or an adapter is not the run's own: its weights changed"
    );
    Ok((settings, examples))
}

/// Adds to a finished run's settings what is told besides: which questions they were, and by which
/// version of the program they were answered, on which device.
///
/// # Errors
///
/// When the file cannot be read or written.
pub(crate) fn tell(folder: &Path, examples: &[Example]) -> anyhow::Result<Value> {
    let path = folder.join(SETTINGS_FILE);
    let context = || format!("failed to read {}", path.display());
    let text = std::fs::read_to_string(&path).with_context(context)?;
    let mut settings: Value = serde_json::from_str(&text).with_context(context)?;
    settings["questions"] = examples.len().into();
    settings["data_version"] = data_version(examples).into();
    settings["mmrag"] = env!("CARGO_PKG_VERSION").into();
    settings["device"] = host().told().into();
    output::file(&path, &format!("{settings:#}\n"))?;
    Ok(settings)
}

/// A name for questions with their gold and documents: 16 hexadecimal digits of a SHA-256.
pub(crate) fn data_version(examples: &[Example]) -> String {
    let mut hash = Sha256::new();
    for example in examples {
        let gold: Vec<&str> = example.gold.documents.iter().map(DocumentId::as_str).collect();
        let question = (example.question.id.as_str(), &example.question.text);
        let words = serde_json::to_vec(&(question, &example.gold.answers, gold, &example.kind));
        hash.update(words.expect("texts can be written as JSON"));
        hash.update(contents_version(&documents(example)));
    }
    hexadecimal(&hash.finalize()[..8])
}

fn documents(example: &Example) -> Vec<&mmrag_core::Document> {
    example.candidates.iter().map(|document| &**document).collect()
}

/// What a reader must know to judge a run's figures.
pub(crate) fn facts(settings: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(values) => {
            values.iter().map(|v| v.as_str().unwrap_or_default()).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    };
    let join = |parts: &[&Value]| {
        let parts: Vec<String> = parts.iter().map(|part| text(part)).collect();
        parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(" · ")
    };
    let (data, answer) = (&settings["data"], &settings["answer"]);
    let or = |value: String, other: &str| if value.is_empty() { other.to_owned() } else { value };
    [
        ("Data", join(&[&data["dataset"], &data["split"], &data["data"]])),
        ("Data hash", text(&settings["data_version"])),
        ("Hidden or degraded", join(&[&data["hide"], &data["degrade"]])),
        ("Protocol", text(&settings["protocol"])),
        ("Model", or(text(&answer["model"]), "the built-in small model")),
        ("Model hash", text(&settings["weights"]["model"])),
        ("Filter", filter(answer)),
        ("Ranker", or(text(&answer["rank_adapter"]), "the model as it is")),
        ("Adapter hashes", text(&settings["weights"]["adapters"])),
        ("Replies", if answer["constrained"] == true { HELD.to_owned() } else { String::new() }),
        ("Labels", text(&answer["labels"])),
        ("Order", text(&answer["order"])),
        ("Seed", text(&answer["seed"])),
        ("Answered by", format!("mmrag {}", join(&[&settings["mmrag"], &settings["device"]]))),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

fn filter(answer: &Value) -> String {
    match (answer["filter_adapter"].as_str(), answer["threshold"].as_f64()) {
        (None, None) => "none: every document goes to the ranker".to_owned(),
        (None, Some(threshold)) => format!("the model as it is, from {threshold}"),
        (Some(adapter), None) => format!("{adapter}, threshold as calibrated"),
        (Some(adapter), Some(threshold)) => format!("{adapter}, from {threshold}"),
    }
}

#[cfg(test)]
mod tests {
    use mmrag_data::Hide;
    use mmrag_data::atlas::{AtlasOptions, NameSplit, example};
    use serde_json::json;

    use super::*;

    #[test]
    fn the_data_hash_is_of_all_that_is_asked_and_shown() {
        let one = example(1, NameSplit::Dev, 2, &AtlasOptions::default());
        let version = |example: &Example| data_version(std::slice::from_ref(example));
        assert_eq!(version(&one), version(&one.clone()));
        let mut other = one.clone();
        other.gold.answers.push("x".into());
        assert_ne!(version(&other), version(&one));
        assert_ne!(version(&Hide::Pictures.of(&one)), version(&one));
    }

    #[test]
    fn facts_name_what_is_there_and_leave_out_what_is_not() {
        let facts = facts(&json!({
            "data": {"dataset": "atlas", "split": "dev", "data": "atlas", "hide": null},
            "answer": {"model": null, "threshold": 0.5, "seed": 3, "constrained": true},
            "weights": {"model": "ab", "adapters": []},
        }));
        let fact = |name: &str| facts.iter().find(|(known, _)| known == name).map(|f| f.1.as_str());
        assert_eq!(fact("Data"), Some("atlas · dev · atlas"));
        assert_eq!(fact("Filter"), Some("the model as it is, from 0.5"));
        assert_eq!(fact("Hidden or degraded"), None);
        assert_eq!((fact("Replies"), fact("Labels")), (Some(HELD), None));
        assert_eq!(fact("Seed"), Some("3"));
    }
}
