//! `mmrag train`: one run file, one run folder; the same command resumes.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use mmrag_core::Example;
use mmrag_data::Pool;
use mmrag_data::atlas::{self, AtlasOptions, NameSplit};
use mmrag_model::Policy;
use mmrag_task::StageName;
use mmrag_train::Init;
use serde_json::Value;

use super::Ended;
use crate::dataset::{self, DatasetName, SplitName, degraded};
use crate::loading::{foresee_adapter, load_policy, load_trainable, model_folder};
use crate::settings::{DataSettings, ReinforceRun, SftRun};
use crate::stages::{Questions, adapters_of, first, supervise, train_filter, train_ranker};
use crate::{hub, output, predict, stop};

/// The atlas that composed lessons are checked on; any seed would do.
const DEV_ATLAS_SEED: u64 = 1;

const EXAMPLES: &str = "Examples:
  mmrag train filter crates/mmrag/runs/filter.toml
  mmrag train rank crates/mmrag/runs/rank.toml

The built-in small model, from nothing (some four hours on two cores):
  mmrag model new --out runs/new --seed 1
  mmrag train sft crates/mmrag/runs/small.toml

Ctrl-C ends the run after its current step; the same command goes on from there.";

/// Trains from a run file.
#[derive(Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum TrainCommand {
    /// Stage 1: reinforce the verdict whether a document helps
    Filter(RunArgs),
    /// Stage 2: reinforce order, reasoning and answer
    Rank(RunArgs),
    /// Learn from right replies: composed lessons, or a data set's questions
    Sft(RunArgs),
}

/// The run file.
#[derive(Args)]
pub(crate) struct RunArgs {
    /// The TOML file that says what to train on what; a run that it comes `after` is done first
    #[arg(value_name = "RUN.toml")]
    file: PathBuf,
    /// Predict memory and time from shapes, as JSON, without loading the model
    #[arg(long)]
    dry_run: bool,
}

impl TrainCommand {
    /// Trains, and says on stdout where the result lies.
    ///
    /// # Errors
    ///
    /// When the run file is wrong, something it names cannot be read, or the training fails.
    pub(crate) fn run(&self) -> anyhow::Result<Ended> {
        if let Some(told) = self.predicted()? {
            output::json(&told)?;
            return Ok(Ended::Done);
        }
        let stop = stop::on_interrupt()?;
        let published = match self {
            Self::Filter(RunArgs { file, .. }) => {
                let run = with_adapters(ReinforceRun::read(file, StageName::Filter)?)?;
                let questions = questions(&run.data, run.data.calibration_questions)?;
                train_filter(&run, &policy_of(&run)?, &questions, &stop)?
            }
            Self::Rank(RunArgs { file, .. }) => {
                let run = with_adapters(ReinforceRun::read(file, StageName::Rank)?)?;
                let questions = questions(&run.data, run.data.dev_questions)?;
                train_ranker(&run, &policy_of(&run)?, &questions, &stop)?
            }
            Self::Sft(RunArgs { file, .. }) => supervise_each(SftRun::read_chain(file)?, &stop)?,
        };
        let Some(place) = published else { return Ok(Ended::Stopped) };
        output::line(&place.display().to_string())?;
        Ok(Ended::Done)
    }

    /// What the run will take, if that is what is asked.
    fn predicted(&self) -> anyhow::Result<Option<Value>> {
        let (name, file) = match self {
            Self::Filter(RunArgs { file, dry_run: true }) => (StageName::Filter, file),
            Self::Rank(RunArgs { file, dry_run: true }) => (StageName::Rank, file),
            Self::Sft(RunArgs { file, dry_run: true }) => return Ok(Some(predicted_each(file)?)),
            _ => return Ok(None),
        };
        let run = ReinforceRun::read(file, name)?;
        let model = model_folder(Some(&run.model))?;
        let dev = match name {
            StageName::Filter => run.data.calibration_questions,
            StageName::Rank => run.data.dev_questions,
        };
        let asked = questions(&run.data, dev)?;
        predict::training(&model, name, &run, &asked).map(Some)
    }
}

