//! The report of a run, of a comparison or of a matrix of variants: `report.json` for programs,
//! `report.html` for people.
//!
//! Both are made of outcomes, curves and settings that are given; nothing here runs a model or
//! reads a clock. Timings stand under one key, `timings`, so that two runs can be compared by all
//! the rest.

mod browser;
mod changes;
mod comparing;
mod documents;
mod examples;
mod figures;
mod filters;
mod heat;
mod html;
mod markup;
mod named;
mod picture;
mod plot;
mod probed;
mod sections;
mod write;

use serde::Serialize;

use crate::error::RagError;
use crate::evaluation::{Metric, Outcome, Slicing};
use crate::quality::{Measures, PointingMeasures};
use crate::statistics::{Interval, Resamples};

pub use changes::Change;
pub use examples::{Answered, ReportExample};
pub use html::render as render_html;
pub use named::Named;
pub use write::write_report;

/// What a report is made of.
#[derive(Clone, Debug, Default)]
pub struct ReportInput {
    /// What it is about, in one line.
    pub title: String,
    /// What a reader must know to judge the figures, by name: data, model, protocol.
    pub facts: Vec<(String, String)>,
    /// What was compared, in the order of tables. The first is what the others are measured by.
    pub variants: Vec<Variant>,
    /// Which pairs are tested: the gain of the first over the second.
    pub comparisons: Vec<(String, String)>,
    /// Training curves.
    pub curves: Vec<Curve>,
    /// Which variants are answers over worse documents.
    pub strengths: Vec<Strengths>,
    /// What was found of the explanations, if it was asked about them.
    pub quality: Option<Measures>,
    /// Whether attributions point where they should, if it is known.
    pub pointing: Vec<PointingMeasures>,
    /// The settings as resolved.
    pub settings: serde_json::Value,
    /// How long parts took, if that is to be told.
    pub timings: Option<serde_json::Value>,
    /// Number of bootstrap resamples and of permutations; 10,000 is usual.
    pub resamples: usize,
    /// Seed of resamples and permutations.
    pub seed: u64,
}

/// One way of answering, with its runs.
#[derive(Clone, Debug, Default)]
pub struct Variant {
    /// Its name in files, such as `two_stage`.
    pub name: String,
    /// What it is, in a few words.
    pub about: String,
    /// One run a training seed, over the same questions in the same order.
    pub runs: Vec<Run>,
}

/// A variant with one training seed.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// The training seed.
    pub seed: u64,
    /// One outcome a question.
    pub outcomes: Vec<Outcome>,
}

/// One line of a plot of training.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// Which training: lines of the same run share a plot.
    pub run: String,
    /// What is measured, such as `reward` or `reward/answer`.
    pub part: String,
    /// Step and value.
    pub points: Vec<[f64; 2]>,
}

/// One way to make documents worse, at each strength that was tried.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Strengths {
    /// What was done to documents.
    pub kind: String,
    /// The strengths, the least first.
    pub points: Vec<Strength>,
}

/// A strength, and the variant that answered over documents made so much worse.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Strength {
    /// From 0, nothing, to 1.
    pub strength: f64,
    /// The variant's name.
    pub variant: String,
}

/// A comparison with everything that is told about it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What it is about.
    pub title: String,
    /// What a reader must know to judge the figures, by name: data, model, protocol.
    pub facts: Named<String>,
    /// The main figures.
    pub summary: Summary,
    /// What each variant is.
    pub about: Named<String>,
    /// The training seeds of each variant.
    pub seeds: Named<Vec<u64>>,
    /// Figures by type of question.
    pub by_kind: Named<Group>,
    /// Figures by the kinds of the gold documents.
    pub by_modality: Named<Group>,
    /// Figures by whether a picture is needed.
    pub by_picture: Named<Group>,
    /// Figures by how many documents the answer needs.
    pub by_documents: Named<Group>,
    /// Figures by whether there is an answer.
    pub by_answerable: Named<Group>,
    /// Of two variants that are compared, the tested differences of each slice.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slice_tests: Vec<SliceTest>,
    /// Of two variants that are compared, the questions that they answer differently well, the
    /// largest regression first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// How many answers are right, and how many are wrong for which reason, over all runs.
    pub failures: Named<Named<usize>>,
    /// What is left of the gold documents after each step.
    pub funnel: Named<Vec<FunnelStep>>,
    /// How the confidence relates to being right.
    pub reliability: Named<Reliability>,
    /// Training curves.
    pub curves: Vec<Curve>,
    /// Which variants are answers over worse documents.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub strengths: Vec<Strengths>,
    /// What was found of the explanations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<Measures>,
    /// Whether attributions point where they should.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pointing: Vec<PointingMeasures>,
    /// The settings as resolved.
    pub settings: serde_json::Value,
    /// How long parts took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timings: Option<serde_json::Value>,
}

/// The main figures.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Number of questions.
    pub questions: usize,
    /// For each variant each metric; none where it applies to no question.
    pub variants: Named<Figures>,
    /// The tested differences. The p values are corrected over all rows together.
    pub tests: Vec<Test>,
}

/// The metrics of one variant over some questions.
pub type Figures = Named<Option<Interval>>;

/// Some of the questions.
#[derive(Clone, Debug, Serialize)]
pub struct Group {
    /// How many they are.
    pub questions: usize,
    /// The metrics of each variant over them.
    pub variants: Named<Figures>,
}

