//! `mmrag ablate`: train and evaluate a matrix of variants.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, ensure};
use clap::Args;
use mmrag_model::Policy;
use mmrag_rag::AnsweredRun;
use mmrag_rag::report::{Curve, Report, ReportInput, Run, Variant, write_report};
use mmrag_train::Init;
use serde_json::json;

use super::Ended;
use super::train::questions;
use crate::ablation::{
    BASE, CellSettings, ColdStart, MatrixRun, Resolved, Training, training_name,
};
use crate::answerer::{AnswerArgs, Answerer};
use crate::comparing::{NamedRun, shown, with_statistics};
use crate::curves::curves;
use crate::dataset::{DatasetArgs, DatasetName, PoolName};
use crate::evaluating::{EvalRun, RESAMPLES, hold, table};
use crate::loading::{load_policy, model_folder};
use crate::narrow::{Gold, narrowed};
use crate::overlay::nearest;
use crate::run_settings::facts;
use crate::settings::DataSettings;
use crate::stages::{Questions, supervise, train_filter, train_ranker};
use crate::{output, stop};

const EXAMPLES: &str = "Examples:
  mmrag data make atlas --questions 5000 --seed 1 --out atlas
  mmrag ablate crates/mmrag/runs/ablate.toml
  mmrag ablate crates/mmrag/runs/ablate.toml --only no_reasoning,no_stage1 --seeds 1
  mmrag ablate crates/mmrag/runs/ablate.toml --list

OUT/filters and OUT/rankers hold what was trained, named by all that decides it: variants that do
not differ in a stage share it. OUT/cells/VARIANT-SEED is the run over the test questions, for `mmrag
eval compare` too. Ctrl-C ends it at its next safe place; the same command goes on from there.
OUT/report.html is written anew after every cell.";

/// What a training logs in its folder.
const METRICS_FILE: &str = "metrics.jsonl";

/// Questions that the page shows, wrong ones first.
const SHOWN: usize = 100;

/// The file of a cell's settings as resolved.
const CELL_FILE: &str = "cell.json";

/// Trains and evaluates every variant of a run file.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AblateCommand {
    /// The TOML file of base and variants
    #[arg(value_name = "RUN.toml")]
    file: PathBuf,
    /// Only these variants; `base` is the base
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    only: Vec<String>,
    /// Only the first N seeds
    #[arg(long, value_name = "N")]
    seeds: Option<usize>,
    /// Only say which cells there are, and which are done
    #[arg(long)]
    list: bool,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

/// One variant with one seed.
struct Cell<'a> {
    variant: &'a Resolved,
    seed: u64,
    folder: PathBuf,
}

/// What came of a stage.
enum Trained {
    /// Its adapter.
    Adapter(PathBuf),
    /// There is nothing to train: the model as it is.
    None,
    /// It was stopped.
    Stopped,
}

/// What cells are made of.
struct Matrix<'a> {
    run: &'a MatrixRun,
    stop: &'a AtomicBool,
}

impl AblateCommand {
    /// Trains and evaluates what is not there yet, and prints the table.
    ///
    /// # Errors
    ///
    /// When the run file is wrong, something it names cannot be read, or a training fails.
    pub(crate) fn run(&self) -> anyhow::Result<Ended> {
        let run = MatrixRun::read(&self.file)?;
        let variants = self.chosen(run.resolved()?)?;
        let seeds = &run.seeds[..self.seeds.unwrap_or(usize::MAX).min(run.seeds.len())];
        let cell = |variant, seed: u64| {
            let name = format!("{}-{seed}", Resolved::clone(variant).name);
            Cell { variant, seed, folder: run.out.join("cells").join(name) }
        };
        // All variants with the first seed come first: an early table of everything.
        let cells: Vec<Cell<'_>> = seeds
            .iter()
            .flat_map(|seed| variants.iter().map(|variant| cell(variant, *seed)))
            .collect();
        if self.list {
            let lines: Vec<String> = cells.iter().map(Cell::line).collect();
            output::line(&lines.join("\n"))?;
            return Ok(Ended::Done);
        }
        let stop = stop::on_interrupt()?;
        let matrix = Matrix { run: &run, stop: &stop };
        let policy = load_policy(&model_folder(Some(&run.model))?)?;
        let mut report = None;
        for (nth, cell) in cells.iter().enumerate() {
            eprintln!("{} of {}: {}", nth + 1, cells.len(), cell.name());
            if !matrix.fill(cell, &policy)? {
                return Ok(Ended::Stopped);
            }
            report = Some(matrix.report(&variants, &cells[..=nth])?);
        }
        let report = report.context("there is no cell to fill")?;
        if self.json {
            output::json(&report.summary)?;
        } else {
            output::line(&table(&report))?;
            eprintln!("{}", run.out.join("report.html").display());
        }
        Ok(Ended::Done)
    }

