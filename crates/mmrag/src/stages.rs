//! Training of the stages on questions that are given: from settings to a folder to use.
//!
//! Each function goes on where its run folder stands, and gives nothing if it was stopped.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, bail, ensure};
use mmrag_core::{Example, Sampling};
use mmrag_model::{ALL_TARGETS, Adapter, LoraSpec, Policy};
use mmrag_task::{FilterMode, Stage, StageName};
use mmrag_train::{
    Evaluate, Init, Lessons, LoraSettings, Outcome, Pupil, Run, RunFolder, train_grpo, train_sft,
};

use crate::calibrate;
use crate::dev::{FilterDev, RankDev};
use crate::lessons::{Demonstrations, LessonPlan};
use crate::loading::{load_adapter, model_folder, reply_tokens};
use crate::notes::Notes;
use crate::settings::{KeepSettings, ReinforceRun, SftRun};
use crate::training::{Teller, publish};
use crate::weights;

/// Dev questions that a ranker's confidence is calibrated on, at most.
pub(crate) const CONFIDENCE_QUESTIONS: usize = 256;

/// What a stage is trained on and chosen by.
pub(crate) struct Questions {
    /// To train on.
    pub(crate) train: Vec<Example>,
    /// To choose checkpoints and thresholds by.
    pub(crate) dev: Vec<Example>,
}

/// Stage 1: trains the filter's adapter, then calibrates on all dev questions what it keeps.
///
/// # Errors
///
/// When the training fails or its folder cannot be written.
pub(crate) fn train_filter(
    run: &ReinforceRun,
    policy: &Policy,
    questions: &Questions,
    stop: &AtomicBool,
) -> anyhow::Result<Option<PathBuf>> {
    let folder = open_run(&run.out, run, &run.model, &adapters_of(run))?;
    if let Some(place) = published(&run.out.join("adapter")) {
        return Ok(Some(place));
    }
    let stage = stage_of(run, StageName::Filter);
    let few = first(&questions.dev, run.data.dev_questions);
    let mut evaluate = FilterDev::new(stage.clone(), few.to_vec());
    let adapter = first_adapter(run, policy)?;
    let teller = Teller::new("filter");
    let mut training =
        Run { folder: &folder, evaluate: Some(&mut evaluate), progress: &teller, stop };
    let pupil =
        Pupil::adapter(policy, &adapter).with_checkpointing(run.training.gradient_checkpointing);
    let outcome = train_grpo(&pupil, &stage, &questions.train, &run.training, &mut training)
        .context("failed to train the filter")?;
    let Some(weights) = best_weights(&outcome) else { return Ok(None) };
    let trained = TrainedFilter { stage: &stage, weights: &weights, keep: run.keep };
    let reasoning = run.reasoning.then_some(true);
    let notes = Notes { prompts: run.prompts, reasoning, ..Notes::default() };
    trained.publish(&run.out.join("adapter"), notes, policy, &questions.dev, stop)
}

/// The stage that a run trains.
pub(crate) fn stage_of(run: &ReinforceRun, name: StageName) -> Stage {
    let mode = if run.reasoning { FilterMode::Think } else { FilterMode::Direct };
    let mut stage = match name {
        StageName::Filter => Stage::filter(run.prompts, mode),
        StageName::Rank => Stage::rank(run.prompts, run.reasoning),
    };
    stage.rubric = run.rubric.clone();
    stage
}

/// A filter whose threshold is not chosen yet.
struct TrainedFilter<'a> {
    stage: &'a Stage,
    weights: &'a Path,
    keep: KeepSettings,
}

