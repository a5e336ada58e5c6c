//! Runs that are finished: read back, paired, reported.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use mmrag_core::{Example, Gold, Question, QuestionId};
use mmrag_rag::explanation::Attribution;
use mmrag_rag::quality::{Measures, PointingRow, measures, pointing_measures};
use mmrag_rag::report::{Answered, Report, ReportExample, ReportInput, Run, Variant};
use mmrag_rag::{AnsweredRun, Explanation, Outcome, PairedRuns};
use serde_json::{Value, json};

use crate::command::attribution::{ATTRIBUTION_FILE, read_rows};
use crate::command::explain::{QUALITY_FILE, whole_rows};
use crate::evaluating::RESAMPLES;
use crate::run_settings::{RunSettings, facts};

/// A run with the name that it goes by in a report.
pub(crate) struct NamedRun {
    /// The name.
    pub(crate) name: String,
    /// The run.
    pub(crate) run: AnsweredRun,
}

/// Reads finished runs. Each is called as its folder, by as much of the path as tells them apart.
///
/// # Errors
///
/// When a folder holds no finished run.
pub(crate) fn read_runs(folders: &[PathBuf]) -> anyhow::Result<Vec<NamedRun>> {
    let read = |(folder, name): (&PathBuf, String)| -> anyhow::Result<NamedRun> {
        let run = AnsweredRun::read(folder).context("failed to read a run")?;
        Ok(NamedRun { name, run })
    };
    folders.iter().zip(names(folders)).map(read).collect()
}

fn names(folders: &[PathBuf]) -> Vec<String> {
    let last = |folder: &Path, n: usize| -> String {
        let parts: Vec<String> = folder
            .components()
            .map(|part| part.as_os_str().to_string_lossy().into_owned())
            .collect();
        parts[parts.len().saturating_sub(n)..].join("/")
    };
    let longest = folders.iter().map(|folder| folder.components().count()).max().unwrap_or(1);
    let all = |n| folders.iter().map(|folder| last(folder, n)).collect::<Vec<String>>();
    let differ = |names: &[String]| (1..names.len()).all(|i| !names[..i].contains(&names[i]));
    let told = (1..=longest).map(all).find(|names| differ(names));
    told.unwrap_or_else(|| {
        let numbered = all(1).into_iter().enumerate();
        numbered.map(|(i, name)| format!("{name} ({})", i + 1)).collect()
    })
}

/// The report of one run.
///
/// # Errors
///
/// When the figures cannot be worked out.
pub(crate) fn report_of_run(named: &NamedRun) -> anyhow::Result<Report> {
    let NamedRun { name, run } = named;
    let input = ReportInput {
        title: format!("Evaluation: {name}"),
        facts: with_statistics(facts(&run.settings)),
        variants: vec![variant(name, run.outcomes.clone())],
        quality: quality(run)?,
        pointing: pointing_measures(&looked_at(run)?, RESAMPLES, 0),
        settings: run.settings.clone(),
        resamples: RESAMPLES,
        ..ReportInput::default()
    };
    Report::of(input).context("failed to work out the figures")
}

/// What was found of the run's explanations, if it was asked about them.
fn quality(run: &AnsweredRun) -> anyhow::Result<Option<Measures>> {
    let rows = whole_rows(&run.folder.join(QUALITY_FILE))?;
    Ok((!rows.is_empty()).then(|| measures(&rows, RESAMPLES, 0)))
}

/// What was found of where the run's model looked, if it was asked.
fn looked_at(run: &AnsweredRun) -> anyhow::Result<Vec<PointingRow>> {
    read_rows(&run.folder.join(ATTRIBUTION_FILE))
}

/// The report of two runs over the questions that both have: the gains of `after` over `before`.
///
/// # Errors
///
/// When the two have nothing in common or were not asked the same.
pub(crate) fn report_of_pair(
    before: &NamedRun,
    after: &NamedRun,
    paired: PairedRuns,
) -> anyhow::Result<Report> {
    let PairedRuns { only_before, only_after, .. } = paired;
    let mut facts = paired_facts(&before.run.settings, &after.run.settings);
    if only_before + only_after > 0 {
        let told = format!("{only_before} of {}, {only_after} of {}", before.name, after.name);
        facts.push(("Questions left out".to_owned(), told));
    }
    let input = ReportInput {
        title: format!("{} against {}", after.name, before.name),
        facts: with_statistics(facts),
        variants: vec![variant(&before.name, paired.before), variant(&after.name, paired.after)],
        comparisons: vec![(after.name.clone(), before.name.clone())],
        settings: json!({ &before.name: before.run.settings, &after.name: after.run.settings }),
        resamples: RESAMPLES,
        ..ReportInput::default()
    };
    Report::of(input).context("failed to work out the figures")
}

/// The facts of two runs: those they share, and both where they differ.
fn paired_facts(before: &Value, after: &Value) -> Vec<(String, String)> {
    let (mut before, after) = (facts(before), facts(after));
    for (name, value) in after {
        match before.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) if *known != value => *known = format!("{known} → {value}"),
            Some(_) => {}
            None => before.push((name, format!("– → {value}"))),
        }
    }
    before
}

