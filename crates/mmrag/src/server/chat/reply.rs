//! Answers in the form of completions and chunks.

use std::time::{SystemTime, UNIX_EPOCH};

use mmrag_rag::Explanation;
use mmrag_rag::explanation::{Citation, FallbackKind};
use mmrag_task::NONE;
use serde_json::{Value, json};

use crate::server::worker::Answer;

/// What a person is told where there is no answer.
const NO_ANSWER: &str = "The documents do not hold the answer.";
const UNREADABLE: &str = "The model's reply could not be read, so there is no answer.";
const NOTHING_KEPT: &str = "No document was left to answer from.";

/// What all messages about one answer have in common.
pub(super) struct Frame {
    id: String,
    created: u64,
    model: String,
    /// Where links lead.
    base: String,
    collection: Option<String>,
}

/// An answer as it is read, with where its citations stand.
pub(super) struct Content {
    pub(super) text: String,
    /// Start and end in characters, of each citation.
    spans: Vec<[usize; 2]>,
}

/// The answer with its citations behind it: `Ada Voss [2][3]`.
pub(super) fn content(explanation: &Explanation) -> Content {
    let fallback = explanation.fallback.as_ref().map(|fallback| fallback.kind);
    let mut text = match fallback {
        Some(FallbackKind::NothingKept) => NOTHING_KEPT.to_owned(),
        Some(_) => UNREADABLE.to_owned(),
        None if explanation.abstained => NO_ANSWER.to_owned(),
        None => explanation.answer.clone(),
    };
    let mut spans = Vec::new();
    for (index, citation) in explanation.citations.iter().enumerate() {
        if index == 0 {
            text.push(' ');
        }
        let start = text.chars().count();
        text.extend(["[", &citation.label.to_string(), "]"]);
        spans.push([start, text.chars().count()]);
    }
    Content { text, spans }
}

/// Whether an answer that begins like this may turn out to be none.
pub(super) fn may_abstain(answer: &str) -> bool {
    NONE.starts_with(&answer.to_lowercase())
}

/// A change of a message.
pub(super) fn delta(key: &str, value: &str) -> Value {
    json!({ key: value })
}

impl Frame {
    pub(super) fn new(model: String, host: Option<String>, collection: Option<String>) -> Self {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let id = format!("chatcmpl-{:016x}", rand::random::<u64>());
        let base = host.map(|host| format!("http://{host}")).unwrap_or_default();
        Self { id, created, model, base, collection }
    }

    pub(super) fn whole(&self, asked: &str, answer: &Answer) -> Value {
        let content = content(&answer.explanation);
        json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [{
                "index": 0,
                "finish_reason": "stop",
                "logprobs": null,
                "message": {
                    "role": "assistant",
                    "content": content.text,
                    "refusal": null,
                    "reasoning_content": reasoning(&answer.explanation),
                    "annotations": self.annotations(&answer.explanation, &content),
                },
            }],
            "usage": usage(answer),
            "mmrag": self.extra(asked, answer),
        })
    }

    pub(super) fn chunk(&self, delta: &Value, finish: Option<&str>) -> Value {
        json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": [
                { "index": 0, "delta": delta, "finish_reason": finish, "logprobs": null },
            ],
        })
    }

    /// The last chunk, with citations and explanation.
    pub(super) fn last(&self, asked: &str, answer: &Answer, content: &Content) -> Value {
        let annotations = self.annotations(&answer.explanation, content);
        let mut chunk = self.chunk(&json!({ "annotations": annotations }), Some("stop"));
        chunk["mmrag"] = self.extra(asked, answer);
        chunk
    }

    pub(super) fn usage(&self, answer: &Answer) -> Value {
        let mut chunk = self.chunk(&json!({}), None);
        chunk["choices"] = json!([]);
        chunk["usage"] = usage(answer);
        chunk
    }

    fn extra(&self, asked: &str, answer: &Answer) -> Value {
        let mut value = json!(answer.explanation);
        value["id"] = json!(asked);
        value["collection"] = json!(self.collection);
        value
    }

    fn annotations(&self, explanation: &Explanation, content: &Content) -> Vec<Value> {
        let pairs = explanation.citations.iter().zip(&content.spans);
        let annotation = |(citation, [start, end]): (&Citation, &[usize; 2])| {
            json!({
                "type": "url_citation",
                "url_citation": {
                    "start_index": start,
                    "end_index": end,
                    "title": citation.title,
                    "url": self.url(citation.document.as_str()),
                },
            })
        };
        pairs.map(annotation).collect()
    }

    /// Where a document is looked at; of documents that came with the question there is no page.
    fn url(&self, document: &str) -> String {
        match &self.collection {
            Some(collection) => format!(
                "{}/#/document/{}/{}",
                self.base,
                percent_encoded(collection),
                percent_encoded(document)
            ),
            None => format!("urn:mmrag:document:{}", percent_encoded(document)),
        }
    }
}

fn reasoning(explanation: &Explanation) -> Option<String> {
    let steps: Vec<&str> = explanation.reasoning.iter().map(|step| step.text.as_str()).collect();
    (!steps.is_empty()).then(|| steps.join(" "))
}

fn usage(answer: &Answer) -> Value {
    let (prompt, reply) =
        (answer.trace.prompt_tokens.unwrap_or(0), answer.trace.reply_tokens.unwrap_or(0));
    json!({ "prompt_tokens": prompt, "completion_tokens": reply, "total_tokens": prompt + reply })
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.extend(["%", &format!("{byte:02X}")]);
        }
    }
    encoded
}
