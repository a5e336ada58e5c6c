//! Stages: one value that asks, reads and judges.

use std::fmt;

use mmrag_core::{Completion, Content, Document, Example, Gold, Prompt};
use serde::{Deserialize, Serialize};

use crate::case::Case;
use crate::grammar::{Grammar, GrammarError, OrderNotation};
use crate::guide::ReplyGuide;
use crate::reply::{NONE, Reply};
use crate::reward::{self, Reward};
use crate::rubric::Rubric;
use crate::template::{BuiltIn, PromptStyle, Template, neutral};

/// Which of the two stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageName {
    /// Point-wise: does this document help?
    Filter,
    /// List-wise: an order of all documents, and an answer.
    Rank,
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Filter => "filter",
            Self::Rank => "rank",
        })
    }
}

/// Whether the filter reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FilterMode {
    /// The verdict alone.
    Direct,
    /// Short reasoning, then the verdict.
    Think,
}

/// One stage: how it asks, what counts as a reply, and how a reply is judged. Both stages are
/// values of this type, and training, answering and evaluation use the same value.
///
/// ```
/// use std::sync::Arc;
/// use mmrag_core::{Content, Document, DocumentId, Question, QuestionId};
/// use mmrag_task::{Case, PromptStyle, Reply, Stage};
///
/// let question = Question { id: QuestionId::new("q"), text: "Who?".into(), images: vec![] };
/// let document = Arc::new(Document {
///     id: DocumentId::new("d"),
///     title: "Ada".into(),
///     content: Content::Text("She did.".into()),
/// });
/// let stage = Stage::rank(PromptStyle::Standard, false);
/// let case = Case::listwise(&question, &[document], 0);
/// let reply = stage.parse(&case, "<rank>[1]</rank><answer>Ada [1]</answer>")?;
/// assert!(matches!(reply, Reply::Rank { answer, .. } if answer == "Ada"));
/// assert!(stage.parse(&case, "Ada").is_err());
/// # Ok::<(), mmrag_task::GrammarError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Which stage it is.
    pub name: StageName,
    /// How it asks.
    pub template: Template,
    /// What counts as a reply.
    pub grammar: Grammar,
    /// How a reply is judged.
    pub rubric: Rubric,
}

impl Stage {
    /// The filter stage with the built-in prompt; judged by [`Rubric::robust`], in the compact
    /// style by [`Rubric::demo`].
    pub fn filter(style: PromptStyle, mode: FilterMode) -> Self {
        let built_in = match mode {
            FilterMode::Direct => BuiltIn::Filter,
            FilterMode::Think => BuiltIn::FilterThink,
        };
        Self::built_in(StageName::Filter, style, built_in, mode == FilterMode::Think)
    }

    /// The rank stage with the built-in prompt, with `<think>` or without; judged by
    /// [`Rubric::robust`], in the compact style by [`Rubric::demo`].
    pub fn rank(style: PromptStyle, reasoning: bool) -> Self {
        let built_in = if reasoning { BuiltIn::Rank } else { BuiltIn::RankDirect };
        Self::built_in(StageName::Rank, style, built_in, reasoning)
    }

    fn built_in(name: StageName, style: PromptStyle, built_in: BuiltIn, think: bool) -> Self {
        let (notation, rubric) = match style {
            PromptStyle::Standard => (OrderNotation::List, Rubric::robust(name)),
            PromptStyle::Compact => (OrderNotation::Labels, Rubric::demo(name)),
        };
        let max_think_chars = match name {
            StageName::Filter => 1_000,
            StageName::Rank => 20_000,
        };
        let grammar = Grammar { stage: name, think, notation, max_think_chars };
        Self { name, template: Template::built_in(style, built_in), grammar, rubric }
    }

    /// The prompt for a case. Text of the case cannot forge a label, a tag or a turn.
    pub fn prompt(&self, case: &Case) -> Prompt {
        Prompt { reasons: self.grammar.think, ..self.template.render(case) }
    }

    /// The same prompt with the reply begun up to the verdict or answer: `<answer>`. With the
    /// choices [`YES`](crate::YES) and [`NO`](crate::NO), this is how the filter's probability is
    /// read.
    pub fn choice_prompt(&self, case: &Case) -> Prompt {
        Prompt { reply_prefix: "<answer>".into(), reasons: false, ..self.prompt(case) }
    }

    /// Reads a completion. Never panics.
    ///
    /// # Errors
    ///
    /// When the text is no reply of the stage's grammar to this case.
    pub fn parse(&self, case: &Case, text: &str) -> Result<Reply, GrammarError> {
        self.grammar.parse(text, case.documents.len())
    }

