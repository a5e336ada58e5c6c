//! Answers against gold: the metric as it is reported, and the harder one that rewards use.

use std::collections::HashSet;

use mmrag_core::Gold;
use serde::{Deserialize, Serialize};

use crate::hack::HackFlag;
use crate::metrics::multimodalqa::{exact_match, f1, is_number, normalize};
use crate::reply::{NONE, answer_items};

/// How right an answer is by MultimodalQA's rules.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerScore {
    /// Exact match, 0 or 1.
    pub em: f64,
    /// List F1, 0 to 1.
    pub f1: f64,
}

/// Scores an answer without its citations; items are separated by `;`. Where the question has no
/// answer, `none` is right and all else wrong (MultimodalQA itself has no such questions).
pub fn score_answer(answer: &str, gold: &Gold) -> AnswerScore {
    if !gold.is_answerable() {
        let right = f64::from(u8::from(answer.trim().eq_ignore_ascii_case(NONE)));
        return AnswerScore { em: right, f1: right };
    }
    let (items, gold) = (answer_items(answer), gold_items(gold));
    AnswerScore { em: exact_match(&items, &gold), f1: f1(&items, &gold) }
}

/// What an answer to a question that has one is worth, and the tricks it tries.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Judged {
    pub(crate) value: f64,
    pub(crate) flags: Vec<HackFlag>,
}

/// Judges an answer: 1 if it is exact, 0 if it tries a trick, else `partial` times its F1.
pub(crate) fn judge(answer: &str, gold: &Gold, partial: f64) -> Judged {
    let view = View::new(answer, gold);
    if view.is_exact() {
        return Judged { value: 1.0, flags: Vec::new() };
    }
    let flags = view.flags();
    if !flags.is_empty() || view.is_exact_or_nothing() {
        return Judged { value: 0.0, flags };
    }
    Judged { value: partial * f1(&view.items, &view.gold), flags }
}

/// An answer and its gold with their words in normal form.
struct View {
    items: Vec<String>,
    gold: Vec<String>,
    normal_items: Vec<String>,
    normal_gold: Vec<String>,
}

impl View {
    fn new(answer: &str, gold: &Gold) -> Self {
        let (items, gold) = (answer_items(answer), gold_items(gold));
        let sorted = |texts: &[String]| {
            let mut forms: Vec<String> = texts.iter().map(|text| normalize(text)).collect();
            forms.sort();
            forms
        };
        Self { normal_items: sorted(&items), normal_gold: sorted(&gold), items, gold }
    }

    /// Whether the items are the gold ones, each as often: the metric's sets let repeats pass.
    fn is_exact(&self) -> bool {
        self.normal_items == self.normal_gold && !self.is_blank()
    }

    /// Whether nothing is left of the answer in normal form, and it is not the gold's own spelling.
    fn is_blank(&self) -> bool {
        let same = |(item, gold): (&String, &String)| item.to_lowercase() == gold.to_lowercase();
        self.normal_items.iter().all(String::is_empty)
            && !(self.items.len() == self.gold.len() && self.items.iter().zip(&self.gold).all(same))
    }

    /// Whether a part of the answer cannot be partly right: yes, no, a number.
    fn is_exact_or_nothing(&self) -> bool {
        let is_atom = |form: &String| matches!(form.as_str(), "yes" | "no") || is_number(form);
        self.normal_gold.len() == 1 && self.normal_gold.iter().all(is_atom)
    }

    fn flags(&self) -> Vec<HackFlag> {
        let tries = [
            (self.is_blank(), HackFlag::EmptyAnswer),
            (self.has_alternatives(), HackFlag::Alternatives),
            (self.says_yes_and_no(), HackFlag::YesAndNo),
            (self.has_many_numbers(), HackFlag::ManyNumbers),
            (self.is_whole_context(), HackFlag::WholeContext),
            (self.is_junk(), HackFlag::JunkCharacters),
        ];
        tries.into_iter().filter(|(is_tried, _)| *is_tried).map(|(_, flag)| flag).collect()
    }

    fn has_alternatives(&self) -> bool {
        let gold = words(&self.normal_gold);
        let says_or = words(&self.normal_items).contains("or") && !gold.contains("or");
        let has_slash = |texts: &[String]| texts.iter().any(|text| has_slash_between_letters(text));
        let has_many_items = self.items.len() > (2 * self.gold.len()).max(self.gold.len() + 2);
        says_or || has_many_items || (has_slash(&self.items) && !has_slash(&self.gold))
    }

    fn says_yes_and_no(&self) -> bool {
        let (items, gold) = (words(&self.normal_items), words(&self.normal_gold));
        let says_both = |words: &HashSet<&str>| words.contains("yes") && words.contains("no");
        says_both(&items) && !says_both(&gold)
    }

