//! What the filter thinks of documents, asked for by itself.

use std::sync::Arc;

use mmrag_core::{Document, Question};
use mmrag_rag::explanation::Filtering;
use mmrag_rag::retriever::SourceRank;
use mmrag_rag::{FilterStage, Opinion, Pipeline};
use mmrag_task::Case;
use serde::Serialize;
use tokio::sync::oneshot::Sender;

use crate::server::collections::Store;
use crate::server::error::ApiError;
use crate::server::metrics::Metrics;

/// How deep it is looked for a document that was not found.
const LOOKED_AT: usize = 1000;

/// What the filter said of a document, or why it could not read it.
pub(crate) type Judged = Result<Filtering, String>;

/// Documents to judge.
pub(crate) struct RerankJob {
    /// What they should help with.
    pub(crate) question: Question,
    /// The documents.
    pub(crate) documents: Vec<Arc<Document>>,
    /// Where to tell, in their order.
    pub(crate) reply: Sender<Result<Vec<Judged>, ApiError>>,
}

/// A document that is asked about.
pub(crate) struct WhyJob {
    /// What it should have helped with.
    pub(crate) question: Question,
    /// The document.
    pub(crate) document: Arc<Document>,
    /// The collection it is in, and how many documents are taken from there.
    pub(crate) from: (Arc<dyn Store>, usize),
    /// Where to tell.
    pub(crate) reply: Sender<Result<WhyNot, ApiError>>,
}

/// Why a document is not among those that were shown.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct WhyNot {
    /// Its place in each list that was searched; empty if it is in none.
    pub(crate) retrieval: Vec<SourceRank>,
    /// How many documents are taken.
    pub(crate) top_k: usize,
    /// How many were looked through.
    pub(crate) looked_at: usize,
    /// What the filter says of it.
    pub(crate) filter: Option<Filtering>,
    /// In one sentence.
    pub(crate) why: String,
}

/// Judges the documents of several requests with one call of the engine.
pub(crate) fn rerank(pipeline: &Pipeline<'_>, jobs: Vec<RerankJob>, metrics: &Metrics) {
    let Some(filter) = pipeline.filter else {
        for job in jobs {
            let error = ApiError::not_offered("this server was started without a filter");
            let _ = job.reply.send(Err(error));
        }
        return;
    };
    let cases: Vec<Vec<Case>> = jobs
        .iter()
        .map(|job| job.documents.iter().map(|d| Case::pointwise(&job.question, d)).collect())
        .collect();
    let timer = metrics.stage("rerank");
    let together = filter.opinions(&cases.concat());
    timer.observe_duration();
    let mut together = together.ok().map(Vec::into_iter);
    for (job, cases) in jobs.into_iter().zip(&cases) {
        let judged = match &mut together {
            Some(opinions) => {
                opinions.by_ref().take(cases.len()).map(|o| Ok(filter.alone(o))).collect()
            }
            None => cases.iter().map(|case| judge(&filter, case)).collect(),
        };
        // Nobody may listen any more.
        let _ = job.reply.send(Ok(judged));
    }
}

/// One document by itself: a broken picture costs itself alone.
fn judge(filter: &FilterStage<'_>, case: &Case) -> Judged {
    match filter.opinions(std::slice::from_ref(case)) {
        Ok(mut opinions) => Ok(filter.alone(opinions.pop().unwrap_or_else(Opinion::default))),
        Err(error) => Err(error.to_string()),
    }
}

/// Says where a document would have stood.
pub(crate) fn why_not(pipeline: &Pipeline<'_>, job: WhyJob) {
    let (store, top_k) = &job.from;
    let looked_at = LOOKED_AT.max(*top_k);
    let found = match store.retrieve(&job.question, looked_at) {
        Ok(found) => found,
        Err(error) => return drop(job.reply.send(Err(ApiError::failed(&error)))),
    };
    let place = found.iter().position(|hit| hit.document.id == job.document.id);
    let retrieval = place.map(|place| found[place].sources.clone()).unwrap_or_default();
    let case = Case::pointwise(&job.question, &job.document);
    let judged = pipeline.filter.map(|filter| judge(&filter, &case));
    let found = match place {
        None => format!("it is not among the first {looked_at} documents found for the question"),
        Some(place) if place >= *top_k => {
            format!("it was found at place {}, and {top_k} documents are taken", place + 1)
        }
        Some(place) => {
            format!("it was found at place {}, so it was shown to the filter", place + 1)
        }
    };
    let why = match &judged {
        Some(Ok(filtering)) => format!("{found}; of it by itself {}", filtering.why),
        Some(Err(error)) => format!("{found}; it cannot be read: {error}"),
        None => found,
    };
    let filter = judged.and_then(Result::ok);
    let _ = job.reply.send(Ok(WhyNot { retrieval, top_k: *top_k, looked_at, filter, why }));
}
