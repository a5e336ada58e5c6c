//! `mmrag eval curve`: answers over ever worse documents.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, ensure};
use clap::Args;
use mmrag_data::{Degrade, DegradeKind};
use mmrag_rag::report::{ReportInput, Strength, Strengths, write_report};

use super::Ended;
use crate::answerer::{AnswerArgs, Answerer};
use crate::comparing::{read_runs, variant, with_statistics};
use crate::dataset::{DatasetArgs, degraded};
use crate::evaluating::{EvalRun, RESAMPLES, table};
use crate::run_settings::facts;
use crate::{output, stop};

/// The folder of the run over documents as they are.
const CLEAN: &str = "clean";

const EXAMPLES: &str = "Examples:
  mmrag eval curve --dataset atlas --data atlas --split dev --questions 200 --out runs/curve
  mmrag eval curve --dataset atlas --data atlas --split dev --kinds blur,ocr --strengths 0.5,1 \\
      --out runs/curve --rank-adapter runs/rank/adapter

Kinds: blur, noise, jpeg, downscale, occlude (pictures), caption_removed, caption_swapped, ocr (texts
and cells), cells (tables), gold_replaced, contradict; all if none is named. Each point is a run of
its own below OUT, such as OUT/blur-0.5, so that it can be gone on with and compared;
OUT/report.html draws the curves.";

/// Draws each metric against the strength of degradations.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CurveCommand {
    #[command(flatten)]
    dataset: DatasetArgs,
    /// The folder of all points
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What is done to documents
    #[arg(long, value_name = "KIND,…", value_delimiter = ',')]
    kinds: Vec<DegradeKind>,
    /// How much of it, each above 0 and at most 1
    #[arg(long, value_name = "S,…", value_delimiter = ',', default_values_t = [0.1, 0.25, 0.5, 1.0])]
    strengths: Vec<f64>,
    /// Answer only the first N questions
    #[arg(long, value_name = "N")]
    questions: Option<usize>,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    answer: AnswerArgs,
}

impl CurveCommand {
    /// Answers at each strength, and draws.
    ///
    /// # Errors
    ///
    /// When something cannot be read or written, or a question cannot be answered.
    pub(crate) fn run(&self) -> anyhow::Result<Ended> {
        ensure!(
            self.strengths.iter().all(|strength| *strength > 0.0 && *strength <= 1.0),
            "a strength lies above 0 and is at most 1"
        );
        ensure!(self.dataset.degrade.is_empty(), "--degrade is for one run; here it is --kinds");
        let stop = stop::on_interrupt()?;
        let engine = self.answer.engine()?;
        let answerer = Answerer::new(&engine, &self.answer)?;
        let points = self.points();
        if !self.answer_points(&answerer, &points, &stop)? {
            return Ok(Ended::Stopped);
        }
        self.draw(&points)
    }

    fn points(&self) -> Vec<Degrade> {
        let kinds = if self.kinds.is_empty() { &DegradeKind::ALL[..] } else { &self.kinds[..] };
        let mut strengths = self.strengths.clone();
        strengths.sort_by(f64::total_cmp);
        strengths.dedup();
        let of = |kind: &DegradeKind| {
            let kind = *kind;
            let at = move |strength: &f64| Degrade { kind, strength: *strength };
            strengths.iter().map(at).collect::<Vec<Degrade>>()
        };
        kinds.iter().flat_map(of).collect()
    }

    fn answer_points(
        &self,
        answerer: &Answerer<'_>,
        points: &[Degrade],
        stop: &AtomicBool,
    ) -> anyhow::Result<bool> {
        let all = self.dataset.examples(None)?;
        let clean = &all[..self.questions.unwrap_or(usize::MAX).min(all.len())];
        let at = |folder: &Path, degrade: Option<Degrade>| -> anyhow::Result<bool> {
            let degrade: Vec<Degrade> = degrade.into_iter().collect();
            let examples = degraded(&degrade, self.dataset.degrade_seed, clean, &all);
            let data = DatasetArgs { degrade, ..self.dataset.clone() };
            let title = folder.file_name().unwrap_or_default().to_string_lossy();
            let run = EvalRun {
                answerer,
                data: &data,
                answer: &self.answer,
                search: None,
                bart: None,
                folder,
                title: &title,
                stop,
            };
            run.over(&examples)
        };
        if !at(&self.out.join(CLEAN), None)? {
            return Ok(false);
        }
        for point in points {
            if !at(&self.out.join(name(point)), Some(*point))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn draw(&self, points: &[Degrade]) -> anyhow::Result<Ended> {
        let names = std::iter::once(CLEAN.to_owned()).chain(points.iter().map(name));
        let folders: Vec<PathBuf> = names.map(|name| self.out.join(name)).collect();
        let runs = read_runs(&folders)?;
        let mut strengths: Vec<Strengths> = Vec::new();
        for (point, run) in points.iter().zip(&runs[1..]) {
            let strength = Strength { strength: point.strength, variant: run.name.clone() };
            let kind = point.kind.name();
            if let Some(known) = strengths.iter_mut().find(|known| known.kind == kind) {
                known.points.push(strength);
            } else {
                let clean = Strength { strength: 0.0, variant: CLEAN.to_owned() };
                let points = vec![clean, strength];
                strengths.push(Strengths { kind: kind.to_owned(), points });
            }
        }
        let report = mmrag_rag::report::Report::of(ReportInput {
            title: "Answers over worse documents".to_owned(),
            facts: with_statistics(facts(&runs[0].run.settings)),
            variants: runs.iter().map(|run| variant(&run.name, run.run.outcomes.clone())).collect(),
            comparisons: runs[1..].iter().map(|run| (run.name.clone(), CLEAN.to_owned())).collect(),
            strengths,
            settings: runs[0].run.settings.clone(),
            resamples: RESAMPLES,
            ..ReportInput::default()
        })
        .context("failed to work out the figures")?;
        write_report(&self.out, &report, &[]).context("failed to write the report")?;
        if self.json {
            output::json(&report.summary)?;
        } else {
            output::line(&table(&report))?;
            eprintln!("{}", self.out.join("report.html").display());
        }
        Ok(Ended::Done)
    }
}

fn name(point: &Degrade) -> String {
    format!("{}-{}", point.kind, point.strength)
}
