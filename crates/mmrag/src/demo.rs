//! The whole story on the built-in atlas: train both stages from the built-in model, answer the
//! test questions in several variants, compare them, explain one answer.
//!
//! Everything is a function of the seeds: two demos with the same ones write the same
//! `report.json`, its timings aside. Nothing is written outside the demo's folder.

mod variant;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::Context as _;
use mmrag_core::Example;
use mmrag_data::atlas::{self, AtlasOptions, FROZEN_SEED, NameSplit};
use mmrag_model::Policy;
use mmrag_rag::Explanation;
use mmrag_rag::report::{Curve, Report, ReportExample, ReportInput, Run, Variant, write_report};
use serde::Serialize;
use serde_json::{Value, json};

use crate::answerer::Answerer;
use crate::curves::curves;
use crate::evaluating::{RESAMPLES, answer_all, hold_settings, outcomes, shown_examples};
use crate::stages::Questions;
use crate::weights;

pub(crate) use variant::VariantName;

/// How much of everything a demo takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DemoSize {
    /// Questions to train on.
    pub(crate) train: usize,
    /// Questions that checkpoints are chosen by.
    pub(crate) dev: usize,
    /// Questions that the filter's threshold is chosen by.
    pub(crate) calibration: usize,
    /// Questions that figures are reported on.
    pub(crate) test: usize,
    /// Steps of stage 1.
    pub(crate) filter_steps: usize,
    /// Questions of a step of stage 2.
    pub(crate) rank_prompts: usize,
    /// Steps of stage 2.
    pub(crate) rank_steps: usize,
    /// Steps of supervised fine-tuning of each stage: about as many as take the time of its
    /// reinforcement.
    pub(crate) sft_steps: [usize; 2],
    /// Bootstrap resamples and permutations of the report.
    pub(crate) resamples: usize,
}

impl Default for DemoSize {
    fn default() -> Self {
        Self {
            train: 1600,
            dev: 128,
            calibration: 1000,
            test: 600,
            filter_steps: 60,
            rank_prompts: 32,
            rank_steps: 40,
            sft_steps: [96, 248],
            resamples: RESAMPLES,
        }
    }
}

/// What a demo is to do.
pub(crate) struct Demo<'a> {
    /// The folder it writes below.
    pub(crate) out: &'a Path,
    /// The folder of the model it begins with.
    pub(crate) model: &'a Path,
    /// The training seeds; every variant but `base` is trained with each.
    pub(crate) seeds: &'a [u64],
    /// The variants it compares.
    pub(crate) variants: &'a [VariantName],
    /// How much of everything.
    pub(crate) size: DemoSize,
    /// Ends it at the next safe place.
    pub(crate) stop: &'a AtomicBool,
}

/// What a demo shows.
pub(crate) struct Shown {
    /// The comparison.
    pub(crate) report: Report,
    /// One explained answer of the last variant.
    pub(crate) answer: Option<Explanation>,
}

/// What the demo's parts work on.
struct World {
    policy: Policy,
    questions: Questions,
    test: Vec<Example>,
}

/// A variant's explanations with one seed.
struct Answers {
    seed: u64,
    explanations: Vec<Explanation>,
}

