//! What each trick earns, and what holds for every reward.

use mmrag_task::{FilterMode, HackFlag, PromptStyle, Reply, Reward, Rubric, Stage};
use proptest::prelude::*;

use crate::world::{case_of, completion, gold};

const THINK: &str = "[1] one [2] names him [3] three [4] four [5] five";
const NDCG_SECOND: f64 = 0.630_929_753_571_457_4;

fn robust(text: &str, documents: &[&str], answers: &[&str]) -> Reward {
    let stage = Stage::rank(PromptStyle::Standard, true);
    stage.score(&case_of(5), &gold(documents, answers), &completion(text))
}

/// A reply about five documents with the order `[2,1,3,4,5]`.
fn reply(answer: &str) -> String {
    format!("<think>{THINK}</think><rank>[2,1,3,4,5]</rank><answer>{answer}</answer>")
}

#[track_caller]
fn check(text: &str, answers: &[&str], total: f64, flags: &[HackFlag]) {
    let reward = robust(text, &["d2"], answers);
    assert!((reward.total - total).abs() < 1e-9, "{text}: {reward:?}");
    assert_eq!(reward.flags, flags, "{text}");
}

#[test]
fn tricks_with_the_answer() {
    let man = &["Outside Man"];
    check(&reply("the Outside Man [2]"), man, 1.0, &[]);
    check(&reply("Outside [2]"), man, 0.5 + 0.5 * 0.5 * 0.67, &[]);
    check(&reply("Mask [2]"), man, 0.5, &[]);
    check(&reply("Outside Man or Mask [2]"), man, 0.5, &[HackFlag::Alternatives]);
    check(&reply("Outside Man; B; C; D [2]"), man, 0.5, &[HackFlag::Alternatives]);
    check(&reply("[2]"), man, 0.0, &[HackFlag::EmptyAnswer]);
    check(&reply("... [2]"), man, 0.5, &[HackFlag::EmptyAnswer]);
    let context = "the story of how the Outside Man came to town and what he did there in May";
    check(&reply(&format!("{context} [2]")), man, 0.5, &[HackFlag::WholeContext]);
    check(&reply("yes no [2]"), &["yes"], 0.5, &[HackFlag::YesAndNo]);
    check(&reply("1 2 3 [2]"), &["3"], 0.5, &[HackFlag::ManyNumbers]);
    let junk = "Outside \u{2588}\u{2588}\u{2588}\u{2588}\u{2588} [2]";
    check(&reply(junk), man, 0.5, &[HackFlag::JunkCharacters]);
    check(&reply("none"), man, 0.4, &[]);
    check(&reply("none [2]"), man, 0.5, &[HackFlag::CitedNone]);
}

#[test]
fn tricks_with_the_form() {
    let man = &["Outside Man"];
    let right = reply("Outside Man [2]");
    let two = format!("{right}<answer>Mask [2]</answer>");
    check(&two, man, 0.0, &[HackFlag::RepeatedTag]);
    let inside = right.replace("names him", "<answer>Outside Man</answer>");
    check(&inside, man, 0.0, &[HackFlag::RepeatedTag]);
    let swapped = "<answer>Outside Man [2]</answer><rank>[2,1,3,4,5]</rank><think>a</think>";
    check(swapped, man, 0.0, &[HackFlag::MisplacedTag]);
    check(&right.repeat(3), man, 0.0, &[HackFlag::RepeatedTag, HackFlag::TagFlood]);
    check(&right.replace("[2,1,3,4,5]", "[2,2,3,4,5]"), man, 0.0, &[HackFlag::BadLabel]);
    check(&right.replace("[2,1,3,4,5]", "[2,1,3,4,6]"), man, 0.0, &[HackFlag::BadLabel]);
    check(&right.replace("[2,1,3,4,5]", "[2]"), man, 0.0, &[]);
    check(&right.replace("Man [2]", "Man [7]"), man, 0.0, &[HackFlag::BadLabel]);
    check(&format!("{right}<|im_end|>"), man, 0.0, &[HackFlag::SpecialToken]);
    check("Outside Man", man, 0.0, &[]);
    check("", man, 0.0, &[]);
}

