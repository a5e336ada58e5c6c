//! The known tricks that pay without being right, and how each is noticed.
//!
//! A flag is for counting: whether a trick costs anything is decided where its term is scored. A
//! gold answer that leaks through a caption or file name is a fault of the data and not of a
//! reply; prompts show no file names.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::grammar::{GrammarError, tags_in};
use crate::label::labels_in;
use crate::reply::Reply;
use crate::template::Template;

/// A trick a reply seems to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HackFlag {
    /// Several answers are offered: "A or B", or far more items than gold. The answer is worth 0.
    Alternatives,
    /// The answer is empty or only punctuation. Worth 0.
    EmptyAnswer,
    /// The answer is far longer than gold. Worth 0.
    WholeContext,
    /// The answer says yes and no. Worth 0.
    YesAndNo,
    /// The answer lists numbers. Worth 0.
    ManyNumbers,
    /// The answer is mostly characters of other scripts than gold. Worth 0.
    JunkCharacters,
    /// A tag stands twice. The reply does not parse.
    RepeatedTag,
    /// A tag stands where it does not belong. The reply does not parse.
    MisplacedTag,
    /// More than ten tags stand in the completion. The reply does not parse.
    TagFlood,
    /// A label is not shown, or stands twice in the order. The reply does not parse.
    BadLabel,
    /// The completion spells a special token. The reply does not parse.
    SpecialToken,
    /// Every document is cited though not all are gold. The citations lose precision.
    CitesAll,
    /// An answer cites nothing. The citations are worth 0.
    CitesNone,
    /// `none` comes with citations. Not taken as abstaining.
    CitedNone,
    /// The answer is exact and no cited document is gold. The rubric's `evidence_gate` applies.
    Unsupported,
    /// The order is the one shown, of three documents or more. Not penalised: it may be right;
    /// counted, as its share of all replies should be near chance.
    ShownOrder,
    /// The reasoning names a label that is not shown. The rubric's `think_coverage` applies.
    UnknownThinkLabel,
    /// The reply repeats eight words in a row of the prompt's instructions.
    CopiedPrompt,
    /// The reasoning repeats the same few words. The penalty of repetition applies.
    ConstantThink,
}

impl HackFlag {
    /// All flags, for a table of counters.
    pub const ALL: [Self; 19] = [
        Self::Alternatives,
        Self::EmptyAnswer,
        Self::WholeContext,
        Self::YesAndNo,
        Self::ManyNumbers,
        Self::JunkCharacters,
        Self::RepeatedTag,
        Self::MisplacedTag,
        Self::TagFlood,
        Self::BadLabel,
        Self::SpecialToken,
        Self::CitesAll,
        Self::CitesNone,
        Self::CitedNone,
        Self::Unsupported,
        Self::ShownOrder,
        Self::UnknownThinkLabel,
        Self::CopiedPrompt,
        Self::ConstantThink,
    ];

    /// The name of its live counter, such as `hack/cites_all`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alternatives => "hack/alternatives",
            Self::EmptyAnswer => "hack/empty_answer",
            Self::WholeContext => "hack/whole_context",
            Self::YesAndNo => "hack/yes_and_no",
            Self::ManyNumbers => "hack/many_numbers",
            Self::JunkCharacters => "hack/junk_characters",
            Self::RepeatedTag => "hack/repeated_tag",
            Self::MisplacedTag => "hack/misplaced_tag",
            Self::TagFlood => "hack/tag_flood",
            Self::BadLabel => "hack/bad_label",
            Self::SpecialToken => "hack/special_token",
            Self::CitesAll => "hack/cites_all",
            Self::CitesNone => "hack/cites_none",
            Self::CitedNone => "hack/cited_none",
            Self::Unsupported => "hack/unsupported",
            Self::ShownOrder => "hack/shown_order",
            Self::UnknownThinkLabel => "hack/unknown_think_label",
            Self::CopiedPrompt => "hack/copied_prompt",
            Self::ConstantThink => "hack/constant_think",
        }
    }
}

/// The tricks of a completion that does not parse.
pub(crate) fn flags_of_error(text: &str, error: &GrammarError) -> Vec<HackFlag> {
    let mut flags = match error {
        GrammarError::RepeatedTag { .. } => vec![HackFlag::RepeatedTag],
        GrammarError::MisplacedTag { .. } => vec![HackFlag::MisplacedTag],
        GrammarError::SpecialToken => vec![HackFlag::SpecialToken],
        GrammarError::UnknownLabel { .. } | GrammarError::RepeatedLabel { .. } => {
            vec![HackFlag::BadLabel]
        }
        GrammarError::EmptyAnswer => vec![HackFlag::EmptyAnswer],
        _ => Vec::new(),
    };
    if tags_in(text).len() > 10 {
        flags.push(HackFlag::TagFlood);
    }
    flags
}

/// The tricks of a reply that shows without looking at its answer's words; `gold` are the labels
/// of the gold documents that are shown.
pub(crate) fn flags_of_reply(reply: &Reply, shown: usize, gold: &[usize]) -> Vec<HackFlag> {
    let think_labels = labels_in(reply.think().unwrap_or_default());
    let knows_labels = think_labels.iter().all(|label| (1..=shown).contains(label));
    let mut tries = vec![
        (!knows_labels, HackFlag::UnknownThinkLabel),
        (reply.think().is_some_and(is_constant), HackFlag::ConstantThink),
    ];
    if let Reply::Rank { order, citations, .. } = reply {
        let cites_all = shown > 2 && citations.len() == shown && gold.len() < shown;
        let is_shown_order = shown > 2 && order.iter().copied().eq(1..=shown);
        tries.extend([
            (cites_all, HackFlag::CitesAll),
            (citations.is_empty() && !reply.abstains(), HackFlag::CitesNone),
            (!citations.is_empty() && reply.abstains(), HackFlag::CitedNone),
            (is_shown_order, HackFlag::ShownOrder),
        ]);
    }
    tries.into_iter().filter(|(is_tried, _)| *is_tried).map(|(_, flag)| flag).collect()
}

/// Whether a completion repeats eight words in a row of the instructions.
pub(crate) fn copies_prompt(text: &str, template: &Template) -> bool {
    const RUN: usize = 8;
    let instructions: Vec<&str> = template.text().split_whitespace().collect();
    let runs: HashSet<&[&str]> = instructions.windows(RUN).collect();
    let spaced = text.replace('<', " <").replace('>', "> ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    words.windows(RUN).any(|run| runs.contains(run))
}

/// Whether fewer than three in ten of twenty words or more are distinct.
fn is_constant(think: &str) -> bool {
    let words: Vec<&str> = think.split_whitespace().collect();
    let distinct: HashSet<&&str> = words.iter().collect();
    words.len() >= 20 && distinct.len() * 10 < words.len() * 3
}
