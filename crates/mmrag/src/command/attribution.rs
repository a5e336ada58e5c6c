//! `mmrag eval attribution`: does a run's model look where the answer stands?

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, ensure};
use clap::Args;
use mmrag_core::{Attribute, DocumentId, Example, QuestionId};
use mmrag_data::{REGIONS_FILE, Region, read_regions};
use mmrag_model::Policy;
use mmrag_rag::explanation::{Attribution, Told};
use mmrag_rag::pipeline::Answered;
use mmrag_rag::quality::{
    Measure, Picture, Pointed, PointingMeasures, PointingRow, pointing_measures,
};
use mmrag_rag::{AnsweredRun, Ask, Explanation, Outcome, Pipeline};

use super::Ended;
use crate::answerer::Answerer;
use crate::comparing::read_runs;
use crate::evaluating::RESAMPLES;
use crate::progress::Meter;
use crate::run_settings::again;
use crate::{output, stop};

/// The file of what was found of each picture.
pub(crate) const ATTRIBUTION_FILE: &str = "attribution.jsonl";

/// Questions that are answered again together.
const AT_ONCE: usize = 16;

const EXAMPLES: &str = "Examples:
  mmrag data make atlas --questions 5000 --out atlas --regions
  mmrag eval run --dataset atlas --data atlas --split dev --out runs/dev
  mmrag eval attribution runs/dev

Of each cited picture of which the data set tells where the asked-for thing stands: does the patch
that adds most to what was told lie there, and how much of the attribution does? Against an even
attribution, one at the middle, and that of a model with random weights which is told the same
replies. Asked of the answer, and of the steps of the reasoning that name the picture.

RUN/attribution.jsonl gets one line a picture, and `mmrag eval report RUN` draws them.";

/// Measures attributions.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AttributionCommand {
    /// The folder of a finished run
    #[arg(value_name = "RUN")]
    folder: PathBuf,
    /// Ask only about the first N questions whose answers cite such a picture
    #[arg(long, value_name = "N")]
    questions: Option<usize>,
    /// Where the data set lies now, if not where the run read it
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The file that tells where things stand; if absent, regions.jsonl in the data set's folder
    #[arg(long, value_name = "FILE")]
    regions: Option<PathBuf>,
    /// Seed of the random weights
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

/// Where the asked-for thing stands, by question and picture.
type Regions = HashMap<(QuestionId, DocumentId), Region>;

impl AttributionCommand {
    /// Answers again, looks into the model, and prints the figures.
    ///
    /// # Errors
    ///
    /// When the run, its data, the regions or the model cannot be read, are not those of the run, or
    /// the model fails.
    pub(crate) fn run(&self) -> anyhow::Result<Ended> {
        let stop = stop::on_interrupt()?;
        let runs = read_runs(std::slice::from_ref(&self.folder))?;
        let run = &runs[0].run;
        let (settings, examples) = again(run, self.data.as_deref())?;
        let regions = self.read_regions(&settings.data.data)?;
        let policy = settings.answer.policy()?;
        let random = Policy::random(policy.dir(), self.seed).context("failed to draw weights")?;
        let answerer = Answerer::new(&policy, &settings.answer)?;
        let looking = Looking { run, examples: &examples, regions: &regions, stop: &stop };
        let most = self.questions.unwrap_or(usize::MAX);
        let rows = answerer
            .with_pipeline(None, 0, |pipeline| looking.all(pipeline, &random.with(None), most))?;
        let Some(rows) = rows else { return Ok(Ended::Stopped) };
        write(&self.folder.join(ATTRIBUTION_FILE), &rows)?;
        let measures = pointing_measures(&rows, RESAMPLES, 0);
        if self.json {
            output::json(&measures)?;
        } else {
            output::line(&lines(&measures).join("\n"))?;
        }
        Ok(Ended::Done)
    }

    fn read_regions(&self, data: &Path) -> anyhow::Result<Regions> {
        let path = self.regions.clone().unwrap_or_else(|| data.join(REGIONS_FILE));
        let regions = read_regions(&path).with_context(|| {
            format!(
                "failed to read where things stand in the pictures from {}; for the atlas, \
                 `mmrag data make atlas --regions` with the same seed writes it",
                path.display()
            )
        })?;
        let key = |region: &Region| (region.question.clone(), region.document.clone());
        Ok(regions.into_iter().map(|region| (key(&region), region)).collect())
    }
}

/// What is looked into.
struct Looking<'a> {
    run: &'a AnsweredRun,
    examples: &'a [Example],
    regions: &'a Regions,
    stop: &'a AtomicBool,
}

