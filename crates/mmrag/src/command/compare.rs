//! `mmrag eval compare`: what changed between two runs, and is it more than chance?

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use mmrag_rag::PairedRuns;
use mmrag_rag::report::{Report, Test, render_html};

use super::Ended;
use crate::comparing::{NamedRun, read_runs, report_of_pair, shown};
use crate::output;

/// Regressions that are printed.
const PRINTED: usize = 10;

const EXAMPLES: &str = "Examples:
  mmrag eval compare runs/base runs/two-stage
  mmrag eval compare runs/base runs/two-stage --html compare.html
  mmrag eval compare runs/base runs/two-stage --json > compare.json

A is the run before, B the one after; differences are B minus A, over the questions that both have.
Intervals are of a paired bootstrap, p of McNemar's exact test for exact match and of paired
permutations for the rest, corrected by Holm over the metrics, and within each way of slicing over
its rows.";

/// Compares two finished runs.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompareCommand {
    /// The folder of the run before
    #[arg(value_name = "A")]
    before: PathBuf,
    /// The folder of the run after
    #[arg(value_name = "B")]
    after: PathBuf,
    /// Print all figures as JSON
    #[arg(long)]
    json: bool,
    /// Write a page that shows the comparison
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Where the data set lies now, if not where the runs read it
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The most questions that the page shows
    #[arg(long, value_name = "N", default_value_t = 200)]
    examples: usize,
}

impl CompareCommand {
    /// Compares, and prints the differences.
    ///
    /// # Errors
    ///
    /// When a run cannot be read, the two have nothing in common, or a file cannot be written.
    pub(crate) fn run(&self) -> anyhow::Result<Ended> {
        let runs = read_runs(&[self.before.clone(), self.after.clone()])?;
        let [before, after] = &runs[..] else { unreachable!("two runs were read") };
        let paired = PairedRuns::of(&before.run, &after.run).context("failed to compare")?;
        let report = report_of_pair(before, after, paired)?;
        if let Some(path) = &self.html {
            let examples = shown(after, Some(before), self.data.as_deref(), self.examples)?;
            output::file(path, &render_html(&report, &examples))?;
            eprintln!("{}", path.display());
        }
        if self.json {
            output::line(report.to_json()?.trim_end())?;
        } else {
            output::line(&lines(&report, before, after).join("\n"))?;
        }
        Ok(Ended::Done)
    }
}

fn lines(report: &Report, before: &NamedRun, after: &NamedRun) -> Vec<String> {
    let mut lines = vec![format!(
        "{} questions; differences are {} minus {}, in points",
        report.summary.questions, after.name, before.name
    )];
    for test in &report.summary.tests {
        lines.push(row(test.metric, test));
    }
    for slice in &report.slice_tests {
        if slice.test.p_holm < 0.05 {
            let name = format!("{}: {}", slice.test.metric, slice.slice);
            lines.push(row(&name, &slice.test));
        }
    }
    let regressions: Vec<_> = report.changes.iter().filter(|c| c.is_regression()).collect();
    let better = report.changes.len() - regressions.len();
    lines.push(format!("{} questions got worse, {better} better", regressions.len()));
    for change in regressions.iter().take(PRINTED) {
        let why = change.failure_after.map_or_else(String::new, |why| format!("  ({why})"));
        let before_after = format!("{:?} → {:?}", change.before, change.after);
        lines.push(format!("  {}  {before_after}, gold {:?}{why}", change.question, change.gold));
    }
    if regressions.len() > PRINTED {
        lines.push(format!("  and {} more: --json or --html", regressions.len() - PRINTED));
    }
    lines
}

fn row(name: &str, test: &Test) -> String {
    let Test { diff, low, high, p_holm, wins, losses, .. } = test;
    let points = |value: &f64| 100.0 * value;
    let mark = if *p_holm < 0.05 { "  *" } else { "" };
    let p = if *p_holm < 0.0001 { "< 0.0001".to_owned() } else { format!("{p_holm:.4}") };
    format!(
        "{name:<34} {:>+6.1} [{:>+6.1} {:>+6.1}]  p {p:<8}  better {wins}, worse {losses}{mark}",
        points(diff),
        points(low),
        points(high)
    )
}
