//! Questions in our own form.

use serde_json::{Value, json};

use super::world::{MAYOR, Setting, app, get, post};

fn candidate<'v>(explanation: &'v Value, id: &str) -> &'v Value {
    let all = explanation["candidates"].as_array().unwrap();
    all.iter().find(|candidate| candidate["document"] == id).unwrap_or(&Value::Null)
}

#[tokio::test]
async fn a_question_is_answered_and_explained_with_every_rejected_document() {
    let app = app(Setting::default());
    let found = post(&app, "/v1/ask", &json!({ "question": MAYOR })).await.good();
    assert_eq!(found["answer"], "Ada Voss");
    assert_eq!(found["collection"], "towns");
    let cited = found["citations"][0]["document"].as_str().unwrap();
    assert!(["t-olm", "b-towns"].contains(&cited), "{cited}");
    let dropped = candidate(&found, "t-sea");
    assert_eq!(dropped["dropped_at"], "filter");
    assert!(dropped["dropped_why"].as_str().unwrap().contains("below the threshold"));
    assert_eq!(dropped["filter"]["p"], 0.1);
    assert!(found["trace"].is_null());
}

#[tokio::test]
async fn a_stream_tells_candidates_verdicts_words_and_the_whole_at_last() {
    let app = app(Setting::default());
    let asked = json!({ "question": MAYOR, "stream": true, "trace": true });
    let answered = post(&app, "/v1/ask", &asked).await;
    let events = answered.events();
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[..2], ["found", "filtered"]);
    assert!(names.contains(&"written"));
    assert_eq!(names.last(), Some(&"done"));
    let done: Value = serde_json::from_str(&events.last().unwrap().1).unwrap();
    assert_eq!(done["answer"], "Ada Voss");
    let trace = &done["trace"];
    assert!(trace["rank_prompt"].as_str().unwrap().contains(MAYOR));
    assert!(trace["reply"].as_str().unwrap().starts_with("<think>"));
    assert!(trace["prompt_tokens"].as_u64().unwrap() > 10);
    let whole = post(&app, "/v1/ask", &json!({ "question": MAYOR })).await.good();
    for key in ["answer", "citations", "candidates", "reasoning", "confidence", "index_version"] {
        assert_eq!(done[key], whole[key], "{key}");
    }
}

#[tokio::test]
async fn a_rejected_document_is_included_when_it_is_asked_for_and_others_left_out() {
    let app = app(Setting::default());
    let asked = json!({ "question": MAYOR, "include": ["t-sea", "t-far"], "exclude": ["t-olm"] });
    let found = post(&app, "/v1/ask", &asked).await.good();
    assert_eq!(candidate(&found, "t-olm"), &Value::Null);
    let sea = candidate(&found, "t-sea");
    assert!(sea["dropped_at"].is_null() && sea["rank"]["position"].is_u64(), "{sea}");
    assert!(sea["filter"]["why"].as_str().unwrap().ends_with("but it was asked for"));
    // One that search does not find at all is shown too.
    assert_eq!(candidate(&found, "t-far")["retrieval"], json!([]));
    let unknown = post(&app, "/v1/ask", &json!({ "question": MAYOR, "include": ["no"] })).await;
    assert!(unknown.refused(400).contains("no document no"));
}

#[tokio::test]
async fn documents_of_the_request_are_answered_from() {
    let app = app(Setting::default());
    let documents = json!([
        "Bo Ek is no mayor.",
        { "id": "olm", "title": "Olm", "text": "Ada Voss is the mayor." },
        { "title": "Towns", "table": { "header": ["a"], "rows": [["b"]] } },
        { "content": [{ "type": "text", "text": "a sea" }] },
    ]);
    let asked = json!({ "question": MAYOR, "documents": documents });
    let found = post(&app, "/v1/ask", &asked).await.good();
    assert_eq!(found["answer"], "Ada Voss");
    assert_eq!(found["citations"][0]["document"], "olm");
    assert_eq!(found["collection"], Value::Null);
    assert!(candidate(&found, "document-0").is_object());
    let twice =
        json!({ "question": "?", "documents": [{"id": "a", "text": ""}, {"id": "a", "text": ""}] });
    assert!(post(&app, "/v1/ask", &twice).await.refused(400).contains("two documents"));
    let both = json!({ "question": "?", "documents": [{ "text": "", "table": {} }] });
    assert!(post(&app, "/v1/ask", &both).await.refused(400).contains("just one of"));
}

#[tokio::test]
async fn an_engine_that_does_not_show_its_model_says_so_when_asked_where_pictures_helped() {
    let app = app(Setting::default());
    let asked = json!({ "question": MAYOR, "attribute": true });
    let refused = post(&app, "/v1/ask", &asked).await.refused(501);
    assert!(refused.contains("takes a server with a local model"), "{refused}");
}

#[tokio::test]
async fn why_not_has_an_answer_for_every_document() {
    let app = app(Setting::default());
    let why = |document: &str, top_k: usize| json!({ "question": MAYOR, "document": document, "top_k": top_k });
    let said = |value: Value| value["why"].as_str().unwrap().to_owned();
    let far = said(post(&app, "/v1/why", &why("t-far", 3)).await.good());
    assert!(far.contains("not among the first") && far.contains("below the threshold"), "{far}");
    let sea = said(post(&app, "/v1/why", &why("t-sea", 1)).await.good());
    assert!(sea.contains("at place") && sea.contains("1 documents are taken"), "{sea}");
    assert!(post(&app, "/v1/why", &why("t-none", 1)).await.refused(404).contains("t-none"));
}

#[tokio::test]
async fn past_questions_are_kept_and_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let setting = || Setting { state: Some(folder.path().to_owned()), ..Setting::default() };
    let app = app(setting());
    let id = post(&app, "/v1/ask", &json!({ "question": MAYOR })).await.good()["id"].clone();
    let id = id.as_str().unwrap();
    // What a killed server leaves is not in the way.
    let log = folder.path().join("asked.jsonl");
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, text + "{\"id\": \"to").unwrap();
    let app = super::world::app(setting());
    let list = get(&app, "/v1/asked").await.good();
    assert_eq!(list["data"][0]["question"], MAYOR);
    assert_eq!(
        get(&app, &format!("/v1/asked/{id}")).await.good()["explanation"]["answer"],
        "Ada Voss"
    );
    let again = post(&app, &format!("/v1/asked/{id}/replay"), &json!({})).await.good();
    assert_eq!(again["same"], true, "{again}");
    let more = json!({ "documents": [{ "id": "new", "text": "Olm, mayor, Voss" }] });
    post(&app, "/v1/documents", &more).await.good();
    let again = post(&app, &format!("/v1/asked/{id}/replay"), &json!({})).await.good();
    assert_eq!(again["same"], false);
    assert!(again["differs"].as_array().unwrap().contains(&json!("index_version")), "{again}");
    post(&app, "/v1/ask", &json!({ "question": "And now?" })).await.good();
    let app = super::world::app(setting());
    assert_eq!(get(&app, "/v1/asked").await.good()["data"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn an_unreadable_reply_is_told_and_a_panic_costs_one_batch() {
    let app = app(Setting::default());
    let found = post(&app, "/v1/ask", &json!({ "question": "Olm unreadable" })).await.good();
    assert_eq!(found["fallback"]["kind"], "unparsable");
    let lost = post(&app, "/v1/ask", &json!({ "question": "Olm panic!" })).await;
    assert!(lost.refused(500).contains("let the question go"));
    assert_eq!(
        post(&app, "/v1/ask", &json!({ "question": MAYOR })).await.good()["answer"],
        "Ada Voss"
    );
}
