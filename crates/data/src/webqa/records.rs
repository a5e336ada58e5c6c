//! The records of WebQA's question files, as they stand there.

use mmrag_core::{Content, Document, DocumentId};
use serde::Deserialize;
use serde_json::Value;

use super::source_id;
use crate::Split;
use crate::json_parts::{Fault, Part};

/// A question with the facts that come with it.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) question: String,
    pub(super) answers: Vec<String>,
    pub(super) keywords: Option<String>,
    pub(super) category: String,
    pub(super) split: Option<Split>,
    pub(super) facts: Vec<Fact>,
    /// A gold fact was broken and is left out.
    pub(super) lacks_gold: bool,
}

/// A text or a picture, and whether it is gold.
#[derive(Debug)]
pub(super) struct Fact {
    pub(super) body: Body,
    pub(super) is_gold: bool,
    /// The line of the question file.
    pub(super) line: usize,
}

#[derive(Debug)]
pub(super) enum Body {
    Text(Document),
    Image { id: u64, title: String },
}

impl Fact {
    pub(super) fn id(&self) -> DocumentId {
        match &self.body {
            Body::Text(document) => document.id.clone(),
            Body::Image { id, .. } => DocumentId::new(id.to_string()),
        }
    }
}

#[derive(Deserialize)]
struct ImageRow {
    image_id: Value,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    caption: Option<String>,
}

#[derive(Deserialize)]
struct TextRow {
    snippet_id: Value,
    fact: String,
    #[serde(default)]
    title: Option<String>,
}

impl Record {
    /// The record of one part of the file. What is wrong with single facts is reported.
    ///
    /// # Errors
    ///
    /// When it has no question, or a member of a wrong type.
    pub(super) fn of(part: &Part<'_>, report: &mut impl FnMut(Fault)) -> Result<Self, Fault> {
        let mut record = Self { id: part.key.clone().into_owned(), ..Self::default() };
        let mut has_question = false;
        let parts = part.parts()?;
        if !parts.is_object() {
            return Err(part.fault("it is a list, not an object"));
        }
        for member in parts {
            let member = member?;
            let name = &*member.key;
            let named = |fault: Fault| Fault { what: format!("{name}: {}", fault.what), ..fault };
            let text = || member.read::<Option<String>>().map_err(named);
            match name {
                "Q" => {
                    record.question = unquoted(&member.read::<String>().map_err(named)?);
                    has_question = true;
                }
                "A" => {
                    let answers = member.read::<Option<Vec<String>>>().map_err(named)?;
                    record.answers = answers.unwrap_or_default();
                    record.answers.iter_mut().for_each(|answer| *answer = unquoted(answer));
                    record.answers.retain(|answer| !answer.is_empty());
                }
                "Keywords_A" => record.keywords = text()?.and_then(|text| keywords(&text)),
                "Qcate" => record.category = text()?.unwrap_or_default(),
                "split" => {
                    record.split = split(text()?.as_deref()).map_err(|what| member.fault(what))?;
                }
                "Guid" => {
                    if let Some(other) = text()?.filter(|guid| *guid != record.id) {
                        report(
                            member.fault(format!("question {} has the Guid {other}", record.id)),
                        );
                    }
                }
                _ => record.add_facts(&member, report).map_err(named)?,
            }
        }
        if has_question { Ok(record) } else { Err(part.fault("Q is missing")) }
    }

    fn add_facts(&mut self, list: &Part<'_>, report: &mut impl FnMut(Fault)) -> Result<(), Fault> {
        let (is_image, is_gold) = match &*list.key {
            "img_posFacts" => (true, true),
            "img_negFacts" | "img_Facts" => (true, false),
            "txt_posFacts" => (false, true),
            "txt_negFacts" | "txt_Facts" => (false, false),
            _ => return Ok(()),
        };
        if list.is_null() {
            return Ok(());
        }
        let items = list.parts()?;
        if items.is_object() {
            return Err(list.fault("it is an object, not a list"));
        }
        for item in items {
            let item = item?;
            let body = if is_image { image(&item) } else { text(&item) };
            match body {
                Ok(body) => self.facts.push(Fact { body, is_gold, line: item.line }),
                Err(Fault { line, what }) => {
                    self.lacks_gold |= is_gold;
                    let what = format!("a fact of question {} ({}): {what}", self.id, list.key);
                    report(Fault { line, what });
                }
            }
        }
        Ok(())
    }
}

fn image(item: &Part<'_>) -> Result<Body, Fault> {
    let row: ImageRow = item.object()?;
    let id = source_id(&row.image_id)
        .and_then(|id| id.parse().ok())
        .ok_or_else(|| item.fault(format!("image_id {} is no number", row.image_id)))?;
    let caption = row.caption.map(|text| unquoted(&text)).filter(|text| !text.is_empty());
    let title = caption.unwrap_or_else(|| unquoted(&row.title.unwrap_or_default()));
    Ok(Body::Image { id, title })
}

fn text(item: &Part<'_>) -> Result<Body, Fault> {
    let row: TextRow = item.object()?;
    let id = source_id(&row.snippet_id)
        .ok_or_else(|| item.fault(format!("snippet_id {} is no id", row.snippet_id)))?;
    Ok(Body::Text(Document {
        id: DocumentId::new(id),
        title: unquoted(&row.title.unwrap_or_default()),
        content: Content::Text(unquoted(&row.fact)),
    }))
}

fn split(name: Option<&str>) -> Result<Option<Split>, String> {
    match name {
        None => Ok(None),
        Some(name) => match Split::parse(name) {
            Some(split) => Ok(Some(split)),
            None => Err(format!("split {name:?} is none of train, val, test")),
        },
    }
}

/// The keywords without their quotes; nothing where the file has none or "TBD".
fn keywords(text: &str) -> Option<String> {
    let text = text.replace('"', "");
    (!text.trim().is_empty() && text.trim() != "TBD").then_some(text)
}

/// The files put texts into quotes that are part of the text.
fn unquoted(text: &str) -> String {
    text.replace('"', "").trim().to_owned()
}
