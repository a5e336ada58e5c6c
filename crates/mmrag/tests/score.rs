//! `mmrag eval score` as a user meets it: official files in, figures and faults out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

fn score(dataset: &str, gold: &str, predictions: &str, more: &[&str]) -> Output {
    let arguments =
        ["eval", "score", "--dataset", dataset, "--gold", gold, "--predictions", predictions];
    let mut command = Command::new(env!("CARGO_BIN_EXE_mmrag"));
    command.args(arguments).args(more).output().expect("the command starts")
}

/// The figures of a run that succeeds.
fn figures(dataset: &str, gold: &str, predictions: &str, more: &[&str]) -> Value {
    let scored = score(dataset, gold, predictions, &[&["--json"], more].concat());
    assert!(scored.status.success(), "{}", stderr(&scored));
    serde_json::from_str(&stdout(&scored)).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("stdout is text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("stderr is text")
}

fn put(folder: &Path, name: &str, text: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("the file is written");
    path.to_str().expect("the path is text").to_owned()
}

#[track_caller]
fn near(value: &Value, expected: f64) {
    assert!((value.as_f64().unwrap() - expected).abs() < 1e-6, "{value} for {expected}");
}

#[test]
fn multimodalqa_predictions_are_scored_and_their_faults_told() {
    let folder = tempfile::tempdir().unwrap();
    let row = |id: &str, kind: &str, answers: &str| {
        format!(
            "{{\"qid\": \"{id}\", \"question\": \"?\", \"answers\": [{answers}], \
             \"metadata\": {{\"type\": \"{kind}\"}}}}\n"
        )
    };
    let granite = "{\"answer\": \"granite\", \"modality\": \"text\"}";
    let lists =
        "{\"answer\": 3, \"modality\": \"table\"}, {\"answer\": \"x\", \"modality\": \"table\"}";
    let rows = [
        row("a", "TextQ", granite),
        row("b", "Compose(TextQ,TableQ)", lists),
        row("c", "TextQ", granite),
        row("d", "TextQ", granite),
        row("e", "TextQ", ""),
    ];
    let gold = put(folder.path(), "gold.jsonl", rows.concat());
    let text = "{\"a\": \"slate\",\n\"a\": \"The granite!\", \"b\": [\"three\", \"y\"],\n\n\
                \"c\": 7, \"z\": \"x\"}";
    let predictions = put(folder.path(), "answers.json", text);
    let found = figures("multimodalqa", &gold, &predictions, &["--per-item"]);
    assert_eq!(found["n"], 4);
    assert_eq!(found["em"], 25.0);
    assert_eq!(found["f1"], 37.5);
    assert_eq!(found["by"]["hops"]["Multi-hop"]["f1"], 50.0);
    assert_eq!(found["by"]["modality"]["text"]["n"], 3);
    assert_eq!(found["by"]["type"]["TextQ"]["n"], 3);
    assert_eq!(found["per_item"][1]["f1"], 0.5);
    let problems = &found["problems"];
    assert_eq!(problems["missing"], json!(["d"]));
    assert_eq!(problems["extra"], json!([{"line": 4, "id": "z"}]));
    assert_eq!(problems["duplicate"], json!([{"line": 2, "id": "a"}]));
    assert_eq!(problems["wrong"][0]["line"], 4);
    assert_eq!(problems["wrong"].as_array().unwrap().len(), 1);
    assert!(problems["gold"][0].as_str().unwrap().contains("line 5"));
    let table = score("multimodalqa", &gold, &predictions, &[]);
    assert!(stdout(&table).contains("EM  25.000  F1  37.500"), "{}", stdout(&table));
    for told in ["line 4: c: a number is neither", "no prediction, counts 0: d", "line 4: z"] {
        assert!(stderr(&table).contains(told), "{told}: {}", stderr(&table));
    }
    let none = put(folder.path(), "none.json", "{}");
    let found = figures("multimodalqa", &gold, &none, &[]);
    assert_eq!((&found["n"], &found["em"]), (&json!(4), &json!(0.0)));
    assert_eq!(found["problems"]["missing"].as_array().unwrap().len(), 4);
    let wrong = score("multimodalqa", &gold, &predictions, &["--rule", "ragvl"]);
    assert!(stderr(&wrong).contains("--rule is for webqa"), "{}", stderr(&wrong));
}

const WEBQA_GOLD: &str = r#"{
"a": {"Qcate": "shape", "Keywords_A": "sphere", "A": ["The car is a sphere."],
      "img_posFacts": [{"image_id": 30000001}]},
"b": {"Qcate": "Others", "Keywords_A": "tin", "A": ["red", "A house"],
      "img_posFacts": [{"image_id": 30000002}]},
"c": {"Qcate": "text", "Keywords_A": "TBD", "txt_posFacts": [{"snippet_id": "c_1"}]},
"d": {"Qcate": "colour"}}"#;

