//! The sections of the page that show figures.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::markup::{breakable, escaped, p_value, percent, points};
use super::plot::{self, ForestRow, ForestVerdict, Line, bar, series};
use super::{Curve, Group, Named, Report, Test};
use crate::evaluation::{Failure, Metric, Slicing};
use crate::statistics::Interval;

macro_rules! put {
    ($to:expr, $($part:tt)*) => {
        write!($to, $($part)*).expect("writing to a string does not fail")
    };
}

/// The figures a reader looks for first: the first comparison's variants side by side, or those
/// of the only variant.
pub(super) fn tiles(report: &Report) -> String {
    let mut html = String::from("<div class=\"tiles\">");
    let mut tile = |metric: Metric, value: Interval, small: &str| {
        let (title, value) = (metric.title(), percent(value.value));
        put!(html, "<div class=\"tile\"><h3>{title}</h3><b>{value}</b>{small}</div>");
    };
    if let Some(first) = report.summary.tests.first().filter(|_| hub(report).is_none()) {
        let is_first = |test: &&Test| test.a == first.a && test.b == first.b;
        for test in report.summary.tests.iter().filter(is_first) {
            let Some(metric) = Metric::named(test.metric) else { continue };
            let Some(value) = report.figure(&test.a, metric) else { continue };
            let (class, diff, other) = (class(verdict(test)), points(test.diff), escaped(&test.b));
            tile(
                metric,
                value,
                &format!("<small class=\"{class}\">{diff} against {other}</small>"),
            );
        }
    } else if let Some((name, _)) = report.summary.variants.iter().next() {
        for metric in report.metrics() {
            let Some(value) = report.figure(name, metric) else { continue };
            let (low, high) = (percent(value.low), percent(value.high));
            tile(metric, value, &format!("<small>{low} – {high}</small>"));
        }
    }
    html + "</div>"
}

/// What a reader must know to judge the figures.
pub(super) fn facts(report: &Report) -> String {
    let mut html = String::from("<dl class=\"facts\">");
    for (name, value) in report.facts.iter() {
        put!(html, "<div><dt>{}</dt><dd>{}</dd></div>", escaped(name), escaped(value));
    }
    html + "</dl>"
}

/// Right answers and classes of failure, a bar a variant.
pub(super) fn failures(report: &Report) -> String {
    let mut html = String::from("<div class=\"card\">");
    let mut seen: Vec<Failure> = Vec::new();
    for (name, counts) in report.failures.iter() {
        let all: usize = counts.iter().map(|(_, count)| count).sum();
        put!(html, "<p class=\"stack-name\">{}</p><div class=\"stack\">", escaped(name));
        for (class, count) in counts.iter() {
            let share = *count as f64 / all.max(1) as f64;
            let failure = Failure::ALL.into_iter().find(|failure| failure.name() == class);
            seen.extend(failure);
            let (colour, title) = failure_look(failure);
            put!(
                html,
                "<i class=\"{colour}\" style=\"flex-grow:{count}\" title=\"{title}: {count}\">{}</i>",
                if share >= 0.06 { count.to_string() } else { String::new() }
            );
        }
        html.push_str("</div>");
    }
    html.push_str("<ul class=\"legend\">");
    let looks = std::iter::once(None).chain(Failure::ALL.into_iter().map(Some));
    for failure in looks.filter(|failure| failure.is_none_or(|f| seen.contains(&f))) {
        let (colour, title) = failure_look(failure);
        put!(html, "<li><i class=\"{colour}\"></i>{title}</li>");
    }
    html + "</ul></div>"
}

/// The class of colour and the name of a class of failure; of none that of a right answer.
fn failure_look(failure: Option<Failure>) -> (String, &'static str) {
    let Some(failure) = failure else { return ("good".to_owned(), "right") };
    let place = Failure::ALL.iter().position(|known| *known == failure).unwrap_or_default();
    (format!("e{place}"), failure.title())
}

/// Every variant, every metric.
pub(super) fn results(report: &Report) -> String {
    let mut html = String::from("<div class=\"scroll\"><table><thead><tr><th>Variant</th>");
    for metric in report.metrics() {
        put!(html, "<th>{}</th>", metric.title());
    }
    html.push_str("</tr></thead><tbody>");
    for (i, (name, figures)) in report.summary.variants.iter().enumerate() {
        let about = report.about.get(name).map_or("", String::as_str);
        put!(html, "<tr><th class=\"row\"><i class=\"{}\"></i>{}", series(i), escaped(name));
        put!(html, "<small>{}</small></th>", escaped(about));
        for metric in report.metrics() {
            let figure = figures.get(metric.name()).copied().flatten();
            html.push_str(&cell(figure, is_best(report, metric, figure)));
        }
        html.push_str("</tr>");
    }
    html + "</tbody></table></div>"
}

/// What several variants are all measured by, if there is one such.
pub(super) fn hub(report: &Report) -> Option<&str> {
    let tests = &report.summary.tests;
    let first = tests.first()?;
    let is_hub =
        tests.iter().all(|test| test.b == first.b) && tests.iter().any(|test| test.a != first.a);
    is_hub.then_some(&first.b)
}

