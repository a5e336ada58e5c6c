//! The folder of a run: who answered what, with which settings, and how right it was.
//!
//! `settings.json` says what was run, `explanations.jsonl` gets one line a question as it is done,
//! `outcomes.jsonl` is written when all are. What is in a folder can be compared and reported
//! without the data set; only what documents show must be looked up there.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};

use mmrag_core::QuestionId;
use serde_json::Value;

use super::read_explanations;
use crate::error::RagError;
use crate::evaluation::Outcome;
use crate::explanation::Explanation;

/// Name of the file of settings.
pub const SETTINGS_FILE: &str = "settings.json";
/// Name of the file of explanations.
pub const EXPLANATIONS_FILE: &str = "explanations.jsonl";
/// Name of the file of outcomes.
pub const OUTCOMES_FILE: &str = "outcomes.jsonl";

/// A finished run, as its folder tells.
#[derive(Clone, Debug)]
pub struct AnsweredRun {
    /// The folder.
    pub folder: PathBuf,
    /// The settings as resolved.
    pub settings: Value,
    /// One outcome a question, in the data set's order.
    pub outcomes: Vec<Outcome>,
}

impl AnsweredRun {
    /// Reads the folder of a finished run.
    ///
    /// # Errors
    ///
    /// When it is no folder of a run, the run is not finished, or a line cannot be read.
    pub fn read(folder: &Path) -> Result<Self, RagError> {
        let not_a_run = |reason: String| RagError::NotARun { path: folder.to_path_buf(), reason };
        let (settings, outcomes) = (folder.join(SETTINGS_FILE), folder.join(OUTCOMES_FILE));
        if !outcomes.is_file() {
            let answered = folder.join(EXPLANATIONS_FILE);
            if !answered.is_file() {
                return Err(not_a_run(format!("it has no {OUTCOMES_FILE}")));
            }
            let count = read_explanations(&answered)?.len();
            return Err(not_a_run(format!(
                "it is not finished ({count} questions are answered): run it to its end first"
            )));
        }
        let text = std::fs::read_to_string(&settings).map_err(RagError::io("read", &settings))?;
        let settings = serde_json::from_str(&text).map_err(|source| RagError::Line {
            path: settings.clone(),
            line: source.line(),
            source,
        })?;
        let outcomes = read_outcomes(&outcomes)?;
        if outcomes.is_empty() {
            return Err(not_a_run("it has no question".to_owned()));
        }
        Ok(Self { folder: folder.to_path_buf(), settings, outcomes })
    }

    /// The explanations, in the order of the outcomes.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or one is missing.
    pub fn explanations(&self) -> Result<Vec<Explanation>, RagError> {
        let all = read_explanations(&self.folder.join(EXPLANATIONS_FILE))?;
        let mut by_id: HashMap<QuestionId, Explanation> =
            all.into_iter().map(|e| (e.question.id.clone(), e)).collect();
        self.outcomes
            .iter()
            .map(|outcome| {
                by_id.remove(&outcome.question).ok_or_else(|| RagError::NotARun {
                    path: self.folder.clone(),
                    reason: format!("it has no explanation of question {}", outcome.question),
                })
            })
            .collect()
    }
}

/// Writes outcomes, one a line; the file is whole or not there.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write_outcomes(path: &Path, outcomes: &[Outcome]) -> Result<(), RagError> {
    let mut lines = Vec::new();
    for outcome in outcomes {
        serde_json::to_writer(&mut lines, outcome)
            .map_err(|source| RagError::Json { what: "an outcome", source })?;
        lines.push(b'\n');
    }
    let half = path.with_extension("tmp");
    let write = || {
        let mut file = File::create(&half)?;
        file.write_all(&lines)?;
        file.sync_all()?;
        std::fs::rename(&half, path)
    };
    write().map_err(RagError::io("write", path))
}

