//! The built-in small model behind the server.

use serde_json::json;

use super::world::{Setting, app, post};
use crate::answerer::{AnswerArgs, Engine};

#[tokio::test]
async fn the_small_model_answers_streams_and_reranks() {
    let arguments =
        AnswerArgs { threshold: Some(0.5), max_new_tokens: Some(48), ..AnswerArgs::default() };
    let engine = Engine::Local(Box::new(arguments.policy().unwrap()));
    let app = app(Setting { engine, arguments, ..Setting::default() });
    let documents = json!([
        { "id": "a", "title": "Toma", "text": "Toma lies in Hadedu." },
        { "id": "b", "title": "Kotula", "text": "Kotula is named after Hadedu." },
        { "id": "c", "title": "Rin", "text": "Rin was founded in 1904." },
    ]);
    let question = "Where does Toma lie?";
    let asked =
        json!({ "question": question, "documents": documents, "stream": true, "trace": true });
    let answered = post(&app, "/v1/ask", &asked).await;
    let events = answered.events();
    let done: serde_json::Value = serde_json::from_str(&events.last().unwrap().1).unwrap();
    assert_eq!(events.last().unwrap().0, "done", "{done}");
    assert_eq!(done["candidates"].as_array().unwrap().len(), 3);
    assert_eq!(done["model"], "model");
    let reply = done["trace"]["reply"].as_str().unwrap();
    let told = events.iter().filter(|(name, _)| name == "written").count();
    assert!(told > 1, "a reply of several tokens comes in pieces: {reply}");
    let rerank = json!({ "query": question, "documents": documents });
    let found = post(&app, "/v1/rerank", &rerank).await.good();
    let scores: Vec<f64> = found["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["relevance_score"].as_f64().unwrap())
        .collect();
    assert!(scores.len() == 3 && scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    // The filter of an answer and the reranker are the same.
    for result in found["results"].as_array().unwrap() {
        let id = &documents[result["index"].as_u64().unwrap() as usize]["id"];
        let all = done["candidates"].as_array().unwrap();
        let candidate = all.iter().find(|candidate| candidate["document"] == *id).unwrap();
        let (one, other) = (
            candidate["filter"]["p"].as_f64().unwrap(),
            result["relevance_score"].as_f64().unwrap(),
        );
        assert!((one - other).abs() < 1e-4, "{one} {other}");
    }
}
