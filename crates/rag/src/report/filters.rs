//! Which of the questions on the page are seen: filters without a script.
//!
//! Each group is a row of radio buttons, and a rule of style hides what the chosen one leaves out.
//! Classes are numbers, so that no text from outside stands in a rule.

use std::fmt::Write as _;

use mmrag_core::Modality;

use super::examples::ReportExample;
use super::markup::escaped;
use crate::evaluation::Failure;

macro_rules! put {
    ($to:expr, $($part:tt)*) => {
        write!($to, $($part)*).expect("writing to a string does not fail")
    };
}

/// A row of filters: the classes of the questions that each leaves.
pub(super) struct Filters {
    title: &'static str,
    /// Names for people; the class of the `i`-th is the row's letter and `i`.
    names: Vec<String>,
    letter: char,
    /// For each question which of the names hold for it.
    of: Vec<Vec<usize>>,
}

/// The rows of filters that say something of these questions.
pub(super) fn rows(examples: &[ReportExample]) -> Vec<Filters> {
    let rows = [outcomes(examples), kinds(examples), modalities(examples)];
    rows.into_iter().filter(|row| row.names.len() > 1).collect()
}

impl Filters {
    /// The radio buttons and their rules.
    pub(super) fn controls(&self) -> String {
        let Self { title, names, letter, of } = self;
        let mut style = String::from("<style>");
        let mut html = String::new();
        put!(html, "<fieldset class=\"filters\"><legend>{title}</legend>");
        put!(
            html,
            "<label><input type=\"radio\" name=\"{letter}\" checked>all <small>{}</small></label>",
            of.len()
        );
        for (i, name) in names.iter().enumerate() {
            let count = of.iter().filter(|holds| holds.contains(&i)).count();
            put!(
                html,
                "<label><input type=\"radio\" name=\"{letter}\" id=\"f{letter}{i}\">{} <small>{count}</small></label>",
                escaped(name)
            );
            put!(
                style,
                "main:has(#f{letter}{i}:checked) .example:not(.{letter}{i}){{display:none}}"
            );
        }
        format!("{style}</style>{html}</fieldset>")
    }

    /// The classes of a question.
    pub(super) fn classes(&self, question: usize) -> String {
        let class = |i: &usize| format!("{}{i}", self.letter);
        self.of[question].iter().map(class).collect::<Vec<_>>().join(" ")
    }
}

fn outcomes(examples: &[ReportExample]) -> Filters {
    let mut names: Vec<String> = Vec::new();
    let of = |shown: &ReportExample| -> Vec<&'static str> {
        let Some(main) = shown.answered.first() else { return Vec::new() };
        let failure = Failure::of(&main.outcome);
        let mut holds = vec![if failure.is_none() { "right" } else { "wrong" }];
        match shown.gain() {
            Some((em, f1)) if em < 0.0 || em == 0.0 && f1 < 0.0 => holds.push("regressed"),
            Some((em, f1)) if em > 0.0 || f1 > 0.0 => holds.push("improved"),
            _ => {}
        }
        if failure.is_none() && main.outcome.cited.is_some_and(|cited| cited.recall == 0.0) {
            holds.push("right without the gold documents");
        }
        holds.extend(failure.map(Failure::title));
        holds
    };
    let order = ["wrong", "right", "regressed", "improved", "right without the gold documents"];
    let order = order.into_iter().chain(Failure::ALL.map(Failure::title));
    let all: Vec<Vec<&str>> = examples.iter().map(of).collect();
    names.extend(order.filter(|n| all.iter().flatten().any(|m| m == n)).map(str::to_owned));
    filters("Outcome", 'o', names, &all)
}

fn kinds(examples: &[ReportExample]) -> Filters {
    let name = |shown: &ReportExample| match shown.example.kind.as_str() {
        "" => "(no type)".to_owned(),
        kind => kind.to_owned(),
    };
    let all: Vec<Vec<String>> = examples.iter().map(|shown| vec![name(shown)]).collect();
    let mut names: Vec<String> = all.iter().flatten().cloned().collect();
    names.sort();
    names.dedup();
    filters("Type", 't', names, &all)
}

fn modalities(examples: &[ReportExample]) -> Filters {
    let of = |shown: &ReportExample| -> Vec<String> {
        let main = shown.answered.first();
        let needed = main.map(|main| main.outcome.modalities.clone()).unwrap_or_default();
        needed.iter().map(ToString::to_string).collect()
    };
    let all: Vec<Vec<String>> = examples.iter().map(of).collect();
    let names = [Modality::Text, Modality::Table, Modality::Image].map(|m| m.to_string());
    let names = names.into_iter().filter(|n| all.iter().any(|m| m.contains(n))).collect();
    filters("Gold documents", 'm', names, &all)
}

fn filters<S: AsRef<str>>(
    title: &'static str,
    letter: char,
    names: Vec<String>,
    all: &[Vec<S>],
) -> Filters {
    let holds = |of: &Vec<S>| {
        let place = |name: &S| names.iter().position(|known| known == name.as_ref());
        of.iter().filter_map(place).collect()
    };
    let of = all.iter().map(holds).collect();
    Filters { title, names, letter, of }
}
