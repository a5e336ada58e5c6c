//! The ways of training and answering that are compared, and the training that each needs.

use std::path::{Path, PathBuf};

use mmrag_task::StageName;

use super::{Demo, World};
use crate::answerer::AnswerArgs;
use crate::settings::{Preset, ReinforceRun, SftRun};
use crate::stages::{supervise, train_filter, train_ranker};

/// A way of training and answering: a row of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VariantName {
    /// The model as it comes, over all candidates.
    Base,
    /// Stage 1, then the base answers.
    NoStage2,
    /// Stage 2 alone, trained and tested on unfiltered candidates.
    NoStage1,
    /// Both stages.
    TwoStage,
    /// Both stages, without reasoning in stage 2.
    NoReasoning,
    /// Both stages by supervised fine-tuning on the same questions.
    SftInstead,
}

impl VariantName {
    /// What a demo compares if it is to be short.
    pub(crate) const SHORT: [Self; 3] = [Self::Base, Self::NoStage2, Self::TwoStage];

    /// All.
    pub(crate) const FULL: [Self; 6] = [
        Self::Base,
        Self::NoStage2,
        Self::NoStage1,
        Self::TwoStage,
        Self::NoReasoning,
        Self::SftInstead,
    ];

    /// Its name in files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::NoStage2 => "no_stage2",
            Self::NoStage1 => "no_stage1",
            Self::TwoStage => "two_stage",
            Self::NoReasoning => "no_reasoning",
            Self::SftInstead => "sft_instead",
        }
    }

    /// What it is, in a few words.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Base => "the base model answers over all candidates",
            Self::NoStage2 => "stage 1 filters, then the base model answers",
            Self::NoStage1 => "stage 2 alone, trained and tested on unfiltered candidates",
            Self::TwoStage => "both stages by reinforcement",
            Self::NoReasoning => "both stages, without reasoning in stage 2",
            Self::SftInstead => "both stages by supervised fine-tuning on the same questions",
        }
    }

    /// The seeds it is run with: what is not trained has one run.
    pub(super) fn seeds(self, seeds: &[u64]) -> &[u64] {
        if self == Self::Base { &seeds[..seeds.len().min(1)] } else { seeds }
    }
}

/// Which variants are tested against each other: two stages against all others, and each part
/// against the base.
pub(super) fn comparisons(variants: &[VariantName]) -> Vec<(String, String)> {
    use VariantName::{Base, NoStage1, NoStage2, TwoStage};
    let pair = |a: VariantName, b: VariantName| (a.name().to_owned(), b.name().to_owned());
    let has = |variant: &VariantName| variants.contains(variant);
    let mut pairs = Vec::new();
    if has(&TwoStage) {
        let others = variants.iter().filter(|other| **other != TwoStage);
        pairs.extend(others.map(|other| pair(TwoStage, *other)));
    }
    if has(&Base) {
        let parts = [NoStage2, NoStage1].into_iter().filter(|part| has(part));
        pairs.extend(parts.map(|part| pair(part, Base)));
    }
    pairs
}

