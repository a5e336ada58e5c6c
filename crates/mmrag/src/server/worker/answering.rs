//! Questions of several requests through one pipeline.

use std::sync::Arc;

use mmrag_core::{Document, DocumentId, Part, Prompt, Question};
use mmrag_rag::explanation::{Candidate, Told};
use mmrag_rag::pipeline::{Answered, Filtered, Retrieved};
use mmrag_rag::{Ask, Explanation, Hit, Pipeline, RagError, Retriever};
use mmrag_task::Case;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;
use tracing::Span;

use crate::server::collections::Store;
use crate::server::error::ApiError;
use crate::server::metrics::Metrics;
use crate::server::spans;

/// A question to answer.
pub(crate) struct AskJob {
    /// The question.
    pub(crate) question: Question,
    /// What to answer from.
    pub(crate) from: From,
    /// Documents that are shown to the ranker whatever the filter says.
    pub(crate) include: Vec<Arc<Document>>,
    /// Documents that are left out.
    pub(crate) exclude: Vec<DocumentId>,
    /// Whether tokens are counted.
    pub(crate) count: bool,
    /// Whether it is said which parts of the cited pictures the answer rests on.
    pub(crate) attribute: bool,
    /// The span of the request that asked.
    pub(crate) span: Span,
    /// Where to tell how it goes.
    pub(crate) events: UnboundedSender<Event>,
}

/// What a question is answered from.
pub(crate) enum From {
    /// Documents that came with it.
    Documents(Vec<Arc<Document>>),
    /// What is found in a collection.
    Collection { store: Arc<dyn Store>, top_k: usize },
}

/// How it goes with a question.
#[derive(Debug)]
pub(crate) enum Event {
    /// What was found.
    Found(Vec<Candidate>),
    /// What the filter said of it.
    Filtered(Vec<Candidate>),
    /// The reply so far.
    Written(String),
    /// All there is to say.
    Done(Box<Answer>),
    /// It cannot be answered.
    Failed(ApiError),
}

/// An explanation with how it came about.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The explanation.
    pub(crate) explanation: Explanation,
    /// How it came about.
    pub(crate) trace: Trace,
}

/// What was said and replied on the way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trace {
    /// What the filter was asked about the first candidate; pictures as `<picture>`.
    pub(crate) filter_prompt: Option<String>,
    /// What the ranker was asked.
    pub(crate) rank_prompt: Option<String>,
    /// What the ranker replied.
    pub(crate) reply: Option<String>,
    /// Tokens of the ranker's prompt, where they were counted.
    pub(crate) prompt_tokens: Option<usize>,
    /// Tokens of its reply, where they were counted.
    pub(crate) reply_tokens: Option<usize>,
}

impl AskJob {
    fn tell(&self, event: Event) {
        // Nobody may listen any more; the others in the batch still do.
        let _ = self.events.send(event);
    }
}

/// Answers all of them.
pub(crate) fn answer<'a>(pipeline: &Pipeline<'a>, jobs: &'a [AskJob], metrics: &Metrics) {
    let pipeline: &Pipeline<'_> = pipeline;
    let begun = |name: &'static str| -> Vec<Span> {
        jobs.iter().map(|job| spans::stage(&job.span, name, jobs.len())).collect()
    };
    let retrieved: Vec<_> = jobs.iter().map(|job| retrieve(pipeline, job)).collect();
    for (job, retrieved) in jobs.iter().zip(&retrieved) {
        if let Ok(retrieved) = retrieved {
            job.tell(Event::Found(candidates(pipeline, unfiltered(retrieved))));
        }
    }
    let spans = begun("filter");
    let mut filtered = pipeline.filter_all(retrieved);
    for ((job, filtered), span) in jobs.iter().zip(&mut filtered).zip(spans) {
        if let Ok(filtered) = filtered {
            span.record("documents", filtered.kept.len());
            for document in &job.include {
                filtered.keep_anyway(&document.id);
            }
            job.tell(Event::Filtered(candidates(pipeline, filtered.clone())));
        }
    }
    let tell = |index: usize, text: &str| jobs[index].tell(Event::Written(text.to_owned()));
    let spans = begun("rank");
    let answered = pipeline.rank_all_telling(filtered, &tell);
    drop(spans);
    for (job, answered) in jobs.iter().zip(answered) {
        job.tell(match answered {
            Ok(answered) => match finished(pipeline, job, answered, metrics) {
                Ok(answer) => Event::Done(Box::new(answer)),
                Err(error) => Event::Failed(ApiError::failed(&error)),
            },
            Err(error) => Event::Failed(ApiError::failed(&error)),
        });
    }
}

