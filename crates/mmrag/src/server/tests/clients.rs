//! The forms of others: OpenAI's, Cohere's, Jina's, vLLM's, TEI's and OpenRLHF's.

use serde_json::{Value, json};

use super::world::{MAYOR, Setting, app, data_url, get, png, post};

fn chat(more: &Value) -> Value {
    let mut chat = json!({
        "model": "mmrag",
        "messages": [
            { "role": "system", "content": "Be brief." },
            { "role": "user", "content": "Hello" },
            { "role": "assistant", "content": "Hello" },
            { "role": "user", "content": [
                { "type": "text", "text": MAYOR },
                { "type": "image_url", "image_url": { "url": data_url(&png(2, 2)), "detail": "low" } },
            ] },
        ],
        "temperature": 0.2, "user": "ada", "unknown_knob": true,
    });
    chat.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    chat
}

#[tokio::test]
async fn a_chat_is_completed_with_citations_that_open_here() {
    let app = app(Setting::default());
    let found = post(&app, "/v1/chat/completions", &chat(&json!({}))).await.good();
    assert_eq!(found["object"], "chat.completion");
    let message = &found["choices"][0]["message"];
    let content = message["content"].as_str().unwrap();
    assert!(content.starts_with("Ada Voss ["), "{content}");
    assert!(message["reasoning_content"].as_str().unwrap().contains("Ada Voss"));
    let citation = &message["annotations"][0]["url_citation"];
    let at = |key: &str| citation[key].as_u64().unwrap() as usize;
    let label = &found["mmrag"]["citations"][0]["label"];
    assert_eq!(content[at("start_index")..at("end_index")], format!("[{label}]"));
    let url = citation["url"].as_str().unwrap();
    assert!(url.starts_with("http://localhost:7878/#/document/towns/"), "{url}");
    assert_eq!(found["mmrag"]["question"]["images"], 1);
    let usage = &found["usage"];
    assert!(usage["prompt_tokens"].as_u64().unwrap() > 20);
    assert!(usage["completion_tokens"].as_u64().unwrap() > 5);
}

#[tokio::test]
async fn a_streamed_chat_is_chunks_that_add_up_to_the_whole() {
    let app = app(Setting::default());
    let whole = post(&app, "/v1/chat/completions", &chat(&json!({}))).await.good();
    let more = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let events = post(&app, "/v1/chat/completions", &chat(&more)).await.events();
    assert_eq!(events.last().unwrap().1, "[DONE]");
    let chunks: Vec<Value> = events[..events.len() - 1]
        .iter()
        .map(|(name, data)| {
            assert_eq!(name, "", "clients read every event as a chunk");
            serde_json::from_str(data).unwrap()
        })
        .collect();
    let said = |key: &str| -> String {
        let delta = |chunk: &Value| chunk["choices"][0]["delta"][key].as_str().map(str::to_owned);
        chunks.iter().filter_map(delta).collect()
    };
    let message = &whole["choices"][0]["message"];
    assert_eq!(said("content"), message["content"]);
    assert_eq!(said("reasoning_content"), message["reasoning_content"]);
    assert!(chunks.len() > 5, "it comes in pieces");
    let (usage, last) = (&chunks[chunks.len() - 1], &chunks[chunks.len() - 2]);
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"], whole["usage"]);
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert_eq!(last["choices"][0]["delta"]["annotations"], message["annotations"]);
    assert_eq!(last["mmrag"]["answer"], "Ada Voss");
    for chunk in &chunks {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!(chunk["id"], chunks[0]["id"]);
    }
}

#[tokio::test]
async fn a_chat_without_an_answer_says_so_and_never_streams_none() {
    let app = app(Setting::default());
    let asked =
        json!({ "model": "mmrag/secrets", "messages": [{ "role": "user", "content": MAYOR }] });
    let found = post(&app, "/v1/chat/completions", &asked).await.good();
    assert_eq!(found["mmrag"]["abstained"], true);
    assert_eq!(found["choices"][0]["message"]["content"], "The documents do not hold the answer.");
    let mut streamed = asked;
    streamed["stream"] = true.into();
    let answered = post(&app, "/v1/chat/completions", &streamed).await;
    let content: String = answered
        .events()
        .iter()
        .filter_map(|(_, data)| serde_json::from_str::<Value>(data).ok())
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(content, "The documents do not hold the answer.");
}

