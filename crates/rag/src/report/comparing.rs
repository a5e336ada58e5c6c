//! The sections of the page that are about two runs: slices, and the questions that changed.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::examples::ReportExample;
use super::markup::{breakable, escaped, p_value, points};
use super::sections::{class, verdict};
use super::{Change, Report, SliceTest};
use crate::evaluation::{Failure, Metric, Slicing};

/// Changed questions that the table lists; the report's JSON has all.
const LISTED: usize = 60;

macro_rules! put {
    ($to:expr, $($part:tt)*) => {
        write!($to, $($part)*).expect("writing to a string does not fail")
    };
}

/// The tested differences of every slice, exact match and F1 side by side.
pub(super) fn slices(report: &Report) -> String {
    let mut html = String::new();
    for slicing in Slicing::ALL {
        let of_it = |metric: Metric| {
            let rows = report.slice_tests.iter();
            rows.filter(move |r| r.slicing == slicing.name() && r.test.metric == metric.name())
        };
        if of_it(Metric::AnswerEm).next().is_none() {
            continue;
        }
        put!(
            html,
            "<div class=\"scroll\"><table><thead><tr><th>{}</th><th>Questions</th><th>EM, points</th><th>p, Holm</th><th>Better / worse</th><th>F1, points</th><th>p, Holm</th></tr></thead><tbody>",
            slicing.title()
        );
        for (em, f1) in of_it(Metric::AnswerEm).zip(of_it(Metric::AnswerF1)) {
            put!(html, "<tr><th class=\"row\">{}</th>", breakable(&em.slice));
            put!(html, "<td>{}</td>{}", em.questions, difference(em));
            put!(html, "<td>{} / {}</td>{}</tr>", em.test.wins, em.test.losses, difference(f1));
        }
        html.push_str("</tbody></table></div>");
    }
    html
}

fn difference(row: &SliceTest) -> String {
    let test = &row.test;
    format!(
        "<td class=\"{}\">{}<small>{} – {}</small></td><td>{}</td>",
        class(verdict(test)),
        points(test.diff),
        points(test.low),
        points(test.high),
        p_value(test.p_holm)
    )
}

/// The questions that changed, the largest regression first, with links to those that the page
/// shows.
pub(super) fn changes(report: &Report, examples: &[ReportExample]) -> String {
    let worse = report.changes.iter().filter(|change| change.is_regression()).count();
    let mut html = String::new();
    put!(
        html,
        "<p>{worse} questions got worse, {} better; the others are answered as well as before.</p>",
        report.changes.len() - worse
    );
    if report.changes.is_empty() {
        return html;
    }
    let places: HashMap<&str, usize> = examples
        .iter()
        .enumerate()
        .map(|(place, shown)| (shown.example.question.id.as_str(), place))
        .collect();
    html.push_str("<div class=\"scroll\"><table class=\"changes\"><thead><tr><th>Question</th><th>EM</th><th>F1</th><th class=\"left\">Before</th><th class=\"left\">After</th><th class=\"left\">Gold</th></tr></thead><tbody>");
    for change in report.changes.iter().take(LISTED) {
        html.push_str(&row(change, places.get(change.question.as_str()).copied()));
    }
    html.push_str("</tbody></table></div>");
    if report.changes.len() > LISTED {
        let more = report.changes.len() - LISTED;
        put!(html, "<p class=\"meta\">and {more} more, which report.json lists</p>");
    }
    html
}

fn row(change: &Change, place: Option<usize>) -> String {
    let text = escaped(&change.text);
    let question = match place {
        Some(place) => format!("<a href=\"#q{place}\">{text}</a>"),
        None => text,
    };
    let answer = |answer: &str, failure: Option<Failure>| {
        let class = if failure.is_some() { "bad" } else { "good" };
        let why = failure.map_or_else(String::new, |f| format!("<small>{}</small>", f.title()));
        format!(
            "<td class=\"left wrap\"><span class=\"{class}\">{}</span>{why}</td>",
            escaped(answer)
        )
    };
    format!(
        "<tr><th class=\"row wrap\">{question}<small>{} · {}</small></th><td>{}</td><td>{}</td>{}{}<td class=\"left wrap\">{}</td></tr>",
        escaped(change.question.as_str()),
        escaped(&change.kind),
        points(change.em),
        points(change.f1),
        answer(&change.before, change.failure_before),
        answer(&change.after, change.failure_after),
        escaped(&change.gold.join("; "))
    )
}
