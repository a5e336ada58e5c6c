//! Which texts are replies, and that what is written is read back.

use mmrag_task::{FilterMode, GrammarError, PromptStyle, Reply, Stage};
use proptest::prelude::*;

use crate::world::case_of;

fn rank(think: Option<&str>, order: &[usize], answer: &str, citations: &[usize]) -> Reply {
    Reply::Rank {
        think: think.map(Into::into),
        order: order.to_vec(),
        answer: answer.into(),
        citations: citations.to_vec(),
    }
}

#[test]
fn rank_replies() {
    let stage = Stage::rank(PromptStyle::Standard, true);
    let check = |text: &str, expected: Result<Reply, GrammarError>| {
        assert_eq!(stage.parse(&case_of(3), text), expected, "{text}");
    };
    let reply = |answer, citations| Ok(rank(Some("a [2]"), &[2, 1, 3], answer, citations));
    let begun = "<think>a [2]</think><rank>[2,1,3]</rank>";
    check(&format!("{begun}<answer>Rome [2]</answer>"), reply("Rome", &[2]));
    check(&format!("{begun}<answer>A [2]; B [1] [2]</answer>"), reply("A; B", &[2, 1]));
    check(&format!("{begun}<answer>Rome [1, 3]</answer>"), reply("Rome", &[1, 3]));
    check(&format!("{begun}<answer>none</answer>"), reply("none", &[]));
    check(&format!("{begun}<answer>3 < 5 [1]</answer>"), reply("3 < 5", &[1]));
    check(
        "\n<think>\na [2]</think>\n<rank> [2] [1] [3] </rank> <answer> Rome\n[2]</answer>\n",
        reply("Rome", &[2]),
    );
    let missing = |tag| Err(GrammarError::MissingTag { tag });
    check("", missing("<think>"));
    check("Rome", missing("<think>"));
    check("<think>a</think><rank>[1,2,3]</rank><answer>Rome", missing("</answer>"));
    check("<rank>[1,2,3]</rank><answer>Rome</answer>", missing("<think>"));
    check(&format!("so {begun}<answer>Rome</answer>"), Err(GrammarError::StrayText));
    check(&format!("{begun}<answer>Rome</answer>."), Err(GrammarError::StrayText));
    check(&format!("{begun} and <answer>Rome</answer>"), Err(GrammarError::StrayText));
    let repeated = |tag| Err(GrammarError::RepeatedTag { tag });
    check(&format!("{begun}<answer>A</answer><answer>B</answer>"), repeated("<answer>"));
    check(&format!("<think></think>{begun}<answer>B</answer>"), repeated("<think>"));
    let misplaced = |tag| Err(GrammarError::MisplacedTag { tag });
    check("<rank>[1,2,3]</rank><think>a</think><answer>B</answer>", misplaced("<rank>"));
    check("</think>a<think><rank>[1,2,3]</rank><answer>B</answer>", misplaced("</think>"));
    check(&format!("{begun}<answer></answer>"), Err(GrammarError::EmptyAnswer));
    check(&format!("{begun}<answer> [2] </answer>"), Err(GrammarError::EmptyAnswer));
    check(&format!("{begun}<answer>[[1]2] x</answer>"), Err(GrammarError::NestedLabel));
    check(&format!("{begun}<answer></ans[1]wer></answer>"), Err(GrammarError::NestedLabel));
    check(&format!("{begun}<answer>A<|im_end|></answer>"), Err(GrammarError::SpecialToken));
    let unknown = |label| Err(GrammarError::UnknownLabel { label, shown: 3 });
    check(&format!("{begun}<answer>A [4]</answer>"), unknown(4));
    check(&format!("{begun}<answer>A [0]</answer>"), unknown(0));
    check("<think> </think><rank>[1,2,3]</rank><answer>A</answer>", Err(GrammarError::EmptyThink));
}

#[test]
fn orders() {
    let stage = Stage::rank(PromptStyle::Compact, false);
    let check = |order: &str, expected: Result<&[usize], GrammarError>| {
        let text = format!("<rank>{order}</rank><answer>A</answer>");
        let expected = expected.map(|order| rank(None, order, "A", &[]));
        assert_eq!(stage.parse(&case_of(3), &text), expected, "{order}");
    };
    check("[3][1][2]", Ok(&[3, 1, 2]));
    check("[3,1,2]", Ok(&[3, 1, 2]));
    check(" [3, 1, 2 ] ", Ok(&[3, 1, 2]));
    check("[3,1][2]", Ok(&[3, 1, 2]));
    check("[1,2]", Err(GrammarError::IncompleteOrder { found: 2, shown: 3 }));
    check("[1,2,2]", Err(GrammarError::RepeatedLabel { label: 2 }));
    check("[1,2,3,1]", Err(GrammarError::RepeatedLabel { label: 1 }));
    check("[1,2,4]", Err(GrammarError::UnknownLabel { label: 4, shown: 3 }));
    check("[1,2,99999999999999999999999]", Err(GrammarError::NoOrder));
    check("[1,2,-3]", Err(GrammarError::NoOrder));
    check("1,2,3", Err(GrammarError::NoOrder));
    check("[1,2,3] best first", Err(GrammarError::NoOrder));
    check("[1],[2],[3]", Err(GrammarError::NoOrder));
    check("", Err(GrammarError::NoOrder));
    check("[]", Err(GrammarError::NoOrder));
}

