//! A matrix of variants: each is one key over one base run file, trained with several seeds.
//!
//! What is trained lies in folders that are named by everything that decides it, so that variants
//! share a stage where they do not differ in it, and a matrix goes on where it was stopped: what
//! is there is not made again.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use mmrag_core::Example;
use mmrag_data::Degrade;
use mmrag_rag::{LabelOrder, OrderBy};
use mmrag_task::StageName;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::answerer::AnswerArgs;
use crate::dataset::SplitName;
use crate::hexadecimal::hexadecimal;
use crate::overlay::RunFile;
use crate::settings::{DataSettings, Preset, ReinforceRun, SftRun};

/// The variant that is the base itself.
pub(crate) const BASE: &str = "base";

/// How stages are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Training {
    /// By reinforcement.
    Reinforce,
    /// From right replies to the same questions.
    Sft,
    /// Not at all: the model as it is.
    None,
}

/// What the trained stages answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestSettings {
    /// The part of the data set.
    pub(crate) split: SplitName,
    /// The most questions; 0 is all.
    pub(crate) questions: usize,
    /// How documents are made worse, such as `["blur=0.5"]`.
    pub(crate) degrade: Vec<Degrade>,
}

/// One cell of the matrix: both stages and what they answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CellSettings {
    /// How stage 1 is trained.
    pub(crate) stage1: Training,
    /// Whether its verdicts drop documents, in stage 2's training and in answering.
    pub(crate) use_filter: bool,
    /// How stage 2 is trained.
    pub(crate) stage2: Training,
    /// Stage 1 by reinforcement.
    pub(crate) filter: ReinforceRun,
    /// Stage 2 by reinforcement.
    pub(crate) rank: ReinforceRun,
    /// Stage 1 from right replies.
    pub(crate) filter_sft: SftRun,
    /// Stage 2 from right replies.
    pub(crate) rank_sft: SftRun,
    /// How questions are answered.
    pub(crate) answer: AnswerArgs,
    /// Which questions.
    pub(crate) test: TestSettings,
    /// Whose order is told: `filter` is stage 1's, and then stage 2 is not paid for its own
    /// (documents are judged one by one alone). That of the ranker if absent.
    pub(crate) order_by: Option<OrderBy>,
    /// In place of a filter: so many candidates stay, those that BM25 finds best.
    pub(crate) bm25_top_k: Option<usize>,
    /// What stage 2's reinforcement begins with in place of `rank.training.init`.
    pub(crate) cold_start: Option<ColdStart>,
    /// Where the gold documents stand among those that the ranker is shown in the test. Anywhere
    /// if absent.
    pub(crate) gold_at: Option<GoldAt>,
}

/// What reinforcement begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ColdStart {
    /// The adapter that `rank_sft` trains on right replies to the same questions.
    Sft,
}

/// A place among the documents that are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GoldAt {
    /// Before all others.
    First,
    /// After all others.
    Last,
}

impl GoldAt {
    /// The example with its gold documents in that place; else the order stays.
    pub(crate) fn of(self, example: &Example) -> Example {
        let mut candidates = example.candidates.clone();
        candidates.sort_by_key(|document| {
            example.gold.documents.contains(&document.id) == (self == Self::Last)
        });
        Example { candidates, ..example.clone() }
    }
}

impl CellSettings {
    /// The settings with what follows from one another.
    fn settled(mut self) -> Self {
        if self.order_by == Some(OrderBy::Filter) {
            self.answer.order = OrderBy::Filter;
            self.rank.rubric.weights.rank = 0.0;
        }
        if self.bm25_top_k.is_some() {
            self.use_filter = false;
        }
        if self.gold_at.is_some() {
            self.answer.labels = LabelOrder::Retrieved;
        }
        self
    }
}

/// A variant: the base with one key changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VariantSettings {
    /// Its name in files and tables.
    pub(crate) name: String,
    /// What it is, in a few words.
    #[serde(default)]
    pub(crate) about: String,
    /// The key, such as `rank.reasoning`.
    pub(crate) key: String,
    /// Its value in this variant.
    pub(crate) value: Value,
}

