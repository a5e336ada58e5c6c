//! Collections with vectors behind the server: questions and new documents are embedded by what
//! the collection was embedded by.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use mmrag_core::{Document, Embed, EngineError};
use mmrag_rag::fakes::HashEmbed;
use mmrag_rag::{Collection, Lane, LaneInfo, Record};
use serde_json::{Value, json};

use super::world::{Setting, app, data_url, documents, get, post};
use crate::embedding::Loaded;
use crate::server::{Collections, DiskStore, Embedders, Shared, Store, Turns};

fn encoder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures").join(name)
}

/// A server over one collection in a folder, with embedders for what is new.
fn served(place: &Path, named: Vec<Loaded>) -> Shared {
    let embedders = Embedders::new(named.into_iter().map(Arc::new).collect());
    let collection = Collection::open_or_create(place).unwrap();
    let store: Arc<dyn Store> = Arc::new(DiskStore::new(collection, Arc::new(embedders)));
    let mut app = Arc::into_inner(app(Setting::default())).unwrap();
    app.collections = Collections::new(vec![("notes".into(), store)]);
    Arc::new(app)
}

fn hashed(engine: Box<dyn Embed>) -> Loaded {
    let info = LaneInfo { lane: Lane::Text, version: "hash".into(), source: "nowhere".into() };
    Loaded::of(info, engine)
}

