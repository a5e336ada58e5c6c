//! `mmrag eval report`: the page of a finished run.

use std::path::PathBuf;

use clap::Args;
use mmrag_rag::report::render_html;

use super::Ended;
use crate::comparing::{read_runs, report_of_run, shown};
use crate::output;

const EXAMPLES: &str = "Examples:
  mmrag eval report runs/dev
  mmrag eval report runs/dev --out report.html --examples 1000
  mmrag eval report runs/dev --json > report.json

The page is one file that loads nothing: figures, plots, and questions to open with their
documents, filterable by outcome, failure and type. Of two runs: mmrag eval compare A B --html FILE.";

/// Writes the page of a run.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReportCommand {
    /// The folder of the run
    #[arg(value_name = "RUN")]
    folder: PathBuf,
    /// The page; RUN/report.html if absent
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print all figures as JSON instead
    #[arg(long)]
    json: bool,
    /// Where the data set lies now, if not where the run read it
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The most questions that the page shows, wrong ones first
    #[arg(long, value_name = "N", default_value_t = 200)]
    examples: usize,
}

impl ReportCommand {
    /// Writes the page, and says on stdout where it lies.
    ///
    /// # Errors
    ///
    /// When the run cannot be read or the page cannot be written.
    pub(crate) fn run(&self) -> anyhow::Result<Ended> {
        let runs = read_runs(std::slice::from_ref(&self.folder))?;
        let named = &runs[0];
        let report = report_of_run(named)?;
        if self.json {
            output::line(report.to_json()?.trim_end())?;
            return Ok(Ended::Done);
        }
        let examples = shown(named, None, self.data.as_deref(), self.examples)?;
        let path = self.out.clone().unwrap_or_else(|| self.folder.join("report.html"));
        output::file(&path, &render_html(&report, &examples))?;
        output::line(&path.display().to_string())?;
        Ok(Ended::Done)
    }
}