#[tokio::test]
async fn what_a_chat_cannot_have_is_refused_by_name() {
    let app = app(Setting::default());
    let check = async |more: Value, status: u16, word: &str| {
        let answered = post(&app, "/v1/chat/completions", &chat(&more)).await;
        let message = answered.refused(status);
        assert!(message.contains(word), "{message}");
    };
    check(json!({ "n": 2 }), 400, "`n`").await;
    check(json!({ "tools": [{ "type": "function" }] }), 400, "tools").await;
    check(json!({ "response_format": { "type": "json_object" } }), 400, "text").await;
    check(json!({ "logprobs": true }), 400, "confidence").await;
    check(json!({ "model": "gpt" }), 404, "/v1/models").await;
    check(json!({ "model": "mmrag/none" }), 404, "collection none").await;
    check(json!({ "messages": [] }), 400, "turn of the user").await;
    let url = json!([{ "type": "image_url", "image_url": { "url": "http://example.org/a.png" } }]);
    let turn = json!({ "messages": [{ "role": "user", "content": url }] });
    check(turn, 400, "question").await;
}

#[tokio::test]
async fn documents_are_reranked_in_four_dialects_with_reasons() {
    let app = app(Setting::default());
    let documents = json!(["a sea", "Ada Voss rules", { "text": "cheese" }]);
    for path in ["/rerank", "/v1/rerank", "/v2/rerank"] {
        let asked = json!({ "model": "m", "query": MAYOR, "documents": documents, "top_n": 2,
            "return_documents": true });
        let found = post(&app, path, &asked).await.good();
        let results = found["results"].as_array().unwrap();
        assert_eq!(results.len(), 2);
        assert_eq!(
            (&results[0]["index"], &results[0]["relevance_score"]),
            (&json!(1), &json!(0.9))
        );
        assert_eq!(results[0]["document"]["text"], "Ada Voss rules");
        assert!(
            results[0]["explanation"]["why"].as_str().unwrap().contains("reaches the threshold")
        );
        assert_eq!(found["model"], "m");
        assert!(found["meta"]["billed_units"].is_object() && found["usage"].is_object());
    }
    let tei = json!({ "query": MAYOR, "texts": ["a sea", "Ada Voss"], "raw_scores": false, "return_text": true });
    let found = post(&app, "/rerank", &tei).await.good();
    assert_eq!(found[0]["index"], 1);
    assert_eq!(found[0]["score"], 0.9);
    assert_eq!(found[0]["text"], "Ada Voss");
    assert!(post(&app, "/rerank", &json!({ "query": "q" })).await.refused(400).contains("`texts`"));
}

#[tokio::test]
async fn pictures_are_reranked_on_both_sides() {
    let app = app(Setting::default());
    let picture = json!({ "type": "image_url", "image_url": { "url": data_url(&png(2, 2)) } });
    let asked = json!({
        "query": { "content": [{ "type": "text", "text": MAYOR }, picture] },
        "documents": [
            { "content": [{ "type": "text", "text": "Portrait of Voss" }, picture] },
            { "image": data_url(&png(3, 2)), "title": "a ship" },
        ],
    });
    let found = post(&app, "/v1/rerank", &asked).await.good();
    assert_eq!(found["results"][0]["index"], 0);
    assert_eq!(found["results"][0]["relevance_score"], 0.9);
    assert_eq!(found["results"][1]["relevance_score"], 0.1);
}

fn judging() -> Value {
    json!({
        "stage": "rank", "documents": ["a", "b"], "gold": ["b"], "answers": ["red"],
    })
}

