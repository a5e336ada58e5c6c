//! Cutting text at its structure.
//!
//! A text is a list of units: sentences, or lines of a page. Pieces are runs of units under the
//! same heading, cut between paragraphs where that does not make them much shorter.

use std::ops::Range;

use mmrag_core::{Content, Origin};

use crate::piece::{Options, Piece};

/// A paragraph, list item or block of code.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Block {
    pub(crate) text: String,
    /// The headings above it, the outermost first.
    pub(crate) section: Vec<String>,
    /// The line it begins at, from 1.
    pub(crate) line: Option<usize>,
}

/// The smallest thing that is not cut.
pub(crate) struct Unit<'a> {
    pub(crate) text: &'a str,
    /// Units of different groups never stand in one piece.
    pub(crate) group: usize,
    /// Whether it begins a paragraph.
    pub(crate) opens: bool,
}

/// The runs of units that make pieces. Each unit is in one, or in two where they overlap.
pub(crate) fn runs(units: &[Unit], options: &Options) -> Vec<Range<usize>> {
    let length = |unit: &Unit| unit.text.chars().count() + 1;
    let mut runs = Vec::new();
    let (mut start, mut fresh) = (0, 0);
    while fresh < units.len() {
        let group = units[fresh].group;
        let (mut end, mut total) = (start, 0);
        while end < units.len() && units[end].group == group {
            total += length(&units[end]);
            if total > options.chunk_chars && end > fresh {
                break;
            }
            end += 1;
        }
        let goes_on = end < units.len() && units[end].group == group;
        if goes_on {
            end = at_paragraph(units, fresh, end, options);
        }
        runs.push(start..end);
        (start, fresh) = (end, end);
        if goes_on {
            let mut shared = 0;
            while start > runs[runs.len() - 1].start + 1 {
                shared += length(&units[start - 1]);
                if shared > options.overlap_chars {
                    break;
                }
                start -= 1;
            }
        }
    }
    runs
}

/// The last paragraph's beginning, if at least half a piece stands before it.
fn at_paragraph(units: &[Unit], fresh: usize, end: usize, options: &Options) -> usize {
    if units[end].opens {
        return end;
    }
    let opening = (fresh + 1..end).rev().find(|i| units[*i].opens);
    let Some(opening) = opening else { return end };
    let before: usize = units[fresh..opening].iter().map(|unit| unit.text.chars().count()).sum();
    if 2 * before >= options.chunk_chars { opening } else { end }
}

/// Pieces of text from blocks, titled by the document and the headings.
pub(crate) fn pieces(title: &str, blocks: &[Block], options: &Options) -> Vec<Piece> {
    let (mut units, mut of_block, mut group) = (Vec::new(), Vec::new(), 0);
    for (i, block) in blocks.iter().enumerate() {
        group += usize::from(i > 0 && blocks[i - 1].section != block.section);
        for (n, sentence) in sentences(&block.text, options.chunk_chars).into_iter().enumerate() {
            units.push(Unit { text: sentence, group, opens: n == 0 });
            of_block.push(i);
        }
    }
    let piece = |run: Range<usize>| {
        let mut text = String::new();
        for i in run.clone() {
            if i > run.start {
                text.push_str(if units[i].opens { "\n\n" } else { " " });
            }
            text.push_str(units[i].text);
        }
        let (first, last) = (&blocks[of_block[run.start]], &blocks[of_block[run.end - 1]]);
        let rows = first
            .line
            .zip(last.line)
            .map(|(first, from)| [first, from + last.text.trim_end().matches('\n').count()]);
        let section = first.section.clone();
        let origin = Origin { section, rows, ..Origin::default() };
        let title = titled(title, &first.section);
        Piece { name: None, title, content: Content::Text(text), origin }
    };
    runs(&units, options).into_iter().map(piece).collect()
}

/// The title of the document, then that of the innermost heading, if it says more.
pub(crate) fn titled(title: &str, section: &[String]) -> String {
    match section.last() {
        Some(heading) if title.is_empty() || heading == title => heading.clone(),
        Some(heading) => format!("{title}: {heading}"),
        None => title.to_owned(),
    }
}

/// The sentences of a text, none longer than `most` characters and none empty.
pub(crate) fn sentences(text: &str, most: usize) -> Vec<&str> {
    let mut sentences = Vec::new();
    let mut start = 0;
    let mut characters = text.char_indices().peekable();
    while let Some((_, c)) = characters.next() {
        let ends = matches!(c, '.' | '!' | '?' | '。' | '！' | '？' | '\n');
        let Some(&(next, following)) = characters.peek() else { break };
        if ends && (following.is_whitespace() || matches!(c, '。' | '！' | '？' | '\n')) {
            push_short(&text[start..next], most, &mut sentences);
            start = next;
        }
    }
    push_short(&text[start..], most, &mut sentences);
    sentences
}

/// A sentence, cut between words, or within one, where it is too long.
fn push_short<'a>(sentence: &'a str, most: usize, sentences: &mut Vec<&'a str>) {
    let mut rest = sentence.trim();
    while let Some((limit, _)) = rest.char_indices().nth(most.max(1)) {
        let space = rest[..limit].rfind(char::is_whitespace).filter(|space| *space > 0);
        let (head, tail) = rest.split_at(space.unwrap_or(limit));
        sentences.push(head.trim_end());
        rest = tail.trim_start();
    }
    if !rest.is_empty() {
        sentences.push(rest);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn options(chunk_chars: usize, overlap_chars: usize) -> Options {
        Options { chunk_chars, overlap_chars, ..Options::default() }
    }

    fn block(text: &str, section: &str) -> Block {
        Block { text: text.into(), section: vec![section.into()], line: Some(1) }
    }

    fn texts(pieces: &[Piece]) -> Vec<&str> {
        fn text(piece: &Piece) -> Option<&str> {
            let Content::Text(text) = &piece.content else { return None };
            Some(text)
        }
        pieces.iter().filter_map(text).collect()
    }

    #[test]
    fn pieces_end_at_headings_and_overlap_within_them() {
        let blocks = [block("One two. Three four. Five six.", "A"), block("Seven.", "B")];
        let pieces = pieces("T", &blocks, &options(22, 12));
        assert_eq!(texts(&pieces), ["One two. Three four.", "Three four. Five six.", "Seven."]);
        assert_eq!(pieces[2].title, "T: B");
    }

    #[test]
    fn a_paragraph_is_kept_whole_where_half_a_piece_stands_before_it() {
        let blocks = [block("Twelve chars.", "A"), block("Then some. And more here.", "A")];
        let pieces = pieces("T", &blocks, &options(26, 0));
        assert_eq!(texts(&pieces), ["Twelve chars.", "Then some. And more here."]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn nothing_is_lost_and_nothing_is_too_long(
            text in "[ab .\n!é]{0,200}", most in 1_usize..40, overlap in 0_usize..30,
        ) {
            let without = |s: &str| s.split_whitespace().collect::<String>();
            let cut = sentences(&text, most);
            prop_assert_eq!(without(&cut.concat()), without(&text));
            let units: Vec<Unit> = cut.iter()
                .map(|text| Unit { text, group: 0, opens: false }).collect();
            let runs = runs(&units, &options(most, overlap));
            let mut covered = 0;
            for run in &runs {
                prop_assert!(run.start <= covered && run.end > covered);
                covered = run.end;
                let new: usize = units[run.clone()].iter().map(|u| u.text.chars().count()).sum();
                prop_assert!(new <= most + overlap + most, "{}", new);
            }
            prop_assert_eq!(covered, units.len());
        }
    }
}