impl Demo<'_> {
    /// Trains what a variant needs, and says with what it answers. Nothing if it was stopped.
    pub(super) fn trained(
        &self,
        variant: VariantName,
        seed: u64,
        world: &World,
    ) -> anyhow::Result<Option<AnswerArgs>> {
        let (filters, reinforced) = match variant {
            VariantName::Base | VariantName::NoStage1 => (false, true),
            VariantName::SftInstead => (true, false),
            _ => (true, true),
        };
        let filter = match (filters, reinforced) {
            (false, _) => None,
            (true, true) => Some(train_filter(
                &self.filter_run(seed)?,
                &world.policy,
                &world.questions,
                self.stop,
            )?),
            (true, false) => Some(self.supervised(StageName::Filter, seed, world)?),
        };
        let rank = match variant {
            VariantName::Base | VariantName::NoStage2 => None,
            VariantName::NoStage1 => Some(self.ranker(seed, false, true, world)?),
            VariantName::TwoStage => Some(self.ranker(seed, true, true, world)?),
            VariantName::NoReasoning => Some(self.ranker(seed, true, false, world)?),
            VariantName::SftInstead => Some(self.supervised(StageName::Rank, seed, world)?),
        };
        // A stage that was asked for and is not there was stopped.
        let is_stopped = |stage: &Option<Option<PathBuf>>| matches!(stage, Some(None));
        if is_stopped(&filter) || is_stopped(&rank) {
            return Ok(None);
        }
        Ok(Some(AnswerArgs {
            model: Some(self.model.to_path_buf()),
            filter_adapter: filter.flatten(),
            rank_adapter: rank.flatten(),
            ..AnswerArgs::default()
        }))
    }

    fn ranker(
        &self,
        seed: u64,
        filtered: bool,
        reasoning: bool,
        world: &World,
    ) -> anyhow::Result<Option<PathBuf>> {
        let run = self.rank_run(seed, filtered, reasoning)?;
        train_ranker(&run, &world.policy, &world.questions, self.stop)
    }

    fn supervised(
        &self,
        stage: StageName,
        seed: u64,
        world: &World,
    ) -> anyhow::Result<Option<PathBuf>> {
        supervise(&self.sft_run(stage, seed), &world.policy, &world.questions, self.stop)
    }

    pub(super) fn filter_run(&self, seed: u64) -> anyhow::Result<ReinforceRun> {
        let mut run = self.reinforce(StageName::Filter, seed, "filter")?;
        run.training.steps = Some(self.size.filter_steps);
        Ok(run)
    }

    pub(super) fn rank_run(
        &self,
        seed: u64,
        filtered: bool,
        reasoning: bool,
    ) -> anyhow::Result<ReinforceRun> {
        let name = match (filtered, reasoning) {
            (true, true) => "rank",
            (false, _) => "rank_unfiltered",
            (true, false) => "rank_direct",
        };
        let mut run = self.reinforce(StageName::Rank, seed, name)?;
        run.training.steps = Some(self.size.rank_steps);
        run.training.prompts_per_step = self.size.rank_prompts;
        run.reasoning = reasoning;
        if filtered {
            run.filter_adapter = self.folder(seed).join("filter/adapter");
        }
        Ok(run)
    }

    fn reinforce(&self, stage: StageName, seed: u64, name: &str) -> anyhow::Result<ReinforceRun> {
        let mut run = ReinforceRun::preset(Preset::Demo, stage)?;
        run.model = self.model.to_path_buf();
        run.out = self.folder(seed).join(name);
        run.data.dev_questions = self.size.dev;
        run.training.seed = seed;
        Ok(run)
    }

    pub(super) fn sft_run(&self, stage: StageName, seed: u64) -> SftRun {
        let mut run = SftRun::preset(Preset::Demo);
        let [filter_steps, rank_steps] = self.size.sft_steps;
        let (name, steps) = match stage {
            StageName::Filter => ("sft_filter", filter_steps),
            StageName::Rank => ("sft_rank", rank_steps),
        };
        run.stage = stage;
        run.model = self.model.to_path_buf();
        run.out = self.folder(seed).join(name);
        if stage == StageName::Rank {
            run.filter_adapter = self.folder(seed).join("sft_filter/adapter");
        }
        run.data.dev_questions = self.size.dev;
        run.training.seed = seed;
        run.training.steps = Some(steps);
        run
    }
}

/// The run folders of a seed that have curves, by the name of the training.
pub(super) fn trainings(folder: &Path) -> Vec<(String, PathBuf)> {
    ["filter", "rank", "rank_unfiltered", "rank_direct", "sft_filter", "sft_rank"]
        .into_iter()
        .map(|name| (name.to_owned(), folder.join(name).join("metrics.jsonl")))
        .filter(|(_, path)| path.exists())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{VariantName, comparisons};

    #[test]
    fn two_stages_are_compared_with_everything() {
        let pairs = comparisons(&VariantName::SHORT);
        let expected = [("two_stage", "base"), ("two_stage", "no_stage2"), ("no_stage2", "base")];
        let expected = expected.map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(pairs, expected);
        assert_eq!(comparisons(&VariantName::FULL).len(), 7);
        assert!(comparisons(&[]).is_empty());
    }
}