#[test]
fn webqa_predictions_are_scored_and_their_faults_told() {
    let folder = tempfile::tempdir().unwrap();
    let gold = put(folder.path(), "gold.json", WEBQA_GOLD);
    let text = r#"{"a": {"sources": [30000001, 1.5], "answer": "Two spheres."},
                   "c": {"sources": "c_1", "answer": 7}}"#;
    let predictions = put(folder.path(), "answers.json", text);
    let found = figures("webqa", &gold, &predictions, &[]);
    assert_eq!(found["n"], 3);
    assert_eq!(found["qa_acc"]["n"], 2);
    assert_eq!(found["qa_acc"]["none"], 0.0);
    near(&found["qa_acc"]["lookup"], 0.999_995 / 2.0);
    near(&found["retrieval_f1"], 0.999_985 / 3.0);
    near(&found["by"]["category"]["shape"]["qa_acc"]["lookup"], 0.999_995);
    near(&found["retrieval_recall"], 0.99999 / 3.0);
    near(&found["by"]["modality"]["image"]["retrieval_precision"], 0.99999 / 2.0);
    assert_eq!(found["by"]["modality"]["text"]["n"], 1);
    assert!(found["qa_fl"].is_null() && found["qa"].is_null());
    assert!(found["by"]["category"]["text"]["qa_acc"]["none"].is_null());
    assert!(found["lemma_table"].as_str().unwrap().contains("0.3.2"));
    let problems = &found["problems"];
    assert_eq!(problems["missing"], json!(["b"]));
    let lines: Vec<&Value> =
        problems["wrong"].as_array().unwrap().iter().map(|fault| &fault["line"]).collect();
    assert_eq!(lines, [1, 2, 2]);
    assert!(problems["gold"][0].as_str().unwrap().contains("colour"));
    let lemmas = put(folder.path(), "lemmas.json", r#"{"spheres": "ball"}"#);
    let other = figures("webqa", &gold, &predictions, &["--lemmas", &lemmas]);
    assert_eq!(other["qa_acc"]["lookup"], 0.0);
    assert!(other["lemma_table"].as_str().unwrap().ends_with("lemmas.json"));

    for (broken, line) in [("{\"a\":\n 7,}", 2), ("{\"a\": \"x\",\n\"b\": \"\u{0}\"", 2)] {
        let broken = put(folder.path(), "broken.json", broken);
        let failed = score("webqa", &gold, &broken, &[]);
        assert_eq!(failed.status.code(), Some(1));
        let told = format!("broken.json, line {line}");
        assert!(stderr(&failed).contains(&told), "{}", stderr(&failed));
        assert!(failed.stdout.is_empty());
    }
    let broken = put(folder.path(), "broken.json", b"{\"a\": \"x\",\n\"b\": \"\xff\"}");
    let failed = score("webqa", &gold, &broken, &[]);
    assert!(stderr(&failed).contains("broken.json, line 2: byte 7"), "{}", stderr(&failed));
}

#[test]
fn accuracy_by_another_rule_stands_alone() {
    let folder = tempfile::tempdir().unwrap();
    let gold = put(folder.path(), "gold.json", WEBQA_GOLD);
    let text = r#"{"a": {"predicted sources": [], "predicted answers": ["car sphere", "x"]},
                   "b": {"predicted sources": [30000002], "predicted answers": ["red"]}}"#;
    let predictions = put(folder.path(), "answers.json", text);
    for (rule, key, shape) in
        [("eval-webqa-md", "accuracy_eval_webqa_md", 1.0), ("ragvl", "accuracy_ragvl", 1.0)]
    {
        let found = figures("webqa", &gold, &predictions, &["--rule", rule, "--per-item"]);
        near(&found["by"]["category"]["shape"][key]["none"], shape);
        near(&found[key]["none"], 1.0);
        assert_eq!(found[key]["n"], 2);
        assert!(found.get("qa_acc").is_none() && found["qa"].is_null());
        near(&found["per_item"][1][key]["lookup"], 1.0);
        near(&found["retrieval_f1"], 0.999_985 / 3.0);
    }
    let table = score("webqa", &gold, &predictions, &["--rule", "ragvl"]);
    assert!(stdout(&table).contains("accuracy (RagVL) of 2"), "{}", stdout(&table));
    assert!(!stdout(&table).contains("QA-Acc of"), "{}", stdout(&table));
}

