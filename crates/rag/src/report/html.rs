//! The page: one file, no scripts, nothing loaded from elsewhere.

use std::fmt::Write as _;

use super::examples::{self, ReportExample};
use super::markup::escaped;
use super::{Report, sections};

const STYLE: &str = include_str!("style.css");
/// The page may use its own style and `data:` pictures and nothing else, whatever text is in it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

macro_rules! put {
    ($to:expr, $($part:tt)*) => {
        write!($to, $($part)*).expect("writing to a string does not fail")
    };
}

/// The report as a page that stands alone.
pub fn render(report: &Report, examples: &[ReportExample]) -> String {
    let title = escaped(&report.title);
    let mut html =
        String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    html.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    put!(html, "<meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">");
    put!(html, "<title>{title}</title><style>{STYLE}</style></head><body><main>");
    put!(html, "<header class=\"top\"><h1>{title}</h1><p>{}</p></header>", lead(report));
    html.push_str(&sections::tiles(report));
    section(
        &mut html,
        "Results",
        "Percent, with 95 % intervals from a paired bootstrap over questions and training seeds. The best of a column is marked.",
        &sections::results(report),
    );
    if !report.summary.tests.is_empty() {
        section(
            &mut html,
            "Differences",
            "Dots are differences, lines their 95 % intervals; p from a paired permutation test, corrected over all rows by Holm. Grey: no difference can be claimed.",
            &sections::differences(report),
        );
        section(&mut html, "What did not help", "", &sections::what_did_not_help(report));
    }
    section(
        &mut html,
        "From retrieval to citation",
        "What is left of the gold documents after each step, and how much of what is left is gold.",
        &sections::funnel(report),
    );
    if !report.curves.is_empty() {
        section(
            &mut html,
            "Training",
            "By step: faint as measured, strong as a running mean.",
            &sections::training(&report.curves),
        );
    }
    let groups = [
        ("Needs a picture", &report.by_picture),
        ("Gold documents", &report.by_modality),
        ("Type of question", &report.by_kind),
    ];
    let tables: String =
        groups.iter().map(|(title, groups)| sections::groups(title, report, groups)).collect();
    section(&mut html, "Answer EM by kind of question", "", &tables);
    if !report.reliability.is_empty() {
        section(
            &mut html,
            "Confidence",
            "Share of right answers over the confidence told. On the dashed line the confidence holds; a dot's area is its share of the answers.",
            &sections::reliability(report),
        );
    }
    if !examples.is_empty() {
        section(&mut html, "Examples", "", &examples::section(examples));
    }
    section(&mut html, "Settings", "", &settings(report));
    html + "</main></body></html>\n"
}

fn lead(report: &Report) -> String {
    let mut seeds: Vec<u64> = report.seeds.iter().flat_map(|(_, seeds)| seeds).copied().collect();
    seeds.sort_unstable();
    seeds.dedup();
    let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
    format!(
        "{} questions · {} variants · training seeds {}",
        report.summary.questions,
        report.summary.variants.len(),
        seeds.join(", ")
    )
}

fn section(html: &mut String, title: &str, about: &str, body: &str) {
    put!(html, "<section><h2>{title}</h2>");
    if !about.is_empty() {
        put!(html, "<p class=\"about\">{about}</p>");
    }
    put!(html, "{body}</section>");
}

fn settings(report: &Report) -> String {
    let mut html = String::new();
    let mut json = |title: &str, value: &serde_json::Value| {
        let text = format!("{value:#}");
        put!(html, "<details><summary>{title}</summary><pre>{}</pre></details>", escaped(&text));
    };
    json("Settings as resolved", &report.settings);
    if let Some(timings) = &report.timings {
        json("Timings", timings);
    }
    html
}