/// One forest plot a comparison; where all variants are measured by one, a plot a metric.
pub(super) fn differences(report: &Report) -> String {
    match hub(report) {
        Some(hub) => by_metric(report, hub),
        None => by_pair(report),
    }
}

fn by_metric(report: &Report, hub: &str) -> String {
    let mut html = String::new();
    for metric in report.metrics() {
        let of_it = report.summary.tests.iter().filter(|test| test.metric == metric.name());
        let rows: Vec<ForestRow> = of_it.map(|test| forest_row(&test.a, test)).collect();
        if rows.is_empty() {
            continue;
        }
        let title = metric.title();
        put!(
            html,
            "<figure class=\"card wide-plot\"><figcaption><b>{title}</b> minus that of <b>{}</b>, percentage points</figcaption>",
            escaped(hub)
        );
        html.push_str(&plot::forest(title, &rows));
        html.push_str("</figure>");
    }
    html
}

fn forest_row<'a>(name: &'a str, test: &Test) -> ForestRow<'a> {
    ForestRow {
        name,
        diff: test.diff,
        low: test.low,
        high: test.high,
        verdict: verdict(test),
        note: format!(
            "{} [{}, {}]  p {}  ({})",
            points(test.diff),
            points(test.low),
            points(test.high),
            p_value(test.p_holm),
            percent(test.detectable)
        ),
    }
}

fn by_pair(report: &Report) -> String {
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for test in &report.summary.tests {
        if !pairs.contains(&(&test.a, &test.b)) {
            pairs.push((&test.a, &test.b));
        }
    }
    let mut html = String::new();
    for (a, b) in pairs {
        let of_pair = report.summary.tests.iter().filter(|test| test.a == a && test.b == b);
        let rows: Vec<ForestRow> = of_pair
            .map(|test| {
                forest_row(Metric::named(test.metric).map_or(test.metric, Metric::title), test)
            })
            .collect();
        let title = format!("{a} − {b}");
        put!(
            html,
            "<figure class=\"card wide-plot\"><figcaption><b>{}</b> minus <b>{}</b>, percentage points</figcaption>",
            escaped(a),
            escaped(b)
        );
        html.push_str(&plot::forest(&title, &rows));
        html.push_str("</figure>");
    }
    html
}

/// Gold documents after each step, for each variant.
pub(super) fn funnel(report: &Report) -> String {
    let mut html = String::from(
        "<div class=\"scroll\"><table class=\"funnel\"><thead><tr><th>Variant</th><th>Step</th><th>Recall of gold</th><th>Precision</th></tr></thead><tbody>",
    );
    for (i, (name, steps)) in report.funnel.iter().enumerate() {
        for (j, step) in steps.iter().enumerate() {
            html.push_str("<tr>");
            if j == 0 {
                put!(
                    html,
                    "<th class=\"row\" rowspan=\"{}\"><i class=\"{}\"></i>{}</th>",
                    steps.len(),
                    series(i),
                    escaped(name)
                );
            }
            put!(html, "<td>{}</td>", step.step);
            for fraction in [Some(step.recall), step.precision] {
                let Some(fraction) = fraction else {
                    html.push_str("<td class=\"none\">–</td>");
                    continue;
                };
                put!(
                    html,
                    "<td class=\"wide\">{}<span>{}</span></td>",
                    bar(fraction, &series(i)),
                    percent(fraction)
                );
            }
            html.push_str("</tr>");
        }
    }
    html + "</tbody></table></div>"
}

/// One plot a training run, a line for each part.
pub(super) fn training(curves: &[Curve]) -> String {
    let mut runs: Vec<(&str, Vec<Line>)> = Vec::new();
    for curve in curves {
        let line = Line { name: &curve.part, points: &curve.points };
        match runs.iter_mut().find(|(run, _)| *run == curve.run) {
            Some((_, lines)) => lines.push(line),
            None => runs.push((&curve.run, vec![line])),
        }
    }
    let mut html = String::from("<div class=\"plots\">");
    for (run, lines) in runs {
        put!(html, "<figure class=\"card\"><figcaption><b>{}</b></figcaption>", escaped(run));
        html.push_str(&plot::lines(run, &lines));
        html.push_str(&plot::legend(lines.iter().map(|line| line.name)));
        html.push_str("</figure>");
    }
    html + "</div>"
}

/// Answer EM of each variant over the slices of every way to cut the questions.
pub(super) fn all_groups(report: &Report) -> String {
    let ways = Slicing::ALL.into_iter().filter(|slicing| report.slices(*slicing).len() > 1);
    ways.map(|slicing| groups(slicing.title(), report, report.slices(slicing))).collect()
}

