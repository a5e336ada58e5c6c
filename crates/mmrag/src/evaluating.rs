//! A pipeline over a data set: every question's explanation, written as it is done.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, ensure};
use mmrag_core::{Example, QuestionId};
use mmrag_rag::report::{Report, ReportExample};
use mmrag_rag::runs::{EXPLANATIONS_FILE, OUTCOMES_FILE, SETTINGS_FILE, write_outcomes};
use mmrag_rag::{
    Ask, Explanation, ExplanationLog, Outcome, Pipeline, Retriever, contents_version,
    read_explanations,
};
use serde_json::Value;

use crate::answerer::{AnswerArgs, Answerer};
use crate::dataset::DatasetArgs;
use crate::progress::Meter;
use crate::run_settings::{RunSettings, tell};
use crate::scoring::fluency::{self, BartArgs, fluencies};

/// Questions that go through the pipeline together.
const AT_ONCE: usize = 16;

/// Scores of texts by the BART of a run, kept as they are made.
const FLUENCY_FILE: &str = "fluency.jsonl";

/// Bootstrap resamples and permutations of a report.
pub(crate) const RESAMPLES: usize = 10_000;

/// A pipeline over a data set, with the folder that it is kept in.
pub(crate) struct EvalRun<'a> {
    /// Who answers.
    pub(crate) answerer: &'a Answerer<'a>,
    /// What the folder says of the data.
    pub(crate) data: &'a DatasetArgs,
    /// What the folder says of who answers.
    pub(crate) answer: &'a AnswerArgs,
    /// What is searched, where questions are not answered from the documents they come with.
    pub(crate) search: Option<Search<'a>>,
    /// The folder.
    pub(crate) folder: &'a Path,
    /// What the run is called while it goes on.
    pub(crate) title: &'a str,
    /// Judges WebQA's fluency, where one is given.
    pub(crate) bart: Option<&'a BartArgs>,
    /// Ends it at the next safe place.
    pub(crate) stop: &'a AtomicBool,
}

/// A search for the documents of each question.
pub(crate) struct Search<'a> {
    /// Finds them.
    pub(crate) retriever: &'a dyn Retriever,
    /// How many.
    pub(crate) top_k: usize,
    /// The choices that make figures comparable.
    pub(crate) protocol: String,
}

impl EvalRun<'_> {
    /// Answers the examples, going on where the folder stands, and writes how right the answers
    /// are. Whether it was not stopped.
    ///
    /// # Errors
    ///
    /// When the folder belongs to another run or cannot be written, or a question cannot be
    /// answered.
    pub(crate) fn over(&self, examples: &[Example]) -> anyhow::Result<bool> {
        let mut settings = RunSettings::new(self.data, self.answer)?;
        let (retriever, top_k) = match &self.search {
            Some(search) => {
                settings.protocol.clone_from(&search.protocol);
                settings.top_k = Some(search.top_k);
                (Some(search.retriever), search.top_k)
            }
            None => (None, 0),
        };
        hold_settings(self.folder, &serde_json::to_value(&settings)?)?;
        let log = self.folder.join(EXPLANATIONS_FILE);
        let answered = self.answerer.with_pipeline(retriever, top_k, |pipeline| {
            answer_all(pipeline, examples, &log, self.title, self.stop)
        })?;
        let Some(explanations) = answered else { return Ok(false) };
        tell(self.folder, examples)?;
        let mut outcomes = outcomes(examples, &explanations);
        if let Some(benchmark) = self.data.dataset.benchmark() {
            for (outcome, example) in outcomes.iter_mut().zip(examples) {
                outcome.benchmark = benchmark.score(outcome.given_answer(), example);
            }
        }
        if !self.judge_fluency(examples, &mut outcomes)? {
            return Ok(false);
        }
        write_outcomes(&self.folder.join(OUTCOMES_FILE), &outcomes)
            .context("failed to write the outcomes")?;
        Ok(true)
    }

    /// Adds QA-FL to the outcomes, if there is a BART. Whether it was not stopped.
    fn judge_fluency(
        &self,
        examples: &[Example],
        outcomes: &mut [Outcome],
    ) -> anyhow::Result<bool> {
        let kept = self.folder.join(FLUENCY_FILE);
        let bart = self.bart.map_or(Ok(None), |bart| bart.fluency(Some(&kept)))?;
        let Some(mut bart) = bart else { return Ok(true) };
        let asked: Vec<fluency::Question<'_>> = outcomes
            .iter()
            .zip(examples)
            .map(|(outcome, example)| fluency::Question {
                answer: outcome.given_answer(),
                references: &example.gold.references,
            })
            .collect();
        let Some(found) = fluencies(&mut bart, &asked, self.stop)? else { return Ok(false) };
        for (outcome, fluency) in outcomes.iter_mut().zip(found) {
            outcome.benchmark.qa_fl = fluency;
        }
        Ok(true)
    }
}

