//! Runs as a user meets them: answered, gone on with, compared, judged, reported, asked again.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn mmrag(folder: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mmrag"))
        .current_dir(folder)
        // As a terminal with colours has it: stdout is none here.
        .env("COLORTERM", "truecolor")
        .args(arguments.split_whitespace())
        .output()
        .expect("the command starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the output is text")
}

#[track_caller]
fn done(folder: &Path, arguments: &str) -> String {
    let output = mmrag(folder, arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[track_caller]
fn refused(folder: &Path, arguments: &str, code: i32, words: &str) {
    let output = mmrag(folder, arguments);
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
    let told = text(&output.stderr) + &text(&output.stdout);
    assert!(told.contains(words), "{told}");
}

const RUN: &str = "eval run --dataset atlas --data atlas --split dev --questions 4";

#[test]
fn runs_are_compared_judged_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    done(at, "data make atlas --questions 20 --seed 3 --out atlas");
    done(at, &format!("{RUN} --out a"));
    done(at, &format!("{RUN} --threshold 0.3 --out b"));

    // Gone on with: nothing is answered again, and a torn line is.
    let log = at.join("a/explanations.jsonl");
    let whole = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, &whole[..whole.len() - 9]).unwrap();
    std::fs::remove_file(at.join("a/outcomes.jsonl")).unwrap();
    refused(at, "eval compare a b", 1, "not finished (3 questions are answered)");
    done(at, &format!("{RUN} --out a"));
    let ids = |text: &str| -> Vec<String> {
        let line = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        text.lines().map(|l| line(l)["question"]["id"].to_string()).collect()
    };
    assert_eq!(ids(&std::fs::read_to_string(&log).unwrap()), ids(&whole));
    refused(at, &format!("{RUN} --seed 7 --out a"), 1, "different answer");

    let told: Value =
        serde_json::from_str(&done(at, "eval compare a b --json --html page.html")).unwrap();
    assert_eq!(told["summary"]["questions"], 4);
    assert_eq!(told["summary"]["tests"][0]["how"], "mcnemar");
    let page = std::fs::read_to_string(at.join("page.html")).unwrap();
    assert!(page.contains("data:image/png;base64,") && page.contains("Data hash"));
    assert!(!page.contains("<script") && !page.contains("http:") && !page.contains("https:"));
    assert!(done(at, "eval compare a b").contains("answer_em"));

    done(at, "eval gate a b --min answer_em=0 --max-drop gold_kept=1");
    refused(at, "eval gate a --min distractors_dropped=0.5", 1, "FAIL");
    refused(at, "eval gate a c --max-drop answer_em=0.1", 2, "cannot judge");
    refused(at, "eval gate a --max-drop answer_em=0.1", 2, "takes two runs");
    refused(at, "eval gate a --min bleu=1", 2, "there are answer_em");
    refused(at, "eval gate a", 2, "no bound");

    // A run is not gone on with over other documents: here every picture has a byte more.
    let pictures = at.join("atlas/final_dataset_images");
    for picture in std::fs::read_dir(&pictures).unwrap() {
        let path = picture.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.push(0);
        std::fs::write(path, bytes).unwrap();
    }
    refused(at, &format!("{RUN} --out a"), 1, "answered over other documents");

    std::fs::rename(at.join("atlas"), at.join("moved")).unwrap();
    refused(at, "eval report a --out lost.html", 0, "documents are shown by title");
    done(at, "eval report a --out found.html --data moved");
    let found = std::fs::read_to_string(at.join("found.html")).unwrap();
    assert!(found.contains("data:image/png;base64,"));
}

#[test]
fn explanations_are_asked_about_and_worse_documents_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    done(at, "data make atlas --questions 20 --seed 3 --out atlas");
    let run = RUN.replace("--questions 4", "--questions 3");
    done(at, &format!("{run} --degrade ocr=0.1 --degrade jpeg=0.2 --out a"));
    let told: Value = serde_json::from_str(&done(at, "eval explain a --json")).unwrap();
    assert_eq!(told["explanations"], 3);
    let rows = std::fs::read_to_string(at.join("a/quality.jsonl")).unwrap();
    assert_eq!(rows.lines().count(), 3);
    std::fs::write(at.join("a/quality.jsonl"), &rows[..rows.len() - 5]).unwrap();
    done(at, "eval explain a");
    assert_eq!(std::fs::read_to_string(at.join("a/quality.jsonl")).unwrap(), rows);
    done(at, "eval report a");
    let page = std::fs::read_to_string(at.join("a/report.html")).unwrap();
    assert!(page.contains("Quality of explanations") && page.contains("ocr=0.1, jpeg=0.2"));

    let curve = run.replace("eval run", "eval curve") + " --kinds blur --strengths 1 --out c";
    done(at, &curve);
    let page = std::fs::read_to_string(at.join("c/report.html")).unwrap();
    assert!(page.contains("Worse documents"));
    let report = std::fs::read_to_string(at.join("c/report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["strengths"][0]["points"][1]["variant"], "blur-1");
    refused(at, &format!("{run} --degrade blurr=1 --out d"), 2, "there are blur, noise");
    refused(at, &curve.replace("--strengths 1", "--strengths 2"), 1, "at most 1");
}

#[test]
fn a_benchmark_is_judged_by_its_own_rules_too() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let put = |name: &str, text: &str| std::fs::write(at.join(name), text).unwrap();
    put(
        "documents.jsonl",
        "{\"id\": \"d1\", \"title\": \"The lighthouse\", \"text\": \"It is of granite.\"}\n",
    );
    put(
        "dev.jsonl",
        r#"{"id": "q1", "question": "Of what is it?", "candidates": ["d1"], "gold": ["d1"], "answers": ["granite"], "references": ["It is of granite."], "keywords": "granite", "type": "text"}
{"id": "q2", "question": "What colour is it?", "candidates": ["d1"], "gold": [], "answers": ["red"], "type": "Color"}
"#,
    );
    let bart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures/bart_small");
    let bart = bart.display();
    let run = "eval run --dataset jsonl --data . --split dev --json";
    let told: Value =
        serde_json::from_str(&done(at, &format!("{run} --out run --bart {bart}"))).unwrap();
    let figures = &told["summary"]["variants"]["run"];
    let figures = if figures.is_null() { &told["variants"]["run"] } else { figures };
    let outcomes = std::fs::read_to_string(at.join("run/outcomes.jsonl")).unwrap();
    let outcomes: Vec<Value> =
        outcomes.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // What has neither keywords nor references is not judged, and does not count.
    assert!(outcomes[1].get("benchmark").is_none(), "{}", outcomes[1]);
    let benchmark = &outcomes[0]["benchmark"];
    for metric in ["qa_acc", "qa_fl"] {
        assert!(benchmark[metric].is_f64(), "{benchmark}");
        assert_eq!(figures[metric]["value"], benchmark[metric]);
    }
    let product = benchmark["qa_acc"].as_f64().unwrap() * benchmark["qa_fl"].as_f64().unwrap();
    assert_eq!(figures["qa"]["value"], product);
    assert!(figures.get("vqa_accuracy").is_none(), "{figures}");
    assert!(at.join("run/fluency.jsonl").is_file());
    let page = std::fs::read_to_string(at.join("run/report.html")).unwrap();
    assert!(page.contains("QA-FL"));
    refused(at, "eval run --dataset atlas --data . --split dev --out x --bart y", 1, "webqa");
}

