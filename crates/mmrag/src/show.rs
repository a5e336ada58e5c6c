//! An explanation as text for a terminal.

use std::fmt::Write as _;

use mmrag_core::Origin;
use mmrag_rag::explanation::{Candidate, Citation, Verdict};
use mmrag_rag::{Again, Explanation, Source, Verification};

use crate::asking::WhyNot;

/// The answer with what it rests on; with `every_candidate`, also what became of each document.
pub(crate) fn explanation(explanation: &Explanation, every_candidate: bool) -> String {
    let mut text = String::new();
    let mut line = |line: String| writeln!(text, "{line}").expect("a string takes every write");
    line(format!("question  {}", one_line(&explanation.question.text)));
    line(format!("answer    {}", answer(explanation)));
    for citation in &explanation.citations {
        line(cited(citation));
    }
    if !explanation.reasoning.is_empty() {
        line("reasoning".to_owned());
        for step in &explanation.reasoning {
            line(format!("  {}", one_line(&step.text)));
        }
    }
    if every_candidate {
        line(format!("documents ({})", explanation.candidates.len()));
        let ways = explanation.candidates.iter().map(|c| found(c).chars().count());
        let width = ways.max().unwrap_or(0).max("found".len()) + 2;
        line(format!("  {:<10}{:<8}{:<8}{:<width$}document", "place", "P", "filter", "found"));
        let mut candidates: Vec<&Candidate> = explanation.candidates.iter().collect();
        candidates.sort_by_key(|c| c.rank.as_ref().map_or(usize::MAX, |rank| rank.position));
        for candidate in candidates {
            line(fate(candidate, width));
        }
    }
    text.truncate(text.trim_end().len());
    text
}

fn answer(explanation: &Explanation) -> String {
    let mut text = match &explanation.fallback {
        Some(fallback) => format!("no answer: {}", one_line(&fallback.why)),
        None if explanation.abstained => "none: the documents do not hold it".to_owned(),
        None => one_line(&explanation.answer),
    };
    if let Some(confidence) = explanation.confidence {
        let _ = write!(text, "   (confidence {confidence:.2})");
    }
    text
}

fn cited(citation: &Citation) -> String {
    let Citation { label, title, modality, quote, .. } = citation;
    let place = citation.origin.as_ref().map(origin).unwrap_or_default();
    let mut text = format!("  cites [{label}] {} ({modality}{place})", one_line(title));
    if let Some(quote) = quote {
        let _ = write!(text, ": “{}”", one_line(quote));
    }
    text
}

/// A row of the table: place and label, P(helps), verdict, how it was found, what it is, and why it
/// is where it is. `width` is that of the column of how it was found.
fn fate(candidate: &Candidate, width: usize) -> String {
    let place = match &candidate.rank {
        Some(rank) => format!("{}. [{}]", rank.position, rank.label),
        None => "–".to_owned(),
    };
    let mark = if candidate.cited { "*" } else { " " };
    let filter = candidate.filter.as_ref();
    let p =
        filter.and_then(|filter| filter.p).map_or_else(|| "–".to_owned(), |p| format!("{p:.3}"));
    let verdict = match filter.map(|filter| filter.verdict) {
        Some(Verdict::Keep) => "keep",
        Some(Verdict::Drop) => "drop",
        None => "–",
    };
    let indent = 28 + width;
    let Candidate { title, modality, .. } = candidate;
    let mut text = format!(
        "{mark} {place:<10}{p:<8}{verdict:<8}{:<width$}{} ({modality}{})",
        found(candidate),
        one_line(title),
        candidate.origin.as_ref().map(origin).unwrap_or_default(),
    );
    if let Some(why) = &candidate.dropped_why {
        let _ = write!(text, "\n{:<indent$}dropped: {}", "", one_line(why));
    }
    if let Some(reason) = candidate.rank.as_ref().and_then(|rank| rank.reason.as_ref()) {
        let _ = write!(text, "\n{:<indent$}{}", "", one_line(reason));
    }
    text
}

/// Each way in which a candidate was found, with its place and score there.
fn found(candidate: &Candidate) -> String {
    let ways = candidate.retrieval.iter();
    let about = |approximate: bool| if approximate { "~" } else { "" };
    let ways = ways.map(|way| {
        let (source, about) = (source(way.source), about(way.approximate));
        format!("{source} #{about}{} {:.2}", way.rank, way.score)
    });
    ways.collect::<Vec<_>>().join(", ")
}

/// How a document was found, in a word.
fn source(source: Source) -> &'static str {
    match source {
        Source::Bm25 => "words",
        Source::Dense => "text",
        Source::Image => "image",
        Source::Picture => "picture",
        Source::Fused => "fused",
        _ => "other",
    }
}

/// Where a document was read.
fn origin(origin: &Origin) -> String {
    let mut text = format!(", {}", one_line(&origin.source));
    if let Some(of) = &origin.dataset {
        let _ = write!(text, ", {} of {}", one_line(&of.id), one_line(&of.name));
    }
    if let Some(page) = origin.page {
        let _ = write!(text, ", page {page}");
    }
    if let Some(sheet) = &origin.sheet {
        let _ = write!(text, ", sheet {}", one_line(sheet));
    }
    match origin.rows {
        Some([first, last]) if first == last => {
            let _ = write!(text, ", line {first}");
        }
        Some([first, last]) => {
            let _ = write!(text, ", lines {first}–{last}");
        }
        None => {}
    }
    text
}

/// Whether the answer stands on what it cites.
pub(crate) fn verification(verification: &Verification) -> String {
    let mut text = format!("verified  {}", verification.why);
    let rows =
        [("what it cites", &verification.without_cited), ("others", &verification.without_others)];
    for (what, again) in rows {
        let Some(Again { without, answer, abstained, .. }) = again else { continue };
        let answer = if *abstained { "no answer".to_owned() } else { one_line(answer) };
        let n = without.len();
        let _ = write!(text, "\n  without {what} ({n}): {answer}");
    }
    text
}

/// What became of a document that was asked about.
pub(crate) fn why_not(why: &WhyNot) -> String {
    let mut text =
        format!("why not   {} ({})", one_line(&why.title), one_line(why.document.as_str()));
    for told in &why.told {
        let _ = write!(text, "\n  {}", one_line(told));
    }
    text
}

/// Text from outside on one line and without what a terminal would obey.
fn one_line(text: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(printable).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn outside_text_cannot_steer_the_terminal() {
        assert_eq!(one_line(" a\n\u{1b}[31mb\t"), "a  [31mb");
    }
}
