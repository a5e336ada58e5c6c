//! Plots as inline SVG. Colours are CSS variables of the page, so that plots follow its dark and
//! light dress; classes `s0` … `s7` are the colours of series.

use std::fmt::Write as _;

use super::markup::{escaped, percent, points};

const PLOT_WIDTH: f64 = 340.0;
const PLOT_HEIGHT: f64 = 200.0;
const LEFT: f64 = 40.0;
const BOTTOM: f64 = 24.0;
const TOP: f64 = 10.0;
/// Number of series colours of the page.
const COLOURS: usize = 8;

macro_rules! put {
    ($to:expr, $($part:tt)*) => {
        write!($to, $($part)*).expect("writing to a string does not fail")
    };
}

/// A line of a plot.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) points: &'a [[f64; 2]],
}

/// A row of a forest plot: a difference with its interval.
pub(super) struct ForestRow<'a> {
    pub(super) name: &'a str,
    pub(super) diff: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    /// Whether more is better, less is better, or nothing can be said.
    pub(super) verdict: ForestVerdict,
    pub(super) note: String,
}

/// What a difference says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ForestVerdict {
    Better,
    Worse,
    Unclear,
}

/// The class of the `i`-th series.
pub(super) fn series(i: usize) -> String {
    format!("s{}", i % COLOURS)
}

/// A legend of series in order.
pub(super) fn legend<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut html = String::from("<ul class=\"legend\">");
    for (i, name) in names.enumerate() {
        put!(html, "<li><i class=\"{}\"></i>{}</li>", series(i), escaped(name));
    }
    html + "</ul>"
}

/// Lines over steps: each faint as it is, and strong as its running mean.
pub(super) fn lines(title: &str, lines: &[Line]) -> String {
    let all = || {
        lines.iter().flat_map(|line| line.points).filter(|p| p[0].is_finite() && p[1].is_finite())
    };
    let (x_low, x_high) = range(all().map(|point| point[0]));
    let (y_low, y_high) = padded(range(all().map(|point| point[1])));
    let x = |value: f64| LEFT + (value - x_low) / (x_high - x_low) * (PLOT_WIDTH - LEFT - 8.0);
    let y = |value: f64| {
        PLOT_HEIGHT - BOTTOM - (value - y_low) / (y_high - y_low) * (PLOT_HEIGHT - BOTTOM - TOP)
    };
    let mut svg = open(PLOT_WIDTH, PLOT_HEIGHT, title);
    for tick in ticks(y_low, y_high) {
        let at = y(tick);
        put!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{PLOT_WIDTH}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>"
        );
        let (x, y) = (LEFT - 6.0, at + 3.5);
        put!(svg, "<text class=\"tick end\" x=\"{x}\" y=\"{y:.1}\">{}</text>", tick_label(tick));
    }
    for tick in ticks(x_low, x_high) {
        let (at, y) = (x(tick), PLOT_HEIGHT - 8.0);
        put!(svg, "<text class=\"tick mid\" x=\"{at:.1}\" y=\"{y}\">{}</text>", tick_label(tick));
    }
    for (i, line) in lines.iter().enumerate() {
        let raw: Vec<[f64; 2]> =
            line.points.iter().copied().filter(|p| p[0].is_finite() && p[1].is_finite()).collect();
        for (points, class) in [(&raw, "line faint"), (&running_mean(&raw), "line")] {
            let path: Vec<String> =
                points.iter().map(|p| format!("{:.1},{:.1}", x(p[0]), y(p[1]))).collect();
            put!(svg, "<polyline class=\"{class} {}\" points=\"{}\"/>", series(i), path.join(" "));
        }
    }
    svg + "</svg>"
}

