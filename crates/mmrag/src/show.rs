//! An explanation as text for a terminal.

use std::fmt::Write as _;

use mmrag_rag::Explanation;
use mmrag_rag::explanation::{Candidate, Citation};

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
        let mut candidates: Vec<&Candidate> = explanation.candidates.iter().collect();
        candidates.sort_by_key(|c| c.rank.as_ref().map_or(usize::MAX, |rank| rank.position));
        for candidate in candidates {
            line(fate(candidate));
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
    let mut text = format!("  cites [{label}] {} ({modality})", one_line(title));
    if let Some(quote) = quote {
        let _ = write!(text, ": “{}”", one_line(quote));
    }
    text
}

fn fate(candidate: &Candidate) -> String {
    let place = match &candidate.rank {
        Some(rank) => format!("{:>3}. [{}]", rank.position, rank.label),
        None => "   –    ".to_owned(),
    };
    let mark = if candidate.cited { "*" } else { " " };
    let Candidate { title, modality, .. } = candidate;
    let mut text = format!("{place:<9}{mark} {} ({modality})", one_line(title));
    if let Some(p) = candidate.filter.as_ref().and_then(|filter| filter.p) {
        let _ = write!(text, "  p {p:.2}");
    }
    if let Some(why) = &candidate.dropped_why {
        let _ = write!(text, "  dropped: {}", one_line(why));
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