    fn has_many_numbers(&self) -> bool {
        let count = |forms| words(forms).into_iter().filter(|word| is_number(word)).count();
        let (items, gold) = (count(&self.normal_items), count(&self.normal_gold));
        let spare = usize::from(!self.is_exact_or_nothing());
        gold > 0 && items > gold + spare
    }

    fn is_whole_context(&self) -> bool {
        let length = |forms: &[String]| forms.iter().map(|form| form.split(' ').count()).sum();
        let (items, gold): (usize, usize) = (length(&self.normal_items), length(&self.normal_gold));
        items > (3 * gold).max(gold + 8)
    }

    fn is_junk(&self) -> bool {
        let foreign = |texts: &[String]| {
            let n_foreign: usize =
                texts.iter().flat_map(|text| text.chars()).filter(|c| !c.is_ascii()).count();
            let n: usize = texts.iter().map(|text| text.chars().count()).sum();
            n_foreign >= 4 && n_foreign * 5 > n
        };
        foreign(&self.items) && !foreign(&self.gold)
    }
}

fn gold_items(gold: &Gold) -> Vec<String> {
    gold.answers.iter().flat_map(|answer| answer_items(answer)).collect()
}

fn words(forms: &[String]) -> HashSet<&str> {
    forms.iter().flat_map(|form| form.split(' ')).filter(|word| !word.is_empty()).collect()
}

/// Whether a slash stands between letters, blanks aside, as in "Paris / Rome". One in a number
/// ("1/2") is no alternative.
fn has_slash_between_letters(text: &str) -> bool {
    let is_letter = |c: Option<char>| c.is_some_and(char::is_alphabetic);
    text.match_indices('/').any(|(at, _)| {
        is_letter(text[..at].trim_end().chars().next_back())
            && is_letter(text[at + 1..].trim_start().chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gold(answers: &[&str]) -> Gold {
        let answers = answers.iter().map(ToString::to_string).collect();
        Gold { answers, ..Gold::default() }
    }

    #[test]
    fn reported_scores_are_the_official_ones() {
        let check = |answer: &str, answers: &[&str], em: f64, f1: f64| {
            assert_eq!(score_answer(answer, &gold(answers)), AnswerScore { em, f1 }, "{answer}");
        };
        check("Mask; Nightwing", &["Nightwing", "Mask"], 1.0, 1.0);
        check("Mask", &["Nightwing", "Mask"], 0.0, 0.5);
        check("", &["Mask"], 0.0, 0.0);
        check("None", &[], 1.0, 1.0);
        check("Mask", &[], 0.0, 0.0);
        check("none", &["Mask"], 0.0, 0.0);
        check("Ebony; Ivory", &["Ebony; Ivory"], 1.0, 1.0);
    }

    #[test]
    fn rewards_do_not_pay_for_tricks() {
        let check = |answer: &str, answers: &[&str], value: f64, flags: &[HackFlag]| {
            let judged = judge(answer, &gold(answers), 0.5);
            assert!((judged.value - value).abs() < 1e-9, "{answer}: {judged:?}");
            assert_eq!(judged.flags, flags, "{answer}");
        };
        check("the Outside-Man", &["Outside Man"], 1.0, &[]);
        check("Outside", &["Outside Man"], 0.5 * 0.67, &[]);
        check("Lord or Lady", &["Lord or Lady"], 1.0, &[]);
        check("Paris or Rome", &["Paris"], 0.0, &[HackFlag::Alternatives]);
        check("Paris / Rome", &["Paris"], 0.0, &[HackFlag::Alternatives]);
        check("a; b c; d; e", &["b c"], 0.0, &[HackFlag::Alternatives]);
        check("1/2 cup", &["half cup"], 0.25, &[]);
        check("yes no", &["yes"], 0.0, &[HackFlag::YesAndNo]);
        check("yes it is", &["yes"], 0.0, &[]);
        check("3 4", &["3"], 0.0, &[HackFlag::ManyNumbers]);
        check("3 dogs", &["3"], 0.0, &[]);
        check("May 5 6 7 2010", &["5 May 2010"], 0.0, &[HackFlag::ManyNumbers]);
        check("!!!", &["Paris"], 0.0, &[HackFlag::EmptyAnswer]);
        check("!!!", &["A"], 0.0, &[HackFlag::EmptyAnswer]);
        check("a", &["A"], 1.0, &[]);
        check(
            "\u{416}\u{416}\u{416}\u{416}\u{416} Paris",
            &["Paris"],
            0.0,
            &[HackFlag::JunkCharacters],
        );
        let context = "Paris is the capital and largest city of France with many people in it";
        check(context, &["Paris"], 0.0, &[HackFlag::WholeContext]);
        check("x; x; y", &["x", "y", "y"], 0.5 * 0.67, &[]);
    }
}