impl TrainedFilter<'_> {
    /// Chooses the threshold on dev questions and puts the adapter where it is used from. Nothing
    /// if it was stopped.
    fn publish(
        &self,
        place: &Path,
        notes: Notes,
        policy: &Policy,
        dev: &[Example],
        stop: &AtomicBool,
    ) -> anyhow::Result<Option<PathBuf>> {
        let adapter = load_adapter(self.weights, policy)?;
        let engine = policy.with(Some(&adapter));
        let verdicts = calibrate::verdicts(&engine, self.stage, dev, "calibrate", stop)?;
        if verdicts.len() < dev.len() {
            return Ok(None);
        }
        let keep = calibrate::calibrated(&self.keep, dev, &verdicts);
        let shares = calibrate::shares(keep, dev, &verdicts);
        eprintln!(
            "filter: threshold {:.4} on {} dev questions keeps every gold document for {:.1} % of \
         them and drops {:.1} % of the others",
            keep.threshold,
            dev.len(),
            100.0 * shares.gold_kept,
            100.0 * shares.distractors_dropped,
        );
        if shares.gold_kept < self.keep.share {
            eprintln!(
                "filter: {:.1} % were asked for, but no more than `keep.k_max` = {} documents of a \
                 question are kept",
                100.0 * self.keep.share,
                self.keep.k_max,
            );
        }
        let dropped = Some(shares.distractors_dropped);
        publish(self.weights, place, &Notes { keep: Some(keep), dropped, ..notes }).map(Some)
    }
}

/// Stage 2: trains the ranker's adapter on what the run's filter keeps.
///
/// # Errors
///
/// When the training fails or its folder cannot be written.
pub(crate) fn train_ranker(
    run: &ReinforceRun,
    policy: &Policy,
    questions: &Questions,
    stop: &AtomicBool,
) -> anyhow::Result<Option<PathBuf>> {
    let folder = open_run(&run.out, run, &run.model, &adapters_of(run))?;
    if let Some(place) = published(&run.out.join("adapter")) {
        return Ok(Some(place));
    }
    let stage = stage_of(run, StageName::Rank);
    let filter = &run.filter_adapter;
    let few = run.data.dev_questions;
    let Some(Questions { train, dev }) = all_filtered(filter, policy, questions, few, stop)? else {
        return Ok(None);
    };
    let max_new_tokens = run.training.rollout.max_completion_tokens;
    let mut evaluate = RankDev::new(stage.clone(), &dev, max_new_tokens);
    let adapter = first_adapter(run, policy)?;
    let teller = Teller::new("rank");
    let mut training =
        Run { folder: &folder, evaluate: Some(&mut evaluate), progress: &teller, stop };
    let pupil =
        Pupil::adapter(policy, &adapter).with_checkpointing(run.training.gradient_checkpointing);
    let outcome = train_grpo(&pupil, &stage, &train, &run.training, &mut training)
        .context("failed to train the ranker")?;
    let Some(weights) = best_weights(&outcome) else { return Ok(None) };
    let adapter = load_adapter(&weights, policy)?;
    let engine = policy.with(Some(&adapter));
    let asked = first(&questions.dev, CONFIDENCE_QUESTIONS);
    let Some(asked) = filtered(filter, policy, asked, "filter dev", stop)? else {
        return Ok(None);
    };
    let sampling = Sampling::greedy(max_new_tokens);
    let confidence = calibrate::confidence(&engine, &stage, &asked, &sampling, stop)?;
    let Some(confidence) = confidence else { return Ok(None) };
    let notes = Notes {
        prompts: run.prompts,
        reasoning: Some(run.reasoning),
        confidence: Some(confidence),
        ..Notes::default()
    };
    publish(&weights, &run.out.join("adapter"), &notes).map(Some)
}

/// All train questions and a few of dev, each [`filtered`]. Nothing if it was stopped.
fn all_filtered(
    filter_adapter: &Path,
    policy: &Policy,
    questions: &Questions,
    dev_questions: usize,
    stop: &AtomicBool,
) -> anyhow::Result<Option<Questions>> {
    let few = first(&questions.dev, dev_questions);
    let train = filtered(filter_adapter, policy, &questions.train, "filter train", stop)?;
    let dev = filtered(filter_adapter, policy, few, "filter dev", stop)?;
    Ok(train.zip(dev).map(|(train, dev)| Questions { train, dev }))
}

