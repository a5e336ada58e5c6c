//! `mmrag eval gate`: is a run good enough? The exit code says so.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::Args;
use mmrag_rag::gate::{Bound, Judgement, Rule, Verdict, overall};
use mmrag_rag::report::Report;
use mmrag_rag::{Metric, PairedRuns};
use serde_json::json;

use super::Ended;
use crate::comparing::{read_runs, report_of_pair, report_of_run};
use crate::output;

/// Exit code of a gate that cannot judge.
pub(crate) const NOT_JUDGED: u8 = 2;

const EXAMPLES: &str = "Examples:
  mmrag eval gate runs/new --min answer_em=0.60 --max unparsable=0.05
  mmrag eval gate runs/base runs/new --max-drop answer_em=0.02 --max-drop cited_f1=0.03
  mmrag eval gate runs/base runs/new --max-drop answer_em=0.02 --confident

Metrics: answer_em, answer_f1, cited_f1, ndcg, gold_kept, distractors_dropped, unparsable; all are
fractions. A drop is how much worse the last run is, also where less is better.

Exit codes:
  0  pass: every bound holds
  1  fail: a bound does not hold
  2  cannot judge: a run cannot be read or is not finished, a metric has no figure, the two runs
     were not over the same data, or with --confident an interval lies on both sides of its bound";

/// Judges a run by bounds.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct GateCommand {
    /// The run that is judged; before it, if drops are judged, the run that it is measured by
    #[arg(value_name = "RUN", num_args = 1..=2, required = true)]
    runs: Vec<PathBuf>,
    /// The run's metric is at least so much
    #[arg(long, value_name = "METRIC=VALUE")]
    min: Vec<Bound>,
    /// The run's metric is at most so much
    #[arg(long, value_name = "METRIC=VALUE")]
    max: Vec<Bound>,
    /// The run's metric is worse than that of the run before by at most so much
    #[arg(long, value_name = "METRIC=VALUE")]
    max_drop: Vec<Bound>,
    /// Bounds must hold for the whole 95 % interval, not for the value alone
    #[arg(long)]
    confident: bool,
    /// Judge though the two runs were over other data: over the questions that both have
    #[arg(long)]
    other_data: bool,
    /// Print the judgements as JSON
    #[arg(long)]
    json: bool,
}

impl GateCommand {
    /// Judges, prints each bound with what was found, and ends as the verdict says.
    ///
    /// # Errors
    ///
    /// When the verdict cannot be printed. All else that goes wrong is told, and cannot be judged.
    pub(crate) fn run(&self) -> anyhow::Result<Ended> {
        let judgements = match self.judgements() {
            Ok(judgements) => judgements,
            Err(error) => {
                eprintln!("cannot judge: {error:#}");
                return Ok(Ended::NotJudged);
            }
        };
        let verdict = overall(&judgements);
        if self.json {
            output::json(&json!({ "verdict": verdict, "bounds": judgements }))?;
        } else {
            let lines: Vec<String> = judgements.iter().map(line).collect();
            output::line(&lines.join("\n"))?;
        }
        Ok(match verdict {
            Verdict::Pass => Ended::Done,
            Verdict::Fail => Ended::Refused,
            Verdict::CannotJudge => Ended::NotJudged,
        })
    }

    fn judgements(&self) -> anyhow::Result<Vec<Judgement>> {
        ensure!(
            !(self.min.is_empty() && self.max.is_empty() && self.max_drop.is_empty()),
            "there is no bound; give --min, --max or --max-drop"
        );
        let runs = read_runs(&self.runs)?;
        let judge = |rule, bounds: &[Bound], figure: &dyn Fn(Metric) -> _| -> Vec<Judgement> {
            let judge =
                |bound: &Bound| Judgement::of(rule, *bound, figure(bound.metric), self.confident);
            bounds.iter().map(judge).collect()
        };
        let judged = runs.last().expect("a gate has at least one run");
        let own = report_of_run(judged)?;
        let value = |metric| own.figure(&judged.name, metric);
        let mut judgements = judge(Rule::Min, &self.min, &value);
        judgements.extend(judge(Rule::Max, &self.max, &value));
        if self.max_drop.is_empty() {
            return Ok(judgements);
        }
        let [before, after] = &runs[..] else {
            anyhow::bail!("--max-drop takes two runs: the one before and the one that is judged")
        };
        let paired = PairedRuns::of(&before.run, &after.run).context("failed to compare")?;
        let is_same = before.run.settings["data_version"] == after.run.settings["data_version"]
            && paired.only_before + paired.only_after == 0;
        ensure!(
            is_same || self.other_data,
            "the two runs were not over the same data; --other-data judges all the same"
        );
        let report = report_of_pair(before, after, paired)?;
        let gain = |metric| gain(&report, metric);
        judgements.extend(judge(Rule::MaxDrop, &self.max_drop, &gain));
        Ok(judgements)
    }
}

fn gain(report: &Report, metric: Metric) -> Option<mmrag_rag::statistics::Interval> {
    let test = report.summary.tests.iter().find(|test| test.metric == metric.name())?;
    Some(mmrag_rag::statistics::Interval { value: test.diff, low: test.low, high: test.high })
}

fn line(judgement: &Judgement) -> String {
    let Judgement { metric, rule, bound, found, verdict } = judgement;
    let verdict = match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "FAIL",
        Verdict::CannotJudge => "cannot judge",
    };
    let what = match rule {
        Rule::Min => "at least",
        Rule::Max => "at most",
        Rule::MaxDrop => "drop at most",
    };
    let found = found.map_or_else(
        || "there is no figure".to_owned(),
        |found| format!("found {:.4} [{:.4} {:.4}]", found.value, found.low, found.high),
    );
    format!("{verdict:<12} {metric} {what} {bound}: {found}")
}