/// A table of a baseline is gold and prediction in one; it names no sources.
#[test]
fn a_table_of_a_baseline_is_scored() {
    let folder = tempfile::tempdir().unwrap();
    let text = "Guid\tQcate\tQ\tA\tKeywords_A\tOutput_conf\tOutput\n\
                a\tYesNo\tQ?\t[\"No, it is not.\"]\tNo.\t[-1.0]\t[\"No .\", \"Yes .\"]\n\
                b\tnumber\tQ?\t[\"Two.\"]\tTwo\t[-1.0]\t[\"There are 3 .\"]\n";
    let table = put(folder.path(), "baseline.tsv", text);
    let found = figures("webqa", &table, &table, &[]);
    near(&found["qa_acc"]["none"], 0.999_995 / 2.0);
    assert!(found["retrieval_f1"].is_null());
    assert_eq!(found["problems"]["wrong"], json!([]));
}

#[test]
fn fluency_is_scored_by_a_bart() {
    let bart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures/bart_small");
    let folder = tempfile::tempdir().unwrap();
    let gold = put(
        folder.path(),
        "gold.json",
        r#"{"a": {"Qcate": "Others", "Keywords_A": "red", "A": ["\"The car is red.\""]},
            "b": {"Qcate": "Others", "Keywords_A": "car", "A": ["the red, car!"]},
            "c": {"Qcate": "Others", "Keywords_A": "x", "A": ["A house"]},
            "d": {"Qcate": "text"}}"#,
    );
    let predictions = put(
        folder.path(),
        "answers.json",
        r#"{"a": {"sources": [], "answer": "The car is red"},
            "b": {"sources": [], "answer": "the red house"},
            "d": {"sources": [], "answer": "x"}}"#,
    );
    let weights = bart.join("bart.pth");
    let (bart, weights) = (bart.to_str().unwrap(), weights.to_str().unwrap());
    let more = ["--bart", bart, "--bart-weights", weights, "--per-item"];
    let found = figures("webqa", &gold, &predictions, &more);
    let fluency = |at: usize| &found["per_item"][at]["qa_fl"];
    near(fluency(0), 1.0);
    near(fluency(2), 0.0);
    assert!(fluency(3).is_null());
    let second = fluency(1).as_f64().unwrap();
    assert!(second > 0.0 && second <= 1.0, "{second}");
    assert_eq!(found["qa_fl_n"], 3);
    near(&found["qa_fl"], (1.0 + second) / 3.0);
    near(&found["qa"], 1.0 / 3.0);
    assert_eq!(found["qa"], found["qa_by_lemmas"]["lookup"]);
    let kept = folder.path().join("scores.jsonl");
    let kept = kept.to_str().unwrap();
    let keeping = ["--bart", bart, "--bart-weights", weights, "--bart-scores", kept];
    let first = figures("webqa", &gold, &predictions, &keeping);
    near(&first["qa_fl"], found["qa_fl"].as_f64().unwrap());
    let lines = std::fs::read_to_string(kept).unwrap();
    assert_eq!(lines.lines().count(), 4, "a head, and three scores: one is asked twice");
    let lines = lines.replace("house\",\"score\":-", "house\",\"score\":-20");
    std::fs::write(kept, lines).unwrap();
    let again = figures("webqa", &gold, &predictions, &keeping);
    near(&again["qa_fl"], 1.0 / 3.0);
    let other = score("webqa", &gold, &predictions, &["--bart", bart, "--bart-scores", kept]);
    assert!(stderr(&other).contains("other weights"), "{}", stderr(&other));
    let table = score("webqa", &gold, &predictions, &["--bart", bart]);
    assert!(stdout(&table).contains("QA-FL of 3"), "{}", stdout(&table));
    let wrong = score("webqa", &gold, &predictions, &["--bart", "no/bart"]);
    assert!(stderr(&wrong).contains("no/bart"), "{}", stderr(&wrong));
}