    fn chosen(&self, all: Vec<Resolved>) -> anyhow::Result<Vec<Resolved>> {
        let names: Vec<String> = all.iter().map(|variant| variant.name.clone()).collect();
        for wanted in &self.only {
            let advice = nearest(wanted, &names)
                .map_or_else(String::new, |near| format!("; did you mean {near}?"));
            ensure!(names.contains(wanted), "there is no variant {wanted}{advice}");
        }
        let is_wanted =
            |variant: &Resolved| self.only.is_empty() || self.only.contains(&variant.name);
        Ok(all.into_iter().filter(is_wanted).collect())
    }
}

impl Cell<'_> {
    fn name(&self) -> String {
        format!("{} (seed {})", self.variant.name, self.seed)
    }

    fn line(&self) -> String {
        let state = if AnsweredRun::read(&self.folder).is_ok() { "done" } else { "to do" };
        format!("{state:<6} {:<40} {}", self.name(), self.variant.about)
    }
}

impl Matrix<'_> {
    /// Trains what the cell needs and answers the test questions. Whether it was not stopped.
    fn fill(&self, cell: &Cell<'_>, policy: &Policy) -> anyhow::Result<bool> {
        let settings = &cell.variant.cell;
        // A cell of another run file is not taken for one of this.
        hold(&cell.folder, CELL_FILE, &serde_json::to_value(settings)?)?;
        if AnsweredRun::read(&cell.folder).is_ok() {
            return Ok(true);
        }
        let context = || format!("failed at {}", cell.name());
        let filter = match self.filter(settings, cell.seed, policy).with_context(context)? {
            Trained::Stopped => return Ok(false),
            Trained::Adapter(filter) => Some(filter).filter(|_| settings.use_filter),
            Trained::None => None,
        };
        let ranker = self.ranker(settings, cell.seed, filter.as_deref(), policy);
        let rank = match ranker.with_context(context)? {
            Trained::Stopped => return Ok(false),
            Trained::Adapter(rank) => Some(rank),
            Trained::None => None,
        };
        let answer =
            AnswerArgs { filter_adapter: filter, rank_adapter: rank, ..settings.answer.clone() };
        let answerer = Answerer::new(policy, &answer)?;
        let data = DatasetArgs {
            dataset: DatasetName::Multimodalqa,
            data: self.run.data.folder.clone(),
            split: settings.test.split,
            hide: self.run.data.hide,
            degrade: settings.test.degrade.clone(),
            degrade_seed: 0,
            pool: PoolName::Candidates,
            strict: false,
        };
        let most = settings.test.questions;
        let mut examples = data.examples((most > 0).then_some(most))?;
        if let Some(k) = settings.bm25_top_k {
            examples = narrowed(&examples, k, Gold::AsFound)?;
        }
        if let Some(gold_at) = settings.gold_at {
            examples = examples.iter().map(|example| gold_at.of(example)).collect();
        }
        let title = cell.variant.name.clone();
        let run = EvalRun {
            answerer: &answerer,
            data: &data,
            answer: &answer,
            search: None,
            bart: None,
            folder: &cell.folder,
            title: &title,
            stop: self.stop,
        };
        run.over(&examples)
    }

    /// Stage 1, trained if it is not there.
    fn filter(&self, cell: &CellSettings, seed: u64, policy: &Policy) -> anyhow::Result<Trained> {
        let place = |name: String| self.run.out.join("filters").join(name);
        if !cell.use_filter && cell.rank.training.init != Init::Stage1 {
            return Ok(Trained::None);
        }
        let trained = match cell.stage1 {
            Training::None => return Ok(Trained::None),
            Training::Reinforce => {
                let mut run = cell.filter.clone();
                run.training.seed = seed;
                run.out = place(training_name(&run)?);
                let asked = questions(&run.data, run.data.calibration_questions)?;
                train_filter(&run, policy, &asked, self.stop)?
            }
            Training::Sft => {
                let mut run = cell.filter_sft.clone();
                run.training.seed = seed;
                run.out = place(format!("sft-{}", training_name(&run)?));
                let asked = questions(&run.data, run.data.calibration_questions)?;
                supervise(&run, policy, &asked, self.stop)?
            }
        };
        Ok(trained.map_or(Trained::Stopped, Trained::Adapter))
    }

    /// Stage 2, trained if it is not there, over what the filter keeps.
    fn ranker(
        &self,
        cell: &CellSettings,
        seed: u64,
        filter: Option<&Path>,
        policy: &Policy,
    ) -> anyhow::Result<Trained> {
        match (cell.stage2, cell.cold_start) {
            (Training::None, _) => Ok(Trained::None),
            (Training::Sft, _) => self.supervised(cell, seed, filter, policy),
            (Training::Reinforce, None) => {
                self.reinforced(cell, seed, filter, policy, cell.rank.training.init.clone())
            }
            (Training::Reinforce, Some(ColdStart::Sft)) => {
                match self.supervised(cell, seed, filter, policy)? {
                    Trained::Adapter(first) => {
                        self.reinforced(cell, seed, filter, policy, Init::Adapter(first))
                    }
                    other => Ok(other),
                }
            }
        }
    }

    /// Stage 2 by reinforcement that begins with `init`.
    fn reinforced(
        &self,
        cell: &CellSettings,
        seed: u64,
        filter: Option<&Path>,
        policy: &Policy,
        init: Init,
    ) -> anyhow::Result<Trained> {
        let mut run = cell.rank.clone();
        run.training.seed = seed;
        run.training.init = init;
        run.filter_adapter = filter.map(Path::to_path_buf).unwrap_or_default();
        run.out = self.ranker_place("", &training_name(&run)?, cell);
        let asked = asked(cell, &run.data)?;
        let trained = train_ranker(&run, policy, &asked, self.stop)?;
        Ok(trained.map_or(Trained::Stopped, Trained::Adapter))
    }

    /// Stage 2 from right replies.
    fn supervised(
        &self,
        cell: &CellSettings,
        seed: u64,
        filter: Option<&Path>,
        policy: &Policy,
    ) -> anyhow::Result<Trained> {
        let mut run = cell.rank_sft.clone();
        run.training.seed = seed;
        run.filter_adapter = filter.map(Path::to_path_buf).unwrap_or_default();
        run.out = self.ranker_place("sft-", &training_name(&run)?, cell);
        let asked = asked(cell, &run.data)?;
        let trained = supervise(&run, policy, &asked, self.stop)?;
        Ok(trained.map_or(Trained::Stopped, Trained::Adapter))
    }

    /// Where a trained stage 2 lies. What BM25 leaves is no part of a training's settings.
    fn ranker_place(&self, prefix: &str, name: &str, cell: &CellSettings) -> PathBuf {
        let narrowed = cell.bm25_top_k.map_or_else(String::new, |k| format!("-bm25-{k}"));
        self.run.out.join("rankers").join(format!("{prefix}{name}{narrowed}"))
    }

    /// The page of the cells that are filled: figures, curves of the first seed's trainings, and
    /// the questions of its first variant.
    fn report(&self, variants: &[Resolved], filled: &[Cell<'_>]) -> anyhow::Result<Report> {
        let mut told: Vec<Variant> = Vec::new();
        let mut known = Vec::new();
        let mut first = Vec::new();
        for variant in variants {
            let mut runs = Vec::new();
            for cell in filled.iter().filter(|cell| cell.variant.name == variant.name) {
                let run = AnsweredRun::read(&cell.folder).context("failed to read a cell")?;
                if known.is_empty() {
                    known = facts(&run.settings);
                }
                runs.push(Run { seed: cell.seed, outcomes: run.outcomes.clone() });
                if Some(cell.seed) == filled.first().map(|cell| cell.seed) {
                    first.push(NamedRun { name: variant.name.clone(), run });
                }
            }
            if !runs.is_empty() {
                let (name, about) = (variant.name.clone(), variant.about.clone());
                told.push(Variant { name, about, runs });
            }
        }
        let has_base = told.iter().any(|variant| variant.name == BASE);
        let others = told.iter().filter(|variant| has_base && variant.name != BASE);
        let comparisons = others.map(|variant| (variant.name.clone(), BASE.to_owned())).collect();
        let report = Report::of(ReportInput {
            title: "Ablations".to_owned(),
            facts: with_statistics(known),
            variants: told,
            comparisons,
            curves: curves_of(&first)?,
            settings: json!(self.run),
            resamples: RESAMPLES,
            ..ReportInput::default()
        })
        .context("failed to work out the figures")?;
        let shown = first.first().map_or(Ok(Vec::new()), |run| shown(run, None, None, SHOWN))?;
        write_report(&self.run.out, &report, &shown).context("failed to write the report")?;
        Ok(report)
    }
}