/// Differences with their intervals around 0.
pub(super) fn forest(title: &str, rows: &[ForestRow]) -> String {
    const ROW: f64 = 26.0;
    const NAMES: f64 = 160.0;
    const VALUES: f64 = 590.0;
    let ends = rows.iter().flat_map(|row| [row.low, row.high, row.diff, 0.0]);
    let (low, high) = padded(range(ends));
    let x = |value: f64| NAMES + 16.0 + (value - low) / (high - low) * (VALUES - NAMES - 40.0);
    let height = ROW * rows.len() as f64 + 26.0;
    let mut svg = open(840.0, height, title);
    for tick in ticks(low, high) {
        let (at, end) = (x(tick), height - 22.0);
        let class = if tick == 0.0 { "zero" } else { "grid" };
        put!(svg, "<line class=\"{class}\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"0\" y2=\"{end}\"/>");
        let y = height - 6.0;
        put!(svg, "<text class=\"tick mid\" x=\"{at:.1}\" y=\"{y}\">{}</text>", points(tick));
    }
    for (i, row) in rows.iter().enumerate() {
        let y = ROW * i as f64 + ROW / 2.0;
        let class = match row.verdict {
            ForestVerdict::Better => "good",
            ForestVerdict::Worse => "bad",
            ForestVerdict::Unclear => "unclear",
        };
        let (text_y, low, high, at) = (y + 4.0, x(row.low), x(row.high), x(row.diff));
        put!(
            svg,
            "<text class=\"name end\" x=\"{NAMES}\" y=\"{text_y}\">{}</text>",
            escaped(row.name)
        );
        put!(
            svg,
            "<line class=\"whisker {class}\" x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{y}\" y2=\"{y}\"/>"
        );
        put!(svg, "<circle class=\"dot {class}\" cx=\"{at:.1}\" cy=\"{y}\" r=\"4.5\"/>");
        put!(svg, "<text class=\"value\" x=\"{VALUES}\" y=\"{text_y}\">{}</text>", row.note);
    }
    svg + "</svg>"
}

/// A thin bar for a fraction.
pub(super) fn bar(fraction: f64, class: &str) -> String {
    let width = (fraction.clamp(0.0, 1.0) * 100.0 * 10.0).round() / 10.0;
    format!(
        "<span class=\"bar {class}\" title=\"{}\"><i style=\"width:{width}%\"></i></span>",
        percent(fraction)
    )
}

/// Share right over confidence; the diagonal is a confidence that holds. The area of a dot is its
/// share of the answers.
pub(super) fn reliability(title: &str, series_of_bins: &[(usize, Vec<[f64; 3]>)]) -> String {
    const SIZE: f64 = 240.0;
    let at = |value: f64| 36.0 + value * (SIZE - 46.0);
    let mut svg = open(SIZE, SIZE, title);
    for tick in [0.0, 0.5, 1.0] {
        let (x, y) = (at(tick), SIZE - at(tick));
        put!(
            svg,
            "<line class=\"grid\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
            at(0.0),
            at(1.0)
        );
        put!(svg, "<text class=\"tick end\" x=\"30\" y=\"{:.1}\">{tick}</text>", y + 3.5);
        put!(svg, "<text class=\"tick mid\" x=\"{x:.1}\" y=\"{:.1}\">{tick}</text>", SIZE - 18.0);
    }
    let (low, high) = (at(0.0), at(1.0));
    put!(
        svg,
        "<line class=\"zero dashed\" x1=\"{low}\" y1=\"{:.1}\" x2=\"{high}\" y2=\"{:.1}\"/>",
        SIZE - low,
        SIZE - high
    );
    for (i, bins) in series_of_bins {
        for [confidence, right, share] in bins {
            let (x, y, radius) = (at(*confidence), SIZE - at(*right), 2.5 + 9.0 * share.sqrt());
            let class = series(*i);
            put!(
                svg,
                "<circle class=\"dot soft {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"/>"
            );
        }
    }
    put!(
        svg,
        "<text class=\"tick mid\" x=\"{:.1}\" y=\"{:.1}\">confidence</text>",
        at(0.5),
        SIZE - 4.0
    );
    svg + "</svg>"
}

/// Share wrong over the share of questions that get an answer, the most confident first.
pub(super) fn risk(title: &str, colour: usize, points: &[[f64; 2]]) -> String {
    const SIZE: f64 = 240.0;
    const HEIGHT: f64 = 150.0;
    let x = |value: f64| 36.0 + value * (SIZE - 46.0);
    let y = |value: f64| HEIGHT - 34.0 - value * (HEIGHT - 44.0);
    let mut svg = open(SIZE, HEIGHT, &format!("{title}: risk over coverage"));
    for tick in [0.0, 0.5, 1.0] {
        let (low, high, at) = (x(0.0), x(1.0), y(tick));
        put!(
            svg,
            "<line class=\"grid\" x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>"
        );
        put!(svg, "<text class=\"tick end\" x=\"30\" y=\"{:.1}\">{tick}</text>", at + 3.5);
        let (at, below) = (x(tick), HEIGHT - 19.0);
        put!(svg, "<text class=\"tick mid\" x=\"{at:.1}\" y=\"{below}\">{tick}</text>");
    }
    let path: Vec<String> =
        points.iter().map(|[share, risk]| format!("{:.1},{:.1}", x(*share), y(*risk))).collect();
    put!(svg, "<polyline class=\"line {}\" points=\"{}\"/>", series(colour), path.join(" "));
    put!(
        svg,
        "<text class=\"tick mid\" x=\"{:.1}\" y=\"{:.1}\">share wrong over share answered</text>",
        x(0.5),
        HEIGHT - 4.0
    );
    svg + "</svg>"
}

