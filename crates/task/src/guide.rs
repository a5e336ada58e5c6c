//! The grammar as a guide: which beginnings can still become a reply. What it lets through to the end
//! parses, unless the reply is cut off.

use mmrag_core::Guide;

use crate::grammar::{Grammar, OrderNotation, parse_answer, parse_order, parse_verdict, tags_in};
use crate::label::labels_in;
use crate::reply::{NO, YES};
use crate::stage::StageName;

/// Blanks between two parts of a reply, at most.
const MAX_BLANKS: usize = 2;

/// Holds a reply to the grammar of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyGuide {
    grammar: Grammar,
    /// Documents that are shown.
    shown: usize,
}

/// A part of a reply, between its tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Think,
    Order,
    Verdict,
    Answer,
}

impl Section {
    fn tags(self) -> [&'static str; 2] {
        match self {
            Self::Think => ["<think>", "</think>"],
            Self::Order => ["<rank>", "</rank>"],
            Self::Verdict | Self::Answer => ["<answer>", "</answer>"],
        }
    }
}

impl ReplyGuide {
    /// A guide for a prompt that shows `shown` documents.
    pub fn new(grammar: Grammar, shown: usize) -> Self {
        Self { grammar, shown }
    }

    fn sections(&self) -> Vec<Section> {
        let think = self.grammar.think.then_some(Section::Think);
        let rest: &[Section] = match self.grammar.stage {
            StageName::Filter => &[Section::Verdict],
            StageName::Rank => &[Section::Order, Section::Answer],
        };
        think.into_iter().chain(rest.iter().copied()).collect()
    }

    /// Whether a section may end with this text.
    fn closes(&self, section: Section, text: &str) -> bool {
        match section {
            Section::Think => !text.trim().is_empty() && self.is_short(text),
            Section::Order => parse_order(text, self.shown).is_ok(),
            Section::Verdict => parse_verdict(text).is_ok(),
            Section::Answer => parse_answer(text, self.shown).is_ok(),
        }
    }

    /// Whether a section that holds this text so far can go on, or be on its way to its end.
    fn goes_on(&self, section: Section, text: &str) -> bool {
        let [_, close] = section.tags();
        let is_closing = (1..close.len()).any(|begun| {
            text.strip_suffix(&close[..begun]).is_some_and(|text| self.closes(section, text))
        });
        is_closing
            || match section {
                Section::Think => self.is_short(text),
                Section::Order => self.is_order(text),
                Section::Verdict => {
                    [YES, NO].into_iter().any(|word| word.starts_with(text.trim_start()))
                }
                Section::Answer => self.is_answer(text),
            }
    }

    fn is_short(&self, think: &str) -> bool {
        think.trim().chars().count() <= self.grammar.max_think_chars
    }

    /// Whether the text begins an order of all labels, each once.
    fn is_order(&self, text: &str) -> bool {
        let (between, mut rest) = match self.grammar.notation {
            OrderNotation::List => (",", text.trim_start()),
            OrderNotation::Labels => ("][", text.trim_start()),
        };
        let Some(inside) = rest.strip_prefix('[') else { return rest.is_empty() };
        rest = inside;
        let mut labels: Vec<usize> = Vec::new();
        loop {
            let rest_blank = rest.trim_start_matches(' ');
            let digits = rest_blank.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = rest_blank.split_at(digits);
            let is_unused = |label: usize| !labels.contains(&label);
            if after.is_empty() {
                let can_be = |label: &usize| label.to_string().starts_with(number);
                return (1..=self.shown).filter(|label| is_unused(*label)).any(|l| can_be(&l));
            }
            let label = number.parse::<usize>().ok().filter(|label| is_unused(*label));
            let Some(label) = label.filter(|label| (1..=self.shown).contains(label)) else {
                return false;
            };
            labels.push(label);
            if labels.len() == self.shown {
                return after == "]";
            }
            if between.starts_with(after) {
                return true;
            }
            let Some(next) = after.strip_prefix(between) else { return false };
            rest = next;
        }
    }

    /// Whether the text begins an answer: its labels are shown, and one that is begun can be.
    fn is_answer(&self, text: &str) -> bool {
        let is_shown = |label: &usize| (1..=self.shown).contains(label);
        let begun = text.rfind('[').map(|at| &text[at + 1..]).filter(|label| !label.contains(']'));
        let begun = begun.map(|labels| labels.rsplit(',').next().unwrap_or(labels).trim());
        let can_be = |begun: &str| {
            let is_number = !begun.is_empty() && begun.bytes().all(|b| b.is_ascii_digit());
            !is_number || (1..=self.shown).any(|label| label.to_string().starts_with(begun))
        };
        labels_in(text).iter().all(is_shown) && begun.is_none_or(can_be)
    }
}