/// Answers every example that the log does not have, and gives all explanations in the examples'
/// order; nothing if it was stopped. A pipeline that searches is not shown the examples' own
/// candidates.
///
/// # Errors
///
/// When the log cannot be written or a question cannot be answered. The others are answered and
/// in the log by then.
pub(crate) fn answer_all(
    pipeline: &Pipeline<'_>,
    examples: &[Example],
    log: &Path,
    title: &str,
    stop: &AtomicBool,
) -> anyhow::Result<Option<Vec<Explanation>>> {
    let mut file = ExplanationLog::open(log).context("failed to open the explanations")?;
    let left: Vec<&Example> =
        examples.iter().filter(|example| !file.is_done(&example.question.id)).collect();
    let begun: HashSet<&QuestionId> =
        examples.iter().map(|e| &e.question.id).filter(|id| file.is_done(id)).collect();
    let meter = Meter::new(title, examples.len());
    let mut failed = 0;
    let searched = pipeline.retriever.map(Retriever::version);
    let brings_documents = searched.is_none();
    meter.at(examples.len() - left.len(), "");
    for batch in left.chunks(AT_ONCE) {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let asks: Vec<Ask<'_>> = batch
            .iter()
            .map(|e| Ask {
                question: &e.question,
                candidates: brings_documents.then_some(&e.candidates[..]),
            })
            .collect();
        for (example, answered) in batch.iter().zip(pipeline.answer_batch(&asks)) {
            match answered {
                Ok(explanation) => {
                    file.append(&explanation).context("failed to write an explanation")?;
                }
                Err(error) => {
                    failed += 1;
                    let error = anyhow::Error::new(error);
                    meter.say(&format!("question {}: failed to {error:#}", example.question.id));
                }
            }
        }
        meter.at(file.len().min(examples.len()), "");
    }
    ensure!(failed == 0, "failed to answer {failed} of {} questions", examples.len());
    let all = read_explanations(log).context("failed to read the explanations")?;
    let explanations = in_order(examples, all)?;
    for (example, explanation) in examples.iter().zip(&explanations) {
        let id = &example.question.id;
        ensure!(
            !begun.contains(id) || is_over(explanation, example, searched.as_deref()),
            "failed to go on in {}: question {id} was answered over other documents than it has \
             now; use another folder",
            log.display()
        );
    }
    Ok(Some(explanations))
}

/// Whether an explanation is of the documents that are searched, or else of the example's own.
fn is_over(explanation: &Explanation, example: &Example, searched: Option<&str>) -> bool {
    if let Some(version) = searched {
        return explanation.index_version == version;
    }
    let documents: Vec<&mmrag_core::Document> = example.candidates.iter().map(|d| &**d).collect();
    explanation.index_version == contents_version(&documents)
}

fn in_order(examples: &[Example], all: Vec<Explanation>) -> anyhow::Result<Vec<Explanation>> {
    let mut by_id: std::collections::HashMap<_, _> =
        all.into_iter().map(|explanation| (explanation.question.id.clone(), explanation)).collect();
    examples
        .iter()
        .map(|example| {
            let id = &example.question.id;
            by_id.remove(id).with_context(|| format!("failed to find the explanation of {id}"))
        })
        .collect()
}