#[test]
fn tricks_with_citations_and_order() {
    let man = &["Outside Man"];
    let all = "Outside Man [1][2][3][4][5]";
    check(&reply(all), man, 0.9 + 0.1 / 3.0, &[HackFlag::CitesAll]);
    let uncited = [HackFlag::CitesNone, HackFlag::Unsupported];
    check(&reply("Outside Man"), man, 0.25 + 0.3 + 0.1, &uncited);
    check(&reply("Outside Man [3]"), man, 0.25 + 0.3 + 0.1, &[HackFlag::Unsupported]);
    let identity = reply("Outside Man [2]").replace("[2,1,3,4,5]", "[1,2,3,4,5]");
    let total = 0.5 + 0.3 * NDCG_SECOND + 0.07 + 0.1;
    check(&identity, man, total, &[HackFlag::ShownOrder]);
}

#[test]
fn tricks_with_the_reasoning() {
    let man = &["Outside Man"];
    let with_think = |think: &str| reply("Outside Man [2]").replace(THINK, think);
    check(&with_think("[2] names him"), man, 0.9 + 0.1 * (1.0 - 0.5 * 0.8), &[]);
    let made_up = format!("{THINK} [6] six");
    let total = 0.9 + 0.1 * (1.0 - 0.5 / 6.0);
    check(&with_think(&made_up), man, total, &[HackFlag::UnknownThinkLabel]);
    let copied = "Go through the documents, name each by its label, and say what it contributes";
    let total = 0.9 + 0.1 * 0.5;
    check(&with_think(copied), man, total, &[HackFlag::CopiedPrompt]);
    let constant = with_think(&"him ".repeat(40));
    let reward = robust(&constant, &["d2"], man);
    assert_eq!(reward.flags, [HackFlag::ConstantThink]);
    let repetition = reward.part("repetition").unwrap();
    assert!(repetition > 0.8, "{repetition}");
    assert!((reward.total - (0.95 - 0.1 * repetition)).abs() < 1e-9);
    check(&with_think(" "), man, 0.0, &[]);
}

#[test]
fn questions_without_an_answer() {
    let check = |answer: &str, documents: &[&str], answers: &[&str], total: f64| {
        let reward = robust(&reply(answer), documents, answers);
        assert!((reward.total - total).abs() < 1e-9, "{answer}: {reward:?}");
        assert_eq!((reward.part("rank"), reward.part("citations")), (None, None));
    };
    check("none", &[], &[], 0.6);
    check("None", &[], &[], 0.6);
    check("none [1]", &[], &[], 0.1);
    check("Mask [1]", &[], &[], 0.1);
    check("none", &["d9"], &["Mask"], 0.6);
    check("none [1]", &["d9"], &["Mask"], 0.1);
    check("Mask [1]", &["d9"], &["Mask"], 0.6);
    let mut stage = Stage::rank(PromptStyle::Standard, true);
    stage.rubric = Rubric::paper_like(stage.name);
    let reward = stage.score(&case_of(5), &gold(&["d9"], &["Mask"]), &completion(&reply("none")));
    assert_eq!(reward.part("answer"), Some(0.0));
}

#[test]
fn verdicts() {
    let stage = Stage::filter(PromptStyle::Compact, FilterMode::Direct);
    let check = |text: &str, documents: &[&str], total: f64| {
        let reward = stage.score(&case_of(1), &gold(documents, &["Mask"]), &completion(text));
        assert!((reward.total - total).abs() < 1e-9, "{text}: {reward:?}");
    };
    check("<answer>Yes</answer>", &["d1"], 1.0);
    check("<answer>No</answer>", &["d1"], 0.1);
    check("<answer>Yes</answer>", &["d2"], 0.1);
    check("<answer>No</answer>", &["d2"], 1.0);
    check("Yes", &["d1"], 0.0);
    check("<answer>Yes</answer><answer>No</answer>", &["d1"], 0.0);
}

#[test]
fn demo_pays_for_answer_order_citations_and_form() {
    let stage = Stage::rank(PromptStyle::Compact, true);
    let check = |text: &str, total: f64| {
        let reward = stage.score(&case_of(3), &gold(&["d2"], &["Mask"]), &completion(text));
        assert!((reward.total - total).abs() < 1e-9, "{text}: {reward:?}");
    };
    check("<think>[2] Mask.</think><rank>[2][1][3]</rank><answer>Mask [2]</answer>", 1.0);
    check("<think>x</think><rank>[2][1][3]</rank><answer>Robe [2]</answer>", 0.4);
    check(
        "<think>x</think><rank>[1][2][3]</rank><answer>Mask [1]</answer>",
        0.6 + 0.2 * NDCG_SECOND + 0.1,
    );
    check("<think>x</think><rank>[2][1]</rank><answer>Mask [2]</answer>", 0.0);
}

