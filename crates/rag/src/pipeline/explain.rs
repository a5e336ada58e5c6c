//! Answered → explanation.

use mmrag_core::{Document, Origin};
use mmrag_task::{NONE, Reply};

use super::{Answered, OrderBy, Pipeline, Replied};
use crate::explanation::{
    Asked, Candidate, Citation, Explanation, Fallback, FallbackKind, Ranking, ReasoningStep,
    Timings, find_quote, reasoning_steps,
};
use crate::retriever::Hit;

/// What a reply says in terms of hits.
struct Said {
    answer: String,
    abstained: bool,
    confidence: Option<f64>,
    /// Hits, the most helpful first.
    order: Vec<usize>,
    /// Labels.
    citations: Vec<usize>,
    reasoning: Vec<ReasoningStep>,
    fallback: Option<Fallback>,
}

impl Pipeline<'_> {
    /// Puts together what became of a question.
    pub fn explain(&self, answered: Answered<'_>) -> Explanation {
        let Answered { filtered, replied, rank_ms } = answered;
        let said = match &replied {
            None => nothing_kept(),
            Some(replied) => said(replied, &filtered.kept),
        };
        let said = match self.rank.order {
            OrderBy::Reply => said,
            OrderBy::Filter => Said { order: filtered.kept.clone(), ..said },
        };
        let retrieved = &filtered.retrieved;
        let document = |hit: usize| &*retrieved.hits[hit].document;
        let labels = replied.as_ref().map_or(&[][..], |replied| &replied.shown.hits);
        let cited: Vec<usize> = said.citations.iter().map(|label| labels[label - 1]).collect();
        let citations = said.citations.iter().zip(&cited);
        let citations =
            citations.map(|(label, hit)| citation(*label, &retrieved.hits[*hit], &said)).collect();
        let candidates = (0..retrieved.hits.len()).map(|hit| {
            let dropped = filtered.dropped.iter().find(|dropped| dropped.hit == hit);
            Candidate {
                document: document(hit).id.clone(),
                title: document(hit).title.clone(),
                modality: document(hit).modality(),
                origin: retrieved.hits[hit].origin.as_ref().map(without_words),
                retrieval: retrieved.hits[hit].sources.clone(),
                filter: filtered.filtering[hit].clone(),
                rank: ranking(hit, document(hit), &said, labels),
                cited: cited.contains(&hit),
                dropped_at: dropped.map(|dropped| dropped.at),
                dropped_why: dropped.map(|dropped| dropped.why.clone()),
            }
        });
        let (retrieve, filter, rank) = (retrieved.retrieve_ms, filtered.filter_ms, rank_ms);
        Explanation {
            question: Asked::from(retrieved.question),
            citations,
            candidates: candidates.collect(),
            confidence: said
                .confidence
                .map(|raw| self.confidence.map_or(raw, |map| map.apply(raw))),
            answer: said.answer,
            abstained: said.abstained,
            reasoning: said.reasoning,
            model: self.names.model.to_owned(),
            adapters: self.names.adapters.to_vec(),
            index_version: retrieved.index_version.clone(),
            seed: self.seed,
            fallback: said.fallback,
            attribution: None,
            timings_ms: Timings { retrieve, filter, rank, total: retrieve + filter + rank },
        }
    }
}

fn nothing_kept() -> Said {
    Said {
        answer: NONE.to_owned(),
        abstained: true,
        confidence: None,
        order: Vec::new(),
        citations: Vec::new(),
        reasoning: Vec::new(),
        fallback: Some(Fallback {
            kind: FallbackKind::NothingKept,
            why: "no document was left to answer from".to_owned(),
            reply: None,
        }),
    }
}

fn said(replied: &Replied, kept: &[usize]) -> Said {
    let unparsable = |why: String| Said {
        answer: String::new(),
        abstained: true,
        confidence: None,
        order: kept.to_vec(),
        citations: Vec::new(),
        reasoning: Vec::new(),
        fallback: Some(Fallback {
            kind: FallbackKind::Unparsable,
            why,
            reply: Some(replied.completion.text.clone()),
        }),
    };
    let reply = match &replied.reply {
        Ok(reply) => reply,
        Err(error) => return unparsable(format!("failed to {error}")),
    };
    let Reply::Rank { think, order, answer, citations } = reply else {
        return unparsable("the stage that ranks is one that filters".to_owned());
    };
    let case = &replied.shown.case;
    Said {
        answer: answer.clone(),
        abstained: reply.abstains(),
        confidence: replied.confidence,
        order: order.iter().map(|label| replied.shown.hits[label - 1]).collect(),
        citations: citations.clone(),
        reasoning: think.as_ref().map_or_else(Vec::new, |think| reasoning_steps(think, case)),
        fallback: None,
    }
}

fn ranking(hit: usize, document: &Document, said: &Said, labels: &[usize]) -> Option<Ranking> {
    let position = said.order.iter().position(|ordered| *ordered == hit)? + 1;
    let label = labels.iter().position(|labelled| *labelled == hit)? + 1;
    let step = said.reasoning.iter().find(|step| step.documents.contains(&document.id));
    Some(Ranking { position, label, reason: step.map(|step| step.text.clone()) })
}

fn citation(label: usize, hit: &Hit, said: &Said) -> Citation {
    let document = &*hit.document;
    let about = said.reasoning.iter().filter(|step| step.documents.contains(&document.id));
    let mut repeats: Vec<&str> = items(&said.answer);
    repeats.extend(about.map(|step| step.text.as_str()));
    let quote = find_quote(document, &repeats);
    let origin = hit.origin.as_ref().map(|origin| {
        let boxes = quote.as_ref().map(|quote| origin.boxes_of(quote.span)).unwrap_or_default();
        let whole = without_words(origin);
        if boxes.is_empty() { whole } else { Origin { boxes, ..whole } }
    });
    Citation {
        origin,
        label,
        document: document.id.clone(),
        title: document.title.clone(),
        modality: document.modality(),
        cells: quote.as_ref().and_then(|quote| quote.cell).map(|cell| vec![cell]),
        span: quote.as_ref().map(|quote| quote.span),
        quote: quote.map(|quote| quote.text),
    }
}

/// An origin to be shown: its words are many, and what is cited of them has boxes.
fn without_words(origin: &Origin) -> Origin {
    Origin { words: Vec::new(), ..origin.clone() }
}

/// The items of a list answer, so that no span runs over two of them.
fn items(answer: &str) -> Vec<&str> {
    answer.split(';').map(str::trim).filter(|item| !item.is_empty()).collect()
}
