//! The page: one file, no scripts, nothing loaded from elsewhere.

use std::fmt::Write as _;

use super::examples::ReportExample;
use super::markup::escaped;
use super::{Report, browser, comparing, probed, sections};

const STYLE: &str = include_str!("style.css");
/// The page may use its own style and `data:` pictures and nothing else, whatever text is in it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

macro_rules! put {
    ($to:expr, $($part:tt)*) => {
        write!($to, $($part)*).expect("writing to a string does not fail")
    };
}

/// A section of the page: its title, a word on how to read it, its body.
struct Section {
    title: &'static str,
    about: &'static str,
    body: String,
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
    let sections: Vec<Section> =
        sections(report, examples).into_iter().filter(|section| !section.body.is_empty()).collect();
    html.push_str(&sections::tiles(report));
    html.push_str(&sections::facts(report));
    html.push_str("<nav>");
    for (nth, Section { title, .. }) in sections.iter().enumerate() {
        put!(html, "<a href=\"#s{nth}\">{title}</a>");
    }
    html.push_str("</nav>");
    for (nth, Section { title, about, body }) in sections.iter().enumerate() {
        put!(html, "<section id=\"s{nth}\"><h2>{title}</h2>");
        if !about.is_empty() {
            put!(html, "<p class=\"about\">{about}</p>");
        }
        put!(html, "{body}</section>");
    }
    html + "</main></body></html>\n"
}

fn sections(report: &Report, examples: &[ReportExample]) -> Vec<Section> {
    let section = |title, about, body| Section { title, about, body };
    let given = |is: bool, body: &dyn Fn() -> String| if is { body() } else { String::new() };
    let is_tested = !report.summary.tests.is_empty();
    let is_pair = !report.slice_tests.is_empty();
    vec![
        section("Worse documents", STRENGTHS, probed::strengths(report)),
        section("Results", RESULTS, sections::results(report)),
        section("Differences", DIFFERENCES, given(is_tested, &|| sections::differences(report))),
        section("Differences by slice", SLICES, given(is_pair, &|| comparing::slices(report))),
        section("Changed questions", "", given(is_pair, &|| comparing::changes(report, examples))),
        section(
            "What did not help",
            "",
            given(is_tested && !is_pair && sections::hub(report).is_none(), &|| {
                sections::what_did_not_help(report)
            }),
        ),
        section("From retrieval to citation", FUNNEL, sections::funnel(report)),
        section("What goes wrong", FAILURES, sections::failures(report)),
        section(
            "Training",
            "By step: faint as measured, strong as a running mean.",
            given(!report.curves.is_empty(), &|| sections::training(&report.curves)),
        ),
        section("Answer EM by kind of question", "", sections::all_groups(report)),
        section(
            "Confidence",
            CONFIDENCE,
            given(!report.reliability.is_empty(), &|| sections::reliability(report)),
        ),
        section("Quality of explanations", QUALITY, probed::quality(report)),
        section("Where pictures helped", POINTING, probed::pointing(report)),
        section(
            "Questions",
            QUESTIONS,
            given(!examples.is_empty(), &|| browser::section(examples)),
        ),
        section("Settings", "", settings(report)),
    ]
}

const RESULTS: &str = "Percent, with 95 % intervals from a paired bootstrap over questions and training seeds. The best of a column is marked.";
const DIFFERENCES: &str = "Dots are differences, lines their 95 % intervals. p is McNemar\u{2019}s exact for exact match of two single runs and else from a paired permutation test, corrected over all rows by Holm. Grey: no difference can be claimed. The last figure is the smallest difference that so many questions would find in four of five cases.";
const SLICES: &str = "Percentage points with 95 % intervals; p corrected by Holm over all rows of a table. Grey: no difference can be claimed.";
const FUNNEL: &str = "What is left of the gold documents after each step, and how much of what is left is gold; at last the share of right answers among these questions.";
const FAILURES: &str =
    "Each wrong answer counts once, at the first step of the pipeline that lost it.";
const CONFIDENCE: &str = "Share of right answers over the confidence told. On the dashed line the confidence holds; a dot\u{2019}s area is its share of the answers. Below: how many answers are wrong if only the most confident are given.";
const STRENGTHS: &str = "Each metric over the strength, from documents as they are at 0; lines upright are 95 % intervals.";
const QUALITY: &str = "Found by asking again with other documents or other reasoning. An answer rests on what it cites if it changes without the cited documents and not without as many others; it follows its sources if an edited document changes it; it needs its reasoning if it changes when that is cut off.";
const POINTING: &str = "Of cited pictures of which it is known where the asked-for thing stands: the share of the strongest patch that lies there, and the share of the attribution that does, as means over questions with 95 % intervals. An even attribution has as much there as the region is large. With random weights, told the same replies, an attribution should find no more than that.";
const QUESTIONS: &str = "Each opens to the answer with its reasoning, the documents in the order given with the filter\u{2019}s probabilities, and the rejected ones with the reasons. Labels in the reasoning lead to their documents.";

fn lead(report: &Report) -> String {
    let mut seeds: Vec<u64> = report.seeds.iter().flat_map(|(_, seeds)| seeds).copied().collect();
    seeds.sort_unstable();
    seeds.dedup();
    let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
    let questions = report.summary.questions;
    match report.summary.variants.len() {
        0 | 1 => format!("{questions} questions"),
        n if seeds.len() < 2 => format!("{questions} questions · {n} variants"),
        n => format!("{questions} questions · {n} variants · training seeds {}", seeds.join(", ")),
    }
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
