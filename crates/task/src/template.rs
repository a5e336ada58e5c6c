//! Templates: how a case becomes the text and pictures of a prompt.

use mmrag_core::{Content, Document, ImageSource, Message, Part, Prompt, Role, Table};
use serde::{Deserialize, Serialize};

use crate::case::Case;

mod neutral;

pub use neutral::neutral;

/// How much a prompt says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PromptStyle {
    /// Everything a general model needs to be told.
    Standard,
    /// As few words as possible, for a small model that has learned the task's form.
    Compact,
}

/// The frame of a prompt: its words, with the places of the question and the documents.
///
/// Everything up to and including the question comes before the documents, so that prompts of one
/// question share their beginning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "TemplateFields")]
pub struct Template {
    style: PromptStyle,
    text: String,
    max_cells: usize,
}

/// A template is not well formed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// A place is missing or stands twice.
    #[error("read the template: {place} has to stand in it exactly once")]
    Place {
        /// The place.
        place: &'static str,
    },
    /// The documents come before the question.
    #[error("read the template: {{question}} has to stand before {{documents}}")]
    Order,
}

const QUESTION: &str = "{question}";
const DOCUMENTS: &str = "{documents}";

impl Template {
    /// A template from its words, which hold `{question}` once and, after it, `{documents}` once.
    /// Of a table only the first rows are shown, down to the one that reaches `max_cells` cells.
    ///
    /// # Errors
    ///
    /// When a place is missing, stands twice, or the documents come before the question.
    pub fn new(style: PromptStyle, text: &str, max_cells: usize) -> Result<Self, TemplateError> {
        for place in [QUESTION, DOCUMENTS] {
            if text.matches(place).count() != 1 {
                return Err(TemplateError::Place { place });
            }
        }
        if text.find(DOCUMENTS) < text.find(QUESTION) {
            return Err(TemplateError::Order);
        }
        Ok(Self { style, text: text.trim().to_string(), max_cells })
    }

    /// The built-in template of this name: `filter`, `filter_think`, `rank` or `rank_direct`.
    pub(crate) fn built_in(style: PromptStyle, name: BuiltIn) -> Self {
        let max_cells = match style {
            PromptStyle::Standard => 400,
            PromptStyle::Compact => 120,
        };
        Self::new(style, built_in_text(style, name), max_cells)
            .expect("a test reads every built-in template")
    }

    /// How much the prompt says.
    pub fn style(&self) -> PromptStyle {
        self.style
    }

    /// The words, with the places of the question and the documents.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The prompt for a case: one turn of the user. Text of the case is shown in [`neutral`] form.
    pub fn render(&self, case: &Case) -> Prompt {
        let (before, rest) = self.text.split_once(QUESTION).expect("checked when it was made");
        let (between, after) = rest.split_once(DOCUMENTS).expect("checked when it was made");
        let mut parts = Parts::default();
        parts.text(before);
        parts.text(&neutral(&case.question.text));
        for image in &case.question.images {
            parts.image(image);
        }
        parts.text(between);
        for (index, document) in case.documents.iter().enumerate() {
            if index > 0 {
                parts.text("\n");
            }
            self.render_document(index + 1, document, &mut parts);
        }
        parts.text(after);
        let message = Message { role: Role::User, parts: parts.parts };
        Prompt { messages: vec![message], reply_prefix: String::new(), reasons: true }
    }

    fn render_document(&self, label: usize, document: &Document, parts: &mut Parts) {
        let said = match &document.content {
            Content::Text(text) => neutral(text),
            Content::Table(table) => neutral(&table.name),
            Content::Image(_) => String::new(),
        };
        let title = neutral(&document.title);
        parts.text(&match self.style {
            PromptStyle::Standard => {
                format!("[{label}] ({}){}", document.modality(), joined(&[&title, &said]))
            }
            PromptStyle::Compact => match document.content {
                Content::Text(_) => compact_text(&title, label, &said),
                Content::Table(_) | Content::Image(_) => compact_head(&title, label, &said),
            },
        });
        match &document.content {
            Content::Text(_) => {}
            Content::Table(table) => parts.text(&self.render_table(table)),
            Content::Image(image) if self.style == PromptStyle::Standard => {
                parts.text("\n");
                parts.image(image);
            }
            Content::Image(image) => {
                parts.text(" ");
                parts.image(image);
                parts.text(&compact_head(&title, label, ""));
            }
        }
    }

    /// The table row by row, each on a line of its own that begins with the line break: as Markdown,
    /// or in the compact style with each cell's header beside it.
    fn render_table(&self, table: &Table) -> String {
        let mut text = String::new();
        let mut cells = 0;
        if self.style == PromptStyle::Standard && !table.header.is_empty() {
            let rule = "---|".repeat(table.header.len());
            text.extend([markdown_row(&table.header).as_str(), "\n|", &rule]);
            cells += table.header.len();
        }
        for (shown, row) in table.rows.iter().enumerate() {
            if cells >= self.max_cells {
                let n_left = (table.rows.len() - shown).to_string();
                text.extend(["\n… ", &n_left, " more rows"]);
                break;
            }
            match self.style {
                PromptStyle::Standard => text.push_str(&markdown_row(row)),
                // With its blank, a name that begins a row is the token that it is in a sentence.
                PromptStyle::Compact => text.extend(["\n ", &named_cells(&table.header, row)]),
            }
            cells += row.len();
        }
        text
    }
}

