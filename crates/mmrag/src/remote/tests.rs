//! A remote engine as it is used, against a small engine of the test's own on the loopback address.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use mmrag_core::{Choose, Finish, Generate, ImageSource, Message, Part, Prompt, Role, Sampling};
use serde_json::{Value, json};

use super::{Patience, RemotePolicy};
use crate::server::Json;

/// What the engine was asked: path and body.
type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// Starts an engine that answers as a function says; its address, and what it is asked.
fn engine(
    answer: impl Fn(&str, &Value, usize) -> Response + Send + Sync + 'static,
) -> (String, Asked) {
    let asked: Asked = Arc::default();
    let (noted, answer) = (Arc::clone(&asked), Arc::new(answer));
    let handler = move |uri: Uri, body: Bytes| {
        let (noted, answer) = (Arc::clone(&noted), Arc::clone(&answer));
        async move {
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let path = uri.path().to_owned();
            let nth = {
                let mut noted = noted.lock().unwrap();
                noted.push((path.clone(), body.clone()));
                noted.iter().filter(|(known, _)| *known == path).count()
            };
            if path == "/v1/models" {
                return Json(json!({ "data": [{ "id": "vl" }] })).into_response();
            }
            answer(&path, &body, nth)
        }
    };
    let (told, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            told.send(listener.local_addr().unwrap()).unwrap();
            axum::serve(listener, axum::Router::new().fallback(handler)).await.unwrap();
        });
    });
    (format!("http://{}", address.recv().unwrap()), asked)
}

fn connect(address: &str) -> RemotePolicy {
    let patience =
        Patience { timeout: Duration::from_secs(5), tries: 3, pause: Duration::from_millis(5) };
    RemotePolicy::connect_with(address, None, patience).unwrap()
}

fn prompt(reply_prefix: &str) -> Prompt {
    let parts = vec![Part::Text("Does it help?".into())];
    let messages = vec![Message { role: Role::User, parts }];
    Prompt { messages, reply_prefix: reply_prefix.into(), reasons: reply_prefix.is_empty() }
}

fn json_of(value: Value) -> Response {
    Json(value).into_response()
}

fn said(text: &str) -> Value {
    json!({ "message": { "role": "assistant", "content": text }, "finish_reason": "stop" })
}

fn token(text: &str, likely: &[(&str, f64)]) -> Value {
    let likely: Vec<Value> =
        likely.iter().map(|(token, p)| json!({ "token": token, "logprob": p.ln() })).collect();
    json!({ "token": text, "logprob": -0.1, "top_logprobs": likely })
}

fn near(found: &[Vec<f64>], expected: &[f64]) {
    for (found, expected) in found[0].iter().zip(expected) {
        assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
    }
}

#[test]
fn verdicts_are_read_from_logprobs_after_the_begun_reply() {
    let (address, asked) = engine(|_, _, _| {
        let rows = json!([token("Yes", &[("Yes", 0.5), (" yes", 0.25), ("No", 0.125)])]);
        json_of(
            json!({ "choices": [{ "message": { "content": "Yes" }, "logprobs": { "content": rows } }] }),
        )
    });
    let remote = connect(&address);
    near(&remote.choose(&[prompt("<answer>")], &["Yes", "No"]).unwrap(), &[0.75, 0.125]);
    let asked = asked.lock().unwrap();
    let (path, body) = asked.last().unwrap();
    assert_eq!(path, "/v1/chat/completions");
    assert_eq!(body["messages"][1], json!({ "role": "assistant", "content": "<answer>" }));
    assert_eq!(body["continue_final_message"], true);
    assert_eq!(body["add_generation_prompt"], false);
    assert_eq!(body["max_tokens"], 1);
}

#[test]
fn an_engine_that_begins_anew_is_read_after_its_own_answer_tag() {
    let (address, asked) = engine(|_, _, _| {
        let rows = json!([
            token("<", &[("<", 0.9)]),
            token("answer>", &[("answer>", 0.9)]),
            token("No", &[("No", 0.75), ("Yes", 0.25)]),
        ]);
        json_of(
            json!({ "choices": [{ "message": { "content": "<answer>No" }, "logprobs": { "content": rows } }] }),
        )
    });
    let remote = connect(&address);
    for _ in 0..2 {
        near(&remote.choose(&[prompt("<answer>")], &["Yes", "No"]).unwrap(), &[0.25, 0.75]);
    }
    // Found out once, not with every prompt.
    assert_eq!(asked.lock().unwrap().len(), 1 + 2 + 1);
    assert_eq!(asked.lock().unwrap().last().unwrap().1["messages"].as_array().unwrap().len(), 1);
}

#[test]
fn without_logprobs_verdicts_are_shares_of_samples() {
    let (address, _) = engine(|_, body, nth| {
        let n = body["n"].as_u64().unwrap_or(1);
        let yes = ["<answer>Yes</answer>", "Yes", "<answer>no</answer>", "perhaps"];
        // As llama.cpp does: one completion however many are asked for.
        let text = yes[nth % 4];
        json_of(json!({ "choices": [said(if n > 0 { text } else { "" })] }))
    });
    let remote = connect(&address);
    let found = remote.choose(&[prompt("<answer>")], &["Yes", "No"]).unwrap();
    near(&found, &[0.5, 0.25]);
}

