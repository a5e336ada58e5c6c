//! Run files become settings here, once. Below this room nobody sees a file or a flag.
//!
//! A run file names a preset and says what differs from it. Paths in it are relative to the folder
//! the command is called in, `after` aside: it is relative to the run file.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use mmrag_data::{Degrade, Hide};
use mmrag_task::{PromptStyle, Rubric, StageName};
use mmrag_train::{GrpoSettings, SftSettings};
use serde::{Deserialize, Serialize};

use crate::dataset::{DatasetName, SplitName};
use crate::lessons::Phase;
use crate::overlay::RunFile;

/// A named set of defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Preset {
    /// Only what the paper's abstract forces.
    PaperLike,
    /// Our choices for real models.
    Robust,
    /// For the built-in small model.
    Demo,
    /// Supervised only: all weights of a small model, from nothing.
    FromScratch,
}

/// Where questions to train on and to choose by come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DataSettings {
    /// The form of its files: `multimodalqa` (the atlas's too), `webqa`, `vqa2`, `textvqa` or
    /// `jsonl`.
    pub(crate) dataset: DatasetName,
    /// The folder of the data set.
    pub(crate) folder: PathBuf,
    /// The part that is trained on.
    pub(crate) split: SplitName,
    /// The most questions that are trained on; 0 is all.
    pub(crate) questions: usize,
    /// The part that checkpoints and thresholds are chosen by.
    pub(crate) dev_split: SplitName,
    /// The folder of another data set that has that part: for examples that have none of their own,
    /// such as people's feedback.
    pub(crate) dev_folder: Option<PathBuf>,
    /// The form of its files; that of the data set if absent.
    pub(crate) dev_dataset: Option<DatasetName>,
    /// The most questions that a checkpoint is chosen by; 0 is all.
    pub(crate) dev_questions: usize,
    /// The most questions that the filter's threshold is chosen by; 0 is all.
    pub(crate) calibration_questions: usize,
    /// What the policy is not shown of the documents, to measure what it can do without:
    /// `documents`, `contents` or `pictures`. Nothing is hidden if absent.
    pub(crate) hide: Option<Hide>,
    /// How documents are made worse, such as `["blur=0.5"]`, to train and to choose by.
    pub(crate) degrade: Vec<Degrade>,
}

impl Default for DataSettings {
    fn default() -> Self {
        Self {
            dataset: DatasetName::Multimodalqa,
            folder: PathBuf::new(),
            split: SplitName::Train,
            questions: 0,
            dev_split: SplitName::Dev,
            dev_folder: None,
            dev_dataset: None,
            dev_questions: 200,
            calibration_questions: 0,
            hide: None,
            degrade: Vec::new(),
        }
    }
}

/// What the filter keeps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeepSettings {
    /// The threshold is the largest that keeps every gold document for this share of questions.
    pub(crate) share: f64,
    /// At least so many candidates stay.
    pub(crate) k_min: usize,
    /// At most so many candidates stay.
    pub(crate) k_max: usize,
}

impl KeepSettings {
    /// At most ten candidates stay; of the small model's short documents as many as there are.
    fn of(preset: Preset) -> Self {
        let k_max = if preset == Preset::Demo { 15 } else { 10 };
        Self { share: 0.99, k_min: 2, k_max }
    }
}

/// One run of reinforcement, of either stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReinforceRun {
    /// What is not said is as this preset says.
    pub(crate) preset: Preset,
    /// The base model: a folder, or `ORG/NAME[@REV]` on the hub; the built-in small model if empty.
    pub(crate) model: PathBuf,
    /// The run's folder.
    pub(crate) out: PathBuf,
    /// The wording of the prompts.
    pub(crate) prompts: PromptStyle,
    /// Whether the policy reasons before it ranks, or before the filter's verdict. A filter that
    /// reasons needs the sampled estimator, longer replies and no mined negatives.
    pub(crate) reasoning: bool,
    /// Rank: the adapter of a trained filter; its verdicts decide which documents are shown. All
    /// are shown if empty.
    pub(crate) filter_adapter: PathBuf,
    /// The questions.
    pub(crate) data: DataSettings,
    /// Filter: what it is to keep after training.
    pub(crate) keep: KeepSettings,
    /// How replies are judged.
    pub(crate) rubric: Rubric,
    /// How the policy is trained.
    pub(crate) training: GrpoSettings,
}