/// The run file of a matrix.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MatrixRun {
    /// What is not said is as this preset says.
    pub(crate) preset: Preset,
    /// The folder of everything.
    pub(crate) out: PathBuf,
    /// The model that training begins with: a folder, or `ORG/NAME[@REV]` on the hub; the built-in
    /// small model if empty.
    pub(crate) model: PathBuf,
    /// The seeds of every training.
    pub(crate) seeds: Vec<u64>,
    /// The questions to train on and to choose by, for all stages.
    pub(crate) data: DataSettings,
    /// What the base is.
    pub(crate) base: CellSettings,
    /// What differs from it.
    pub(crate) variants: Vec<VariantSettings>,
}

/// A variant with its settings as resolved.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    /// Its name.
    pub(crate) name: String,
    /// What it is.
    pub(crate) about: String,
    /// Its settings.
    pub(crate) cell: CellSettings,
}

impl MatrixRun {
    /// Reads the run file of a matrix.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or says something that is not known; file, line and key are
    /// named.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("failed to read the run file {}", path.display()))?;
        let file = RunFile::new(path, text);
        let preset = file
            .key("preset")
            .map_or(Ok(Preset::Robust), |value| Ok::<_, anyhow::Error>(value?))?;
        let mut run: Self = file.over(&Self::preset(preset)?)?;
        let place = path.display();
        ensure!(!run.out.as_os_str().is_empty(), "{place}: it names no folder, `out` is missing");
        ensure!(!run.seeds.is_empty(), "{place}: there is no seed");
        ensure!(
            !run.data.folder.as_os_str().is_empty(),
            "{place}: it names no data set, `data.folder` is missing"
        );
        run.fill();
        Ok(run)
    }

    fn preset(preset: Preset) -> anyhow::Result<Self> {
        let sft = |stage| SftRun { stage, ..SftRun::preset(preset) };
        Ok(Self {
            preset,
            out: PathBuf::new(),
            model: PathBuf::new(),
            seeds: vec![1, 2, 3],
            data: DataSettings::default(),
            base: CellSettings {
                stage1: Training::Reinforce,
                use_filter: true,
                stage2: Training::Reinforce,
                filter: ReinforceRun::preset(preset, StageName::Filter)?,
                rank: ReinforceRun::preset(preset, StageName::Rank)?,
                filter_sft: sft(StageName::Filter),
                rank_sft: sft(StageName::Rank),
                answer: AnswerArgs::default(),
                test: TestSettings { split: SplitName::Test, questions: 0, degrade: Vec::new() },
                order_by: None,
                bm25_top_k: None,
                cold_start: None,
                gold_at: None,
            },
            variants: Vec::new(),
        })
    }

    /// What all stages share stands once in the file.
    fn fill(&mut self) {
        let Self { base, data, model, .. } = self;
        for stage in [&mut base.filter, &mut base.rank] {
            stage.data = data.clone();
            stage.model.clone_from(model);
        }
        for stage in [&mut base.filter_sft, &mut base.rank_sft] {
            stage.data = data.clone();
            stage.model.clone_from(model);
        }
        base.answer.model = (!model.as_os_str().is_empty()).then(|| model.clone());
    }

    /// The base and every variant, each with one key of the base changed.
    ///
    /// # Errors
    ///
    /// When a name stands twice or a key is not known.
    pub(crate) fn resolved(&self) -> anyhow::Result<Vec<Resolved>> {
        let about = "both stages as the run file says".to_owned();
        let base = self.base.clone().settled();
        let mut all = vec![Resolved { name: BASE.to_owned(), about, cell: base }];
        for VariantSettings { name, about, key, value } in &self.variants {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
            ensure!(
                !name.is_empty() && name.chars().all(is_plain),
                "the variant {name:?}: a name has letters, digits, `_`, `-` and `.` alone"
            );
            ensure!(
                all.iter().all(|known| known.name != *name),
                "the variant {name} stands twice, or is called as the base is"
            );
            let value: toml::Value = serde_json::from_value(value.clone())
                .with_context(|| format!("failed to read the value of variant {name}"))?;
            let file = RunFile::new(Path::new(name), format!("{key} = {value}\n"));
            let cell: CellSettings = file.over(&self.base).context("failed to make a variant")?;
            let about = if about.is_empty() { format!("{key} = {value}") } else { about.clone() };
            all.push(Resolved { name: name.clone(), about, cell: cell.settled() });
        }
        Ok(all)
    }
}