fn sources(found: &Value, id: &str) -> Vec<String> {
    let candidates = found["candidates"].as_array().unwrap();
    let Some(found) = candidates.iter().find(|candidate| candidate["document"] == id) else {
        return Vec::new();
    };
    let sources = found["retrieval"].as_array().unwrap();
    sources.iter().map(|source| source["source"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn questions_and_new_documents_are_embedded_by_the_collections_own_encoders() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("notes");
    let collection = Collection::open_or_create(&place).unwrap();
    let mut writer = collection.writer().unwrap();
    for document in documents() {
        writer.put(Record::new((*document).clone())).unwrap();
    }
    writer.commit().unwrap();
    drop(writer);
    for (lane, name) in [(Lane::Text, "bert_tiny"), (Lane::Image, "clip_tiny")] {
        let loaded = Loaded::new(lane, &encoder(name)).unwrap();
        assert!(loaded.embed_missing(&collection, || false).unwrap() > 0);
    }
    drop(collection);
    // Nothing is named: the collection says by what it was embedded.
    let app = served(&place, Vec::new());
    let listed = get(&app, "/v1/collections").await.good();
    let of = |lane: usize| listed["data"][0]["vectors"][lane]["of"].clone();
    assert_eq!((of(0), of(1)), (json!("text"), json!("image")));

    let picture = std::fs::read(encoder("clip_tiny").join("picture.png")).unwrap();
    let more = json!({ "documents": [
        { "id": "new", "title": "New", "text": "Quite another thing." },
        { "id": "seen", "title": "Nothing said", "image": data_url(&picture) },
    ] });
    let added = post(&app, "/v1/documents", &more).await.good();
    assert!(added.get("not_embedded").is_none(), "{added}");
    let asked = json!({ "question": "olm", "images": [data_url(&picture)], "top_k": 9 });
    let found = post(&app, "/v1/ask", &asked).await.good();
    // Neither shares a word with the question.
    assert_eq!(sources(&found, "new"), ["dense", "fused"]);
    assert_eq!(sources(&found, "seen"), ["dense", "image", "picture", "fused"]);
    let first = found["candidates"].as_array().unwrap().iter().find(|candidate| {
        let sources = candidate["retrieval"].as_array().unwrap();
        sources.iter().any(|source| source["source"] == "picture" && source["rank"] == 1)
    });
    assert_eq!(first.unwrap()["document"], "seen", "it is the picture that is asked with");
    let alone = post(&app, "/v1/ask", &json!({ "question": "olm", "top_k": 9 })).await.good();
    assert_eq!(sources(&alone, "seen"), ["dense", "image", "fused"]);
    // Looking through the list of documents stays a matter of words.
    let listed = get(&app, "/v1/documents?search=quite").await.good();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_new_collection_is_embedded_by_what_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("notes");
    let named = || vec![hashed(Box::new(HashEmbed { width: 64 }))];
    let first = served(&place, named());
    let more = json!({ "documents": [
        { "id": "twice", "title": "Old", "text": "Something old." },
        { "id": "twice", "title": "Sea", "text": "The sea is deep." },
        { "id": "hill", "title": "Hill", "text": "A hill is high." },
    ] });
    post(&first, "/v1/documents", &more).await.good();
    let again = json!({ "documents": [{ "id": "hill", "title": "Hill", "text": "It was cut." }] });
    post(&first, "/v1/documents", &again).await.good();
    drop(first);
    let next = served(&place, named());
    let asked = json!({ "question": "deep sea, cut hill" });
    let found = post(&next, "/v1/ask", &asked).await.good();
    assert_eq!(sources(&found, "twice"), ["bm25", "dense", "fused"]);
    assert_eq!(sources(&found, "hill"), ["bm25", "dense", "fused"]);
    assert_eq!(found["candidates"].as_array().unwrap().len(), 2, "{found}");
    // What the ids said before is not found any more.
    let before = post(&next, "/v1/ask", &json!({ "question": "something high" })).await.good();
    assert!(before["candidates"].as_array().unwrap().is_empty(), "{before}");
}

#[tokio::test]
async fn vectors_of_an_encoder_that_is_gone_are_left_aside() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("notes");
    let named = vec![hashed(Box::new(HashEmbed { width: 64 }))];
    let more = json!({ "documents": [{ "id": "sea", "title": "Sea", "text": "It is deep." }] });
    post(&served(&place, named), "/v1/documents", &more).await.good();
    let app = served(&place, Vec::new());
    let found = post(&app, "/v1/ask", &json!({ "question": "sea" })).await.good();
    assert_eq!(sources(&found, "sea"), ["bm25", "fused"]);
    let asked = json!({ "model": "mmrag", "input": "sea" });
    assert!(post(&app, "/v1/embeddings", &asked).await.refused(501).contains("--embedder"));
}

/// An engine that cannot embed documents.
struct Torn;

impl Embed for Torn {
    fn width(&self) -> usize {
        8
    }

    fn embed_questions(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EngineError> {
        HashEmbed { width: 8 }.embed_questions(texts)
    }

    fn embed_documents(&self, _: &[&Document]) -> Result<Vec<Vec<f32>>, EngineError> {
        Err(EngineError::new("embed it: torn"))
    }

    fn count_tokens(&self, _: &str) -> Result<usize, EngineError> {
        Ok(1)
    }
}

#[tokio::test]
async fn what_cannot_be_embedded_is_added_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let app = served(&folder.path().join("notes"), vec![hashed(Box::new(Torn))]);
    let more = json!({ "documents": [
        { "id": "a", "text": "The sea is deep." }, { "id": "b", "text": "A hill." },
    ] });
    let added = post(&app, "/v1/documents", &more).await.good();
    assert_eq!(added["not_embedded"][1]["document"], "b");
    assert!(added["not_embedded"][0]["why"].as_str().unwrap().contains("torn"), "{added}");
    let found = post(&app, "/v1/ask", &json!({ "question": "sea" })).await.good();
    assert_eq!(sources(&found, "a"), ["bm25", "fused"]);
}

async fn vectors(app: &Shared, more: Value) -> Value {
    let mut asked = json!({ "model": "mmrag" });
    asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    post(app, "/v1/embeddings", &asked).await.good()
}

#[tokio::test]
async fn embeddings_come_as_numbers_or_base64_or_not_at_all() {
    let without = app(Setting::default());
    let asked = json!({ "model": "mmrag", "input": "red house" });
    assert!(post(&without, "/v1/embeddings", &asked).await.refused(501).contains("no embedder"));
    let folder = tempfile::tempdir().unwrap();
    let bert = Loaded::new(Lane::Text, &encoder("bert_tiny")).unwrap();
    let expected = bert.engine().embed_questions(&["red house", "sea"]).unwrap();
    let app = served(&folder.path().join("notes"), vec![bert]);
    let floats = vectors(&app, json!({ "input": "red house" })).await;
    let listed: Vec<f32> = serde_json::from_value(floats["data"][0]["embedding"].clone()).unwrap();
    assert_eq!(listed, expected[0]);
    let many = json!({ "input": ["red house", "sea"], "encoding_format": "base64",
        "dimensions": listed.len(), "user": "ada" });
    let encoded = vectors(&app, many).await;
    for (i, expected) in expected.iter().enumerate() {
        assert_eq!(encoded["data"][i]["index"], i);
        let text = encoded["data"][i]["embedding"].as_str().unwrap();
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        let (values, rest) = bytes.as_chunks::<4>();
        assert!(rest.is_empty());
        let decoded: Vec<f32> = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        assert_eq!(decoded, *expected);
    }
    assert!(floats["usage"]["prompt_tokens"].as_u64().unwrap() >= 4, "{floats}");
    let both = encoded["usage"]["total_tokens"].as_u64().unwrap();
    assert!(both > floats["usage"]["total_tokens"].as_u64().unwrap());
    // Titles stand before what documents say.
    let document = vectors(&app, json!({ "input": "sea", "input_type": "document" })).await;
    assert_eq!(document["data"][0]["embedding"].as_array().unwrap().len(), listed.len());
    let many: Vec<String> = (0..130).map(|n| format!("text {n}")).collect();
    let rows = vectors(&app, json!({ "input": many })).await;
    assert_eq!(rows["data"][129]["index"], 129);
    let alone = vectors(&app, json!({ "input": "text 129" })).await;
    assert_eq!(rows["data"][129]["embedding"], alone["data"][0]["embedding"]);
}

#[tokio::test]
async fn what_is_not_embedded_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let named = vec![hashed(Box::new(HashEmbed { width: 4 }))];
    let mut app = Arc::into_inner(served(&folder.path().join("notes"), named)).unwrap();
    let refused = |more: Value, status: u16, word: &'static str| {
        let mut asked = json!({ "model": "mmrag", "input": "sea" });
        asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        (asked, status, word)
    };
    let cases = [
        refused(json!({ "input": [1, 2] }), 400, "tokens are not"),
        refused(json!({ "input": [[1, 2], [3]] }), 400, "tokens are not"),
        refused(json!({ "input": [] }), 400, "send 1 to 2048 texts"),
        refused(json!({ "input": ["a", ""] }), 400, "text 1 is empty"),
        refused(json!({ "input": vec!["a"; 2049] }), 400, "2048"),
        refused(json!({ "dimensions": 2 }), 400, "have 4"),
        refused(json!({ "encoding_format": "int8" }), 400, "int8"),
        refused(json!({ "model": "text-embedding-3-small" }), 404, "/v1/models"),
        refused(json!({ "model": "mmrag/other" }), 404, "no collection other"),
    ];
    app.turns = Turns::new(1);
    let app = Arc::new(app);
    for (asked, status, word) in cases {
        let told = post(&app, "/v1/embeddings", &asked).await.refused(status);
        assert!(told.contains(word), "{asked}: {told}");
    }
    let taken = app.turns.place().unwrap();
    let (asked, ..) = refused(json!({}), 429, "");
    assert!(post(&app, "/v1/embeddings", &asked).await.refused(429).contains("come back"));
    drop(taken);
    post(&app, "/v1/embeddings", &asked).await.good();
}