impl Guide for ReplyGuide {
    fn allows(&self, text: &str) -> bool {
        if text.contains("<|") {
            return false;
        }
        let mut rest = text;
        for section in self.sections() {
            let [open, close] = section.tags();
            let begun = rest.trim_start();
            if rest.len() - begun.len() > MAX_BLANKS {
                return false;
            }
            if open.starts_with(begun) {
                return true;
            }
            let Some(inside) = begun.strip_prefix(open) else { return false };
            match tags_in(inside).first() {
                None => return self.goes_on(section, inside),
                Some(&(at, tag)) => {
                    if tag != close || !self.closes(section, &inside[..at]) {
                        return false;
                    }
                    rest = &inside[at + tag.len()..];
                }
            }
        }
        rest.is_empty()
    }

    fn is_whole(&self, text: &str) -> bool {
        self.grammar.parse(text, self.shown).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::Reply;

    fn guide(notation: OrderNotation, shown: usize) -> ReplyGuide {
        let (stage, max_think_chars) = (StageName::Rank, 40);
        ReplyGuide::new(Grammar { stage, think: true, notation, max_think_chars }, shown)
    }

    #[test]
    fn every_beginning_of_a_reply_is_allowed_and_only_the_whole_is_whole() {
        for notation in [OrderNotation::List, OrderNotation::Labels] {
            let guide = guide(notation, 12);
            let reply = Reply::Rank {
                think: Some("Olm[3] is 2 < 3 é".into()),
                order: vec![3, 12, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11],
                answer: "[sic] Ada; b <c".into(),
                citations: vec![3, 12],
            };
            let text = guide.grammar.render(&reply);
            for (end, _) in text.char_indices() {
                assert!(guide.allows(&text[..end]), "{}", &text[..end]);
                assert!(!guide.is_whole(&text[..end]), "{}", &text[..end]);
            }
            assert!(guide.allows(&text) && guide.is_whole(&text), "{text}");
            assert!(
                !guide.allows(&format!("{text}</answer>")) && !guide.allows(&format!("{text}x"))
            );
        }
    }

    #[test]
    fn what_cannot_become_a_reply_is_not_allowed() {
        let check = |text: &str, allowed: bool| {
            assert_eq!(guide(OrderNotation::Labels, 12).allows(text), allowed, "{text}");
        };
        check("", true);
        check("\n<thi", true);
        check("\n\n\n<think>", false);
        check("x", false);
        check("<rank>", false);
        check("<think></", true);
        check("<think></think>", false);
        check("<think>a<think>", false);
        check("<think>a<|im", false);
        check(&format!("<think>{}", "a".repeat(41)), false);
        let order =
            |order: &str, allowed| check(&format!("<think>a</think><rank>{order}"), allowed);
        order("[1", true);
        order("[1][1", true);
        order("[1][1]", false);
        order("[2][2", false);
        order("[13", false);
        order("[0", false);
        order("[1,2", false);
        order("[1]</", false);
        order("[1][2][3][4][5][6][7][8][9][10][11][12]</r", true);
        order("[1][2][3][4][5][6][7][8][9][10][11][12][", false);
        let whole = "[1][2][3][4][5][6][7][8][9][10][11][12]</rank><answer>";
        let answer = |answer: &str, allowed| order(&format!("{whole}{answer}"), allowed);
        answer(" Ada [1", true);
        answer(" Ada [13", false);
        answer(" Ada [3][13]", false);
        answer(" [1]</answer>", false);
        answer(" Ada <rank>", false);
        answer(" Ada [1][2][1]</answer>", true);
    }

    #[test]
    fn a_verdict_is_one_of_two_words() {
        let (stage, notation) = (StageName::Filter, OrderNotation::Labels);
        let grammar = Grammar { stage, think: false, notation, max_think_chars: 9 };
        let guide = ReplyGuide::new(grammar, 1);
        for text in ["<answer>", "<answer>Y", "<answer>No", "<answer>Yes</ans"] {
            assert!(guide.allows(text), "{text}");
        }
        for text in ["<answer>Maybe", "<answer>yes", "<answer></", "<answer>Yes No"] {
            assert!(!guide.allows(text), "{text}");
        }
        assert!(guide.is_whole("<answer>Yes</answer>") && !guide.is_whole("<answer>Yes"));
    }
}
