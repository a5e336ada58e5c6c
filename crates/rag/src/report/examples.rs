//! Answered questions on the page: answers, reasoning with links to documents, and why not the
//! others.

use std::fmt::Write as _;

use mmrag_core::Example;

use super::documents::{Cards, anchor, cut};
use super::markup::{escaped, percent};
use crate::evaluation::{Failure, Outcome};
use crate::explanation::{Explanation, ReasoningStep};

macro_rules! put {
    ($to:expr, $($part:tt)*) => {
        write!($to, $($part)*).expect("writing to a string does not fail")
    };
}

/// An answered question to show.
#[derive(Clone, Debug)]
pub struct ReportExample {
    /// The question with its documents and gold. Documents that are not in it are shown by title.
    pub example: Example,
    /// Who answered it. The first is what right and wrong are told of; of two, the second is what
    /// it is compared with.
    pub answered: Vec<Answered>,
}

/// An answer to show.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The variant that answered.
    pub variant: String,
    /// What it said.
    pub explanation: Explanation,
    /// How right it is.
    pub outcome: Outcome,
}

impl ReportExample {
    /// An example with one answer.
    pub fn of(variant: &str, explanation: &Explanation, example: &Example) -> Self {
        let answered = Answered {
            variant: variant.to_owned(),
            outcome: Outcome::of(explanation, example),
            explanation: explanation.clone(),
        };
        Self { example: example.clone(), answered: vec![answered] }
    }

    /// Exact match and F1 of the first answer, less those of the second.
    pub(super) fn gain(&self) -> Option<(f64, f64)> {
        let [after, before, ..] = &self.answered[..] else { return None };
        let (after, before) = (&after.outcome, &before.outcome);
        Some((after.answer_em - before.answer_em, after.answer_f1 - before.answer_f1))
    }
}

/// One question as a fold: what was asked and answered is seen at once, all else on opening.
pub(super) fn fold(shown: &ReportExample, place: usize, classes: &str) -> String {
    let mut html = String::new();
    let question = escaped(&shown.example.question.text);
    put!(html, "<details class=\"card example {classes}\"><summary>");
    for answered in &shown.answered {
        html.push_str(&mark(&answered.outcome));
    }
    put!(html, "<span class=\"asked\">{question}</span>");
    let answers: Vec<String> =
        shown.answered.iter().map(|answered| escaped(&said(&answered.explanation))).collect();
    put!(
        html,
        "<span class=\"said\">{} <small>gold {}</small></span></summary>",
        answers.join(" ← "),
        escaped(&gold(shown))
    );
    put!(html, "<div class=\"inside\" id=\"q{place}\"><p class=\"meta\">");
    put!(html, "{}", escaped(shown.example.question.id.as_str()));
    if !shown.example.kind.is_empty() {
        put!(html, " <span class=\"badge\">{}</span>", escaped(&shown.example.kind));
    }
    html.push_str("</p>");
    let mut cards = Cards::new(shown, place);
    for image in &shown.example.question.images {
        html.push_str(&cards.picture(image, "picture of the question"));
    }
    html.push_str("<div class=\"panels\">");
    for answered in &shown.answered {
        html.push_str(&panel(shown, answered, place));
    }
    html.push_str("</div>");
    html.push_str(&cards.all());
    html + "</div></details>"
}

/// Whether an answer is right, as a badge.
fn mark(outcome: &Outcome) -> String {
    let (class, word) = match (outcome.answer_em > 0.5, outcome.answer_f1 > 0.0) {
        (true, _) => ("good", "right"),
        (false, true) => ("unclear", "partly"),
        (false, false) => ("bad", "wrong"),
    };
    format!("<span class=\"badge {class}\">{word}</span>")
}

fn said(explanation: &Explanation) -> String {
    match explanation.answer.as_str() {
        "" => "(nothing)".to_owned(),
        answer => cut(answer),
    }
}

fn gold(shown: &ReportExample) -> String {
    match shown.example.gold.answers.as_slice() {
        [] => "none".to_owned(),
        answers => cut(&answers.join("; ")),
    }
}

/// What one variant said, and from what.
fn panel(shown: &ReportExample, answered: &Answered, place: usize) -> String {
    let Answered { variant, explanation, outcome } = answered;
    let mut html = String::from("<div class=\"panel\"><dl class=\"answer\">");
    put!(html, "<dt>{}</dt><dd>{}", escaped(variant), mark(outcome));
    put!(html, " <b>{}</b>", escaped(&said(explanation)));
    for citation in &explanation.citations {
        put!(
            html,
            " <a class=\"chip\" href=\"#{}\">[{}] {}</a>",
            anchor(place, shown, &citation.document),
            citation.label,
            escaped(&citation.title)
        );
    }
    put!(html, "</dd><dt>Gold</dt><dd>{}</dd>", escaped(&gold(shown)));
    if let Some(failure) = Failure::of(outcome) {
        put!(html, "<dt>Why wrong</dt><dd>{}</dd>", failure.title());
    }
    if let Some(confidence) = explanation.confidence {
        put!(html, "<dt>Confidence</dt><dd>{} %</dd>", percent(confidence));
    }
    if let Some(fallback) = &explanation.fallback {
        put!(html, "<dt>Fallback</dt><dd class=\"bad\">{}", escaped(&fallback.why));
        if let Some(reply) = &fallback.reply {
            put!(html, "<pre>{}</pre>", escaped(&cut(reply)));
        }
        html.push_str("</dd>");
    }
    html.push_str("</dl>");
    html.push_str(&reasoning(shown, explanation, place));
    html + "</div>"
}

fn reasoning(shown: &ReportExample, explanation: &Explanation, place: usize) -> String {
    if explanation.reasoning.is_empty() {
        return String::new();
    }
    let mut html = String::from("<ol class=\"steps\">");
    for ReasoningStep { text, .. } in &explanation.reasoning {
        put!(html, "<li>{}</li>", linked(text, shown, explanation, place));
    }
    html + "</ol>"
}

/// A step with its labels as links to the documents they stand for.
fn linked(text: &str, shown: &ReportExample, explanation: &Explanation, place: usize) -> String {
    let document = |label: usize| {
        let is_it = |c: &&crate::explanation::Candidate| {
            c.rank.as_ref().is_some_and(|rank| rank.label == label)
        };
        explanation.candidates.iter().find(is_it).map(|candidate| &candidate.document)
    };
    let mut html = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        html.push_str(&escaped(before));
        let label = after.split_once(']').and_then(|(inside, rest)| {
            Some((document(inside.trim().parse().ok()?)?, inside, rest))
        });
        if let Some((document, inside, after)) = label {
            let target = anchor(place, shown, document);
            put!(html, "<a href=\"#{target}\">[{}]</a>", escaped(inside));
            rest = after;
        } else {
            html.push('[');
            rest = after;
        }
    }
    html + &escaped(rest)
}
