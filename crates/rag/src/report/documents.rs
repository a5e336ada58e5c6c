//! The documents of a question on the page: what each shows, and what became of it.

use std::fmt::Write as _;

use mmrag_core::{Content, Document, DocumentId, ImageSource, Table};

use super::examples::{Answered, ReportExample};
use super::markup::{escaped, percent};
use super::picture::img;
use super::plot::bar;
use crate::explanation::{Attribution, Candidate, DroppedAt};

/// How much of a text is shown.
const SHOWN_CHARS: usize = 420;
const SHOWN_ROWS: usize = 8;
const SHOWN_COLUMNS: usize = 8;
/// Pictures that one question shows at most.
const MOST_PICTURES: usize = 24;

macro_rules! put {
    ($to:expr, $($part:tt)*) => {
        write!($to, $($part)*).expect("writing to a string does not fail")
    };
}

/// The documents of one question as cards.
pub(super) struct Cards<'a> {
    /// The question and who answered it.
    pub(super) shown: &'a ReportExample,
    /// The question's place on the page: ids of its cards begin with it.
    pub(super) place: usize,
    pictures: usize,
}

impl<'a> Cards<'a> {
    pub(super) fn new(shown: &'a ReportExample, place: usize) -> Self {
        Self { shown, place, pictures: 0 }
    }

    /// The cards of the documents that the first answer was made from, in its order; then those
    /// it was not shown, with the reasons.
    pub(super) fn all(&mut self) -> String {
        let Some(main) = self.shown.answered.first() else { return String::new() };
        let candidates = &main.explanation.candidates;
        let mut kept: Vec<&Candidate> =
            candidates.iter().filter(|c| c.dropped_at.is_none()).collect();
        kept.sort_by_key(|c| c.rank.as_ref().map_or(usize::MAX, |rank| rank.position));
        let rejected: Vec<&Candidate> =
            candidates.iter().filter(|c| c.dropped_at.is_some()).collect();
        let mut html = String::new();
        if !kept.is_empty() {
            put!(html, "<h5 class=\"part\">Documents in the order given ({})</h5>", kept.len());
            html.push_str(&self.grid(&kept));
        }
        if !rejected.is_empty() {
            put!(html, "<h5 class=\"part\">Rejected documents ({})</h5>", rejected.len());
            html.push_str(&self.grid(&rejected));
        }
        html
    }

    fn grid(&mut self, candidates: &[&Candidate]) -> String {
        let cards: Vec<String> = candidates.iter().map(|candidate| self.card(candidate)).collect();
        format!("<div class=\"documents\">{}</div>", cards.concat())
    }

    fn card(&mut self, candidate: &Candidate) -> String {
        let class = match (candidate.cited, candidate.dropped_at) {
            (true, _) => "document cited",
            (_, Some(_)) => "document rejected",
            _ => "document",
        };
        let mut html = String::new();
        let id = anchor(self.place, self.shown, &candidate.document);
        put!(html, "<div class=\"{class}\" id=\"{id}\"><p class=\"meta\">");
        put!(html, "<span class=\"badge\">{}</span>", candidate.modality);
        if self.shown.example.gold.documents.contains(&candidate.document) {
            html.push_str("<span class=\"badge good\">gold</span>");
        }
        put!(html, "</p><h6>{}</h6>", escaped(&candidate.title));
        html.push_str(&self.content(&candidate.document));
        for answered in &self.shown.answered {
            html.push_str(&self.fate(answered, &candidate.document));
        }
        html + "</div>"
    }