/// One run of supervised fine-tuning: on composed lessons if there are phases, else on the right
/// replies of a stage to a data set's questions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SftRun {
    /// What is not said is as this preset says.
    pub(crate) preset: Preset,
    /// A run file, its place as seen from this one, that is done first: this run begins with the
    /// model that it trains, in place of `model`.
    pub(crate) after: PathBuf,
    /// The model that training begins with: a folder, or `ORG/NAME[@REV]` on the hub; the built-in
    /// small model if empty.
    pub(crate) model: PathBuf,
    /// The run's folder.
    pub(crate) out: PathBuf,
    /// The wording of the prompts.
    pub(crate) prompts: PromptStyle,
    /// Lessons composed from the atlas, phase after phase.
    pub(crate) phases: Vec<Phase>,
    /// Without phases: whose replies are learned.
    pub(crate) stage: StageName,
    /// Without phases, rank: whether the policy reasons before it ranks.
    pub(crate) reasoning: bool,
    /// Without phases, rank: the adapter of a trained filter, as for reinforcement.
    pub(crate) filter_adapter: PathBuf,
    /// Without phases: the questions.
    pub(crate) data: DataSettings,
    /// Without phases, filter: what its adapter is to keep after training.
    pub(crate) keep: KeepSettings,
    /// How the policy is trained.
    pub(crate) training: SftSettings,
}

impl ReinforceRun {
    /// Reads a run file for a stage.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or says something that is not known; file, line and key are
    /// named.
    pub(crate) fn read(path: &Path, stage: StageName) -> anyhow::Result<Self> {
        let file = read(path)?;
        let preset = preset_of(&file, Preset::Robust)?;
        Ok(file.over(&Self::preset(preset, stage)?)?)
    }

    /// The preset of a stage.
    ///
    /// # Errors
    ///
    /// When the preset is for supervised training.
    pub(crate) fn preset(preset: Preset, stage: StageName) -> anyhow::Result<Self> {
        let (rubric, training) = match preset {
            Preset::PaperLike => (Rubric::paper_like(stage), GrpoSettings::paper_like(stage)),
            Preset::Robust => (Rubric::robust(stage), GrpoSettings::robust(stage)),
            Preset::Demo => (Rubric::demo(stage), GrpoSettings::demo(stage)),
            Preset::FromScratch => {
                anyhow::bail!("preset from_scratch is for `mmrag train sft` alone")
            }
        };
        Ok(Self {
            preset,
            model: PathBuf::new(),
            out: PathBuf::new(),
            prompts: prompts_of(preset),
            reasoning: stage == StageName::Rank,
            filter_adapter: PathBuf::new(),
            data: DataSettings::default(),
            keep: KeepSettings::of(preset),
            rubric,
            training,
        })
    }
}

impl SftRun {
    /// Reads a run file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or says something that is not known; file, line and key are
    /// named.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let file = read(path)?;
        let preset = preset_of(&file, Preset::Robust)?;
        Ok(file.over(&Self::preset(preset))?)
    }

    /// Reads a run file and all that it comes after, the first to be done first.
    ///
    /// # Errors
    ///
    /// When one of them cannot be read, names no folder of its own or a model besides, comes after
    /// itself, or comes after a run that trains an adapter.
    pub(crate) fn read_chain(path: &Path) -> anyhow::Result<Vec<Self>> {
        let mut place = path.to_path_buf();
        let (mut seen, mut chain) = (Vec::new(), Vec::<Self>::new());
        loop {
            let run = Self::read(&place)?;
            let file = place.display();
            let known = std::fs::canonicalize(&place)?;
            ensure!(!seen.contains(&known), "failed to begin {file}: it comes after itself");
            ensure!(
                chain.is_empty() || !run.out.as_os_str().is_empty(),
                "failed to go on after {file}: it names no run folder, `out` is missing"
            );
            ensure!(
                chain.iter().all(|other| other.out != run.out),
                "failed to begin {file}: `out` is the run folder of a run that comes after it"
            );
            ensure!(
                chain.is_empty() || run.training.lora.is_none(),
                "failed to go on after {file}: it trains an adapter, not a model"
            );
            seen.push(known);
            let after = run.after.clone();
            chain.push(run);
            if after.as_os_str().is_empty() {
                chain.reverse();
                return Ok(chain);
            }
            ensure!(
                chain.last().is_some_and(|run| run.model.as_os_str().is_empty()),
                "failed to begin {file}: it names both a run that it comes `after` and a `model`"
            );
            place = place.parent().unwrap_or(Path::new("")).join(after);
        }
    }

    /// The preset. `paper_like` is `robust`: the paper's abstract says nothing of supervision.
    pub(crate) fn preset(preset: Preset) -> Self {
        let training = match preset {
            Preset::PaperLike | Preset::Robust => SftSettings::robust(),
            Preset::Demo => SftSettings::demo(),
            Preset::FromScratch => SftSettings::from_scratch(),
        };
        Self {
            preset,
            after: PathBuf::new(),
            model: PathBuf::new(),
            out: PathBuf::new(),
            prompts: prompts_of(preset),
            phases: Vec::new(),
            stage: StageName::Rank,
            reasoning: true,
            filter_adapter: PathBuf::new(),
            data: DataSettings::default(),
            keep: KeepSettings::of(preset),
            training,
        }
    }
}