#[test]
fn verdicts() {
    let check = |mode, text: &str, expected: Result<(Option<&str>, bool), GrammarError>| {
        let stage = Stage::filter(PromptStyle::Standard, mode);
        let expected =
            expected.map(|(think, helps)| Reply::Filter { think: think.map(Into::into), helps });
        assert_eq!(stage.parse(&case_of(1), text), expected, "{text}");
    };
    check(FilterMode::Direct, "<answer>Yes</answer>", Ok((None, true)));
    check(FilterMode::Direct, " <answer> No </answer>\n", Ok((None, false)));
    check(FilterMode::Direct, "<answer>yes</answer>", Err(GrammarError::NoVerdict));
    check(FilterMode::Direct, "<answer>Yes No</answer>", Err(GrammarError::NoVerdict));
    check(FilterMode::Direct, "Yes", Err(GrammarError::MissingTag { tag: "<answer>" }));
    let think = "<think>so</think><answer>No</answer>";
    check(FilterMode::Think, think, Ok((Some("so"), false)));
    check(FilterMode::Direct, think, Err(GrammarError::MisplacedTag { tag: "<think>" }));
    let long = format!("<think>{}</think><answer>No</answer>", "é".repeat(1001));
    check(FilterMode::Think, &long, Err(GrammarError::LongThink { chars: 1001, limit: 1000 }));
}

#[test]
fn errors_read_after_failed_to() {
    let stage = Stage::rank(PromptStyle::Standard, true);
    let error = stage.parse(&case_of(2), "<think>a</think>").unwrap_err();
    assert_eq!(error.to_string(), "read the reply: <rank> is missing");
}

fn stages() -> impl Strategy<Value = Stage> {
    use FilterMode::{Direct, Think};
    use PromptStyle::{Compact, Standard};
    prop_oneof![
        Just(Stage::rank(Standard, true)),
        Just(Stage::rank(Compact, true)),
        Just(Stage::rank(Compact, false)),
        Just(Stage::filter(Standard, Direct)),
        Just(Stage::filter(Compact, Think)),
    ]
}

fn broken_replies() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        r"</?(think|rank|answer)>",
        r"<think>\PC{1,9}</think>",
        r"<rank>\[[12],[12]\]</rank>",
        r"<rank>\[[12]\]\[[12]\]</rank>",
        r"<answer>(\PC{0,9}|[\[\]<>/12a-c, ]{0,12}|Yes|No)</answer>",
        r"[\[\]<>|/0-9, ]{0,6}",
        any::<String>(),
    ];
    proptest::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_text_parses_or_not_and_what_parses_is_stable(
        stage in stages(),
        text in broken_replies(),
        shown in 0usize..3,
    ) {
        let case = case_of(shown);
        if let Ok(reply) = stage.parse(&case, &text) {
            let written = stage.render(&reply);
            prop_assert_eq!(stage.parse(&case, &written), Ok(reply));
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        order in (1usize..12).prop_flat_map(|n| Just((1..=n).collect::<Vec<_>>()).prop_shuffle()),
        citations in proptest::collection::vec(1usize..12, 0..4),
        think in r"[a-z\[\]<>0-9.;é]{1,20}",
        answer in r"[a-z;.é<>/-][a-z ;.é0-9<>/-]{0,20}[a-z;.é<>/-]",
        style in prop_oneof![Just(PromptStyle::Standard), Just(PromptStyle::Compact)],
        reasoning: bool,
    ) {
        let mut distinct: Vec<usize> = Vec::new();
        for label in citations {
            if label <= order.len() && !distinct.contains(&label) {
                distinct.push(label);
            }
        }
        let stage = Stage::rank(style, reasoning);
        let case = case_of(order.len());
        let think = reasoning.then_some(think);
        let reply = Reply::Rank { think, order, answer, citations: distinct };
        prop_assert_eq!(stage.parse(&case, &stage.render(&reply)), Ok(reply));
    }

    #[test]
    fn verdicts_are_read_back(think in "[a-z]{1,20}", helps: bool, reasoning: bool) {
        let mode = if reasoning { FilterMode::Think } else { FilterMode::Direct };
        let stage = Stage::filter(PromptStyle::Compact, mode);
        let reply = Reply::Filter { think: reasoning.then_some(think), helps };
        prop_assert_eq!(stage.parse(&case_of(1), &stage.render(&reply)), Ok(reply));
    }
}