/// The facts with what intervals come from.
pub(crate) fn with_statistics(mut facts: Vec<(String, String)>) -> Vec<(String, String)> {
    let told = format!("{RESAMPLES} resamples of questions, seed 0");
    facts.push(("Intervals".to_owned(), told));
    facts
}

/// A variant of one run.
pub(crate) fn variant(name: &str, outcomes: Vec<Outcome>) -> Variant {
    let runs = vec![Run { seed: 0, outcomes }];
    Variant { name: name.to_owned(), about: String::new(), runs }
}

/// The questions that a page shows: of the first run those that regressed, improved or are wrong
/// first, at most so many. `data` stands in for the folder of the data set that the run names. If
/// the data set cannot be read, that is told, and documents are shown by their titles.
///
/// # Errors
///
/// When the explanations of a run cannot be read.
pub(crate) fn shown(
    main: &NamedRun,
    other: Option<&NamedRun>,
    data: Option<&Path>,
    most: usize,
) -> anyhow::Result<Vec<ReportExample>> {
    let explained = |named: &NamedRun| named.run.explanations().context("failed to read a run");
    let main_said = explained(main)?;
    let mut looked_at = attributions(&main.run)?;
    let mut other_said: HashMap<QuestionId, (Explanation, Outcome)> = match other {
        None => HashMap::new(),
        Some(other) => explained(other)?
            .into_iter()
            .zip(other.run.outcomes.clone())
            .map(|(explanation, outcome)| (outcome.question.clone(), (explanation, outcome)))
            .collect(),
    };
    let mut examples = documents_of(&main.run, data);
    let mut shown: Vec<ReportExample> = Vec::new();
    for (mut explanation, outcome) in main_said.into_iter().zip(&main.run.outcomes) {
        let id = &outcome.question;
        explanation.attribution = looked_at.remove(id).or(explanation.attribution);
        let example = examples.remove(id).unwrap_or_else(|| without_documents(outcome));
        let variant = main.name.clone();
        let mut answered = vec![Answered { variant, explanation, outcome: outcome.clone() }];
        if let (Some(other), Some((explanation, outcome))) = (other, other_said.remove(id)) {
            answered.push(Answered { variant: other.name.clone(), explanation, outcome });
        }
        shown.push(ReportExample { example, answered });
    }
    shown.sort_by(|a, b| telling(b).total_cmp(&telling(a)));
    shown.truncate(most);
    Ok(shown)
}

/// Where the run's model looked, by question.
fn attributions(run: &AnsweredRun) -> anyhow::Result<HashMap<QuestionId, Vec<Attribution>>> {
    let mut all: HashMap<QuestionId, Vec<Attribution>> = HashMap::new();
    for row in looked_at(run)? {
        let found = row.found.into_iter().map(|pointed| pointed.attribution);
        all.entry(row.question).or_default().extend(found);
    }
    Ok(all)
}

/// How much a reader wants to see a question: what regressed first, then what improved, then what
/// is wrong.
fn telling(shown: &ReportExample) -> f64 {
    let worth = |answered: &Answered| answered.outcome.answer_em + 0.5 * answered.outcome.answer_f1;
    let main = shown.answered.first().map_or(0.0, worth);
    match shown.answered.get(1).map(worth) {
        Some(other) if main < other => 4.0 + other - main,
        Some(other) if main > other => 2.0 + main - other,
        _ => 1.0 - main / 2.0,
    }
}

fn documents_of(run: &AnsweredRun, data: Option<&Path>) -> HashMap<QuestionId, Example> {
    let read = || -> anyhow::Result<Vec<Example>> {
        let mut settings = RunSettings::of(&run.settings)?;
        if let Some(data) = data {
            settings.data.data = data.to_path_buf();
        }
        settings.data.examples(Some(run.outcomes.len()))
    };
    match read() {
        Ok(examples) => examples.into_iter().map(|e| (e.question.id.clone(), e)).collect(),
        Err(error) => {
            eprintln!("documents are shown by title: {error:#}");
            HashMap::new()
        }
    }
}

fn without_documents(outcome: &Outcome) -> Example {
    let question =
        Question { id: outcome.question.clone(), text: outcome.text.clone(), images: Vec::new() };
    let gold = Gold {
        documents: outcome.gold_documents.clone(),
        answers: outcome.gold.clone(),
        ..Gold::default()
    };
    Example {
        question,
        candidates: Vec::new(),
        gold,
        kind: outcome.kind.clone(),
        steps: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_called_by_as_much_as_tells_them_apart() {
        let names =
            |folders: &[&str]| names(&folders.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(names(&["runs/a", "runs/b/"]), ["a", "b"]);
        assert_eq!(names(&["x/dev", "y/dev"]), ["x/dev", "y/dev"]);
        assert_eq!(names(&["x/dev", "x/dev"]), ["dev (1)", "dev (2)"]);
    }

    #[test]
    fn facts_that_differ_are_told_of_both() {
        let run = |seed: u64| json!({ "data": {}, "answer": { "seed": seed }, "mmrag": "1" });
        let facts = paired_facts(&run(1), &run(2));
        let seed = facts.iter().find(|(name, _)| name == "Seed").unwrap();
        assert_eq!(seed.1, "1 → 2");
        let by = facts.iter().find(|(name, _)| name == "Answered by").unwrap();
        assert_eq!(by.1, "mmrag 1");
    }
}
