//! `mmrag eval explain`: how good are the explanations of a run?

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use clap::Args;
use mmrag_core::{Example, QuestionId};
use mmrag_data::degrade::Counterfactuals;
use mmrag_rag::quality::{Measure, Measures, Probed, QualityRow, measures, probe_all};
use mmrag_rag::{AnsweredRun, Explanation, Pipeline};

use super::Ended;
use crate::answerer::Answerer;
use crate::comparing::read_runs;
use crate::evaluating::RESAMPLES;
use crate::progress::Meter;
use crate::run_settings::again;
use crate::{output, stop};

/// The file of what was found of each explanation.
pub(crate) const QUALITY_FILE: &str = "quality.jsonl";

/// Explanations that are asked about at once.
const AT_ONCE: usize = 8;

const EXAMPLES: &str = "Examples:
  mmrag eval explain runs/dev
  mmrag eval explain runs/dev --questions 100 --json

Asks the run's own model again: without the cited documents and without as many uncited ones, with
the cited ones alone, over an edited cited document (a gold text or table whose answer is replaced
by another, or a gold picture that shows another), and for the answer alone after the reasoning cut
off at 0, 25, 50 and 75 % or with its steps in another order.

RUN/quality.jsonl gets one line a question as it is done; the same command goes on where it was
stopped, and `mmrag eval report RUN` shows the figures.";

/// Measures explanations.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExplainCommand {
    /// The folder of a finished run
    #[arg(value_name = "RUN")]
    folder: PathBuf,
    /// Ask only about the first N questions
    #[arg(long, value_name = "N")]
    questions: Option<usize>,
    /// Where the data set lies now, if not where the run read it
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Seed of removed documents, edits and orders of steps
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

impl ExplainCommand {
    /// Asks again, and prints the figures.
    ///
    /// # Errors
    ///
    /// When the run, its data or its model cannot be read or are not those of the run, or the
    /// model fails.
    pub(crate) fn run(&self) -> anyhow::Result<Ended> {
        let stop = stop::on_interrupt()?;
        let runs = read_runs(std::slice::from_ref(&self.folder))?;
        let run = &runs[0].run;
        let (settings, examples) = again(run, self.data.as_deref())?;
        let engine = settings.answer.engine()?;
        let answerer = Answerer::new(&engine, &settings.answer)?;
        let asking = Asking { run, examples: &examples, seed: self.seed, stop: &stop };
        let most = self.questions.unwrap_or(usize::MAX);
        let rows = answerer.with_pipeline(None, 0, |pipeline| {
            asking.all(pipeline, &self.folder.join(QUALITY_FILE), most)
        })?;
        let Some(rows) = rows else { return Ok(Ended::Stopped) };
        let measures = measures(&rows, RESAMPLES, 0);
        if self.json {
            output::json(&measures)?;
        } else {
            output::line(&lines(&measures).join("\n"))?;
        }
        Ok(Ended::Done)
    }
}

/// What is asked about.
struct Asking<'a> {
    run: &'a AnsweredRun,
    examples: &'a [Example],
    seed: u64,
    stop: &'a AtomicBool,
}

impl Asking<'_> {
    fn all(
        &self,
        pipeline: &Pipeline<'_>,
        path: &Path,
        most: usize,
    ) -> anyhow::Result<Option<Vec<QualityRow>>> {
        let explanations = self.run.explanations().context("failed to read the explanations")?;
        let counterfactuals = Counterfactuals::new(self.examples, self.seed);
        let edited: Vec<Option<Example>> =
            self.examples.iter().map(|example| counterfactuals.of(example)).collect();
        let done: HashSet<QuestionId> =
            whole_rows(path)?.into_iter().map(|row| row.question).collect();
        let mut file = OpenOptions::new().append(true).create(true).open(path)?;
        let count = most.min(self.examples.len());
        let left: Vec<usize> =
            (0..count).filter(|place| !done.contains(&self.examples[*place].question.id)).collect();
        let meter = Meter::new("explain", count);
        meter.at(count - left.len(), "");
        for (nth, places) in left.chunks(AT_ONCE).enumerate() {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let probed: Vec<Probed<'_>> =
                places.iter().map(|&place| self.probed(place, &explanations, &edited)).collect();
            let rows = probe_all(&pipeline.rank, &probed, self.seed)
                .context("failed to ask the model again")?;
            for row in rows {
                let line = format!("{}\n", serde_json::to_string(&row)?);
                file.write_all(line.as_bytes()).context("failed to write what was found")?;
            }
            let before = count - left.len();
            meter.at((before + (nth + 1) * AT_ONCE).min(count), "");
        }
        whole_rows(path).map(Some)
    }

    fn probed<'p>(
        &'p self,
        place: usize,
        explanations: &'p [Explanation],
        edited: &'p [Option<Example>],
    ) -> Probed<'p> {
        Probed {
            example: &self.examples[place],
            edited: edited[place].as_ref(),
            explanation: &explanations[place],
            outcome: &self.run.outcomes[place],
        }
    }
}

/// The rows of a file, none if there is no file. A torn last line, which a killed run left, is cut
/// off.
///
/// # Errors
///
/// When the file cannot be read or a whole line is no row.
pub(crate) fn whole_rows(path: &Path) -> anyhow::Result<Vec<QualityRow>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let context = || format!("failed to read {}", path.display());
    let mut file = OpenOptions::new().read(true).write(true).open(path).with_context(context)?;
    let mut reader = BufReader::new(&file);
    let (mut rows, mut whole_bytes, mut line) = (Vec::new(), 0, Vec::new());
    for number in 1.. {
        line.clear();
        let length = reader.read_until(b'\n', &mut line).with_context(context)?;
        if line.last() != Some(&b'\n') {
            break;
        }
        whole_bytes += length as u64;
        let row = serde_json::from_slice(&line)
            .with_context(|| format!("failed to read line {number} of {}", path.display()))?;
        rows.push(row);
    }
    if file.seek(SeekFrom::End(0)).with_context(context)? > whole_bytes {
        file.set_len(whole_bytes).with_context(context)?;
    }
    Ok(rows)
}

fn lines(measures: &Measures) -> Vec<String> {
    let mut lines = vec![format!("{} explanations", measures.explanations)];
    let row = |Measure { title, explanations, figure }: &Measure| {
        let (value, low, high) = (figure.value, figure.low, figure.high);
        format!("{title:<52} {value:>7.3} [{low:>6.3} {high:>6.3}]  of {explanations}")
    };
    lines.extend(measures.all.iter().map(|(_, measure)| row(measure)));
    for slices in [&measures.by_modality, &measures.by_documents] {
        for (slice, of_it) in slices.iter() {
            lines.push(format!("{slice}:"));
            lines.extend(of_it.iter().map(|(_, measure)| format!("  {}", row(measure))));
        }
    }
    lines
}
