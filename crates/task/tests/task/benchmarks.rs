//! The metrics of WebQA, VQA v2 and TextVQA: rows of our own, and rows scored by the official code
//! where the environment names them.

use std::collections::HashMap;
use std::path::PathBuf;

use mmrag_task::metrics::webqa::{
    Category, Lemmas, SourceCounts, approximate, normalize, ragvl, score, sources,
};
use mmrag_task::metrics::{english_lemmas, vqa};
use serde_json::Value;

fn close(actual: f64, expected: f64, tolerance: f64) -> bool {
    (actual - expected).abs() < tolerance
}

#[test]
fn webqa_answers_take_the_official_normal_form() {
    let table = HashMap::from([("were".into(), "be".into()), ("dogs".into(), "dog".into())]);
    let check = |text: &str, plain: &str, looked_up: &str| {
        assert_eq!(normalize(text, Lemmas::None), plain, "{text}");
        assert_eq!(normalize(text, Lemmas::Lookup(&table)), looked_up, "{text}");
    };
    check("The Dogs were 1,5 m tall.", "dogs were 15 m tall", "dog be 15 m tall");
    check("a", "a", "a");
    check(" The ", "the", "the");
    check("?", "?", "?");
    check("?!", "", "");
    check("the an a", "", "");
    check("thirty-one dogs", "thirtyone dogs", "thirtyone dog");
    check("thirty one hundred", "30 1 100", "30 1 100");
    check("to a point of 0012", "to point of 12", "to point of 12");
    check("v. 2.5. and ..7", "v 2.5 and .7", "v 2.5 and .7");
    check("\u{664}\u{662} x\u{b2} \u{b2}", "42 x\u{b2} \u{b2}", "42 x\u{b2} \u{b2}");
    check("", "", "");
}

#[test]
fn webqa_answers_score_by_their_category() {
    let table = HashMap::from([("spheres".into(), "sphere".into())]);
    let check = |name: &str, answer: &str, keywords: &str, plain: f64, looked_up: f64| {
        let category = Category::parse(name).unwrap();
        let accuracy = |lemmas| score(category, answer, keywords, lemmas).accuracy;
        assert!(close(accuracy(Lemmas::None), plain, 1e-6), "{answer}");
        assert!(close(accuracy(Lemmas::Lookup(&table)), looked_up, 1e-6), "{answer}");
    };
    check("YesNo", "No, no and no!", "no", 0.999_995, 0.999_995);
    check("YesNo", "Not at all", "no", 0.0, 0.0);
    check("color", "teal, aqua or plain teal", "teal", 0.666_662, 0.666_662);
    check("color", "mauve", "mauve", 0.0, 0.0);
    check("shape", "two spheres", "sphere", 0.0, 0.999_995);
    check("number", "seven of 9", "7", 0.666_662, 0.666_662);
    check("number", "9 9", "nine nine nine", 0.799_995, 0.799_995);
    check("number", "7.5", "7", 0.0, 0.0);
    check("choose", "the left lamp and the right one", "left lamp", 1.0, 1.0);
    check("Others", "tin", "tin tin", 0.5, 0.5);
    check("text", "", "tin", 0.0, 0.0);
    assert_eq!(Category::parse("colour"), None);
}

#[test]
fn webqa_answers_score_by_the_other_rules() {
    let check = |name: &str, answer: &str, reference: &str, near: f64, full: f64| {
        let category = Category::parse(name).unwrap();
        assert!(close(approximate(category, answer, reference, Lemmas::None), near, 1e-9));
        assert!(close(ragvl(category, answer, reference, Lemmas::None), full, 1e-9), "{answer}");
    };
    check("YesNo", "No, not one", "No, none of them is.", 1.0, 1.0);
    check("YesNo", "No, none", "None of them.", 0.0, 0.4);
    check("color", "red and teal", "The door is red.", 2.0 / 3.0, 2.0 / 3.0);
    check("shape", "two blobs", "Blobs, two.", 0.0, 1.0);
    check("number", "blobs", "Blobs.", 0.0, 0.0);
    check("number", "3 or 4", "There are three.", 2.0 / 3.0, 2.0 / 3.0);
    check("Others", "tin foil", "It is made of tin.", 0.2, 0.2);
    let one = approximate(Category::Shape, "spheres", "a sphere", Lemmas::english());
    assert!(close(one, 1.0, 1e-9));
}

#[test]
fn webqa_sources_score_by_question_and_as_one_set() {
    let check = |predicted: &[&str], gold: &[&str], f1: f64| {
        assert!(close(sources(predicted, gold).f1, f1, 1e-6), "{predicted:?}");
    };
    check(&["3", "3", "5"], &["5"], 0.666_658);
    check(&["5"], &["5"], 0.999_985);
    check(&[], &["5"], 0.0);
    check(&["5"], &[], 0.0);
    let mut counts = SourceCounts::of(&["3", "3", "5"], &["5"]);
    counts.add(SourceCounts::of(&["7"], &["8", "7", "9"]));
    assert_eq!(counts, SourceCounts { shared: 2, predicted: 3, gold: 4 });
    assert!(close(counts.micro_f1(), 4.0 / 7.0, 1e-12));
    assert_eq!(SourceCounts::default().micro_f1(), 0.0);
}