#[test]
fn completions_keep_order_reasoning_and_probabilities() {
    let (address, asked) = engine(|_, body, _| {
        let text = body["messages"][0]["content"][0]["text"].as_str().unwrap_or_default();
        let choice = json!({
            "message": { "content": format!("<answer>{text}</answer>"), "reasoning_content": "so" },
            "finish_reason": "length",
            "logprobs": { "content": [token("a", &[])] },
        });
        json_of(json!({ "choices": [choice, choice] }))
    });
    let remote = connect(&address);
    let prompts: Vec<Prompt> = (0..20)
        .map(|n| {
            let parts = vec![Part::Text(n.to_string())];
            Prompt { messages: vec![Message { role: Role::User, parts }], ..prompt("") }
        })
        .collect();
    let sampling = Sampling { n: 2, temperature: 0.7, top_k: 5, ..Sampling::greedy(9) };
    let found = remote.generate(&prompts, &sampling).unwrap();
    for (n, completions) in found.iter().enumerate() {
        assert_eq!(completions.len(), 2);
        assert_eq!(completions[0].text, format!("<think>so</think><answer>{n}</answer>"));
        assert_eq!(completions[0].finish, Finish::Length);
        assert_eq!(completions[0].sampled_logprobs, [-0.1]);
    }
    let asked = asked.lock().unwrap();
    let body = &asked.last().unwrap().1;
    assert_eq!(
        (&body["n"], &body["top_k"], &body["max_tokens"]),
        (&json!(2), &json!(5), &json!(9))
    );
    let mut seeds: Vec<u64> = asked[1..].iter().map(|(_, b)| b["seed"].as_u64().unwrap()).collect();
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), 20, "each prompt draws from its own seed");
}

#[test]
fn a_reply_is_told_as_it_is_streamed() {
    let (address, _) = engine(|_, body, _| {
        assert_eq!(body["stream"], true);
        let chunk = |delta: Value, finish: Value| {
            let choice = json!({ "delta": delta, "finish_reason": finish });
            format!("data: {}\n\n", json!({ "choices": [choice] }))
        };
        let text = [
            ": ping\n\n".to_owned(),
            chunk(json!({ "role": "assistant" }), Value::Null),
            chunk(json!({ "content": "<answer>" }), Value::Null),
            chunk(json!({ "content": "red" }), json!("stop")),
            "data: [DONE]\n\n".to_owned(),
        ];
        ([(header::CONTENT_TYPE, "text/event-stream")], text.concat()).into_response()
    });
    let told = Mutex::new(Vec::new());
    let found = connect(&address)
        .generate_telling(&[prompt("")], &Sampling::greedy(9), &|index, text| {
            told.lock().unwrap().push((index, text.to_owned()));
        })
        .unwrap();
    assert_eq!(found[0][0].text, "<answer>red");
    let told = told.into_inner().unwrap();
    assert_eq!(told, [(0, "<answer>".to_owned()), (0, "<answer>red".to_owned())]);
}

#[test]
fn what_may_pass_is_tried_again_and_what_does_not_is_told() {
    let (address, asked) = engine(|_, _, nth| {
        if nth < 3 {
            let busy = (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "0")], "busy");
            return busy.into_response();
        }
        json_of(json!({ "choices": [said("late")] }))
    });
    let found = connect(&address).generate(&[prompt("")], &Sampling::greedy(9)).unwrap();
    assert_eq!(found[0][0].text, "late");
    assert_eq!(asked.lock().unwrap().len(), 1 + 3);

    let (address, asked) = engine(|_, _, _| {
        let body = json!({ "error": { "message": "images are not supported" } });
        (StatusCode::BAD_REQUEST, Json(body)).into_response()
    });
    let error = connect(&address).generate(&[prompt("")], &Sampling::greedy(9)).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("400") && message.contains("images are not supported"), "{message}");
    assert_eq!(asked.lock().unwrap().len(), 1 + 1);

    let (address, _) = engine(|_, _, _| StatusCode::BAD_GATEWAY.into_response());
    let error = connect(&address).generate(&[prompt("")], &Sampling::greedy(9)).unwrap_err();
    assert!(error.to_string().contains("tried 3 times"), "{error}");
}

#[test]
fn an_engine_that_never_answers_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let patience =
        Patience { timeout: Duration::from_millis(50), tries: 2, pause: Duration::from_millis(1) };
    let error = RemotePolicy::connect_with(&address, None, patience).err().unwrap();
    let message = format!("{error:#}");
    assert!(message.contains("does not answer") && message.contains("tried 2 times"), "{message}");
}

#[test]
fn the_model_is_found_or_named() {
    let (address, _) = engine(|_, _, _| StatusCode::NOT_FOUND.into_response());
    assert_eq!(connect(&address).model(), "vl");
    let error = RemotePolicy::connect(&address, Some("other")).err().unwrap();
    assert!(error.to_string().contains("it has vl"), "{error}");
    let error = RemotePolicy::connect("ftp://x", None).err().unwrap();
    assert!(error.to_string().contains("http://"), "{error}");
}

#[test]
fn tokens_are_counted_there_or_estimated_here() {
    let (address, _) = engine(|path, _, _| match path {
        "/tokenize" => json_of(json!({ "count": 321 })),
        _ => StatusCode::NOT_FOUND.into_response(),
    });
    assert_eq!(connect(&address).count_tokens(&prompt("")).unwrap(), 321);
    let (address, asked) = engine(|_, _, _| StatusCode::NOT_FOUND.into_response());
    let remote = connect(&address);
    let mut picture = std::io::Cursor::new(Vec::new());
    image::GrayImage::new(56, 28).write_to(&mut picture, image::ImageFormat::Png).unwrap();
    let mut shown = prompt("");
    shown.messages[0].parts.push(Part::Image(ImageSource::Bytes(picture.into_inner().into())));
    for _ in 0..2 {
        assert_eq!(remote.count_tokens(&shown).unwrap(), 5 + 3 * 2);
    }
    assert_eq!(asked.lock().unwrap().len(), 2, "it is asked once");
}