/// The examples with what a filter keeps, and every gold document; all of it if there is no
/// filter. Nothing if it was stopped.
fn filtered(
    filter_adapter: &Path,
    policy: &Policy,
    examples: &[Example],
    title: &str,
    stop: &AtomicBool,
) -> anyhow::Result<Option<Vec<Example>>> {
    if filter_adapter.as_os_str().is_empty() {
        return Ok(Some(examples.to_vec()));
    }
    let notes = Notes::of(filter_adapter)?;
    let keep = notes.keep.with_context(|| {
        format!("failed to find what the filter {} keeps", filter_adapter.display())
    })?;
    let adapter = load_adapter(filter_adapter, policy)?;
    let stage = Stage::filter(notes.prompts, notes.filter_mode());
    let engine = policy.with(Some(&adapter));
    let verdicts = calibrate::verdicts(&engine, &stage, examples, title, stop)?;
    let is_whole = verdicts.len() == examples.len();
    Ok(is_whole.then(|| calibrate::kept(keep, examples, &verdicts)))
}

/// Supervised training, of an adapter or of all weights: on the run's composed lessons, else on
/// the right replies to the questions: of a ranker over what the run's filter keeps, of a filter
/// with its threshold chosen on all dev questions, as in reinforcement.
///
/// # Errors
///
/// When the training fails or its folder cannot be written.
pub(crate) fn supervise(
    run: &SftRun,
    policy: &Policy,
    questions: &Questions,
    stop: &AtomicBool,
) -> anyhow::Result<Option<PathBuf>> {
    let filter: Vec<&Path> = given(&run.filter_adapter).into_iter().collect();
    let folder = open_run(&run.out, run, &run.model, &filter)?;
    let name = if run.training.lora.is_some() { "adapter" } else { "model" };
    if let Some(place) = published(&run.out.join(name)) {
        return Ok(Some(place));
    }
    let stage = stage_to_learn(run);
    let seed = run.training.seed;
    let is_composed = !run.phases.is_empty();
    let filter = &run.filter_adapter;
    ensure!(
        filter.as_os_str().is_empty() || run.stage == StageName::Rank && !is_composed,
        "`filter_adapter` is for stage \"rank\" on a data set's questions alone"
    );
    let few = run.data.dev_questions;
    let Some(Questions { train, dev }) = all_filtered(filter, policy, questions, few, stop)? else {
        return Ok(None);
    };
    let lessons = lessons_of(run, train);
    let adapter = run.training.lora.as_ref();
    let adapter = adapter.map(|lora| adapter_to_train(policy, lora, seed)).transpose()?;
    let mut evaluate: Box<dyn Evaluate<Pupil<'_>>> = match run.stage {
        StageName::Filter => Box::new(FilterDev::new(stage.clone(), dev)),
        StageName::Rank => Box::new(RankDev::new(stage.clone(), &dev, reply_tokens(run.prompts))),
    };
    let pupil = adapter
        .as_ref()
        .map_or(Pupil::full(policy), |adapter| Pupil::adapter(policy, adapter))
        .with_checkpointing(run.training.gradient_checkpointing);
    let teller = Teller::new("sft");
    let mut training =
        Run { folder: &folder, evaluate: Some(&mut *evaluate), progress: &teller, stop };
    let outcome = train_sft(&pupil, &*lessons, &run.training, &mut training)
        .context("failed to train on lessons")?;
    // Of a whole model the last weights, not the best on a few dev questions: its training is one
    // schedule from the first lesson to the last.
    let weights = if adapter.is_some() { best_weights(&outcome) } else { last_weights(&outcome) };
    let Some(weights) = weights else { return Ok(None) };
    let reasoning = (!is_composed && run.stage == StageName::Rank).then_some(run.reasoning);
    let notes = Notes { prompts: run.prompts, reasoning, ..Notes::default() };
    let place = run.out.join(name);
    if is_composed || run.stage == StageName::Rank || adapter.is_none() {
        return publish(&weights, &place, &notes).map(Some);
    }
    let trained = TrainedFilter { stage: &stage, weights: &weights, keep: run.keep };
    trained.publish(&place, notes, policy, &questions.dev, stop)
}