fn groups(title: &str, report: &Report, groups: &Named<Group>) -> String {
    let mut html = String::new();
    put!(
        html,
        "<div class=\"scroll\"><table><thead><tr><th>{}</th><th>Questions</th>",
        escaped(title)
    );
    for (i, (name, _)) in report.summary.variants.iter().enumerate() {
        put!(html, "<th><i class=\"{}\"></i>{}</th>", series(i), escaped(name));
    }
    html.push_str("</tr></thead><tbody>");
    for (name, group) in groups.iter() {
        let name = if name.is_empty() { "(no type)" } else { name };
        put!(html, "<tr><th class=\"row\">{}</th><td>{}</td>", breakable(name), group.questions);
        for (_, figures) in group.variants.iter() {
            let figure = figures.get(Metric::AnswerEm.name()).copied().flatten();
            html.push_str(&cell(figure, false));
        }
        html.push_str("</tr>");
    }
    html + "</tbody></table></div>"
}

/// Confidence against being right, a plot for each variant.
pub(super) fn reliability(report: &Report) -> String {
    let colours: BTreeMap<&str, usize> =
        report.summary.variants.iter().enumerate().map(|(i, (name, _))| (name, i)).collect();
    let mut html = String::from("<div class=\"plots small\">");
    for (name, reliability) in report.reliability.iter() {
        let answers: usize = reliability.bins.iter().map(|bin| bin.answers).sum();
        let share = |n: usize| n as f64 / answers.max(1) as f64;
        let bins = reliability.bins.iter();
        let dots = bins.map(|bin| [bin.confidence, bin.right, share(bin.answers)]).collect();
        let colour = colours.get(name).copied().unwrap_or(0);
        put!(
            html,
            "<figure class=\"card\"><figcaption><b>{}</b> ECE {}, area under the risk {}</figcaption>",
            escaped(name),
            percent(reliability.ece),
            percent(reliability.aurc)
        );
        html.push_str(&plot::reliability(name, &[(colour, dots)]));
        html.push_str(&plot::risk(name, colour, &reliability.risk));
        html.push_str("</figure>");
    }
    html + "</div>"
}

/// The differences that are none, or go the wrong way.
pub(super) fn what_did_not_help(report: &Report) -> String {
    let mut html = String::from("<ul class=\"plain\">");
    let mut any = false;
    for test in &report.summary.tests {
        let metric = Metric::named(test.metric).map_or(test.metric, Metric::title);
        let said = match verdict(test) {
            ForestVerdict::Better => continue,
            ForestVerdict::Worse => "is worse",
            ForestVerdict::Unclear => "no difference can be claimed",
        };
        if test.low == 0.0 && test.high == 0.0 {
            // The same in every resample: the part is not there to differ.
            continue;
        }
        any = true;
        let (a, b) = (escaped(&test.a), escaped(&test.b));
        put!(
            html,
            "<li><b>{a}</b> against <b>{b}</b>, {metric}: {said} ({} points, 95 % interval {} to {}, corrected p {}).</li>",
            points(test.diff),
            points(test.low),
            points(test.high),
            p_value(test.p_holm)
        );
    }
    match (any, report.summary.tests.is_empty()) {
        (true, _) => html + "</ul>",
        (false, true) => "<p>Nothing was compared.</p>".to_owned(),
        (false, false) => "<p>Every tested difference is a gain.</p>".to_owned(),
    }
}

/// A difference counts if its corrected p is below 0.05 and its interval leaves 0 out.
pub(super) fn verdict(test: &Test) -> ForestVerdict {
    let is_clear = test.p_holm < 0.05 && (test.low > 0.0 || test.high < 0.0);
    let less_is_better = Metric::named(test.metric).is_some_and(Metric::less_is_better);
    match (is_clear, (test.diff > 0.0) != less_is_better) {
        (false, _) => ForestVerdict::Unclear,
        (true, true) => ForestVerdict::Better,
        (true, false) => ForestVerdict::Worse,
    }
}

pub(super) fn class(verdict: ForestVerdict) -> &'static str {
    match verdict {
        ForestVerdict::Better => "good",
        ForestVerdict::Worse => "bad",
        ForestVerdict::Unclear => "unclear",
    }
}

fn cell(figure: Option<Interval>, is_best: bool) -> String {
    let Some(Interval { value, low, high }) = figure else {
        return "<td class=\"none\">–</td>".to_owned();
    };
    let class = if is_best { " class=\"best\"" } else { "" };
    format!("<td{class}>{}<small>{} – {}</small></td>", percent(value), percent(low), percent(high))
}

/// Whether no variant is better; all equal is no best.
fn is_best(report: &Report, metric: Metric, figure: Option<Interval>) -> bool {
    let Some(figure) = figure else { return false };
    let sign = if metric.less_is_better() { -1.0 } else { 1.0 };
    let variants = report.summary.variants.iter();
    let values: Vec<f64> =
        variants.filter_map(|(name, _)| Some(report.figure(name, metric)?.value * sign)).collect();
    let is_top = values.iter().all(|value| *value <= figure.value * sign);
    is_top && values.iter().any(|value| *value < figure.value * sign)
}