/// A tested difference of one metric: `a - b`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Test {
    /// The metric's name.
    pub metric: &'static str,
    /// One variant.
    pub a: String,
    /// The other.
    pub b: String,
    /// The difference of their values.
    pub diff: f64,
    /// Lower end of its 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Two-sided p of the paired test that `how` names.
    pub p: f64,
    /// The same by Holm's correction over all rows.
    pub p_holm: f64,
    /// What p comes from: `permutation`, or `mcnemar` for exact match of two single runs.
    pub how: &'static str,
    /// The smallest difference that this many questions would find in four of five cases, from
    /// the width of the interval.
    pub detectable: f64,
    /// Questions that `a` does better on.
    pub wins: usize,
    /// Questions that `b` does better on.
    pub losses: usize,
}

/// A tested difference over one slice of the questions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SliceTest {
    /// What the questions are cut by.
    pub slicing: &'static str,
    /// The slice.
    pub slice: String,
    /// How many questions are in it.
    pub questions: usize,
    /// The difference. Its p values are corrected over all rows of the slicing.
    #[serde(flatten)]
    pub test: Test,
}

/// What is left after one step of the pipeline, as means over questions that have gold documents.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FunnelStep {
    /// `retrieved`, `filtered`, `ranked`, `cited` or `right`.
    pub step: &'static str,
    /// Share of the gold documents that are there; of `right`, of the answers that match exactly.
    pub recall: f64,
    /// Share of what is there that is gold; absent of `right`.
    pub precision: Option<f64>,
}

/// How the confidence relates to being right.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reliability {
    /// Expected calibration error: the mean distance of confidence and share right over bins,
    /// weighted by their answers.
    pub ece: f64,
    /// Ten equal bins of confidence, those without answers left out.
    pub bins: Vec<ReliabilityBin>,
    /// Mean share wrong over all coverages: the area under `risk`, over the answers alone.
    pub aurc: f64,
    /// If only the most confident answers are given: the share of all questions that get one, and
    /// the share of those answers that is wrong. At most a hundred points.
    pub risk: Vec<[f64; 2]>,
}

/// Answers of like confidence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReliabilityBin {
    /// How many they are.
    pub answers: usize,
    /// Their mean confidence.
    pub confidence: f64,
    /// The share that matches exactly.
    pub right: f64,
}

impl Report {
    /// Works out all figures.
    ///
    /// # Errors
    ///
    /// When a comparison names no variant, or runs are not over the same questions.
    pub fn of(input: ReportInput) -> Result<Self, RagError> {
        figures::check(&input.variants)?;
        let variants = &input.variants;
        let questions = variants.iter().flat_map(|v| &v.runs).map(|r| r.outcomes.len()).next();
        let questions = questions.unwrap_or(0);
        let resamples = Resamples::new(questions, input.resamples, input.seed);
        let all: Vec<usize> = (0..questions).collect();
        let groups = |slicing| figures::groups(&input, slicing);
        let per_variant = |of: &dyn Fn(&Variant) -> Option<Reliability>| {
            let named = variants.iter().filter_map(|v| Some((v.name.clone(), of(v)?)));
            named.collect::<Named<Reliability>>()
        };
        let named = |v: &Variant| v.name.clone();
        Ok(Self {
            summary: Summary {
                questions,
                variants: figures::of_variants(variants, &all, &resamples),
                tests: figures::tests(&input, &resamples)?,
            },
            about: variants.iter().map(|v| (named(v), v.about.clone())).collect(),
            seeds: variants
                .iter()
                .map(|v| (named(v), v.runs.iter().map(|run| run.seed).collect()))
                .collect(),
            by_kind: groups(Slicing::Kind),
            by_modality: groups(Slicing::Modality),
            by_picture: groups(Slicing::Picture),
            by_documents: groups(Slicing::Documents),
            by_answerable: groups(Slicing::Answerable),
            slice_tests: figures::slice_tests(&input)?,
            changes: changes::of(&input),
            failures: variants.iter().map(|v| (named(v), figures::failures(v))).collect(),
            funnel: variants.iter().map(|v| (named(v), figures::funnel(v))).collect(),
            reliability: per_variant(&figures::reliability),
            title: input.title,
            facts: input.facts.into_iter().collect(),
            curves: input.curves,
            strengths: input.strengths,
            quality: input.quality,
            pointing: input.pointing,
            settings: input.settings,
            timings: input.timings,
        })
    }

    /// The figure of a variant over all questions.
    pub fn figure(&self, variant: &str, metric: Metric) -> Option<Interval> {
        *self.summary.variants.get(variant)?.get(metric.name())?
    }

    /// The metrics that are told, in the order of tables.
    pub fn metrics(&self) -> Vec<Metric> {
        let is_told = |metric: &Metric| {
            self.summary.variants.iter().any(|(_, figures)| figures.get(metric.name()).is_some())
        };
        Metric::all().filter(is_told).collect()
    }

    /// The slices of a way to cut the questions.
    pub fn slices(&self, slicing: Slicing) -> &Named<Group> {
        match slicing {
            Slicing::Kind => &self.by_kind,
            Slicing::Modality => &self.by_modality,
            Slicing::Documents => &self.by_documents,
            Slicing::Picture => &self.by_picture,
            Slicing::Answerable => &self.by_answerable,
        }
    }

    /// The report as JSON, ending in a line end. The same input gives the same bytes.
    ///
    /// # Errors
    ///
    /// When a value cannot be written as JSON.
    pub fn to_json(&self) -> Result<String, RagError> {
        let json = serde_json::to_string_pretty(self);
        Ok(json.map_err(|source| RagError::Json { what: "the report", source })? + "\n")
    }
}