/// The label after all that the text says, as in a reasoning that tells a fact and then its label.
/// Several texts may bear one title: a model that reads from left to right knows what a text says
/// only at its end, so that a label there can be found by what is said, and one at the title cannot.
fn compact_text(title: &str, label: usize, said: &str) -> String {
    format!("{}[{label}]", joined(&[title, said]))
}

/// The label after the title, as in a reasoning that names both: a small model that says a title
/// again finds its label as the very next token, which a blank between them would be instead.
/// Pictures and tables rarely share a title. Below a picture both stand again: what reads from left
/// to right knows there what the picture shows, and finds the title by it.
fn compact_head(title: &str, label: usize, said: &str) -> String {
    let place = if title.is_empty() { format!("[{label}]") } else { format!(" {title}[{label}]") };
    if said.is_empty() { place } else { format!("{place}: {said}") }
}

fn markdown_row(row: &[String]) -> String {
    let cells: Vec<String> = row.iter().map(|cell| neutral(cell).replace('|', "/")).collect();
    format!("\n| {} |", cells.join(" | "))
}

/// A row of a table as a sentence: its first cell, then each other one after its column's header,
/// in [`neutral`] form, and the first cell again. So a small model finds a cell as it finds a word
/// of a text, and need not count columns; and it finds a row by what the row says, as it reads on
/// from there to the name. The first column's header is left out: its cells name the rows.
///
/// ```
/// let words = |words: [&str; 3]| words.map(str::to_owned);
/// let (header, row) = (words(["bird", "length", "home"]), words(["Kite", "60", "trees"]));
/// assert_eq!(mmrag_task::named_cells(&header, &row), "Kite: length 60, home trees: Kite");
/// ```
pub fn named_cells(header: &[String], row: &[String]) -> String {
    let name = row.first().map_or_else(String::new, |cell| neutral(cell));
    let others = row.iter().enumerate().skip(1).map(|(column, cell)| {
        let header = header.get(column).map_or_else(String::new, |header| neutral(header));
        format!("{header} {}", neutral(cell)).trim().to_owned()
    });
    let others: Vec<String> = others.filter(|cell| !cell.is_empty()).collect();
    match (name.as_str(), others.join(", ")) {
        (_, others) if others.is_empty() => name,
        ("", others) => others,
        (_, others) => format!("{name}: {others}: {name}"),
    }
}

/// The texts that are not empty, after a blank, with colons between them.
fn joined(texts: &[&str]) -> String {
    let texts: Vec<&str> = texts.iter().copied().filter(|text| !text.is_empty()).collect();
    if texts.is_empty() { String::new() } else { format!(" {}", texts.join(": ")) }
}

/// The parts of a turn, with neighbouring texts joined.
#[derive(Default)]
struct Parts {
    parts: Vec<Part>,
}

impl Parts {
    fn text(&mut self, text: &str) {
        match self.parts.last_mut() {
            Some(Part::Text(last)) => last.push_str(text),
            _ if text.is_empty() => {}
            _ => self.parts.push(Part::Text(text.to_string())),
        }
    }

    fn image(&mut self, image: &ImageSource) {
        self.parts.push(Part::Image(image.clone()));
    }
}

/// The templates that come with the crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BuiltIn {
    Filter,
    FilterThink,
    Rank,
    RankDirect,
}

fn built_in_text(style: PromptStyle, name: BuiltIn) -> &'static str {
    match (style, name) {
        (PromptStyle::Standard, BuiltIn::Filter) => include_str!("../prompts/standard/filter.md"),
        (PromptStyle::Standard, BuiltIn::FilterThink) => {
            include_str!("../prompts/standard/filter_think.md")
        }
        (PromptStyle::Standard, BuiltIn::Rank) => include_str!("../prompts/standard/rank.md"),
        (PromptStyle::Standard, BuiltIn::RankDirect) => {
            include_str!("../prompts/standard/rank_direct.md")
        }
        (PromptStyle::Compact, BuiltIn::Filter) => include_str!("../prompts/compact/filter.md"),
        (PromptStyle::Compact, BuiltIn::FilterThink) => {
            include_str!("../prompts/compact/filter_think.md")
        }
        (PromptStyle::Compact, BuiltIn::Rank) => include_str!("../prompts/compact/rank.md"),
        (PromptStyle::Compact, BuiltIn::RankDirect) => {
            include_str!("../prompts/compact/rank_direct.md")
        }
    }
}

/// A template as it is stored, before it is checked.
#[derive(Deserialize)]
struct TemplateFields {
    style: PromptStyle,
    text: String,
    max_cells: usize,
}

impl TryFrom<TemplateFields> for Template {
    type Error = TemplateError;

    fn try_from(fields: TemplateFields) -> Result<Self, TemplateError> {
        Self::new(fields.style, &fields.text, fields.max_cells)
    }
}