/// The outcomes of explanations, in the examples' order.
pub(crate) fn outcomes(examples: &[Example], explanations: &[Explanation]) -> Vec<Outcome> {
    explanations.iter().zip(examples).map(|(e, example)| Outcome::of(e, example)).collect()
}

/// A few right and a few wrong answers, those with pictures first, for people to look at.
pub(crate) fn shown_examples(
    variant: &str,
    examples: &[Example],
    explanations: &[Explanation],
    outcomes: &[Outcome],
    each: usize,
) -> Vec<ReportExample> {
    let pick = |right: bool| {
        let mut found: Vec<usize> =
            (0..outcomes.len()).filter(|i| (outcomes[*i].answer_em == 1.0) == right).collect();
        found.sort_by_key(|i| !outcomes[*i].picture_dependent);
        found.truncate(each);
        found
    };
    let shown = |i: usize| ReportExample::of(variant, &explanations[i], &examples[i]);
    pick(true).into_iter().chain(pick(false)).map(shown).collect()
}

/// The main figures of a report as a table: a variant a row, a metric a column, with the half
/// width of the 95 % interval.
pub(crate) fn table(report: &Report) -> String {
    let metrics = report.metrics();
    let header = metrics.iter().map(|metric| format!("{:>22}", metric.title()));
    let names = report.summary.variants.iter().map(|(name, _)| name.chars().count());
    let width = names.max().unwrap_or(0).max(12) + 2;
    let mut lines = vec![format!("{:<width$}{}", "", header.collect::<String>())];
    for (name, figures) in report.summary.variants.iter() {
        let cells = metrics.iter().map(|metric| {
            let interval = figures.get(metric.name()).copied().flatten();
            let cell = interval.map_or_else(
                || "–".to_owned(),
                |i| format!("{:.3} [{:.3} {:.3}]", i.value, i.low, i.high),
            );
            format!("{cell:>22}")
        });
        lines.push(format!("{name:<width$}{}", cells.collect::<String>()));
    }
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}

/// Holds a folder to the settings its first run had.
///
/// # Errors
///
/// When the folder has other settings, which the error names, or cannot be written.
pub(crate) fn hold_settings(folder: &Path, settings: &Value) -> anyhow::Result<()> {
    hold(folder, SETTINGS_FILE, settings)
}

/// The same of a file of this name.
///
/// # Errors
///
/// As [`hold_settings`].
pub(crate) fn hold(folder: &Path, name: &str, settings: &Value) -> anyhow::Result<()> {
    let path = folder.join(name);
    if !path.exists() {
        return crate::output::file(&path, &format!("{settings:#}\n"));
    }
    let context = || format!("failed to read {}", path.display());
    let text = std::fs::read_to_string(&path).with_context(context)?;
    let known: Value = serde_json::from_str(&text).with_context(context)?;
    let keys = settings.as_object().into_iter().flatten().map(|(key, _)| key);
    // A key that says nothing is as one that is not there: settings grow new ones.
    let said = |of: &Value, key: &str| of.get(key).filter(|value| !value.is_null()).cloned();
    let other = keys.into_iter().find(|key| said(&known, key) != said(settings, key));
    match other {
        None => Ok(()),
        Some(key) => anyhow::bail!(
            "failed to go on in {}: it was begun with a different {key}; use another folder",
            folder.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::hold_settings;

    #[test]
    fn a_folder_is_held_to_its_settings() {
        let folder = tempfile::tempdir().unwrap();
        hold_settings(folder.path(), &json!({"model": "a", "seed": 1})).unwrap();
        hold_settings(folder.path(), &json!({"model": "a", "seed": 1, "new": null})).unwrap();
        let error = hold_settings(folder.path(), &json!({"model": "a", "seed": 2})).unwrap_err();
        assert!(error.to_string().contains("different seed"), "{error}");
    }
}