fn prompts_of(preset: Preset) -> PromptStyle {
    match preset {
        Preset::PaperLike | Preset::Robust => PromptStyle::Standard,
        Preset::Demo | Preset::FromScratch => PromptStyle::Compact,
    }
}

fn read(path: &Path) -> anyhow::Result<RunFile> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("failed to read the run file {}", path.display()))?;
    Ok(RunFile::new(path, text))
}

/// The preset the file names, read before all else since it decides what the rest lies over.
fn preset_of(file: &RunFile, default: Preset) -> anyhow::Result<Preset> {
    file.key("preset").map_or(Ok(default), |value| Ok(value?))
}

#[cfg(test)]
mod tests {
    use mmrag_task::StageName;

    use super::{Preset, ReinforceRun, SftRun};

    fn file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.toml");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn a_run_file_lies_over_its_preset() {
        let text = "preset = 'demo'\nout = 'x'\n[training]\nseed = 7\n[training.lora]\nr = 4\n";
        let (_folder, path) = file(text);
        let run = ReinforceRun::read(&path, StageName::Rank).unwrap();
        let mut expected = ReinforceRun::preset(Preset::Demo, StageName::Rank).unwrap();
        expected.out = "x".into();
        expected.training.seed = 7;
        expected.training.lora.r = 4;
        assert_eq!(run, expected);
    }

    #[track_caller]
    fn check_error(text: &str, parts: &[&str]) {
        let (_folder, path) = file(text);
        let error = format!("{:#}", ReinforceRun::read(&path, StageName::Filter).unwrap_err());
        for part in parts {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn errors_name_line_and_key() {
        check_error("preset = 'robst'", &["run.toml:1", "`preset`", "robust"]);
        check_error(
            "[training]\nlearning_rate = 1",
            &["run.toml:2: unknown key `training.learning_rate`", "known here: seed"],
        );
        check_error("[training.schedule]\nwarmpu = 1", &["did you mean `warmup`?"]);
        check_error("preset = 'from_scratch'", &["train sft"]);
    }

    #[test]
    fn a_run_comes_after_another_and_not_after_itself() {
        let (folder, path) = file("out = 'b'\nafter = 'first.toml'\n[training]\nseed = 2");
        let first = |text: &str| std::fs::write(folder.path().join("first.toml"), text).unwrap();
        let error = || format!("{:#}", SftRun::read_chain(&path).unwrap_err());
        assert!(error().contains("first.toml"), "{}", error());
        first("out = 'a'\nmodel = 'm'\npreset = 'from_scratch'");
        let chain = SftRun::read_chain(&path).unwrap();
        let outs: Vec<_> = chain.iter().map(|run| run.out.to_str().unwrap()).collect();
        assert_eq!(outs, ["a", "b"]);
        first("out = 'a'\nafter = 'run.toml'\npreset = 'from_scratch'");
        assert!(error().contains("after itself"), "{}", error());
        first("out = 'a'\npreset = 'demo'");
        assert!(error().contains("adapter"), "{}", error());
        std::fs::write(&path, "after = 'first.toml'\nmodel = 'm'").unwrap();
        assert!(error().contains("`model`"), "{}", error());
        std::fs::write(&path, "after = 'first.toml'\nout = 'a'").unwrap();
        first("out = 'a'\npreset = 'from_scratch'");
        assert!(error().contains("`out` is the run folder"), "{}", error());
        first("preset = 'from_scratch'");
        assert!(error().contains("`out` is missing"), "{}", error());
    }

    #[test]
    fn the_run_files_in_the_repository_are_valid() {
        let runs = concat!(env!("CARGO_MANIFEST_DIR"), "/runs");
        let run = |name: &str| std::path::Path::new(runs).join(name);
        let chain = SftRun::read_chain(&run("small.toml")).unwrap();
        assert!(chain.len() > 1 && chain.iter().all(|run| !run.phases.is_empty()));
        ReinforceRun::read(&run("filter.toml"), StageName::Filter).unwrap();
        ReinforceRun::read(&run("rank.toml"), StageName::Rank).unwrap();
        let matrix = crate::ablation::MatrixRun::read(&run("ablate.toml")).unwrap();
        assert_eq!(matrix.resolved().unwrap().len(), 28);
    }
}