/// A name for all that decides a training: its settings without the place it is written to.
///
/// # Errors
///
/// When the settings cannot be written as JSON.
pub(crate) fn training_name(settings: &impl Serialize) -> anyhow::Result<String> {
    let mut settings = serde_json::to_value(settings)?;
    if let Some(object) = settings.as_object_mut() {
        object.shift_remove("out");
    }
    let hash = Sha256::digest(settings.to_string());
    Ok(hexadecimal(&hash[..6]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<MatrixRun> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ablate.toml");
        std::fs::write(&path, text).unwrap();
        MatrixRun::read(&path)
    }

    const BEGIN: &str = "preset = 'demo'\nout = 'x'\n[data]\nfolder = 'atlas'\nquestions = 5\n";

    #[test]
    fn a_variant_is_the_base_with_one_key_changed() {
        let variants = "[base.rank.training]\nsteps = 3\n\
            [[variants]]\nname = 'no_reasoning'\nkey = 'rank.reasoning'\nvalue = false\n\
            [[variants]]\nname = 'g16'\nkey = 'rank.training.rollout.group_size'\nvalue = 16\n\
            [[variants]]\nname = 'blur'\nkey = 'test.degrade'\nvalue = ['blur=0.5']\n";
        let all = read(&format!("{BEGIN}{variants}")).unwrap().resolved().unwrap();
        let [base, no_reasoning, g16, blur] = &all[..] else { panic!("{}", all.len()) };
        assert!(base.cell.rank.reasoning && !no_reasoning.cell.rank.reasoning);
        assert_eq!(g16.cell.rank.training.rollout.group_size, 16);
        assert_eq!(blur.cell.test.degrade[0].to_string(), "blur=0.5");
        assert_eq!(no_reasoning.about, "rank.reasoning = false");
        for cell in [&base.cell, &no_reasoning.cell, &blur.cell] {
            assert_eq!(cell.rank.training.steps, Some(3));
            assert_eq!(cell.rank.data.questions, 5);
            let name = |cell: &CellSettings| training_name(&cell.filter).unwrap();
            assert_eq!(name(cell), name(&base.cell));
        }
        let rank = |resolved: &Resolved| training_name(&resolved.cell.rank).unwrap();
        assert_eq!(rank(base), rank(blur));
        assert_ne!(rank(base), rank(no_reasoning));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |variants: &str| {
            let run = read(&format!("{BEGIN}{variants}"));
            format!("{:#}", run.and_then(|run| run.resolved().map(|_| ())).unwrap_err())
        };
        let variant = |name: &str, key: &str| {
            format!("[[variants]]\nname = '{name}'\nkey = '{key}'\nvalue = 1\n")
        };
        let unknown = error(&variant("a", "rank.reasonin"));
        assert!(unknown.contains("did you mean `reasoning`"), "{unknown}");
        assert!(error(&variant("base", "rank.keep.k_min")).contains("stands twice"));
        assert!(error(&variant("a/b", "rank.keep.k_min")).contains("letters"));
        assert!(error("[[variants]]\nname = 'x'\n").contains("key"));
        let missing = format!("{:#}", read("preset = 'demo'\nout = 'x'\n").unwrap_err());
        assert!(missing.contains("data.folder"), "{missing}");
    }
}
