//! The grammar of replies: what counts as one, and how one is written.

use serde::{Deserialize, Serialize};

use crate::label::{labels_in, without_labels};
use crate::reply::{NO, Reply, YES};
use crate::stage::StageName;

/// How an order of labels is written. Both are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderNotation {
    /// `[2,1,3]`
    List,
    /// `[2][1][3]`: one token a label where labels are tokens.
    Labels,
}

/// What a reply of a stage looks like.
///
/// ```text
/// filter  [think] "<answer>" ("Yes" | "No") "</answer>"
/// rank    [think] "<rank>" order "</rank>" "<answer>" text { "[" label "]" } "</answer>"
/// think   "<think>" text "</think>"
/// order   "[" label { "," label } "]"  |  "[" label "]" { "[" label "]" }
/// ```
///
/// Blanks may stand between the parts and nothing else; each tag stands once and no text holds a
/// tag or an opening `<|` of a special token. The order is a permutation of all shown labels.
/// Citations may also stand inside the answer, after each item. An answer without citations reads
/// well: what it is worth is for the rubric to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grammar {
    /// The stage whose replies these are.
    pub stage: StageName,
    /// Whether a reply begins with reasoning.
    pub think: bool,
    /// How an order is written.
    pub notation: OrderNotation,
    /// The reasoning's greatest length in characters.
    pub max_think_chars: usize,
}

/// Why a completion is no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrammarError {
    /// A tag is missing.
    #[error("read the reply: {tag} is missing")]
    MissingTag {
        /// The tag.
        tag: &'static str,
    },
    /// A tag stands more than once.
    #[error("read the reply: {tag} stands more than once")]
    RepeatedTag {
        /// The tag.
        tag: &'static str,
    },
    /// A tag stands where it does not belong.
    #[error("read the reply: {tag} is out of place")]
    MisplacedTag {
        /// The tag.
        tag: &'static str,
    },
    /// There is text outside of the tags.
    #[error("read the reply: text stands outside of the tags")]
    StrayText,
    /// There is the opening of a special token.
    #[error("read the reply: it holds a special token")]
    SpecialToken,
    /// The reasoning is empty.
    #[error("read the reply: the reasoning is empty")]
    EmptyThink,
    /// The reasoning is too long.
    #[error("read the reply: the reasoning has {chars} characters, more than {limit}")]
    LongThink {
        /// How many characters it has.
        chars: usize,
        /// How many it may have.
        limit: usize,
    },
    /// The filter's verdict is neither of its two words.
    #[error("read the verdict: it is neither Yes nor No")]
    NoVerdict,
    /// The order is not a list of labels.
    #[error("read the order: it is not a list of labels")]
    NoOrder,
    /// A label is not shown.
    #[error("read label [{label}]: {shown} documents are shown")]
    UnknownLabel {
        /// The label.
        label: usize,
        /// How many documents are shown.
        shown: usize,
    },
    /// A label stands twice in the order.
    #[error("read the order: label [{label}] stands twice")]
    RepeatedLabel {
        /// The label.
        label: usize,
    },
    /// The order leaves documents out.
    #[error("read the order: it holds {found} of {shown} documents")]
    IncompleteOrder {
        /// How many labels it holds.
        found: usize,
        /// How many documents are shown.
        shown: usize,
    },
    /// The answer is empty.
    #[error("read the answer: it is empty")]
    EmptyAnswer,
    /// What is left of the answer without its labels holds a label or a tag.
    #[error("read the answer: labels stand inside of labels or tags")]
    NestedLabel,
}

const THINK: [&str; 2] = ["<think>", "</think>"];
const RANK: [&str; 2] = ["<rank>", "</rank>"];
const ANSWER: [&str; 2] = ["<answer>", "</answer>"];

/// All tags a reply may hold.
pub(crate) const TAGS: [&str; 6] =
    ["<think>", "</think>", "<rank>", "</rank>", "<answer>", "</answer>"];

impl Grammar {
    /// Reads a completion for a prompt that shows `shown` documents. Never panics.
    ///
    /// # Errors
    ///
    /// When the text is no reply of this grammar.
    pub fn parse(&self, text: &str, shown: usize) -> Result<Reply, GrammarError> {
        if text.contains("<|") {
            return Err(GrammarError::SpecialToken);
        }
        let mut sections = sections(text, &self.tags())?.into_iter();
        let mut next = || sections.next().expect("there is one section for each pair of tags");
        let think = if self.think { Some(self.parse_think(next())?) } else { None };
        match self.stage {
            StageName::Filter => Ok(Reply::Filter { think, helps: parse_verdict(next())? }),
            StageName::Rank => {
                let order = parse_order(next(), shown)?;
                let (answer, citations) = parse_answer(next(), shown)?;
                Ok(Reply::Rank { think, order, answer, citations })
            }
        }
    }