impl Demo<'_> {
    /// Does all of it, going on where an earlier one was stopped; nothing if it was stopped again.
    ///
    /// # Errors
    ///
    /// When the model cannot be read, a training fails, or the folder cannot be written.
    pub(crate) fn run(&self) -> anyhow::Result<Option<Shown>> {
        let began = Instant::now();
        let weights = weights::versions(self.model, &[])?;
        let began_with = json!({ "size": self.size, "model": self.model, "weights": weights });
        hold_settings(self.out, &began_with)?;
        let world = self.world()?;
        let mut answered = Vec::new();
        let mut timings = serde_json::Map::new();
        for &variant in self.variants {
            let start = Instant::now();
            let mut runs = Vec::new();
            for &seed in variant.seeds(self.seeds) {
                let Some(answers) = self.answers(variant, seed, &world)? else { return Ok(None) };
                runs.push(answers);
            }
            timings.insert(variant.name().to_owned(), json!(start.elapsed().as_secs_f64()));
            answered.push((variant, runs));
        }
        timings.insert("total".to_owned(), json!(began.elapsed().as_secs_f64()));
        self.report(&world, &answered, Value::Object(timings)).map(Some)
    }

    fn world(&self) -> anyhow::Result<World> {
        let DemoSize { train, calibration, test, .. } = self.size;
        let options = AtlasOptions::default();
        let examples = |split, count: usize| -> Vec<Example> {
            (0..count as u64).map(|i| atlas::example(FROZEN_SEED, split, i, &options)).collect()
        };
        Ok(World {
            policy: crate::loading::load_policy(self.model)?,
            questions: Questions {
                train: examples(NameSplit::Train, train),
                dev: examples(NameSplit::Dev, calibration),
            },
            test: examples(NameSplit::Test, test),
        })
    }

    /// Trains what the variant needs and is not there yet, then answers the test questions.
    fn answers(
        &self,
        variant: VariantName,
        seed: u64,
        world: &World,
    ) -> anyhow::Result<Option<Answers>> {
        let Some(arguments) = self.trained(variant, seed, world)? else { return Ok(None) };
        let answerer = Answerer::new(&world.policy, &arguments)?;
        let log = self.folder(seed).join(format!("{}.jsonl", variant.name()));
        std::fs::create_dir_all(self.folder(seed))
            .with_context(|| format!("failed to make {}", self.folder(seed).display()))?;
        let title = format!("{} test", variant.name());
        let explanations = answerer.with_pipeline(None, 0, |pipeline| {
            answer_all(pipeline, &world.test, &log, &title, self.stop)
        })?;
        Ok(explanations.map(|explanations| Answers { seed, explanations }))
    }

    /// The folder of one training seed.
    fn folder(&self, seed: u64) -> PathBuf {
        self.out.join(format!("seed-{seed}"))
    }

    fn report(
        &self,
        world: &World,
        answered: &[(VariantName, Vec<Answers>)],
        timings: Value,
    ) -> anyhow::Result<Shown> {
        let variants = answered.iter().map(|(variant, runs)| Variant {
            name: variant.name().to_owned(),
            about: variant.about().to_owned(),
            runs: runs
                .iter()
                .map(|run| Run {
                    seed: run.seed,
                    outcomes: outcomes(&world.test, &run.explanations),
                })
                .collect(),
        });
        let input = ReportInput {
            title: "mmrag demo on the atlas".to_owned(),
            variants: variants.collect(),
            comparisons: variant::comparisons(self.variants),
            curves: self.curves()?,
            settings: self.settings()?,
            timings: Some(timings),
            resamples: self.size.resamples,
            ..ReportInput::default()
        };
        let report = Report::of(input).context("failed to work out the figures")?;
        let shown = shown_of(world, answered);
        write_report(self.out, &report, &shown).context("failed to write the report")?;
        let first =
            shown.into_iter().next().and_then(|example| example.answered.into_iter().next());
        let answer = first.map(|answered| answered.explanation);
        Ok(Shown { report, answer })
    }

    /// The curves of every training.
    fn curves(&self) -> anyhow::Result<Vec<Curve>> {
        let mut all = Vec::new();
        for seed in self.seeds {
            for (name, metrics) in variant::trainings(&self.out.join(format!("seed-{seed}"))) {
                let many = self.seeds.len() > 1;
                let run = if many { format!("{name} (seed {seed})") } else { name };
                all.extend(curves(&run, &metrics)?);
            }
        }
        Ok(all)
    }

    /// The settings as resolved, without the places of files: two folders give one report.
    fn settings(&self) -> anyhow::Result<Value> {
        let seed = self.seeds.first().copied().unwrap_or_default();
        let mut settings = json!({
            "atlas_seed": FROZEN_SEED,
            "seeds": self.seeds,
            "size": self.size,
            "filter": self.filter_run(seed)?,
            "rank": self.rank_run(seed, true, true)?,
            "sft": self.sft_run(mmrag_task::StageName::Rank, seed),
        });
        for part in ["filter", "rank", "sft"] {
            let part = settings[part].as_object_mut().expect("a run is written as an object");
            for place in ["out", "after", "model", "filter_adapter", "data"] {
                part.shift_remove(place);
            }
        }
        Ok(settings)
    }
}

/// Right and wrong answers of the variant that is trained most, the most telling first.
fn shown_of(world: &World, answered: &[(VariantName, Vec<Answers>)]) -> Vec<ReportExample> {
    const EACH: usize = 4;
    let chosen = answered.iter().find(|(variant, _)| *variant == VariantName::TwoStage);
    let Some((variant, runs)) = chosen.or_else(|| answered.last()) else { return Vec::new() };
    let Some(run) = runs.first() else { return Vec::new() };
    let outcomes = outcomes(&world.test, &run.explanations);
    shown_examples(variant.name(), &world.test, &run.explanations, &outcomes, EACH)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::AtomicBool;

    use serde_json::Value;

    use super::{Demo, DemoSize, VariantName};

    fn report(out: &Path, model: &Path, stop: &AtomicBool) -> Option<Value> {
        let size = DemoSize {
            train: 6,
            dev: 2,
            calibration: 3,
            test: 3,
            filter_steps: 1,
            rank_prompts: 1,
            rank_steps: 1,
            sft_steps: [1, 1],
            resamples: 20,
        };
        let variants = &[VariantName::Base, VariantName::TwoStage, VariantName::SftInstead];
        Demo { out, model, seeds: &[5], variants, size, stop }.run().unwrap()?;
        let text = std::fs::read_to_string(out.join("report.json")).unwrap();
        let mut report: Value = serde_json::from_str(&text).unwrap();
        assert!(report.as_object_mut().unwrap().remove("timings").is_some());
        Some(report)
    }

    #[test]
    fn a_demo_compares_variants_and_is_the_same_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model");
        crate::small_model::make(&model, 0, 60).unwrap();
        let go = AtomicBool::new(false);
        let first = report(&folder.path().join("a"), &model, &go).unwrap();
        let names: Vec<&String> =
            first["summary"]["variants"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["base", "two_stage", "sft_instead"]);
        assert_eq!(first["summary"]["questions"], 3);
        assert!(folder.path().join("a/report.html").exists());
        for filter in ["filter", "sft_filter"] {
            let place = folder.path().join("a/seed-5").join(filter).join("adapter");
            assert!(crate::notes::Notes::of(&place).unwrap().keep.is_some(), "{filter}");
        }

        // Stopped, then gone on with, in another folder: the same report.
        let second = folder.path().join("b");
        assert!(report(&second, &model, &AtomicBool::new(true)).is_none());
        assert_eq!(report(&second, &model, &go).unwrap(), first);
    }
}