    /// What holds a reply to this case to the stage's grammar while it is written.
    pub fn guide(&self, case: &Case) -> ReplyGuide {
        ReplyGuide::new(self.grammar, case.documents.len())
    }

    /// Writes a reply in the stage's grammar.
    pub fn render(&self, reply: &Reply) -> String {
        self.grammar.render(reply)
    }

    /// Judges a completion by the rubric. One that does not parse is worth exactly 0.
    pub fn score(&self, case: &Case, gold: &Gold, completion: &Completion) -> Reward {
        reward::score(self, case, gold, completion)
    }

    /// The right reply to a case, for supervised training: reasoning from the example's steps
    /// about shown documents, gold documents first in the order (in the gold's order) and the rest
    /// in label order, the gold answer with the gold documents as citations. Where no gold document
    /// is shown, or there is no answer, the answer is `none`.
    pub fn demonstration(&self, case: &Case, example: &Example) -> Reply {
        let gold = case.gold_labels(&example.gold);
        if self.name == StageName::Filter {
            let helps = !gold.is_empty();
            let think = self.grammar.think.then(|| self.verdict_reason(case, example, helps));
            return Reply::Filter { think, helps };
        }
        let shown = 1..=case.documents.len();
        let others: Vec<usize> = shown.filter(|label| !gold.contains(label)).collect();
        let think = self.grammar.think.then(|| self.reasoning(case, example, &gold, &others));
        let items = example.gold.answers.iter().map(|answer| neutral(answer));
        let answer = items.filter(|item| !item.is_empty()).collect::<Vec<_>>().join("; ");
        let (answer, citations) = if case.is_answerable(&example.gold) && !answer.is_empty() {
            (answer, gold.clone())
        } else {
            (NONE.into(), Vec::new())
        };
        Reply::Rank { think, order: [gold, others].concat(), answer, citations }
    }

    fn reasoning(&self, case: &Case, example: &Example, gold: &[usize], rest: &[usize]) -> String {
        let mut sentences = self.steps(case, example);
        if sentences.is_empty() || !case.is_answerable(&example.gold) {
            sentences = vec![match gold {
                [] => "No document holds the answer.".into(),
                gold => format!("The answer needs {}.", named(gold)),
            }];
        }
        if self.template.style() == PromptStyle::Standard {
            let told = crate::labels_in(&sentences.join(" "));
            let untold = |label: &&usize| !told.contains(label);
            let untold: Vec<usize> = gold.iter().chain(rest).filter(untold).copied().collect();
            if !untold.is_empty() {
                sentences.push(format!("Nothing is needed of {}.", named(&untold)));
            }
        }
        sentences.join(" ")
    }

    /// The example's steps about shown documents, each with its document's label: after the title,
    /// which is copied from the question or found by what it asks, so that the label follows from
    /// it; in the compact style a text's label stands after what it says, as in the prompt: after
    /// the step's first sentence.
    fn steps(&self, case: &Case, example: &Example) -> Vec<String> {
        let steps = example.steps.iter().filter_map(|step| {
            let label = case.label_of(&step.document)?;
            Some(self.step(case.document(label)?, label, &neutral(&step.text)))
        });
        steps.collect()
    }

    fn step(&self, document: &Document, label: usize, told: &str) -> String {
        let place = match (self.template.style(), &document.content) {
            (PromptStyle::Compact, Content::Text(_)) => {
                let (said, rest) = told.split_once(". ").unwrap_or((told, ""));
                let said = format!("{}[{label}].", said.trim_end_matches('.'));
                return [said.as_str(), rest].join(" ").trim_end().to_owned();
            }
            (PromptStyle::Compact, _) => format!("{}[{label}]", neutral(&document.title)),
            (PromptStyle::Standard, _) => format!("{} [{label}]", neutral(&document.title)),
        };
        format!("{}: {told}", place.trim_start())
    }

    fn verdict_reason(&self, case: &Case, example: &Example, helps: bool) -> String {
        let steps = self.steps(case, example);
        match (steps.is_empty() || !helps, helps) {
            (false, _) => steps.join(" "),
            (true, true) => "It holds what the answer needs.".into(),
            (true, false) => "It does not hold what the answer needs.".into(),
        }
    }
}

fn named(labels: &[usize]) -> String {
    labels.iter().map(|label| format!("[{label}]")).collect::<Vec<_>>().join(" ")
}