/// The run with its adapters in folders: those that are named as on the hub are fetched.
fn with_adapters(mut run: ReinforceRun) -> anyhow::Result<ReinforceRun> {
    if !run.filter_adapter.as_os_str().is_empty() {
        run.filter_adapter = hub::adapter_folder(&run.filter_adapter)?;
    }
    if let Init::Adapter(named) = &mut run.training.init {
        *named = hub::adapter_folder(named)?;
    }
    Ok(run)
}

/// The model that a run trains. Its adapters are looked at before the model is read.
fn policy_of(run: &ReinforceRun) -> anyhow::Result<Policy> {
    let model = model_folder(Some(&run.model))?;
    for adapter in adapters_of(run) {
        foresee_adapter(adapter, &model)?;
    }
    load_policy(&model)
}

/// The questions that a supervised run learns from, and those that its checkpoints are chosen by.
fn questions_of(run: &SftRun) -> anyhow::Result<Questions> {
    if !run.phases.is_empty() {
        return Ok(Questions { train: Vec::new(), dev: atlas_dev(run.data.dev_questions) });
    }
    let dev_questions = match run.stage {
        StageName::Filter => run.data.calibration_questions,
        StageName::Rank => run.data.dev_questions,
    };
    questions(&run.data, dev_questions)
}

/// What each run of a chain will take. All have the model of the first, as far as shapes go.
fn predicted_each(file: &Path) -> anyhow::Result<Value> {
    let chain = SftRun::read_chain(file)?;
    let model = model_folder(chain.first().map(|run| &*run.model))?;
    let mut told = Vec::new();
    for run in chain {
        let mut one = predict::supervised(&model, &run, &questions_of(&run)?)?;
        one["out"] = run.out.display().to_string().into();
        told.push(one);
    }
    Ok(match told.len() {
        1 => told.remove(0),
        _ => Value::Array(told),
    })
}

/// Does one run after the other, each with the model of the one before.
fn supervise_each(chain: Vec<SftRun>, stop: &AtomicBool) -> anyhow::Result<Option<PathBuf>> {
    let mut published: Option<PathBuf> = None;
    for mut run in chain {
        if let Some(model) = published {
            run.model = model;
        }
        let questions = questions_of(&run)?;
        let model = model_folder(Some(&run.model))?;
        let policy = match run.training.lora {
            Some(_) => load_policy(&model)?,
            None => load_trainable(&model)?,
        };
        published = supervise(&run, &policy, &questions, stop)?;
        if published.is_none() {
            break;
        }
    }
    Ok(published)
}

/// The questions that a run file names, with at most so many dev questions; 0 is all.
///
/// # Errors
///
/// When the file names no data set or it cannot be read.
pub(crate) fn questions(data: &DataSettings, dev_questions: usize) -> anyhow::Result<Questions> {
    ensure!(
        !data.folder.as_os_str().is_empty(),
        "the run file names no data set: `data.folder` is missing"
    );
    let of = |(dataset, folder): (DatasetName, &Path), split: SplitName, most| {
        let loaded = dataset::load(dataset, folder, split, Pool::Split, false)?;
        let examples = first(&loaded.examples, most);
        let examples = degraded(&data.degrade, 0, examples, &loaded.examples);
        let examples: Vec<Example> = match data.hide {
            None => examples,
            Some(hide) => examples.iter().map(|example| hide.of(example)).collect(),
        };
        anyhow::Ok(examples)
    };
    let trained = (data.dataset, &*data.folder);
    let dev = match &data.dev_folder {
        Some(folder) => (data.dev_dataset.unwrap_or(data.dataset), &**folder),
        None => trained,
    };
    let hint = "checkpoints and thresholds are chosen by dev questions: `data.dev_folder` (and \
                `data.dev_dataset`) may name another data set that has some";
    Ok(Questions {
        train: of(trained, data.split, data.questions)?,
        dev: of(dev, data.dev_split, dev_questions).context(hint)?,
    })
}

fn atlas_dev(count: usize) -> Vec<Example> {
    let options = AtlasOptions::default();
    let example = |index| atlas::example(DEV_ATLAS_SEED, NameSplit::Dev, index, &options);
    (0..count as u64).map(example).collect()
}