/// The stage whose replies a supervised run learns.
pub(crate) fn stage_to_learn(run: &SftRun) -> Stage {
    match run.stage {
        StageName::Filter => Stage::filter(run.prompts, FilterMode::Direct),
        StageName::Rank => Stage::rank(run.prompts, run.reasoning),
    }
}

/// What a supervised run learns: its composed lessons, else the right replies to the questions.
pub(crate) fn lessons_of(run: &SftRun, questions: Vec<Example>) -> Box<dyn Lessons> {
    let seed = run.training.seed;
    if run.phases.is_empty() {
        Box::new(Demonstrations::new(stage_to_learn(run), questions, seed))
    } else {
        Box::new(LessonPlan::new(seed, run.phases.clone()))
    }
}

/// The folder, if it is there: weights appear in it whole, after the last step of a run whose
/// settings the run folder holds.
fn published(place: &Path) -> Option<PathBuf> {
    place.exists().then(|| place.to_path_buf())
}

/// The adapters whose weights decide what a reinforcement comes to: the filter, if there is one,
/// and what it begins with.
pub(crate) fn adapters_of(run: &ReinforceRun) -> Vec<&Path> {
    let first = match &run.training.init {
        Init::Adapter(folder) => Some(&**folder),
        Init::Base | Init::Stage1 => None,
    };
    given(&run.filter_adapter).into_iter().chain(first).collect()
}

/// The folder that a setting names, if it names one.
fn given(folder: &Path) -> Option<&Path> {
    (!folder.as_os_str().is_empty()).then_some(folder)
}

/// Opens the folder of a run that starts from these weights.
fn open_run(
    out: &Path,
    settings: &impl serde::Serialize,
    model: &Path,
    adapters: &[&Path],
) -> anyhow::Result<RunFolder> {
    ensure!(!out.as_os_str().is_empty(), "the run file names no run folder: `out` is missing");
    let mut settings = serde_json::to_value(settings)?;
    settings["weights"] = weights::versions(&model_folder(Some(model))?, adapters)?;
    RunFolder::open(out, &settings).context("failed to open the run folder")
}

/// The adapter that reinforcement begins with.
fn first_adapter(run: &ReinforceRun, policy: &Policy) -> anyhow::Result<Adapter> {
    match &run.training.init {
        Init::Base => adapter_to_train(policy, &run.training.lora, run.training.seed),
        Init::Stage1 if given(&run.filter_adapter).is_none() => {
            bail!(
                "`training.init` is \"stage1\" and there is no stage 1: `filter_adapter` is empty"
            )
        }
        Init::Stage1 => load_adapter(&run.filter_adapter, policy),
        Init::Adapter(folder) => load_adapter(folder, policy),
    }
}

fn adapter_to_train(policy: &Policy, lora: &LoraSettings, seed: u64) -> anyhow::Result<Adapter> {
    let targets = if lora.targets.is_empty() {
        ALL_TARGETS.map(str::to_owned).to_vec()
    } else {
        lora.targets.clone()
    };
    let spec = LoraSpec { r: lora.r, alpha: lora.alpha, targets };
    Adapter::new(policy.vlm(), &spec, seed).context("failed to make an adapter")
}

/// The first `most` examples; all if that is 0.
pub(crate) fn first(examples: &[Example], most: usize) -> &[Example] {
    let most = if most == 0 { examples.len() } else { most.min(examples.len()) };
    &examples[..most]
}

fn best_weights(outcome: &Outcome) -> Option<PathBuf> {
    outcome.best_checkpoint.as_ref().filter(|_| outcome.finished).map(|path| path.join("weights"))
}

fn last_weights(outcome: &Outcome) -> Option<PathBuf> {
    outcome.last_checkpoint.as_ref().filter(|_| outcome.finished).map(|path| path.join("weights"))
}
