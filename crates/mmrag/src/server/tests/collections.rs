//! Collections and feedback over HTTP.

use std::sync::Arc;

use mmrag_rag::Collection;
use serde_json::json;

use super::world::{MAYOR, Setting, app, data_url, delete, get, png, post};
use crate::server::{Collections, DiskStore, Store};

#[tokio::test]
async fn documents_are_added_listed_searched_and_taken_out() {
    let app = app(Setting::default());
    let more = json!({ "documents": [
        { "id": "a b/ü", "title": "New", "text": "Voss again" },
        { "title": "Picture", "image": data_url(&png(3, 3)) },
    ] });
    let added = post(&app, "/v1/documents", &more).await.good();
    assert_eq!(added["documents"], 8);
    let unnamed = added["added"][1].as_str().unwrap();
    assert_eq!(unnamed.len(), 16, "it is called by its contents");
    assert_eq!(post(&app, "/v1/documents", &more).await.good()["documents"], 8);
    assert_eq!(get(&app, "/v1/documents/a%20b/%C3%BC").await.good()["text"], "Voss again");
    let first = get(&app, "/v1/documents?limit=3").await.good();
    assert_eq!((first["data"].as_array().unwrap().len(), &first["has_more"]), (3, &json!(true)));
    let rest = get(&app, "/v1/documents?limit=10&from=3").await.good();
    assert_eq!((rest["data"].as_array().unwrap().len(), &rest["has_more"]), (5, &json!(false)));
    let found = get(&app, "/v1/documents?search=again").await.good();
    assert_eq!(found["data"][0]["id"], "a b/ü");
    assert_eq!(delete(&app, "/v1/documents/a%20b/%C3%BC").await.good()["deleted"], true);
    delete(&app, "/v1/documents/a%20b/%C3%BC").await.refused(404);
    get(&app, "/v1/documents?collection=none").await.refused(404);
}

#[tokio::test]
async fn what_is_added_to_a_folder_is_there_for_the_next_server() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("notes");
    let open = || {
        let collection = Collection::open_or_create(&place).unwrap();
        let store: Arc<dyn Store> = Arc::new(DiskStore::new(collection, Arc::default()));
        let mut app = Arc::into_inner(app(Setting::default())).unwrap();
        app.collections = Collections::new(vec![("notes".into(), store)]);
        Arc::new(app)
    };
    let first = open();
    let more = json!({ "documents": [
        { "id": "t", "title": "Olm", "text": "The mayor of Olm is Ada Voss." },
        { "id": "i", "title": "Flag of Olm", "image": data_url(&png(3, 3)) },
    ] });
    post(&first, "/v1/documents", &more).await.good();
    drop(first);
    let next = open();
    let listed = get(&next, "/v1/collections").await.good();
    assert_eq!(listed["data"][0]["documents"], 2);
    assert_eq!(listed["data"][0]["kept"], true);
    assert_eq!(get(&next, "/v1/pictures/i").await.body, png(3, 3));
    let answered = post(&next, "/v1/ask", &json!({ "question": MAYOR })).await.good();
    assert_eq!(answered["answer"], "Ada Voss");
    delete(&next, "/v1/documents/t").await.good();
    assert_eq!(get(&next, "/v1/documents").await.good()["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn feedback_is_kept_where_the_server_has_a_place() {
    let folder = tempfile::tempdir().unwrap();
    let app = app(Setting { state: Some(folder.path().to_owned()), ..Setting::default() });
    let id = post(&app, "/v1/ask", &json!({ "question": MAYOR })).await.good()["id"].clone();
    let verdict = json!({ "asked": id, "about": "verdict", "document": "t-sea", "right": true });
    post(&app, "/v1/feedback", &verdict).await.good();
    let unknown = json!({ "asked": id, "about": "verdict", "document": "none", "right": true });
    assert!(post(&app, "/v1/feedback", &unknown).await.refused(400).contains("none"));
    let without = json!({ "asked": id, "about": "citation", "right": true });
    post(&app, "/v1/feedback", &without).await.refused(400);
    let answer = json!({ "asked": id, "about": "answer", "right": true });
    post(&app, "/v1/feedback", &answer).await.good();
    let lines = |name: &str| -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(folder.path().join("feedback").join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let filter = lines("filter/train.jsonl");
    assert_eq!(filter.len(), 1);
    assert_eq!(filter[0]["candidates"], json!(["towns/t-sea"]));
    assert_eq!(filter[0]["gold"], json!([]), "a right verdict of a dropped document");
    let rank = lines("rank/train.jsonl");
    assert_eq!(rank[0]["answers"], json!(["Ada Voss"]));
    let documents = lines("rank/documents.jsonl");
    for candidate in rank[0]["candidates"].as_array().unwrap() {
        assert_eq!(documents.iter().filter(|d| d["id"] == *candidate).count(), 1, "{candidate}");
    }
    let picture = documents.iter().find(|d| d["id"] == "towns/i/flag").unwrap();
    let path = folder.path().join("feedback/rank").join(picture["image"].as_str().unwrap());
    assert_eq!(std::fs::read(path).unwrap(), png(2, 2));
    let nowhere = super::world::app(Setting::default());
    let id = post(&nowhere, "/v1/ask", &json!({ "question": MAYOR })).await.good()["id"].clone();
    let answer = json!({ "asked": id, "about": "answer", "right": true });
    assert!(post(&nowhere, "/v1/feedback", &answer).await.refused(501).contains("--state"));
}