#[test]
fn replies_that_are_held_to_their_form_can_be_read_unless_they_are_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    done(at, "data make atlas --questions 60 --seed 3 --out atlas");
    let run =
        "eval run --dataset atlas --data atlas --split dev --questions 12 --degrade ocr=0.1 --json";
    let unparsable = |more: &str, out: &str| -> f64 {
        let told = done(at, &format!("{run} {more} --out {out}"));
        let told: Value = serde_json::from_str(&told).unwrap();
        told["variants"][out]["unparsable"]["value"].as_f64().unwrap()
    };
    // Misread letters break the form of what the small model writes.
    let free = unparsable("", "free");
    assert!(free > 0.0 && unparsable("--constrained", "held") < free);
    let lines = |out: &str| -> Vec<Value> {
        let text = std::fs::read_to_string(at.join(out).join("explanations.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    // A reply that is held to its form can lack its end, if it is cut off, and nothing else.
    for held in lines("held").iter().filter(|held| !held["fallback"].is_null()) {
        let why = held["fallback"]["why"].as_str().unwrap();
        assert!(why.ends_with("is missing"), "{why}");
        let reply = held["fallback"]["reply"].as_str().unwrap();
        assert!(!reply.contains("</answer>"), "{reply}");
    }
    // What could be read is what is written when it is held to its form.
    for (free, held) in lines("free").iter().zip(&lines("held")) {
        if free["fallback"].is_null() {
            assert_eq!(free["answer"], held["answer"]);
            assert_eq!(free["candidates"], held["candidates"]);
        }
    }
}

#[test]
fn it_is_told_where_pictures_helped() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    done(at, "data make atlas --questions 60 --seed 3 --out plain");
    done(at, "data make atlas --questions 60 --seed 3 --out atlas --regions");
    // But for the regions, the files are the same to the byte.
    for file in std::fs::read_dir(at.join("plain")).unwrap() {
        let path = file.unwrap().path();
        let same = at.join("atlas").join(path.file_name().unwrap());
        if path.is_file() {
            assert!(std::fs::read(&path).unwrap() == std::fs::read(same).unwrap(), "{path:?}");
        }
    }
    done(at, "eval run --dataset atlas --data plain --split dev --out a --threshold 0.5");
    refused(at, "eval attribution a", 1, "`mmrag data make atlas --regions`");
    let told = done(at, "eval attribution a --regions atlas/regions.jsonl --questions 3 --json");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told[0]["told"], &told[0]["questions"]), (&"answer".into(), &3.into()));
    for figure in ["hit", "mass", "uniform", "centre", "best", "hit_random", "mass_random"] {
        let value = told[0]["all"][figure]["figure"]["value"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&value), "{figure} {value}");
    }
    let rows = std::fs::read_to_string(at.join("a/attribution.jsonl")).unwrap();
    done(at, "eval report a");
    let page = std::fs::read_to_string(at.join("a/report.html")).unwrap();
    assert!(page.contains("Where pictures helped") && page.contains("<div class=\"heat\">"));

    // The question of the first row, asked from the command line: what is piped has no escapes.
    let row: Value = serde_json::from_str(rows.lines().next().unwrap()).unwrap();
    let qid = row["question"].as_str().unwrap();
    let ask = format!("ask --dataset atlas --data plain --qid {qid} --threshold 0.5 --attribute");
    let text = done(at, &ask);
    assert!(text.contains("looks at  [") && text.contains("██"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    let json = done(at, &format!("{ask} --json"));
    std::fs::write(at.join("answer.json"), &json).unwrap();
    let asked: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(asked["attribution"][0]["values"], row["found"][0]["attribution"]["values"]);
    done(at, "ask --replay answer.json");
    refused(
        at,
        "ask x --attribute --data plain --policy http://127.0.0.1:1/v1",
        1,
        "does not show the inside of its model",
    );
}
