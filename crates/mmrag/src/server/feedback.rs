//! What people say of verdicts, citations and answers, kept as examples to train on.

mod examples;
mod folder;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use axum::extract::{Extension, State};
use mmrag_core::{Document, DocumentId, ImageSource};
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::Access;
use super::body::{Body, Json};
use super::collections::Store;
use super::documents::{in_background, of_request};
use super::error::ApiError;
use super::history::Record;
use super::limits::Limits;
use super::pictures;
use super::state::Shared;

use examples::{About, Kept, Seen};
use folder::Folder;

/// What somebody says of an answered question.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Opinion {
    /// The question's id in the history.
    asked: String,
    /// What it is about.
    about: About,
    /// The document, if it is about one.
    #[serde(default)]
    document: Option<String>,
    /// Whether the verdict, citation or answer is right.
    right: bool,
    /// The right answer, if the one given is wrong; empty: there is none.
    #[serde(default)]
    answer: Option<String>,
}

/// Where it is kept.
pub(crate) struct Feedback {
    folder: Option<Mutex<Folder>>,
}

impl Feedback {
    /// Keeps it below a folder, or nowhere.
    ///
    /// # Errors
    ///
    /// When what is there cannot be read.
    pub(crate) fn open(state: Option<PathBuf>) -> anyhow::Result<Self> {
        let folder = state.map(|state| Folder::open(state.join("feedback"))).transpose()?;
        Ok(Self { folder: folder.map(Mutex::new) })
    }
}

/// `POST /v1/feedback`.
pub(crate) async fn give(
    State(app): State<Shared>,
    Extension(access): Extension<Access>,
    Body(opinion): Body<Opinion>,
) -> Result<Json<Value>, ApiError> {
    let record = app.history.find(&access, &opinion.asked)?;
    if (opinion.about != About::Answer) != opinion.document.is_some() {
        let message = "verdicts and citations are about a `document`, answers are not";
        return Err(ApiError::field("document", message));
    }
    if let Some(document) = &opinion.document
        && !record.explanation.candidates.iter().any(|c| c.document.as_str() == document)
    {
        let message = format!("the question has no candidate {document}");
        return Err(ApiError::field("document", message));
    }
    let store = match &record.collection {
        Some(name) => Some(app.collections.find(&access, Some(name))?.1),
        None => None,
    };
    let kept = in_background(move || {
        let Some(folder) = &app.feedback.folder else {
            return Err(ApiError::not_offered("the server has no place to keep it: --state"));
        };
        let mut folder = folder.lock().expect("no thread panics while it holds the lock");
        let source = Source { record: &record, store, limits: &app.limits };
        source
            .keep(&mut folder, opinion, access.name)
            .map_err(|error| ApiError::not_offered(format!("failed to keep it: {error:#}")))
    })
    .await?;
    Ok(Json(json!({ "kept": kept })))
}

/// What an opinion is about, with where its documents are.
struct Source<'a> {
    record: &'a Record,
    store: Option<Arc<dyn Store>>,
    limits: &'a Limits,
}

impl Source<'_> {
    fn keep(&self, folder: &mut Folder, opinion: Opinion, by: String) -> anyhow::Result<PathBuf> {
        let documents = self.documents()?;
        folder.documents(documents.iter().map(|d| (self.id(&d.id), &**d)))?;
        let images = self
            .pictures()?
            .iter()
            .map(|picture| folder.picture(picture))
            .collect::<Result<_, _>>()?;
        let explanation = &self.record.explanation;
        let there = |id: &DocumentId| documents.iter().any(|document| document.id == *id);
        let candidates = explanation
            .candidates
            .iter()
            .filter(|c| there(&c.document))
            .map(|c| Seen { id: self.id(&c.document), kept: c.dropped_at.is_none() });
        let kept = Kept {
            at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
            by,
            asked: opinion.asked,
            about: opinion.about,
            document: opinion.document.map(|id| self.id(&DocumentId::new(id))),
            right: opinion.right,
            answer: opinion.answer,
            question: explanation.question.text.clone(),
            images,
            candidates: candidates.collect(),
            answered: explanation.answer.clone(),
            abstained: explanation.abstained,
        };
        folder.keep(kept).map(std::path::Path::to_path_buf)
    }

    /// A name that no document of another collection has.
    fn id(&self, id: &DocumentId) -> String {
        let of = self.record.collection.as_ref().unwrap_or(&self.record.id);
        format!("{of}/{id}")
    }

    /// The candidates that are still there.
    fn documents(&self) -> anyhow::Result<Vec<Arc<Document>>> {
        let candidates = || self.record.explanation.candidates.iter();
        if let Some(store) = &self.store {
            let found = candidates().map(|candidate| store.document(&candidate.document));
            let found: Result<Vec<_>, _> = found.collect();
            return Ok(found
                .context("failed to read the collection")?
                .into_iter()
                .flatten()
                .collect());
        }
        let given = self.record.asking.as_ref().and_then(|asking| asking.documents.as_ref());
        let given = given.context("the question was too large to keep with its documents")?;
        Ok(of_request(given, self.limits)?)
    }

    fn pictures(&self) -> anyhow::Result<Vec<ImageSource>> {
        let asking = self.record.asking.as_ref();
        let urls = asking.map_or(&[][..], |asking| &asking.images);
        let pictures: Result<Vec<_>, ApiError> =
            urls.iter().map(|url| pictures::from_url(url, self.limits)).collect();
        Ok(pictures?)
    }
}
