//! Answered questions on the page: pictures, verdicts, order, reasoning, and why not the others.

use std::fmt::Write as _;

use mmrag_core::{Content, Document, DocumentId, Example, ImageSource, Table};

use super::markup::{escaped, percent};
use super::picture::data_uri;
use super::plot::bar;
use crate::evaluation::Outcome;
use crate::explanation::{Candidate, DroppedAt, Explanation, ReasoningStep};

/// How much of a text is shown.
const SHOWN_CHARS: usize = 260;
const SHOWN_ROWS: usize = 6;

macro_rules! put {
    ($to:expr, $($part:tt)*) => {
        write!($to, $($part)*).expect("writing to a string does not fail")
    };
}

/// An answered question to show.
#[derive(Clone, Debug)]
pub struct ReportExample {
    /// The variant that answered.
    pub variant: String,
    /// What it said.
    pub explanation: Explanation,
    /// The question with its documents and gold.
    pub example: Example,
}

/// The examples, those answered right first.
pub(super) fn section(examples: &[ReportExample]) -> String {
    let is_right =
        |shown: &&ReportExample| Outcome::of(&shown.explanation, &shown.example).answer_em > 0.5;
    let (right, wrong): (Vec<_>, Vec<_>) = examples.iter().partition(is_right);
    let mut html = String::new();
    for (title, shown, is_right) in [("Right", right, true), ("Wrong", wrong, false)] {
        if shown.is_empty() {
            continue;
        }
        put!(html, "<h3>{title}</h3>");
        for shown in shown {
            html.push_str(&one(shown, is_right));
        }
    }
    html
}

fn one(shown: &ReportExample, is_right: bool) -> String {
    let ReportExample { variant, explanation, example } = shown;
    let mut html = String::from("<article class=\"card example\"><header>");
    let (class, word) = if is_right { ("good", "right") } else { ("bad", "wrong") };
    put!(html, "<span class=\"badge {class}\">{word}</span>");
    put!(html, "<span class=\"badge\">{}</span>", escaped(variant));
    if !example.kind.is_empty() {
        put!(html, "<span class=\"badge\">{}</span>", escaped(&example.kind));
    }
    put!(html, "<h4>{}</h4></header>", escaped(&explanation.question.text));
    for image in &example.question.images {
        html.push_str(&picture(image, "picture of the question"));
    }
    html.push_str(&answer(explanation, example));
    html.push_str(&reasoning(explanation));
    html.push_str(&ranked(explanation, example));
    html.push_str(&dropped(explanation, example));
    html + "</article>"
}

fn answer(explanation: &Explanation, example: &Example) -> String {
    let mut html = String::from("<dl class=\"answer\"><dt>Answer</dt><dd>");
    match &explanation.fallback {
        Some(fallback) => {
            put!(
                html,
                "<b>{}</b> <span class=\"bad\">{}</span>",
                escaped(&explanation.answer),
                escaped(&fallback.why)
            );
            if let Some(reply) = &fallback.reply {
                put!(html, "<pre>{}</pre>", escaped(&cut(reply)));
            }
        }
        None => put!(html, "<b>{}</b>", escaped(&explanation.answer)),
    }
    for citation in &explanation.citations {
        put!(html, " <sup class=\"chip\">[{}] {}</sup>", citation.label, escaped(&citation.title));
    }
    let gold = if example.gold.is_answerable() {
        example.gold.answers.join("; ")
    } else {
        "none".to_owned()
    };
    put!(html, "</dd><dt>Gold</dt><dd>{}</dd>", escaped(&gold));
    if let Some(confidence) = explanation.confidence {
        put!(html, "<dt>Confidence</dt><dd>{} %</dd>", percent(confidence));
    }
    html + "</dl>"
}

fn reasoning(explanation: &Explanation) -> String {
    if explanation.reasoning.is_empty() {
        return String::new();
    }
    let mut html = String::from("<ol class=\"steps\">");
    for ReasoningStep { text, .. } in &explanation.reasoning {
        put!(html, "<li>{}</li>", escaped(text));
    }
    html + "</ol>"
}

