//! The built-in small model behind the server.

use serde_json::json;

use mmrag_core::{Content, ImageSource};
use mmrag_data::atlas::{AtlasOptions, Kind, NameSplit, example};

use super::world::{Setting, app, data_url, post};
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

#[tokio::test]
async fn the_small_model_says_where_in_a_picture_its_answer_rests() {
    let arguments = AnswerArgs::default();
    let engine = Engine::Local(Box::new(arguments.policy().unwrap()));
    let app = app(Setting { engine, arguments, ..Setting::default() });
    let options = AtlasOptions { candidates: 2..=2, kinds: Some(vec![Kind::ImageColour]) };
    let asked = example(3, NameSplit::Dev, 1, &options);
    let documents = asked.candidates.iter().map(|document| match &document.content {
        Content::Image(ImageSource::Bytes(bytes)) => {
            json!({ "id": document.id, "title": document.title, "image": data_url(bytes) })
        }
        Content::Text(text) => json!({ "id": document.id, "title": document.title, "text": text }),
        _ => json!({ "id": document.id, "title": document.title, "text": "" }),
    });
    let documents: Vec<serde_json::Value> = documents.collect();
    let question = &asked.question.text;
    let plain = json!({ "question": question, "documents": documents });
    let before = post(&app, "/v1/ask", &plain).await.good();
    assert!(before["attribution"].is_null(), "{before}");
    let plain = json!({ "question": question, "documents": documents, "attribute": true });
    let found = post(&app, "/v1/ask", &plain).await.good();
    assert_eq!(found["answer"], before["answer"]);
    let cited = &found["citations"][0];
    assert_eq!(cited["document"], asked.gold.documents[0].as_str(), "{found}");
    let attribution = &found["attribution"][0];
    assert_eq!(attribution["document"], cited["document"]);
    assert_eq!(attribution["grid"], json!([4, 4]));
    let values = attribution["values"].as_array().unwrap();
    let amounts: f64 = values.iter().map(|value| value.as_f64().unwrap().abs()).sum();
    assert!(values.len() == 16 && (amounts - 1.0).abs() < 0.01, "{attribution}");
}
