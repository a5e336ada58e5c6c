//! The sections of the page that come of asking again: worse documents, other reasoning.

use std::fmt::Write as _;

use super::markup::{escaped, percent};
use super::plot;
use super::{Named, Report};
use crate::evaluation::Metric;
use crate::quality::{Measure, PointingMeasures, THINK_SHARES};

/// What is drawn over the strength.
const DRAWN: [Metric; 4] =
    [Metric::AnswerEm, Metric::CitedF1, Metric::GoldKept, Metric::Unparsable];

macro_rules! put {
    ($to:expr, $($part:tt)*) => {
        write!($to, $($part)*).expect("writing to a string does not fail")
    };
}

/// A plot for each way to make documents worse.
pub(super) fn strengths(report: &Report) -> String {
    if report.strengths.is_empty() {
        return String::new();
    }
    let mut html = String::from("<div class=\"plots\">");
    for strengths in &report.strengths {
        let line = |metric: Metric| -> Vec<[f64; 4]> {
            let points = strengths.points.iter();
            let at = points.filter_map(|point| {
                let figure = report.figure(&point.variant, metric)?;
                Some([point.strength, figure.value, figure.low, figure.high])
            });
            at.collect()
        };
        put!(
            html,
            "<figure class=\"card\"><figcaption><b>{}</b></figcaption>{}{}</figure>",
            escaped(&strengths.kind),
            plot::strengths(&strengths.kind, &DRAWN.map(line)),
            plot::legend(DRAWN.iter().map(|metric| metric.title()))
        );
    }
    html + "</div>"
}

/// The figures of explanations, whole and by slices.
pub(super) fn quality(report: &Report) -> String {
    let Some(measures) = &report.quality else { return String::new() };
    let mut html = String::from(
        "<div class=\"scroll\"><table><thead><tr><th>Measure</th><th>Explanations</th><th>Mean</th></tr></thead><tbody>",
    );
    for (name, measure) in measures.all.iter() {
        put!(html, "<tr><th class=\"row\">{}</th>", escaped(&measure.title));
        put!(html, "<td>{}</td>{}</tr>", measure.explanations, cell(name, Some(measure), false));
    }
    html.push_str("</tbody></table></div>");
    html.push_str(&cut_reasoning(&measures.all));
    html.push_str(&slices("Gold documents", &measures.by_modality));
    html + &slices("Documents needed", &measures.by_documents)
}

/// The figures of attributions, for each part of the reply that was asked about.
pub(super) fn pointing(report: &Report) -> String {
    let mut html = String::new();
    for measures in &report.pointing {
        let PointingMeasures { told, pictures, questions, .. } = measures;
        put!(
            html,
            "<h3>Asked of {}</h3><p class=\"meta\">{pictures} pictures of {questions} questions</p>",
            told.title()
        );
        html.push_str("<div class=\"scroll\"><table><tbody>");
        for (name, measure) in measures.all.iter() {
            put!(html, "<tr><th class=\"row\">{}</th>", escaped(&measure.title));
            put!(html, "{}</tr>", cell(name, Some(measure), false));
        }
        html.push_str("</tbody></table></div>");
        html.push_str(&slices("In the region stands", &measures.by_part));
        html.push_str(&slices("The answer is", &measures.by_answer));
    }
    html
}

fn slices(title: &str, slices: &Named<Named<Measure>>) -> String {
    let mut columns: Vec<(&str, &str)> = Vec::new();
    for (name, measure) in slices.iter().flat_map(|(_, of_it)| of_it.iter()) {
        if columns.iter().all(|(known, _)| *known != name) {
            columns.push((name, &measure.title));
        }
    }
    let mut html = String::new();
    put!(html, "<div class=\"scroll\"><table class=\"measures\"><thead><tr><th>{title}</th>");
    for (_, title) in &columns {
        put!(html, "<th>{}</th>", escaped(title));
    }
    html.push_str("</tr></thead><tbody>");
    for (slice, of_it) in slices.iter() {
        put!(html, "<tr><th class=\"row\">{}</th>", escaped(slice));
        for (name, _) in &columns {
            html.push_str(&cell(name, of_it.get(name), true));
        }
        html.push_str("</tr>");
    }
    html + "</tbody></table></div>"
}

/// How many answers stay over how much of the reasoning stays.
fn cut_reasoning(all: &Named<Measure>) -> String {
    let at = |share: f64| {
        let figure = all.get(&format!("same_with_think_{}", (100.0 * share).round()))?.figure;
        Some([share, figure.value, figure.low, figure.high])
    };
    let mut points: Vec<[f64; 4]> = THINK_SHARES.into_iter().filter_map(at).collect();
    if points.is_empty() {
        return String::new();
    }
    // With all of it, the order given, the answer is that of before.
    points.push([1.0; 4]);
    format!(
        "<div class=\"plots\"><figure class=\"card\"><figcaption>Share of answers that stay over the share of the reasoning that is given</figcaption>{}</figure></div>",
        plot::strengths("answers that stay over reasoning given", &[points])
    )
}

/// A share in percent; steps and τ as they are.
fn cell(name: &str, measure: Option<&Measure>, with_count: bool) -> String {
    let Some(measure) = measure else { return "<td class=\"none\">–</td>".to_owned() };
    let is_plain = matches!(name, "steps" | "filter_tau");
    let shown = |value: f64| {
        let text = if is_plain { format!("{value:.2}") } else { percent(value) };
        text.replace('-', "−")
    };
    let figure = measure.figure;
    let count = if with_count { format!(" · {}", measure.explanations) } else { String::new() };
    format!(
        "<td>{}<small>{} – {}{count}</small></td>",
        shown(figure.value),
        shown(figure.low),
        shown(figure.high),
    )
}