#[test]
fn length_is_penalised_softly_and_never_below_zero() {
    let mut stage = Stage::rank(PromptStyle::Standard, true);
    let mut long = completion(&reply("Outside Man [2]"));
    long.tokens = (0..960).collect();
    let gold = gold(&["d2"], &["Outside Man"]);
    let reward = stage.score(&case_of(5), &gold, &long);
    assert_eq!(reward.part("overlong"), Some(0.5));
    assert!((reward.total - 0.95).abs() < 1e-9);
    stage.rubric.weights.overlong = 9.0;
    assert_eq!(stage.score(&case_of(5), &gold, &long).total, 0.0);
    stage.rubric.weights.bonus = 10.0;
    let reward = stage.score(&case_of(5), &gold, &completion(&reply("Outside Man [2]")));
    assert!((reward.total - 11.0).abs() < 1e-9);
}

#[test]
fn parts_are_the_same_whether_a_reply_parses_or_not() {
    let names = |text: &str| {
        let reward = robust(text, &["d2"], &["Outside Man"]);
        reward.parts.iter().map(|part| (part.name, part.value.is_some())).collect::<Vec<_>>()
    };
    assert_eq!(names("nonsense"), names(&reply("Outside Man [2]")));
    let mut counters: Vec<&str> = HackFlag::ALL.iter().map(|flag| flag.name()).collect();
    counters.dedup();
    assert_eq!(counters.len(), HackFlag::ALL.len());
}

fn orders() -> impl Strategy<Value = Vec<usize>> {
    Just((1..=5).collect::<Vec<usize>>()).prop_shuffle()
}

proptest! {
    #[test]
    fn rewards_are_between_0_and_1_before_penalties(
        order in orders(),
        citations in proptest::sample::subsequence(vec![1, 2, 3, 4, 5], 0..=5),
        answer in r"(none|Mask|Robe|[a-zA-Z0-9;/é ]{0,30}[a-z])",
        gold_documents in proptest::sample::subsequence(vec!["d1", "d2", "d4", "d9"], 0..=3),
        answers in proptest::collection::vec("(Mask|Robe|7|yes)", 0..3),
        preset in 0usize..3,
    ) {
        let mut stage = Stage::rank(PromptStyle::Compact, true);
        stage.rubric = [Rubric::paper_like, Rubric::robust, Rubric::demo][preset](stage.name);
        let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
        let answer = answer.trim().to_string();
        let text = stage.render(&Reply::Rank { think: Some("x [1]".into()), order, answer, citations });
        let reward = stage.score(&case_of(5), &gold(&gold_documents, &answers), &completion(&text));
        let gains = reward.parts.iter().filter(|part| part.weight > 0.0);
        let sum: f64 = gains.filter_map(|part| Some(part.weight * part.value?)).sum();
        prop_assert!((0.0..=1.0 + 1e-9).contains(&sum), "{:?}", reward);
        let within = |value: f64| (0.0..=1.0 + 1e-9).contains(&value);
        prop_assert!(reward.parts.iter().filter_map(|part| part.value).all(within), "{:?}", reward);
        prop_assert!(reward.total <= sum + 1e-9 && reward.total >= 0.0);
    }

    #[test]
    fn a_better_order_never_earns_less(one in orders(), other in orders()) {
        let stage = Stage::rank(PromptStyle::Compact, false);
        let score = |order: &[usize]| {
            let (order, answer) = (order.to_vec(), "Mask".into());
            let reply = Reply::Rank { think: None, order, answer, citations: Vec::new() };
            let text = completion(&stage.render(&reply));
            stage.score(&case_of(5), &gold(&["d2", "d5"], &["Mask"]), &text).total
        };
        let ndcg = |order: &[usize]| mmrag_task::metrics::ndcg(order, &[2, 5]).unwrap();
        let (low, high) = if ndcg(&one) <= ndcg(&other) { (one, other) } else { (other, one) };
        prop_assert!(score(&low) <= score(&high) + 1e-12);
    }
}