/// Lines over strengths from 0 to 1, values from 0 to 1: of each point strength, value, and the
/// ends of its interval.
pub(super) fn strengths(title: &str, lines: &[Vec<[f64; 4]>]) -> String {
    let x = |value: f64| LEFT + 6.0 + value * (PLOT_WIDTH - LEFT - 18.0);
    let y = |value: f64| PLOT_HEIGHT - BOTTOM - value * (PLOT_HEIGHT - BOTTOM - TOP);
    let mut svg = open(PLOT_WIDTH, PLOT_HEIGHT, title);
    for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let (at, end) = (y(tick), LEFT - 6.0);
        put!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{PLOT_WIDTH}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>"
        );
        put!(svg, "<text class=\"tick end\" x=\"{end}\" y=\"{:.1}\">{tick}</text>", at + 3.5);
        let (at, below) = (x(tick), PLOT_HEIGHT - 8.0);
        put!(svg, "<text class=\"tick mid\" x=\"{at:.1}\" y=\"{below}\">{tick}</text>");
    }
    for (i, points) in lines.iter().enumerate() {
        let (class, aside) = (series(i), i as f64 * 2.0 - 3.0);
        let path: Vec<String> = points
            .iter()
            .map(|[strength, value, ..]| format!("{:.1},{:.1}", x(*strength) + aside, y(*value)))
            .collect();
        put!(svg, "<polyline class=\"line {class}\" points=\"{}\"/>", path.join(" "));
        for [strength, value, low, high] in points {
            let (at, value, low, high) = (x(*strength) + aside, y(*value), y(*low), y(*high));
            put!(
                svg,
                "<line class=\"line thin {class}\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{low:.1}\" y2=\"{high:.1}\"/>"
            );
            put!(svg, "<circle class=\"dot {class}\" cx=\"{at:.1}\" cy=\"{value:.1}\" r=\"3\"/>");
        }
    }
    svg + "</svg>"
}

fn open(width: f64, height: f64, title: &str) -> String {
    let title = escaped(title);
    format!(
        "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\"><title>{title}</title>"
    )
}

/// The least and the greatest value; (0, 1) of none.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    match low <= high {
        true if low < high => (low, high),
        true => (low - 0.5, high + 0.5),
        false => (0.0, 1.0),
    }
}

fn padded((low, high): (f64, f64)) -> (f64, f64) {
    let padding = (high - low) * 0.06;
    (low - padding, high + padding)
}

/// Round values between two ends: at most seven, steps of 1, 2 or 5 times a power of ten.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= rough * 0.99);
    let step = step.unwrap_or(10.0 * power);
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    (first..=last).take(12).map(|i| i as f64 * step).collect()
}

fn tick_label(value: f64) -> String {
    let rounded = (value * 1e4).round() / 1e4;
    if rounded.abs() >= 10_000.0 {
        format!("{}k", rounded / 1000.0)
    } else {
        // Adding 0 turns -0 into 0.
        format!("{}", rounded + 0.0)
    }
}

/// The mean over the points up to a fortieth of their number away on both sides.
fn running_mean(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let reach = points.len() / 40 + usize::from(points.len() > 8);
    (0..points.len())
        .map(|i| {
            let near = &points[i.saturating_sub(reach)..(i + reach + 1).min(points.len())];
            [points[i][0], near.iter().map(|p| p[1]).sum::<f64>() / near.len() as f64]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        let check = |low, high, expected: &[f64]| {
            let found = ticks(low, high);
            assert_eq!(found.len(), expected.len(), "{found:?}");
            for (a, b) in found.iter().zip(expected) {
                assert!((a - b).abs() < 1e-9, "{found:?}");
            }
        };
        check(0.0, 1.0, &[0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        check(-0.03, 0.11, &[0.0, 0.05, 0.1]);
        check(1.0, 400.0, &[100.0, 200.0, 300.0, 400.0]);
    }

    #[test]
    fn odd_curves_still_make_plots() {
        for points in [&[][..], &[[1.0, 2.0]], &[[1.0, f64::NAN], [2.0, f64::INFINITY]]] {
            let svg = lines("x", &[Line { name: "a", points }]);
            assert!(
                svg.ends_with("</svg>") && !svg.contains("NaN") && !svg.contains("inf"),
                "{svg}"
            );
        }
    }

    #[test]
    fn a_running_mean_keeps_a_constant() {
        let points: Vec<[f64; 2]> = (0..100).map(|i| [f64::from(i), 0.5]).collect();
        assert_eq!(running_mean(&points), points);
    }
}