impl Looking<'_> {
    /// What was found of all pictures; nothing if it was stopped.
    fn all(
        &self,
        pipeline: &Pipeline<'_>,
        random: &dyn Attribute,
        most: usize,
    ) -> anyhow::Result<Option<Vec<PointingRow>>> {
        let explanations = self.run.explanations().context("failed to read the explanations")?;
        let cites_known = |place: &usize| {
            let citations = explanations[*place].citations.iter();
            let mut known = citations.map(|citation| &citation.document);
            known.any(|document| self.region(*place, document).is_some())
        };
        let places: Vec<usize> = (0..self.examples.len()).filter(cites_known).take(most).collect();
        ensure!(!places.is_empty(), "no answer of the run cites a picture with a known region");
        let mut rank = pipeline.rank;
        rank.attributor = Some(random);
        let drawn = Pipeline { rank, ..*pipeline };
        let meter = Meter::new("attribution", places.len());
        let mut rows = Vec::new();
        for (nth, places) in places.chunks(AT_ONCE).enumerate() {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            for (&place, answered) in places.iter().zip(self.answer(pipeline, places)?) {
                let same = pipeline.explain(answered.clone()).without_timings();
                ensure!(
                    is_same(&same, &explanations[place]),
                    "question {} is answered otherwise than in the run",
                    self.examples[place].question.id
                );
                rows.extend(self.rows(place, [pipeline, &drawn], &answered)?);
            }
            meter.at(nth * AT_ONCE + places.len(), "");
        }
        Ok(Some(rows))
    }

    fn region(&self, place: usize, document: &DocumentId) -> Option<&Region> {
        self.regions.get(&(self.examples[place].question.id.clone(), document.clone()))
    }

    fn answer<'p>(
        &'p self,
        pipeline: &Pipeline<'p>,
        places: &[usize],
    ) -> anyhow::Result<Vec<Answered<'p>>> {
        let ask = |place: &usize| {
            let Example { question, candidates, .. } = &self.examples[*place];
            pipeline.retrieve(&Ask { question, candidates: Some(candidates) })
        };
        let filtered = pipeline.filter_all(places.iter().map(ask).collect());
        let answered = pipeline.rank_all(filtered).into_iter().collect::<Result<_, _>>();
        answered.context("failed to answer again")
    }

    /// A row for each cited picture whose region is known.
    fn rows(
        &self,
        place: usize,
        [pipeline, drawn]: [&Pipeline<'_>; 2],
        answered: &Answered<'_>,
    ) -> anyhow::Result<Vec<PointingRow>> {
        let outcome = &self.run.outcomes[place];
        let mut rows: Vec<PointingRow> = Vec::new();
        for told in [Told::Answer, Told::Reasoning] {
            let found = pipeline.attribute(answered, told).context("failed to look")?;
            let random = drawn.attribute(answered, told).context("failed to look")?;
            for (found, random) in found.iter().zip(&random) {
                let Some(region) = self.region(place, &found.document) else { continue };
                let is_it = |row: &&mut PointingRow| row.picture.document == found.document;
                let pointed = pointed(found, random, region);
                match rows.iter_mut().find(is_it) {
                    Some(row) => row.found.push(pointed),
                    None => rows.push(row(outcome, region, pointed)),
                }
            }
        }
        Ok(rows)
    }
}

fn pointed(found: &Attribution, random: &Attribution, region: &Region) -> Pointed {
    Pointed::new(found, Some(random), region.shares())
}

fn row(outcome: &Outcome, region: &Region, pointed: Pointed) -> PointingRow {
    let picture = Picture {
        document: region.document.clone(),
        part: region.part.clone(),
        region: region.shares(),
    };
    PointingRow {
        question: outcome.question.clone(),
        kind: outcome.kind.clone(),
        f1: outcome.answer_f1,
        picture,
        found: vec![pointed],
    }
}

/// Whether two answers are the same, with what they cite.
fn is_same(now: &Explanation, then: &Explanation) -> bool {
    now.answer == then.answer && now.citations == then.citations
}

/// The rows of a file, none if there is no file.
///
/// # Errors
///
/// When the file cannot be read or a line is no row.
pub(crate) fn read_rows(path: &Path) -> anyhow::Result<Vec<PointingRow>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let context = || format!("failed to read {}", path.display());
    let text = fs::read_to_string(path).with_context(context)?;
    text.lines().map(|line| serde_json::from_str(line).with_context(context)).collect()
}

fn write(path: &Path, rows: &[PointingRow]) -> anyhow::Result<()> {
    let lines: Vec<String> = rows.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    output::file(path, &(lines.join("\n") + "\n"))
}

fn lines(all: &[PointingMeasures]) -> Vec<String> {
    let row = |Measure { title, figure, .. }: &Measure| {
        let (value, low, high) = (figure.value, figure.low, figure.high);
        format!("  {title:<44} {value:>7.3} [{low:>6.3} {high:>6.3}]")
    };
    let mut lines = Vec::new();
    for measures in all {
        let PointingMeasures { told, pictures, questions, .. } = measures;
        lines.push(format!("{}: {pictures} pictures of {questions} questions", told.title()));
        lines.extend(measures.all.iter().map(|(_, measure)| row(measure)));
        let parts = measures.by_part.iter();
        let answers = measures.by_answer.iter();
        let answers = answers.map(|(name, of_it)| (format!("{name} answers"), of_it));
        for (slice, of_it) in parts.map(|(name, of_it)| (name.to_owned(), of_it)).chain(answers) {
            let count = of_it.get("hit").map_or(0, |measure| measure.explanations);
            lines.push(format!("  {slice}, {count} questions"));
            lines.extend(of_it.iter().map(|(_, measure)| format!("  {}", row(measure))));
        }
    }
    lines
}