    /// What one pipeline did with a document.
    fn fate(&self, answered: &Answered, id: &DocumentId) -> String {
        let mut html = String::from("<div class=\"fate\">");
        if self.shown.answered.len() > 1 {
            put!(html, "<b class=\"who\">{}</b>", escaped(&answered.variant));
        }
        let explanation = &answered.explanation;
        let Some(candidate) = explanation.candidates.iter().find(|c| c.document == *id) else {
            return html + "<span class=\"meta\">was not found</span></div>";
        };
        if let Some(rank) = &candidate.rank {
            put!(html, "<span class=\"badge\">place {}</span>", rank.position);
            put!(html, "<span class=\"badge\">shown as [{}]</span>", rank.label);
        }
        if candidate.cited {
            html.push_str("<span class=\"badge cite\">cited</span>");
        }
        if let Some(filter) = &candidate.filter {
            let p = filter.p.map_or_else(
                || "neither Yes nor No".to_owned(),
                |p| format!("{}P(helps) {} %", bar(p, "s0"), percent(p)),
            );
            put!(html, "<p class=\"meta\">{p}, kept from {} %</p>", percent(filter.threshold));
            if let Some(reply) = &filter.reply {
                put!(html, "<p class=\"meta\">{}</p>", escaped(&cut(reply)));
            }
        }
        if let Some(at) = candidate.dropped_at {
            let part = match at {
                DroppedAt::Read => "could not be read",
                DroppedAt::Filter => "dropped by the filter",
                DroppedAt::Prompt => "did not fit",
            };
            let why = candidate.dropped_why.as_deref().unwrap_or("");
            put!(html, "<p class=\"meta\"><b>{part}</b> {}</p>", escaped(why));
        }
        if let Some(reason) = candidate.rank.as_ref().and_then(|rank| rank.reason.as_ref()) {
            put!(html, "<p class=\"meta\">“{}”</p>", escaped(reason));
        }
        for citation in explanation.citations.iter().filter(|c| c.document == *id) {
            if let Some(quote) = &citation.quote {
                put!(html, "<blockquote>{}</blockquote>", escaped(quote));
            }
        }
        html + "</div>"
    }

    fn content(&mut self, id: &DocumentId) -> String {
        let documents = &self.shown.example.candidates;
        let found = documents.iter().find(|document| document.id == *id);
        match found.map(|document: &std::sync::Arc<Document>| &document.content) {
            None => String::new(),
            Some(Content::Text(text)) => format!("<p class=\"text\">{}</p>", escaped(&cut(text))),
            Some(Content::Image(source)) => self.looked_at(source, id),
            Some(Content::Table(table)) => rows(table),
        }
    }

    /// A picture once for each way in which it is known where the first answer rests on it, or once
    /// as it is.
    fn looked_at(&mut self, source: &ImageSource, id: &DocumentId) -> String {
        let main = self.shown.answered.first().map(|answered| &answered.explanation);
        let known = main.and_then(|explanation| explanation.attribution.as_deref());
        let known = known.into_iter().flatten().filter(|found| found.document == *id);
        let mut html = String::new();
        for found in known {
            html.push_str(&self.picture_with(source, "picture of the document", Some(found)));
            put!(
                html,
                "<p class=\"meta\">What helped {} ({})</p>",
                found.told.title(),
                found.method.title()
            );
        }
        if html.is_empty() { self.picture(source, "picture of the document") } else { html }
    }

    /// A picture, or a word on why it is not shown.
    pub(super) fn picture(&mut self, source: &ImageSource, alt: &str) -> String {
        self.picture_with(source, alt, None)
    }

    fn picture_with(
        &mut self,
        source: &ImageSource,
        alt: &str,
        over: Option<&Attribution>,
    ) -> String {
        self.pictures += 1;
        let missing = |why: &str| format!("<p class=\"meta\">(the picture {why})</p>");
        if self.pictures > MOST_PICTURES {
            return missing("is left out, to keep the page small");
        }
        img(source, alt, over).unwrap_or_else(|| missing("cannot be shown"))
    }
}

/// The id of a document's card.
pub(super) fn anchor(place: usize, shown: &ReportExample, document: &DocumentId) -> String {
    let candidates = shown.answered.first().map(|main| &main.explanation.candidates);
    let nth = candidates.into_iter().flatten().position(|c| c.document == *document);
    match nth {
        Some(nth) => format!("q{place}d{nth}"),
        None => format!("q{place}"),
    }
}

fn rows(table: &Table) -> String {
    let row = |cells: &[String], tag: &str| {
        let cells: Vec<String> = cells
            .iter()
            .take(SHOWN_COLUMNS)
            .map(|cell| format!("<{tag}>{}</{tag}>", escaped(&cut(cell))))
            .collect();
        format!("<tr>{}</tr>", cells.concat())
    };
    let mut html = String::from("<div class=\"scroll\"><table class=\"data\">");
    html.push_str(&row(&table.header, "th"));
    table.rows.iter().take(SHOWN_ROWS).for_each(|cells| html.push_str(&row(cells, "td")));
    html.push_str("</table></div>");
    let more = |whole: usize, shown: usize, what: &str| match whole.checked_sub(shown) {
        Some(more) if more > 0 => format!("<p class=\"meta\">and {more} more {what}</p>"),
        _ => String::new(),
    };
    html.push_str(&more(table.rows.len(), SHOWN_ROWS, "rows"));
    html + &more(table.header.len(), SHOWN_COLUMNS, "columns")
}

/// The beginning of a text that is too long to show.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
