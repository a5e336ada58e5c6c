//! Our rewards as a service: what a completion is worth, for trainers of any kind.
//!
//! `POST /v1/score` is our form, `POST /get_reward` OpenRLHF's. Everything that scoring needs comes
//! in one object (or one string of JSON), because trainers hand on columns and not prompts. Nothing
//! is kept and no file is read.

use std::sync::Arc;

use mmrag_core::{Completion, Content, Document, DocumentId, Finish, Gold, Question, QuestionId};
use mmrag_task::{Case, FilterMode, PromptStyle, Reward, Rubric, Stage, StageName};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::body::{Body, Json};
use super::documents::in_background;
use super::error::ApiError;

/// Completions in one request.
const MOST: usize = 4096;

/// What a completion is judged by.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Judging {
    /// The stage that was asked.
    stage: StageName,
    /// The style of the prompt.
    #[serde(default = "standard")]
    prompts: PromptStyle,
    /// Whether the reply reasons; absent: the ranker does, the filter does not.
    #[serde(default)]
    reasoning: Option<bool>,
    /// The ids of the documents, in the order of their labels: of `[1]` first.
    documents: Vec<String>,
    /// The ids of those that support the answer.
    #[serde(default)]
    gold: Vec<String>,
    /// The right answer: the items of one list.
    #[serde(default)]
    answers: Vec<String>,
    /// How it is judged; absent: as the stage of this style is.
    #[serde(default)]
    rubric: Option<Rubric>,
    /// OpenRLHF: what the completion begins after, in the text of prompt and reply.
    #[serde(default)]
    response_prefix: Option<String>,
}

fn standard() -> PromptStyle {
    PromptStyle::Standard
}

/// One object, or a string that holds it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Given {
    Text(String),
    Object(Box<Judging>),
}

impl Given {
    fn read(self, place: usize) -> Result<Judging, ApiError> {
        match self {
            Self::Object(judging) => Ok(*judging),
            Self::Text(text) => serde_json::from_str(&text).map_err(|error| {
                ApiError::bad(format!("item {place}: `mmrag` is not as it should be: {error}"))
            }),
        }
    }
}

impl Judging {
    fn reward(self, text: &str, n_tokens: Option<usize>) -> Reward {
        let reasons = self.reasoning.unwrap_or(self.stage == StageName::Rank);
        let mode = if reasons { FilterMode::Think } else { FilterMode::Direct };
        let mut stage = match self.stage {
            StageName::Filter => Stage::filter(self.prompts, mode),
            StageName::Rank => Stage::rank(self.prompts, reasons),
        };
        if let Some(rubric) = self.rubric {
            stage.rubric = rubric;
        }
        // Scoring looks at ids and labels alone.
        let document = |id: &String| {
            let (id, content) = (DocumentId::new(id), Content::Text(String::new()));
            Arc::new(Document { id, title: String::new(), content })
        };
        let question =
            Question { id: QuestionId::new("score"), text: String::new(), images: Vec::new() };
        let case = Case { question, documents: self.documents.iter().map(document).collect() };
        let gold = Gold {
            documents: self.gold.iter().map(DocumentId::new).collect(),
            answers: self.answers,
            ..Gold::default()
        };
        let score = |tokens: Vec<u32>| {
            let (text, finish) = (text.to_owned(), Finish::Stop);
            let completion = Completion { text, tokens, sampled_logprobs: Vec::new(), finish };
            stage.score(&case, &gold, &completion)
        };
        match n_tokens {
            None => score(Vec::new()),
            // Repeats are looked for in the words, since the tokens themselves are not known.
            Some(n) => with_length(score(Vec::new()), &score((0..n as u32).collect())),
        }
    }
}