    /// Writes a reply so that [`Grammar::parse`] reads it back, if a reply of this grammar can be
    /// that at all. Reasoning is left out where the grammar has none.
    pub fn render(&self, reply: &Reply) -> String {
        let mut text = String::new();
        if let Some(think) = reply.think().filter(|_| self.think) {
            text.extend([THINK[0], self.blank(), think, THINK[1]]);
        }
        match reply {
            Reply::Filter { helps, .. } => {
                text.extend([ANSWER[0], if *helps { YES } else { NO }, ANSWER[1]]);
            }
            Reply::Rank { order, answer, citations, .. } => {
                let order = self.notation.render(order);
                text.extend([RANK[0], &order, RANK[1], ANSWER[0], self.blank(), answer]);
                if !citations.is_empty() {
                    text.push(' ');
                    text.push_str(&OrderNotation::Labels.render(citations));
                }
                text.push_str(ANSWER[1]);
            }
        }
        text
    }

    /// In the compact style, so that a section's first word is the token that it is in a sentence.
    fn blank(&self) -> &'static str {
        match self.notation {
            OrderNotation::List => "",
            OrderNotation::Labels => " ",
        }
    }

    fn tags(&self) -> Vec<&'static str> {
        let mut tags = Vec::with_capacity(6);
        if self.think {
            tags.extend(THINK);
        }
        if self.stage == StageName::Rank {
            tags.extend(RANK);
        }
        tags.extend(ANSWER);
        tags
    }

    fn parse_think(&self, text: &str) -> Result<String, GrammarError> {
        let think = text.trim();
        let chars = think.chars().count();
        if chars == 0 {
            return Err(GrammarError::EmptyThink);
        }
        if chars > self.max_think_chars {
            return Err(GrammarError::LongThink { chars, limit: self.max_think_chars });
        }
        Ok(think.to_string())
    }
}

impl OrderNotation {
    fn render(self, labels: &[usize]) -> String {
        let between = match self {
            Self::List => ",",
            Self::Labels => "][",
        };
        let labels: Vec<String> = labels.iter().map(usize::to_string).collect();
        format!("[{}]", labels.join(between))
    }
}

/// The texts between each opening tag and its closing one, if the text holds exactly `expected`.
fn sections<'t>(text: &'t str, expected: &[&'static str]) -> Result<Vec<&'t str>, GrammarError> {
    let found = tags_in(text);
    for (at, &(_, tag)) in found.iter().enumerate() {
        if !expected.contains(&tag) {
            return Err(GrammarError::MisplacedTag { tag });
        }
        if found[..at].iter().any(|&(_, earlier)| earlier == tag) {
            return Err(GrammarError::RepeatedTag { tag });
        }
    }
    for &tag in expected {
        if !found.iter().any(|&(_, present)| present == tag) {
            return Err(GrammarError::MissingTag { tag });
        }
    }
    let mut sections = Vec::with_capacity(expected.len() / 2);
    let mut end = 0;
    for (index, (&(start, tag), &wanted)) in found.iter().zip(expected).enumerate() {
        if tag != wanted {
            return Err(GrammarError::MisplacedTag { tag });
        }
        let between = &text[end..start];
        if index % 2 == 1 {
            sections.push(between);
        } else if !between.trim().is_empty() {
            return Err(GrammarError::StrayText);
        }
        end = start + tag.len();
    }
    if text[end..].trim().is_empty() { Ok(sections) } else { Err(GrammarError::StrayText) }
}

/// The tags a text holds, with where they start.
pub(crate) fn tags_in(text: &str) -> Vec<(usize, &'static str)> {
    let tag_at = |at: usize| TAGS.into_iter().find(|tag| text[at..].starts_with(tag));
    text.match_indices('<').filter_map(|(at, _)| tag_at(at).map(|tag| (at, tag))).collect()
}

pub(crate) fn parse_verdict(text: &str) -> Result<bool, GrammarError> {
    match text.trim() {
        YES => Ok(true),
        NO => Ok(false),
        _ => Err(GrammarError::NoVerdict),
    }
}

pub(crate) fn parse_order(text: &str, shown: usize) -> Result<Vec<usize>, GrammarError> {
    let order = labels_in(text);
    if order.is_empty() || !without_labels(text).is_empty() {
        return Err(GrammarError::NoOrder);
    }
    for (at, &label) in order.iter().enumerate() {
        check_label(label, shown)?;
        if order[..at].contains(&label) {
            return Err(GrammarError::RepeatedLabel { label });
        }
    }
    if order.len() < shown {
        return Err(GrammarError::IncompleteOrder { found: order.len(), shown });
    }
    Ok(order)
}

pub(crate) fn parse_answer(text: &str, shown: usize) -> Result<(String, Vec<usize>), GrammarError> {
    let mut citations = Vec::new();
    for label in labels_in(text) {
        check_label(label, shown)?;
        if !citations.contains(&label) {
            citations.push(label);
        }
    }
    let answer = without_labels(text);
    if answer.is_empty() {
        return Err(GrammarError::EmptyAnswer);
    }
    let is_nested = answer.contains("<|") || !tags_in(&answer).is_empty();
    if is_nested || !labels_in(&answer).is_empty() {
        return Err(GrammarError::NestedLabel);
    }
    Ok((answer, citations))
}

fn check_label(label: usize, shown: usize) -> Result<(), GrammarError> {
    if (1..=shown).contains(&label) {
        Ok(())
    } else {
        Err(GrammarError::UnknownLabel { label, shown })
    }
}
