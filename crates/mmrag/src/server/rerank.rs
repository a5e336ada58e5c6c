//! Reranking in four dialects: Cohere's, Jina's, vLLM's and TEI's, with pictures on both sides and a
//! reason for every document.
//!
//! The score is the filter's P(helps), in 0..=1. A document that cannot be read scores 0 and says
//! why.

use std::sync::Arc;

use axum::extract::State;
use mmrag_core::{Content, Document, Question, QuestionId};
use mmrag_rag::explanation::Filtering;
use serde::Deserialize;
use serde_json::{Value, json};

use super::ask::lost;
use super::body::{Body, Json};
use super::documents::{Given, GivenPart, Parts, in_background, of_request};
use super::error::ApiError;
use super::limits::Limits;
use super::state::Shared;
use super::worker::{Job, Judged, RerankJob};

/// What a score is where the filter says neither yes nor no.
const NEITHER: f64 = 0.5;

/// A question with documents, in any of the dialects: TEI's has `texts`.
#[derive(Deserialize)]
pub(crate) struct Reranking {
    query: Queried,
    #[serde(default)]
    documents: Option<Vec<Given>>,
    #[serde(default)]
    texts: Option<Vec<Given>>,
    #[serde(default)]
    model: Option<String>,
    /// 0 is all, as vLLM has it.
    #[serde(default)]
    top_n: Option<usize>,
    #[serde(default)]
    return_documents: bool,
    #[serde(default)]
    return_text: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Queried {
    Text(String),
    Parts { content: Parts },
    Picture { image: String },
}

impl Queried {
    fn question(self, limits: &Limits) -> Result<Question, ApiError> {
        let parts = match self {
            Self::Text(text) => Parts::Text(text),
            Self::Parts { content } => content,
            Self::Picture { image } => {
                let image_url = super::documents::GivenUrl::Plain(image);
                Parts::Parts(vec![GivenPart::ImageUrl { image_url }])
            }
        };
        let (text, images) = parts.read(limits)?;
        if text.trim().is_empty() && images.is_empty() {
            return Err(ApiError::field("query", "there is no query"));
        }
        Ok(Question { id: QuestionId::new("rerank"), text, images })
    }
}

/// `POST /rerank`, `/v1/rerank` and `/v2/rerank`.
pub(crate) async fn rerank(
    State(app): State<Shared>,
    Body(mut asked): Body<Reranking>,
) -> Result<Json<Value>, ApiError> {
    let is_tei = asked.texts.is_some();
    let Some(given) = asked.texts.take().or(asked.documents.take()) else {
        return Err(ApiError::field(
            "documents",
            "there are no documents: send `documents` or `texts`",
        ));
    };
    let (limits, query) = (app.limits, asked.query);
    let (reply, judged) = tokio::sync::oneshot::channel();
    let (job, documents) = in_background(move || {
        let documents = of_request(&given, &limits)?;
        let question = query.question(&limits)?;
        Ok((RerankJob { question, documents: documents.clone(), reply }, documents))
    })
    .await?;
    app.worker.submit(Job::Rerank(job))?;
    let judged = judged.await.map_err(|_| lost())??;
    let mut order: Vec<usize> = (0..judged.len()).collect();
    order.sort_by(|a, b| score(&judged[*b]).total_cmp(&score(&judged[*a])));
    if let Some(top_n) = asked.top_n.filter(|top_n| *top_n > 0) {
        order.truncate(top_n);
    }
    let rows = Rows { documents: &documents, judged: &judged, order: &order };
    if is_tei {
        return Ok(Json(rows.tei(asked.return_text)));
    }
    Ok(Json(json!({
        "id": format!("rerank-{:016x}", rand::random::<u64>()),
        "object": "list",
        "model": asked.model.unwrap_or_else(|| app.worker.model.clone()),
        "results": rows.results(asked.return_documents),
        "usage": { "prompt_tokens": 0, "total_tokens": 0 },
        "meta": { "api_version": { "version": "2" }, "billed_units": { "search_units": 0 } },
    })))
}

struct Rows<'a> {
    documents: &'a [Arc<Document>],
    judged: &'a [Judged],
    order: &'a [usize],
}

impl Rows<'_> {
    fn tei(&self, with_text: bool) -> Value {
        let row = |&index: &usize| {
            let mut row = json!({ "index": index, "score": score(&self.judged[index]) });
            if with_text {
                row["text"] = json!(text(&self.documents[index]));
            }
            row["explanation"] = explained(&self.judged[index]);
            row
        };
        self.order.iter().map(row).collect()
    }

    fn results(&self, with_documents: bool) -> Value {
        let row = |&index: &usize| {
            let judged = &self.judged[index];
            let mut row = json!({ "index": index, "relevance_score": score(judged) });
            if with_documents {
                row["document"] = json!({ "text": text(&self.documents[index]) });
            }
            row["explanation"] = explained(judged);
            row
        };
        self.order.iter().map(row).collect()
    }
}

fn score(judged: &Judged) -> f64 {
    match judged {
        Ok(Filtering { p, .. }) => p.unwrap_or(NEITHER),
        Err(_) => 0.0,
    }
}

fn explained(judged: &Judged) -> Value {
    match judged {
        Ok(filtering) => json!(filtering),
        Err(error) => json!({ "why": format!("it cannot be read: {error}") }),
    }
}

fn text(document: &Document) -> String {
    match &document.content {
        Content::Text(text) => text.clone(),
        Content::Table(table) => table.name.clone(),
        Content::Image(_) => document.title.clone(),
    }
}
