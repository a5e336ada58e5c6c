//! The replies that supervised training shows.

use mmrag_core::{DocumentId, Example, Gold, Step};
use mmrag_task::{Case, FilterMode, PromptStyle, Reply, Rubric, Stage};

use crate::world::{case_of, completion, gold, image};

fn example(case: &Case, gold: Gold, steps: &[(&str, &str)]) -> Example {
    let step =
        |(id, text): &(&str, &str)| Step { document: DocumentId::new(id), text: (*text).into() };
    Example {
        question: case.question.clone(),
        candidates: case.documents.clone(),
        gold,
        kind: String::new(),
        steps: steps.iter().map(step).collect(),
    }
}

#[test]
fn the_compact_demonstration_is_the_steps_alone() {
    let mut case = case_of(4);
    case.documents[2] = image("d3", "Kite [2]", "kite.png");
    let steps = [("d3", "Kite is [9] red."), ("d9", "Not shown."), ("d1", "Red is big. So it is.")];
    let example = example(&case, gold(&["d3", "d1", "d3"], &["big", "tall"]), &steps);
    let stage = Stage::rank(PromptStyle::Compact, true);
    let written = stage.render(&stage.demonstration(&case, &example));
    let expected = "<think> Kite (2)[3]: Kite is (9) red. Red is big[1]. So it is.</think>\
                    <rank>[3][1][2][4]</rank><answer> big; tall [3][1]</answer>";
    assert_eq!(written, expected);
}

#[test]
fn without_steps_the_demonstration_still_reasons() {
    let case = case_of(3);
    let example = example(&case, gold(&["d2"], &["big"]), &[]);
    let written = |stage: &Stage| stage.render(&stage.demonstration(&case, &example));
    assert_eq!(
        written(&Stage::rank(PromptStyle::Standard, true)),
        "<think>The answer needs [2]. Nothing is needed of [1] [3].</think>\
         <rank>[2,1,3]</rank><answer>big [2]</answer>"
    );
    assert_eq!(
        written(&Stage::rank(PromptStyle::Compact, false)),
        "<rank>[2][1][3]</rank><answer> big [2]</answer>"
    );
}

#[test]
fn what_cannot_be_answered_is_not() {
    let case = case_of(2);
    for gold in [gold(&[], &[]), gold(&["d9"], &["big"])] {
        let example = example(&case, gold, &[]);
        for stage in
            [Stage::rank(PromptStyle::Compact, true), Stage::rank(PromptStyle::Standard, true)]
        {
            let reply = stage.demonstration(&case, &example);
            assert!(reply.abstains());
            let written = stage.render(&reply);
            let answer = written.rsplit_once("<answer>").expect("it has an answer").1;
            assert_eq!(answer.trim_start(), "none</answer>", "{reply:?}");
        }
    }
}

#[test]
fn the_filter_says_yes_to_gold_alone() {
    let world = case_of(2);
    let example = example(&world, gold(&["d2"], &["big"]), &[("d2", "It is big.")]);
    let check = |mode, document: usize, expected: Reply| {
        let case = Case::pointwise(&world.question, &world.documents[document]);
        let stage = Stage::filter(PromptStyle::Compact, mode);
        assert_eq!(stage.demonstration(&case, &example), expected);
    };
    let reply = |think: Option<&str>, helps| Reply::Filter { think: think.map(Into::into), helps };
    check(FilterMode::Direct, 0, reply(None, false));
    check(FilterMode::Direct, 1, reply(None, true));
    check(FilterMode::Think, 0, reply(Some("It does not hold what the answer needs."), false));
    check(FilterMode::Think, 1, reply(Some("It is big[1]."), true));
}

#[test]
fn a_demonstration_earns_all_there_is() {
    let case = case_of(5);
    for gold in [gold(&["d4", "d2"], &["big"]), gold(&["d1"], &["a b", "c"])] {
        let example = example(&case, gold, &[]);
        for (style, preset) in [
            (PromptStyle::Standard, Rubric::robust as fn(_) -> _),
            (PromptStyle::Standard, Rubric::paper_like),
            (PromptStyle::Compact, Rubric::demo),
        ] {
            for mut stage in [
                Stage::rank(style, true),
                Stage::rank(style, false),
                Stage::filter(style, FilterMode::Direct),
                Stage::filter(style, FilterMode::Think),
            ] {
                stage.rubric = preset(stage.name);
                let written = stage.render(&stage.demonstration(&case, &example));
                let reward = stage.score(&case, &example.gold, &completion(&written));
                assert!((reward.total - 1.0).abs() < 1e-9, "{written}: {reward:?}");
            }
        }
    }
}
