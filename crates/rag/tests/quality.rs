//! Explanations asked about again, with an engine that reads what it is shown.

mod world;

use std::sync::Arc;

use mmrag_core::{Content, Document, Example};
use mmrag_rag::fakes::{ScriptedGenerate, prompt_text};
use mmrag_rag::quality::{Probed, QualityRow, measures, probe_all};
use mmrag_rag::{Explanation, Outcome, Pipeline, RankStage};

use world::{Parts, examples, parts, pipeline};

/// Answers with the mayor that the shown documents or the given reasoning name.
fn reader() -> ScriptedGenerate {
    ScriptedGenerate::new(|prompt| {
        let text = prompt_text(prompt);
        if !prompt.reply_prefix.is_empty() {
            let says = prompt.reply_prefix.contains("Voss");
            return format!(" {} </answer>", if says { "Ada Voss" } else { "Bo Ek" });
        }
        let shown = (1..=9).take_while(|n| text.contains(&format!("[{n}]"))).count();
        let label = |words: &str| {
            (1..=shown).find(|n| {
                let is_it = |line: &str| line.contains(words) && line.contains(&format!("[{n}]"));
                text.lines().any(is_it)
            })
        };
        let found = ["Ada Voss", "Cy Dorn"].into_iter().find_map(|who| Some((who, label(who)?)));
        let order = |first: usize| {
            let rest = (1..=shown).filter(|n| *n != first).map(|n| format!("[{n}]"));
            format!("[{first}]") + &rest.collect::<String>()
        };
        match found {
            Some((who, n)) => format!(
                "<think> The mayor is {who}[{n}]. It is sure. </think><rank> {} </rank>\
                 <answer> {who} [{n}]</answer>",
                order(n)
            ),
            None => {
                format!("<think> No. </think><rank> {} </rank><answer> none</answer>", order(1))
            }
        }
    })
}

/// The first question over texts alone, so that one document tells the answer.
fn question() -> Example {
    let mut example = examples().swap_remove(0);
    example.candidates.retain(|d| matches!(d.content, Content::Text(_)));
    example.gold.documents.truncate(1);
    example
}

fn row(example: &Example, edited: Option<&Example>) -> QualityRow {
    let (parts, reader): (Parts, _) = (parts(), reader());
    let shown = pipeline(&parts);
    let rank = RankStage { engine: &reader, max_prompt_tokens: 999, ..shown.rank };
    let shown = Pipeline { filter: None, rank, ..shown };
    let explanation: Explanation =
        shown.answer(&example.question, Some(&example.candidates)).expect("the engine answers");
    let outcome = Outcome::of(&explanation, example);
    let probed = Probed { example, edited, explanation: &explanation, outcome: &outcome };
    let mut rows = probe_all(&rank, &[probed], 1).expect("the engine answers");
    assert_eq!(probe_all(&rank, &[probed], 1).expect("the engine answers"), rows);
    rows.pop().expect("there is one row")
}

#[test]
fn an_answer_that_is_read_depends_on_what_it_cites() {
    let example = question();
    let mut edited = example.clone();
    edited.gold.answers = vec!["Cy Dorn".into()];
    for document in &mut edited.candidates {
        if let Content::Text(text) = &document.content {
            let content = Content::Text(text.replace("Ada Voss", "Cy Dorn"));
            *document = Arc::new(Document { content, ..(**document).clone() });
        }
    }
    let row = row(&example, Some(&edited));
    assert_eq!(row.cited, Some([1.0, 1.0, 1.0]), "{row:?}");
    let (without, others) = (row.without_cited.unwrap(), row.without_others.unwrap());
    assert_eq!((without.answer.as_str(), without.same, without.f1), ("none", false, 0.0));
    assert_eq!((others.answer.as_str(), others.same, others.f1), ("Ada Voss", true, 1.0));
    assert!(row.cited_only.unwrap().same);
    let followed = row.counterfactual.unwrap();
    assert!(followed.followed && !followed.kept, "{followed:?}");
    // The name stands in the first of two steps.
    assert_eq!(row.cut_think, [false, false, true, true]);
    assert_eq!(row.shuffled_think, Some(true));
    assert_eq!((row.steps, row.steps_naming, row.gold_named), (2, 1, Some(1.0)));
    assert_eq!((row.order_agrees, row.citation_auc), (Some(true), Some(1.0)));
}

#[test]
fn what_has_no_answer_is_not_asked_again() {
    let mut example = question();
    example.candidates.retain(|document| document.title != "Olm");
    let row = row(&example, None);
    assert!(row.without_cited.is_none() && row.cut_think.is_empty(), "{row:?}");
    assert_eq!(row.order_agrees, None);
}

#[test]
fn measures_are_means_over_the_rows_that_they_apply_to() {
    let example = question();
    let mut none = example.clone();
    none.candidates.retain(|document| document.title != "Olm");
    let rows = [row(&example, None), row(&none, None)];
    let measures = measures(&rows, 100, 1);
    let figure = |name: &str| measures.all.get(name).map(|m| (m.explanations, m.figure.value));
    assert_eq!(figure("citation_effect"), Some((1, 1.0)));
    assert_eq!(figure("comprehensiveness"), Some((1, 1.0)));
    assert_eq!(figure("same_with_think_0"), Some((1, 0.0)));
    assert_eq!(figure("counterfactual_followed"), None);
    assert_eq!(measures.by_documents.len(), 1);
}