#[tokio::test]
async fn rewards_are_given_in_our_form_and_in_openrlhfs() {
    let app = app(Setting::default());
    let right =
        "<think>[1] says nothing. [2] is red.</think><rank>[2,1]</rank><answer>red [2]</answer>";
    let items = json!([
        { "mmrag": judging(), "completion": right },
        { "mmrag": judging().to_string(), "completion": "red" },
        { "mmrag": judging(), "completion": right, "n_tokens": 100_000 },
    ]);
    let found = post(&app, "/v1/score", &json!({ "items": items })).await.good();
    let score = |n: usize| found["items"][n]["score"].as_f64().unwrap();
    assert!(score(0) > 0.9, "{found}");
    assert_eq!(score(1), 0.0);
    assert!(score(2) < score(0), "too long costs");
    assert_eq!(found["items"][0]["components"]["answer"], 1.0);

    let mut label = judging();
    label["response_prefix"] = "assistant\n".into();
    let asked = json!({
        "query": [format!("Q: what?{right}"), format!("user\nassistant\n{right}<|im_end|>"), "red"],
        "prompts": ["Q: what?", "", ""],
        "labels": [judging().to_string(), label.to_string(), judging().to_string()],
    });
    let rewards = post(&app, "/get_reward", &asked).await.good();
    assert_eq!(rewards["rewards"], json!([score(0), score(0), 0.0]));
    assert_eq!(rewards["extra_logs"]["answer"], json!([1.0, 1.0, 0.0]));
    let short = json!({ "query": ["a"], "labels": [] });
    assert!(post(&app, "/get_reward", &short).await.refused(400).contains("lengths"));
    let broken = json!({ "items": [{ "mmrag": "{}", "completion": "" }] });
    assert!(post(&app, "/v1/score", &broken).await.refused(400).contains("item 0"));
}

#[tokio::test]
async fn a_score_is_that_of_training() {
    use mmrag_core::{Completion, Finish, Gold};
    use mmrag_task::{Case, PromptStyle, Stage};
    let app = app(Setting::default());
    let documents = vec![super::world::text("a", "", ""), super::world::text("b", "", "")];
    let question = mmrag_core::Question {
        id: mmrag_core::QuestionId::new("q"),
        text: "x".into(),
        images: Vec::new(),
    };
    let case = Case { question, documents };
    let gold = Gold {
        documents: vec!["b"].into_iter().map(mmrag_core::DocumentId::new).collect(),
        answers: vec!["red".into()],
        ..Gold::default()
    };
    for text in [
        "<think>[2] is red.</think><rank>[1,2]</rank><answer>red [1]</answer>",
        "<think>red red red red red</think><rank>[2,1]</rank><answer>blue; red [2][1]</answer>",
        "<answer>red</answer>",
    ] {
        let completion = Completion {
            text: text.into(),
            tokens: Vec::new(),
            sampled_logprobs: Vec::new(),
            finish: Finish::Stop,
        };
        let expected = Stage::rank(PromptStyle::Standard, true).score(&case, &gold, &completion);
        let item = json!({ "mmrag": judging(), "completion": text });
        let found = post(&app, "/v1/score", &json!({ "items": [item] })).await.good();
        assert_eq!(found["items"][0]["score"], expected.total, "{text}");
    }
}

#[tokio::test]
async fn models_health_and_the_description_are_told() {
    let app = app(Setting::default());
    let models = get(&app, "/v1/models").await.good();
    let ids: Vec<&str> =
        models["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["mmrag", "mmrag/towns", "mmrag/secrets"]);
    assert_eq!(get(&app, "/health").await.good()["status"], "ok");
    let described = get(&app, "/openapi.json").await.good();
    for (path, methods) in described["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let path = path.replace("{id}", "x");
            let request = super::world::request(&method.to_uppercase(), &path);
            let answered = super::world::send(&app, request.body("".into()).unwrap()).await;
            let is_route = answered.status != 405 && !answered.text().contains("no such path");
            assert!(is_route, "{method} {path}: {}", answered.text());
        }
    }
    assert!(get(&app, "/v1/nothing").await.refused(404).contains("/openapi.json"));
    super::world::delete(&app, "/v1/ask").await.refused(405);
}