#[test]
fn vqa_and_text_vqa_are_scored() {
    let folder = tempfile::tempdir().unwrap();
    let ten = |three: &str| {
        let answers = (0..10).map(|at| if at < 3 { three } else { "none of it" });
        answers.map(|answer| json!({ "answer": answer })).collect::<Vec<_>>()
    };
    let gold = json!({"annotations": [
        {"question_id": 1, "answer_type": "other", "answers": ten("tin")},
        {"question_id": 2, "answer_type": "number", "answers": ten("2")},
        {"question_id": 3, "answer_type": "number", "answers": ten("3")},
    ]});
    let gold = put(folder.path(), "gold.json", gold.to_string());
    let text = "[{\"question_id\": 1, \"answer\": \"Tin!\"},\n{\"question_id\": 2, \"answer\": 2},\n\
                {\"answer\": \"x\"}, {\"question_id\": 4, \"answer\": \"x\"}]";
    let predictions = put(folder.path(), "answers.json", text);
    let found = figures("vqa", &gold, &predictions, &[]);
    near(&found["accuracy"], 30.0);
    near(&found["by"]["answer_type"]["other"]["accuracy"], 90.0);
    assert_eq!(found["by"]["answer_type"]["number"]["n"], 2);
    assert_eq!(found["problems"]["missing"], json!(["3"]));
    assert_eq!(found["problems"]["extra"], json!([{"line": 3, "id": "4"}]));
    let wrong: Vec<&Value> = found["problems"]["wrong"].as_array().unwrap().iter().collect();
    assert_eq!((&wrong[0]["line"], &wrong[1]["line"]), (&json!(3), &json!(2)));
    let same = json!({"data": [{"question_id": "q", "answers": vec!["yes"; 10]}]});
    let gold = put(folder.path(), "gold.json", same.to_string());
    let predictions =
        put(folder.path(), "answers.json", "[{\"question_id\": \"q\", \"answer\": \"Yes\"}]");
    near(&figures("textvqa", &gold, &predictions, &[])["accuracy"], 100.0);
    near(&figures("vqa", &gold, &predictions, &[])["accuracy"], 0.0);
}

#[test]
fn scoring_is_timed() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mmrag"));
    let timed = command.args(["bench", "score", "--questions", "50", "--repeats", "1"]).output();
    let timed = timed.expect("the command starts");
    let told: Value = serde_json::from_str(&stdout(&timed)).unwrap();
    assert_eq!(told["questions"], 50);
    assert!(told["seconds"].as_f64().unwrap() > 0.0);
}

/// The rows of official scores, as the whole files that they come from would be scored.
#[test]
fn official_rows_score_as_files() {
    let Some(cases) = std::env::var_os("MMRAG_BENCHMARK_CASES").map(PathBuf::from) else {
        println!("skipped: MMRAG_BENCHMARK_CASES names no folder");
        return;
    };
    let text = std::fs::read_to_string(cases.join("webqa_val_predictions_300.jsonl")).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let folder = tempfile::tempdir().unwrap();
    let question = |row: &Value| {
        let gold = json!({"Qcate": row["qcate"], "A": row["a"], "Keywords_A": row["kw"]});
        (row["guid"].as_str().unwrap().to_owned(), gold)
    };
    let gold: serde_json::Map<String, Value> = rows.iter().map(question).collect();
    let gold = put(folder.path(), "gold.json", Value::Object(gold).to_string());
    for system in ["vinvl_oracle", "x101_oracle", "x101_e2e"] {
        let answer = |row: &Value| {
            let prediction = json!({"sources": [], "answer": row["sys"][system]["pred"]});
            (row["guid"].as_str().unwrap().to_owned(), prediction)
        };
        let predictions: serde_json::Map<String, Value> = rows.iter().map(answer).collect();
        let predictions =
            put(folder.path(), "answers.json", Value::Object(predictions).to_string());
        let found = figures("webqa", &gold, &predictions, &[]);
        for (ours, theirs) in [("none", "none"), ("lookup", "lookup_ws")] {
            let official =
                rows.iter().map(|row| row["sys"][system]["acc"][theirs].as_f64().unwrap());
            near(&found["qa_acc"][ours], official.sum::<f64>() / rows.len() as f64);
        }
        println!("{system}: {}", found["qa_acc"]);
    }
}