fn retrieve<'a>(pipeline: &Pipeline<'a>, job: &'a AskJob) -> Result<Retrieved<'a>, RagError> {
    let span = spans::stage(&job.span, "retrieve", 1);
    let question = &job.question;
    let mut retrieved = match &job.from {
        From::Documents(documents) => {
            pipeline.retrieve(&Ask { question, candidates: Some(documents) })?
        }
        From::Collection { store, top_k } => {
            let retriever: &dyn Retriever = &**store;
            let top_k = top_k + job.exclude.len();
            let over = Pipeline { retriever: Some(retriever), top_k, ..*pipeline };
            over.retrieve(&Ask { question, candidates: None })?
        }
    };
    retrieved.hits.retain(|hit| !job.exclude.contains(&hit.document.id));
    if let From::Collection { top_k, .. } = &job.from {
        retrieved.hits.truncate(*top_k);
    }
    for document in &job.include {
        if retrieved.hits.iter().all(|hit| hit.document.id != document.id) {
            let document = Arc::clone(document);
            retrieved.hits.push(Hit { document, sources: Vec::new(), origin: None });
        }
    }
    span.record("documents", retrieved.hits.len());
    Ok(retrieved)
}

fn unfiltered<'a>(retrieved: &Retrieved<'a>) -> Filtered<'a> {
    Filtered {
        filtering: vec![None; retrieved.hits.len()],
        kept: Vec::new(),
        dropped: Vec::new(),
        filter_ms: 0.0,
        retrieved: retrieved.clone(),
    }
}

/// The candidates as far as they are known.
fn candidates(pipeline: &Pipeline<'_>, filtered: Filtered<'_>) -> Vec<Candidate> {
    pipeline.explain(Answered { filtered, replied: None, rank_ms: 0.0 }).candidates
}

fn finished(
    pipeline: &Pipeline<'_>,
    job: &AskJob,
    answered: Answered<'_>,
    metrics: &Metrics,
) -> Result<Answer, RagError> {
    let trace = trace(pipeline, job, &answered);
    let attribution = job.attribute.then(|| {
        let _span = spans::stage(&job.span, "attribute", 1);
        pipeline.attribute(&answered, Told::default())
    });
    let attribution = attribution.transpose()?;
    let explanation = Explanation { attribution, ..pipeline.explain(answered) };
    metrics.answered(&explanation);
    Ok(Answer { explanation, trace })
}

fn trace(pipeline: &Pipeline<'_>, job: &AskJob, answered: &Answered<'_>) -> Trace {
    let first = answered.filtered.retrieved.hits.first();
    let filter_prompt = first.zip(pipeline.filter).map(|(hit, filter)| {
        text_of(&filter.stage.prompt(&Case::pointwise(&job.question, &hit.document)))
    });
    let Some(replied) = &answered.replied else {
        return Trace { filter_prompt, ..Trace::default() };
    };
    let prompt = pipeline.rank.stage.prompt(&replied.shown.case);
    let count = |prompt: &Prompt| {
        job.count.then(|| pipeline.rank.engine.count_tokens(prompt).ok()).flatten()
    };
    let prompt_tokens = count(&prompt);
    let whole = count(&Prompt { reply_prefix: replied.completion.text.clone(), ..prompt.clone() });
    Trace {
        filter_prompt,
        rank_prompt: Some(text_of(&prompt)),
        reply: Some(replied.completion.text.clone()),
        prompt_tokens,
        reply_tokens: whole.zip(prompt_tokens).map(|(whole, prompt)| whole.saturating_sub(prompt)),
    }
}

/// All text of a prompt, pictures as `<picture>`.
fn text_of(prompt: &Prompt) -> String {
    let mut text = String::new();
    for message in &prompt.messages {
        text.extend([message.role.as_str(), ":\n"]);
        for part in &message.parts {
            text += match part {
                Part::Text(said) => said,
                Part::Image(_) => "<picture>",
            };
        }
        text.push('\n');
    }
    text + &prompt.reply_prefix
}