/// A reward with the penalty on length of another.
fn with_length(mut reward: Reward, long: &Reward) -> Reward {
    let penalty = long.part("overlong");
    for part in reward.parts.iter_mut().filter(|part| part.name == "overlong") {
        part.value = penalty;
    }
    let sum: f64 = reward.parts.iter().filter_map(|part| Some(part.weight * part.value?)).sum();
    Reward { total: sum.max(0.0), ..reward }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scoring {
    items: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    mmrag: Given,
    completion: String,
    #[serde(default)]
    n_tokens: Option<usize>,
}

/// `POST /v1/score`.
pub(crate) async fn score(Body(scoring): Body<Scoring>) -> Result<Json<Value>, ApiError> {
    check_count(scoring.items.len())?;
    let items = in_background(move || {
        let score = |(place, item): (usize, Item)| {
            let reward = item.mmrag.read(place)?.reward(&item.completion, item.n_tokens);
            Ok(json!({
                "score": reward.total,
                "components": components(&reward),
                "parts": reward.parts,
                "flags": reward.flags.iter().map(|flag| flag.name()).collect::<Vec<_>>(),
            }))
        };
        scoring.items.into_iter().enumerate().map(score).collect::<Result<Vec<Value>, ApiError>>()
    })
    .await?;
    Ok(Json(json!({ "items": items })))
}

fn components(reward: &Reward) -> Map<String, Value> {
    reward.parts.iter().map(|part| (part.name.to_owned(), json!(part.value))).collect()
}

/// OpenRLHF's request: `query` is prompt and reply together.
#[derive(Deserialize)]
pub(crate) struct Rewarding {
    query: Vec<String>,
    #[serde(default)]
    prompts: Vec<String>,
    labels: Vec<Given>,
}

/// `POST /get_reward`.
pub(crate) async fn get_reward(Body(asked): Body<Rewarding>) -> Result<Json<Value>, ApiError> {
    let count = asked.query.len();
    check_count(count)?;
    if asked.labels.len() != count
        || !matches!(asked.prompts.len(), 0) && asked.prompts.len() != count
    {
        return Err(ApiError::bad("`query`, `prompts` and `labels` have different lengths"));
    }
    let rewards = in_background(move || {
        let prompts = asked.prompts.into_iter().map(Some).chain(std::iter::repeat(None));
        let rows = asked.query.into_iter().zip(prompts).zip(asked.labels).enumerate();
        let reward =
            |(place, ((query, prompt), label)): (usize, ((String, Option<String>), Given))| {
                let judging = label.read(place)?;
                let reply = reply_of(&query, prompt.as_deref(), judging.response_prefix.as_deref());
                Ok(judging.reward(reply, None))
            };
        rows.map(reward).collect::<Result<Vec<Reward>, ApiError>>()
    })
    .await?;
    let totals: Vec<f64> = rewards.iter().map(|reward| reward.total).collect();
    let mut logs: Map<String, Value> = Map::new();
    for part in rewards.iter().flat_map(|reward| &reward.parts).map(|part| part.name) {
        let values = rewards.iter().map(|reward| reward.part(part)).collect::<Vec<_>>();
        logs.insert(part.to_owned(), json!(values));
    }
    Ok(Json(json!({ "rewards": totals, "scores": totals, "extra_logs": logs })))
}

/// What of the text is the reply: what follows the prompt, else what follows the last
/// `response_prefix`, else all of it. An end-of-turn token at the end is none of it.
fn reply_of<'q>(query: &'q str, prompt: Option<&str>, prefix: Option<&str>) -> &'q str {
    let after_prompt = prompt.filter(|p| !p.is_empty()).and_then(|p| query.strip_prefix(p));
    let after_prefix = || Some(query.rsplit_once(prefix.filter(|p| !p.is_empty())?)?.1);
    let reply = after_prompt.or_else(after_prefix).unwrap_or(query).trim_end();
    reply.strip_suffix("<|im_end|>").unwrap_or(reply)
}

fn check_count(count: usize) -> Result<(), ApiError> {
    if (1..=MOST).contains(&count) {
        return Ok(());
    }
    Err(ApiError::bad(format!("send 1 to {MOST} completions, not {count}")))
}