fn read_outcomes(path: &Path) -> Result<Vec<Outcome>, RagError> {
    let lines = BufReader::new(File::open(path).map_err(RagError::io("open", path))?).lines();
    let mut outcomes = Vec::new();
    for (i, line) in lines.enumerate() {
        let line = line.map_err(RagError::io("read", path))?;
        let outcome = serde_json::from_str(&line).map_err(|source| RagError::Line {
            path: path.to_path_buf(),
            line: i + 1,
            source,
        })?;
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// Two runs over the questions that both have.
#[derive(Clone, Debug)]
pub struct PairedRuns {
    /// The outcomes of the first, in its order.
    pub before: Vec<Outcome>,
    /// Those of the second, of the same questions.
    pub after: Vec<Outcome>,
    /// Questions that only the first has.
    pub only_before: usize,
    /// Questions that only the second has.
    pub only_after: usize,
}

impl PairedRuns {
    /// Pairs two runs by their questions' ids.
    ///
    /// # Errors
    ///
    /// When they have no question in common, or a question has other gold answers in the second:
    /// then the two were not asked the same.
    pub fn of(before: &AnsweredRun, after: &AnsweredRun) -> Result<Self, RagError> {
        let mut others: BTreeMap<&str, &Outcome> =
            after.outcomes.iter().map(|outcome| (outcome.question.as_str(), outcome)).collect();
        let mut paired =
            Self { before: Vec::new(), after: Vec::new(), only_before: 0, only_after: 0 };
        for outcome in &before.outcomes {
            let Some(other) = others.remove(outcome.question.as_str()) else {
                paired.only_before += 1;
                continue;
            };
            if other.gold != outcome.gold {
                return Err(RagError::OtherGold { question: outcome.question.clone() });
            }
            paired.before.push(outcome.clone());
            paired.after.push(other.clone());
        }
        paired.only_after = others.len();
        if paired.before.is_empty() {
            let (a, b) = (before.folder.clone(), after.folder.clone());
            return Err(RagError::NothingInCommon { a, b });
        }
        Ok(paired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::tests::outcome;

    fn run(ids: &[&str]) -> AnsweredRun {
        let outcomes =
            ids.iter().map(|id| Outcome { question: QuestionId::new(id), ..outcome() }).collect();
        AnsweredRun { folder: "run".into(), settings: Value::Null, outcomes }
    }

    #[test]
    fn runs_are_paired_by_question_and_the_rest_is_counted() {
        let paired = PairedRuns::of(&run(&["a", "b", "c"]), &run(&["c", "a", "x", "y"])).unwrap();
        let ids = |outcomes: &[Outcome]| -> Vec<String> {
            outcomes.iter().map(|outcome| outcome.question.to_string()).collect()
        };
        assert_eq!(ids(&paired.before), ["a", "c"]);
        assert_eq!(ids(&paired.after), ["a", "c"]);
        assert_eq!((paired.only_before, paired.only_after), (1, 2));
        let error = PairedRuns::of(&run(&["a"]), &run(&["b"])).unwrap_err().to_string();
        assert!(error.contains("no question in common"), "{error}");
        let mut other = run(&["a"]);
        other.outcomes[0].gold = vec!["blue".into()];
        let error = PairedRuns::of(&run(&["a"]), &other).unwrap_err().to_string();
        assert!(error.contains("question a has other gold answers"), "{error}");
    }

    #[test]
    fn a_folder_is_read_back_and_an_unfinished_one_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let read = || AnsweredRun::read(folder.path());
        assert!(read().unwrap_err().to_string().contains("it has no outcomes.jsonl"));
        std::fs::write(folder.path().join(EXPLANATIONS_FILE), "").unwrap();
        let error = read().unwrap_err().to_string();
        assert!(error.contains("not finished (0 questions are answered)"), "{error}");
        let path = folder.path().join(OUTCOMES_FILE);
        write_outcomes(&path, &[outcome()]).unwrap();
        std::fs::write(folder.path().join(SETTINGS_FILE), "{\"split\":\"dev\"}").unwrap();
        let run = read().unwrap();
        assert_eq!((run.outcomes, run.settings["split"].as_str()), (vec![outcome()], Some("dev")));
        std::fs::write(&path, "{}\n").unwrap();
        let error = read().unwrap_err();
        assert!(error.to_string().contains("line 1"), "{error}");
    }
}