#[test]
fn vqa_answers_score_by_how_many_people_gave_them() {
    let check = |predicted: &str, answer: &str, plain: f64, text: f64| {
        let mut people = [answer; 10];
        people[8] = "zebra";
        people[9] = "zebra";
        assert!(close(vqa::accuracy(predicted, &people), plain, 1e-9), "{predicted}");
        assert!(close(vqa::text_accuracy(predicted, &people), text, 1e-9), "{predicted}");
    };
    check("Zebra.", "lion", 0.6, 0.6);
    check("the three lions", "3 Lions", 1.0, 1.0);
    check("its 2,500!", "its 2500", 1.0, 1.0);
    check("it wouldnt've", "it wouldn't've", 1.0, 1.0);
    check("shed", "she'd", 0.0, 0.0);
    check("y'all'dve", "yall'd've", 1.0, 1.0);
    check("ann's car", "ann 's car", 0.0, 1.0);
    check("a.b. 1.5.", "ab 1.5", 1.0, 1.0);
    assert_eq!(vqa::accuracy("lion", &["Lion"; 10]), 0.0);
    assert_eq!(vqa::text_accuracy("lion", &["Lion"; 10]), 1.0);
    assert_eq!(vqa::accuracy("lion", &[] as &[&str]), 0.0);
}

/// The rows of a file of official scores; nothing if the environment names no folder of them.
fn official_rows(name: &str) -> Option<Vec<Value>> {
    let folder = std::env::var_os("MMRAG_BENCHMARK_CASES")?;
    let lines = std::fs::read_to_string(PathBuf::from(folder).join(name));
    let lines = lines.expect("the folder holds the file");
    let rows = serde_json::Deserializer::from_str(&lines).into_iter();
    Some(rows.map(|row| row.expect("a row")).collect())
}

fn text(value: &Value) -> &str {
    value.as_str().expect("this is a text")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("this is a number")
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().expect("this is a list").iter().map(text).collect()
}

fn check_category(row: &Value) -> Category {
    Category::parse(text(&row["qcate"])).expect("the category is an official one")
}

#[test]
fn webqa_cases_are_the_official_ones() {
    let mut n_scores = 0;
    let Some(rows) = official_rows("webqa_cases.jsonl") else {
        println!("skipped: MMRAG_BENCHMARK_CASES names no folder");
        return;
    };
    println!("{} rows", rows.len());
    for row in rows {
        if row["kind"] == "normalize" {
            assert_eq!(normalize(text(&row["text"]), Lemmas::None), text(&row["none"]), "{row}");
            continue;
        }
        let (answer, keywords) = (text(&row["pred"]), text(&row["keywords"]));
        let scored = score(check_category(&row), answer, keywords, Lemmas::None);
        let expected = &row["none"];
        for (actual, key) in [
            (scored.accuracy, "acc"),
            (scored.f1, "f1"),
            (scored.recall, "re"),
            (scored.precision, "pr"),
        ] {
            assert!(close(actual, number(&expected[key]), 1e-9), "{key} of {row}: {actual}");
        }
        n_scores += 1;
    }
    println!("{n_scores} of them scores");
}

#[test]
fn webqa_predictions_score_as_officially() {
    let Some(rows) = official_rows("webqa_val_predictions_300.jsonl") else {
        println!("skipped: MMRAG_BENCHMARK_CASES names no folder");
        return;
    };
    check_part_of_table(&official_rows("webqa_lemma_lookup.json").expect("the folder is there"));
    let mut n_predictions = 0;
    for row in &rows {
        let (category, keywords) = (check_category(row), text(&row["kw"]));
        assert_eq!(normalize(keywords, Lemmas::None), text(&row["kw_norm"]["none"]), "{row}");
        for (_, system) in row["sys"].as_object().expect("systems have names") {
            let answer = text(&system["pred"]);
            assert_eq!(normalize(answer, Lemmas::None), text(&system["norm"]["none"]), "{row}");
            for (lemmas, key) in [(Lemmas::None, "none"), (Lemmas::english(), "lookup_ws")] {
                let actual = score(category, answer, keywords, lemmas).accuracy;
                let expected = number(&system["acc"][key]);
                assert!(close(actual, expected, 1e-6), "{key} of {system}: {actual}");
            }
            n_predictions += 1;
        }
    }
    println!("{n_predictions} predictions, each without lemmas and with English ones");
}

/// The English table is that of the official scores, as far as those show it.
fn check_part_of_table(part: &[Value]) {
    let part = part[0].as_object().expect("the table is an object");
    for (word, lemma) in part {
        assert_eq!(english_lemmas().get(word).map(String::as_str), lemma.as_str(), "{word}");
    }
}

#[test]
fn webqa_sources_score_as_officially() {
    let Some(rows) = official_rows("webqa_retrieval_cases_200.jsonl") else {
        println!("skipped: MMRAG_BENCHMARK_CASES names no folder");
        return;
    };
    println!("{} rows", rows.len());
    for row in rows {
        let scored = sources(&texts(&row["pred"]), &texts(&row["gold"]));
        for (actual, key) in [(scored.precision, "p"), (scored.recall, "r"), (scored.f1, "f1")] {
            assert!(close(actual, number(&row[key]), 1e-6), "{key} of {row}: {actual}");
        }
    }
}

#[test]
fn vqa_cases_are_the_official_ones() {
    let Some(rows) = official_rows("vqa_cases.jsonl") else {
        println!("skipped: MMRAG_BENCHMARK_CASES names no folder");
        return;
    };
    println!("{} rows", rows.len());
    for row in rows {
        let (predicted, answers) = (text(&row["pred"]), texts(&row["answers"]));
        let actual = [vqa::accuracy(predicted, &answers), vqa::text_accuracy(predicted, &answers)];
        for (actual, key) in actual.into_iter().zip(["vqa_acc", "textvqa_acc"]) {
            assert!(close(100.0 * actual, number(&row[key]), 1e-6), "{key} of {row}: {actual}");
        }
    }
}
