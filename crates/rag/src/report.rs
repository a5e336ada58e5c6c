//! The report of a comparison: `report.json` for programs, `report.html` for people.
//!
//! Both are made of outcomes, curves and settings that are given; nothing here runs a model or
//! reads a clock. Timings stand under one key, `timings`, so that two runs can be compared by all
//! the rest.

mod examples;
mod figures;
mod html;
mod markup;
mod named;
mod picture;
mod plot;
mod sections;
mod write;

use serde::Serialize;

use crate::error::RagError;
use crate::evaluation::{Metric, Outcome};
use crate::statistics::{Interval, Resamples};

pub use examples::ReportExample;
pub use html::render as render_html;
pub use named::Named;
pub use write::write_report;

/// What a report is made of.
#[derive(Clone, Debug, Default)]
pub struct ReportInput {
    /// What it is about, in one line.
    pub title: String,
    /// What was compared, in the order of tables. The first is what the others are measured by.
    pub variants: Vec<Variant>,
    /// Which pairs are tested: the gain of the first over the second.
    pub comparisons: Vec<(String, String)>,
    /// Training curves.
    pub curves: Vec<Curve>,
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

/// A comparison with everything that is told about it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What it is about.
    pub title: String,
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
    /// What is left of the gold documents after each step.
    pub funnel: Named<Vec<FunnelStep>>,
    /// How the confidence relates to being right.
    pub reliability: Named<Reliability>,
    /// Training curves.
    pub curves: Vec<Curve>,
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
    /// Two-sided p of the paired permutation test.
    pub p: f64,
    /// The same by Holm's correction over all rows.
    pub p_holm: f64,
}

/// Gold documents after one step of the pipeline, as means over questions that have some.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FunnelStep {
    /// `retrieved`, `filtered` or `cited`.
    pub step: &'static str,
    /// Share of the gold documents that are there.
    pub recall: f64,
    /// Share of what is there that is gold.
    pub precision: f64,
}

/// How the confidence relates to being right.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reliability {
    /// Expected calibration error: the mean distance of confidence and share right over bins,
    /// weighted by their answers.
    pub ece: f64,
    /// Ten equal bins of confidence, those without answers left out.
    pub bins: Vec<ReliabilityBin>,
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
        let groups = |name: fn(&Outcome) -> String| figures::groups(&input, name);
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
            by_kind: groups(|outcome| outcome.kind.clone()),
            by_modality: groups(figures::modality_name),
            by_picture: groups(|o| {
                if o.picture_dependent { "needs a picture" } else { "needs no picture" }.to_owned()
            }),
            funnel: variants.iter().map(|v| (named(v), figures::funnel(v))).collect(),
            reliability: per_variant(&figures::reliability),
            title: input.title,
            curves: input.curves,
            settings: input.settings,
            timings: input.timings,
        })
    }

    /// The figure of a variant over all questions.
    pub fn figure(&self, variant: &str, metric: Metric) -> Option<Interval> {
        *self.summary.variants.get(variant)?.get(metric.name())?
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