/// The questions of stage 2: gold documents stay in training, as they do with a filter.
fn asked(cell: &CellSettings, data: &DataSettings) -> anyhow::Result<Questions> {
    let asked = questions(data, data.dev_questions)?;
    let Some(k) = cell.bm25_top_k else { return Ok(asked) };
    let Questions { train, dev } = asked;
    Ok(Questions { train: narrowed(&train, k, Gold::Kept)?, dev: narrowed(&dev, k, Gold::Kept)? })
}

/// The curves of the trainings behind some cells, each training once, by the first variant that has
/// it.
fn curves_of(cells: &[NamedRun]) -> anyhow::Result<Vec<Curve>> {
    let (mut seen, mut all) = (HashSet::new(), Vec::new());
    for NamedRun { name, run } in cells {
        for (stage, key) in [("stage 1", "filter_adapter"), ("stage 2", "rank_adapter")] {
            let adapter = run.settings["answer"][key].as_str().map(Path::new);
            let metrics = adapter.and_then(Path::parent).map(|folder| folder.join(METRICS_FILE));
            let Some(metrics) = metrics.filter(|path| path.is_file()) else { continue };
            if seen.insert(metrics.clone()) {
                all.extend(curves(&format!("{name}: {stage}"), &metrics)?);
            }
        }
    }
    Ok(all)
}