fn ranked(explanation: &Explanation, example: &Example) -> String {
    let mut ranked: Vec<(&Candidate, usize, usize)> = explanation
        .candidates
        .iter()
        .filter_map(|c| c.rank.as_ref().map(|rank| (c, rank.position, rank.label)))
        .collect();
    ranked.sort_by_key(|(_, position, _)| *position);
    let mut html = String::from("<div class=\"documents\">");
    for (candidate, position, label) in ranked {
        let class = if candidate.cited { "document cited" } else { "document" };
        put!(
            html,
            "<div class=\"{class}\"><p class=\"meta\"><b>{position}.</b> [{label}] {}{}</p>",
            candidate.modality,
            badges(candidate, example)
        );
        put!(html, "<h5>{}</h5>", escaped(&candidate.title));
        html.push_str(&content(example, &candidate.document));
        if let Some(p) = candidate.filter.as_ref().and_then(|filter| filter.p) {
            put!(html, "<p class=\"meta\">helps {} {}</p>", bar(p, "s0"), percent(p));
        }
        html.push_str(&quotes(explanation, candidate));
        html.push_str("</div>");
    }
    html + "</div>"
}

fn quotes(explanation: &Explanation, candidate: &Candidate) -> String {
    let of_it = explanation.citations.iter().filter(|c| c.document == candidate.document);
    let mut html = String::new();
    for quote in of_it.filter_map(|citation| citation.quote.as_ref()) {
        put!(html, "<blockquote>{}</blockquote>", escaped(quote));
    }
    html
}

fn dropped(explanation: &Explanation, example: &Example) -> String {
    let dropped: Vec<&Candidate> =
        explanation.candidates.iter().filter(|c| c.dropped_at.is_some()).collect();
    if dropped.is_empty() {
        return String::new();
    }
    let mut html = String::new();
    put!(
        html,
        "<details><summary>Why not the other {}</summary><ul class=\"rejected\">",
        dropped.len()
    );
    for candidate in dropped {
        let at = match candidate.dropped_at {
            Some(DroppedAt::Read) => "unreadable",
            Some(DroppedAt::Filter) => "filter",
            Some(DroppedAt::Prompt) => "prompt too long",
            None => "",
        };
        put!(
            html,
            "<li>{}<div><b>{}</b> ",
            thumbnail(example, &candidate.document),
            escaped(&candidate.title)
        );
        put!(
            html,
            "<span class=\"badge\">{}</span><span class=\"badge\">{at}</span>{}",
            candidate.modality,
            badges(candidate, example)
        );
        let why = candidate.dropped_why.as_deref().unwrap_or("");
        put!(html, "<p class=\"meta\">{}</p></div></li>", escaped(why));
    }
    html + "</ul></details>"
}

fn badges(candidate: &Candidate, example: &Example) -> String {
    let mut html = String::new();
    if example.gold.documents.contains(&candidate.document) {
        let class = if candidate.dropped_at.is_some() { "bad" } else { "good" };
        put!(html, "<span class=\"badge {class}\">gold</span>");
    }
    if candidate.cited {
        html.push_str("<span class=\"badge\">cited</span>");
    }
    html
}

fn content(example: &Example, id: &DocumentId) -> String {
    match find(example, id).map(|document| &document.content) {
        None => String::new(),
        Some(Content::Text(text)) => format!("<p class=\"text\">{}</p>", escaped(&cut(text))),
        Some(Content::Image(source)) => picture(source, "picture of the document"),
        Some(Content::Table(table)) => rows(table),
    }
}

fn thumbnail(example: &Example, id: &DocumentId) -> String {
    match find(example, id).map(|document| &document.content) {
        Some(Content::Image(source)) => picture(source, "picture of the document"),
        _ => String::new(),
    }
}

fn find<'a>(example: &'a Example, id: &DocumentId) -> Option<&'a Document> {
    example.candidates.iter().find(|document| document.id == *id).map(|document| &**document)
}

fn picture(source: &ImageSource, what: &str) -> String {
    match data_uri(source) {
        Some(uri) => format!("<img src=\"{uri}\" alt=\"{what}\">"),
        None => "<p class=\"meta\">(the picture cannot be shown)</p>".to_owned(),
    }
}

fn rows(table: &Table) -> String {
    let row = |cells: &[String], tag: &str| {
        let cells: Vec<String> =
            cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escaped(&cut(cell)))).collect();
        format!("<tr>{}</tr>", cells.concat())
    };
    let mut html = String::from("<div class=\"scroll\"><table class=\"data\">");
    html.push_str(&row(&table.header, "th"));
    table.rows.iter().take(SHOWN_ROWS).for_each(|cells| html.push_str(&row(cells, "td")));
    html.push_str("</table></div>");
    if table.rows.len() > SHOWN_ROWS {
        put!(html, "<p class=\"meta\">and {} more rows</p>", table.rows.len() - SHOWN_ROWS);
    }
    html
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
