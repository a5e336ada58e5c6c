//! The whole pipeline on scripted engines.

mod world;

use mmrag_core::{Example, Sampling};
use mmrag_rag::evaluation::Outcome;
use mmrag_rag::explanation::{Candidate, DroppedAt, Explanation, FallbackKind, Verdict};
use mmrag_rag::fakes::{ScriptedChoose, ScriptedGenerate, prompt_text};
use mmrag_rag::{Ask, FilterStage, Index, LabelOrder, OrderBy, Pipeline};
use mmrag_task::{FilterMode, PromptStyle, Stage};

use world::{documents, examples, parts, pipeline, question};

fn ask(example: &Example) -> Ask<'_> {
    Ask { question: &example.question, candidates: Some(&example.candidates) }
}

fn asks(examples: &[Example]) -> Vec<Ask<'_>> {
    examples.iter().map(ask).collect()
}

fn explained<'a>(pipeline: &Pipeline<'a>, examples: &'a [Example]) -> Vec<Explanation> {
    let answers = pipeline.answer_batch(&asks(examples));
    answers
        .into_iter()
        .map(|answer| answer.expect("the engines answer").without_timings())
        .collect()
}

/// Compares with a file of the test data; `UPDATE_GOLDEN=1` rewrites it.
fn check_golden(name: &str, found: &str) {
    let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, found).expect("the test data can be written");
    }
    let expected = std::fs::read_to_string(&path).expect("the test data is there");
    assert_eq!(found, expected, "UPDATE_GOLDEN=1 rewrites {name}");
}

#[test]
fn explanations_and_outcomes_of_four_questions() {
    let (examples, parts) = (examples(), parts());
    let explanations = explained(&pipeline(&parts), &examples);
    let text = serde_json::to_string_pretty(&explanations).unwrap();
    check_golden("explanations.json", &(text.clone() + "\n"));
    let read: Vec<Explanation> = serde_json::from_str(&text).unwrap();
    assert_eq!(read, explanations);
    let outcomes: Vec<Outcome> =
        explanations.iter().zip(&examples).map(|(found, gold)| Outcome::of(found, gold)).collect();
    check_golden("outcomes.json", &(serde_json::to_string_pretty(&outcomes).unwrap() + "\n"));
}

#[test]
fn one_by_one_gives_what_the_batch_gives() {
    let (examples, parts) = (examples(), parts());
    let pipeline = pipeline(&parts);
    let together = explained(&pipeline, &examples);
    for (example, expected) in examples.iter().zip(&together) {
        let alone = pipeline.answer(&example.question, Some(&example.candidates)).unwrap();
        assert_eq!(alone.without_timings(), *expected);
    }
    // A temperature changes how often the engine is called and not what it is asked.
    let warm = Sampling { temperature: 1.0, ..Sampling::greedy(64) };
    let mut warm_pipeline = pipeline;
    warm_pipeline.rank.sampling = &warm;
    assert_eq!(explained(&warm_pipeline, &examples), together);
}

#[test]
fn a_batch_is_one_call_of_each_engine() {
    let (mut examples, parts) = (examples(), parts());
    for example in &mut examples {
        example.candidates.retain(|document| document.id.as_str() != "i-torn");
    }
    explained(&pipeline(&parts), &examples);
    assert_eq!(parts.chooser.calls(), [20]);
    assert_eq!(parts.writer.calls(), [4]);
}

#[test]
fn every_candidate_has_a_reason() {
    let (examples, parts) = (examples(), parts());
    for explanation in explained(&pipeline(&parts), &examples) {
        assert_eq!(explanation.candidates.len(), 6);
        for candidate in &explanation.candidates {
            assert_eq!(candidate.dropped_at.is_some(), candidate.rank.is_none());
            assert_eq!(candidate.dropped_at.is_some(), candidate.dropped_why.is_some());
            let kept = candidate.filter.as_ref().map(|filter| filter.verdict);
            match candidate.dropped_at {
                Some(DroppedAt::Read) => assert_eq!(kept, None),
                Some(DroppedAt::Filter) => assert_eq!(kept, Some(Verdict::Drop)),
                _ => assert_eq!(kept, Some(Verdict::Keep)),
            }
        }
    }
}

#[test]
fn a_long_prompt_loses_whole_documents_from_the_lowest_score_up() {
    let (examples, parts) = (examples(), parts());
    let mut pipeline = pipeline(&parts);
    let tokens_of_two = 45;
    pipeline.rank.max_prompt_tokens = tokens_of_two;
    pipeline.filter = pipeline.filter.map(|filter| FilterStage { threshold: 0.0, ..filter });
    let explanation =
        pipeline.answer(&examples[0].question, Some(&examples[0].candidates)).unwrap();
    let p = |c: &&Candidate| c.filter.as_ref().and_then(|filter| filter.p).unwrap();
    let (dropped, left): (Vec<_>, Vec<_>) = explanation
        .candidates
        .iter()
        .filter(|c| matches!(c.dropped_at, None | Some(DroppedAt::Prompt)))
        .partition(|c| c.dropped_at.is_some());
    assert!(!dropped.is_empty() && !left.is_empty(), "{dropped:?} {left:?}");
    let lowest_left = left.iter().map(p).fold(f64::INFINITY, f64::min);
    for candidate in &dropped {
        assert!(p(candidate) <= lowest_left, "{candidate:?} goes before what helps less");
        let why = candidate.dropped_why.as_deref().unwrap();
        assert!(why.contains("tokens and may have 45, so whole documents leave it"), "{why}");
        assert!(why.contains("P(helps) 0."), "{why}");
    }
    assert_eq!(explanation.answer, "Ada Voss");
    pipeline.rank.max_prompt_tokens = 1;
    let explanation =
        pipeline.answer(&examples[0].question, Some(&examples[0].candidates)).unwrap();
    assert_eq!(explanation.fallback.unwrap().kind, FallbackKind::NothingKept);
    assert!(explanation.abstained && explanation.answer == "none");
}

/// The pictures of what is shown are all whole: each is counted in full or its document is gone.
#[test]
fn no_prompt_is_cut_within_a_picture() {
    let (examples, mut parts) = (examples(), parts());
    parts.writer = ScriptedGenerate::new(|prompt| {
        let text = prompt_text(prompt);
        assert_eq!(text.contains("<picture>"), text.contains("Flag of Olm"), "{text}");
        "<answer>cheese".to_owned()
    });
    let mut candidates = examples[0].candidates.clone();
    candidates.retain(|document| document.id.as_str() != "i-torn");
    let asked = question("q", "What colour is the flag of Olm?");
    let mut shown = vec![];
    for most in 1..120 {
        let mut pipeline = pipeline(&parts);
        pipeline.filter =
            pipeline.filter.map(|filter| FilterStage { threshold: 0.0, k_max: 9, ..filter });
        pipeline.rank.max_prompt_tokens = most;
        let explanation = pipeline.answer(&asked, Some(&candidates)).unwrap();
        let kept: Vec<&Candidate> =
            explanation.candidates.iter().filter(|c| c.dropped_at.is_none()).collect();
        // The flag has by far the highest score: it is the last to go.
        assert_eq!(kept.is_empty(), kept.iter().all(|c| c.document.as_str() != "i-flag"));
        shown.push(kept.len());
    }
    assert!(shown.is_sorted() && shown[0] == 0 && shown[118] == 5, "{shown:?}");
}

#[test]
fn labels_can_follow_retrieval_and_the_order_the_filter() {
    let (examples, mut parts) = (examples(), parts());
    parts.chooser = ScriptedChoose::fallible(|prompt, choice| {
        let yes = prompt_text(prompt).len() as f64 / 1000.0;
        Ok(if choice == "Yes" { yes } else { 1.0 - yes })
    });
    let mut pipeline = pipeline(&parts);
    pipeline.filter = pipeline.filter.map(|f| FilterStage { threshold: 0.0, k_max: 9, ..f });
    pipeline.rank.max_prompt_tokens = 900;
    let mut candidates = examples[0].candidates.clone();
    candidates.retain(|document| document.id.as_str() != "i-torn");
    let ranked = |pipeline: &Pipeline<'_>| -> Vec<(usize, usize, f64)> {
        let explanation = pipeline.answer(&examples[0].question, Some(&candidates)).unwrap();
        let told = |c: &Candidate| {
            let rank = c.rank.as_ref()?;
            Some((rank.label, rank.position, c.filter.as_ref()?.p?))
        };
        explanation.candidates.iter().filter_map(told).collect()
    };
    let is_by_score = |rows: &[(usize, usize, f64)]| {
        let mut rows = rows.to_vec();
        rows.sort_by_key(|(_, position, _)| *position);
        rows.is_sorted_by(|a, b| a.2 >= b.2)
    };
    let drawn = ranked(&pipeline);
    assert!(!drawn.is_sorted_by_key(|(label, ..)| *label), "{drawn:?}");
    assert!(!is_by_score(&drawn), "{drawn:?}");
    pipeline.rank.labels = LabelOrder::Retrieved;
    assert!(ranked(&pipeline).is_sorted_by_key(|(label, ..)| *label));
    pipeline.rank.order = OrderBy::Filter;
    assert!(is_by_score(&ranked(&pipeline)));
}

#[test]
fn without_a_filter_a_long_prompt_loses_the_last_hits_first() {
    let (examples, parts) = (examples(), parts());
    let mut candidates = examples[0].candidates.clone();
    candidates.retain(|document| document.id.as_str() != "i-torn");
    let mut pipeline = Pipeline { filter: None, ..pipeline(&parts) };
    pipeline.rank.max_prompt_tokens = 45;
    let explanation = pipeline.answer(&examples[0].question, Some(&candidates)).unwrap();
    let is_dropped = |c: &Candidate| c.dropped_at == Some(DroppedAt::Prompt);
    let first = explanation.candidates.iter().position(is_dropped).unwrap();
    assert!(first > 0 && explanation.candidates[first..].iter().all(is_dropped));
    let why = explanation.candidates[first].dropped_why.as_deref().unwrap();
    assert!(why.contains("the last that was found"), "{why}");
}

#[test]
fn without_a_filter_the_ranker_drops_only_what_it_cannot_read() {
    let (examples, parts) = (examples(), parts());
    let pipeline = Pipeline { filter: None, ..pipeline(&parts) };
    let explanation =
        pipeline.answer(&examples[1].question, Some(&examples[1].candidates)).unwrap();
    assert_eq!(explanation.answer, "grey");
    let dropped: Vec<&str> = explanation
        .candidates
        .iter()
        .filter(|c| c.dropped_at == Some(DroppedAt::Read))
        .map(|c| c.document.as_str())
        .collect();
    assert_eq!(dropped, ["i-torn"]);
    assert!(explanation.candidates.iter().all(|c| c.filter.is_none()));
}

#[test]
fn a_collection_is_searched_for_questions_without_documents() {
    let parts = parts();
    let asked = question("open", "Who is the mayor of Olm?");
    let error = pipeline(&parts).answer(&asked, None).unwrap_err().to_string();
    assert!(error.starts_with("find documents for question open"), "{error}");
    let index = Index::in_memory(documents()).unwrap();
    let pipeline = Pipeline { retriever: Some(&index), ..pipeline(&parts) };
    let explanation = pipeline.answer(&asked, None).unwrap();
    assert_eq!(explanation.answer, "Ada Voss");
    assert_eq!(explanation.candidates.len(), 5);
    assert_eq!(explanation.index_version.len(), 16);
}

#[test]
fn a_filter_that_reasons_writes_first_and_its_verdict_is_read_after_it() {
    let (examples, mut parts) = (examples(), parts());
    parts.filter = Stage::filter(PromptStyle::Compact, FilterMode::Think);
    let asked = &asks(&examples)[..1];
    // Nothing writes: an error of each question.
    let error = pipeline(&parts).answer_batch(asked).pop().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "filter the candidates for question q1");

    let writer = ScriptedGenerate::new(|prompt| {
        if prompt_text(prompt).contains("Olm") {
            "<think>It tells of Olm.</think><answer>Yes</answer>".to_owned()
        } else {
            "no form at all".to_owned()
        }
    });
    let chooser = ScriptedChoose::yes(|prompt| {
        assert_eq!(prompt.reply_prefix, "<think>It tells of Olm.</think><answer>");
        0.8
    });
    let mut pipeline = pipeline(&parts);
    pipeline.filter = pipeline.filter.map(|filter| FilterStage {
        engine: &chooser,
        writer: Some(&writer),
        ..filter
    });
    let explanation = pipeline.answer_batch(asked).pop().unwrap().unwrap();
    let said: Vec<_> = explanation.candidates.iter().filter_map(|c| c.filter.as_ref()).collect();
    assert!(said.iter().any(|filtering| filtering.p == Some(0.8)));
    for filtering in said {
        let reply = filtering.reply.as_deref().unwrap();
        assert_eq!(filtering.p.is_some(), reply.starts_with("<think>"), "{reply}");
        assert!(filtering.p.is_some() || filtering.verdict == Verdict::Keep, "{filtering:?}");
    }
}

#[test]
fn a_question_that_fails_does_not_disturb_the_others() {
    let (mut examples, parts) = (examples(), parts());
    let broken = mmrag_core::ImageSource::Bytes(world::BROKEN.into());
    examples[1].question.images.push(broken);
    let answers = pipeline(&parts).answer_batch(&asks(&examples));
    let error = answers[1].as_ref().unwrap_err().to_string();
    assert_eq!(error, "filter the candidates for question q2");
    assert_eq!(answers[0].as_ref().unwrap().answer, "Ada Voss");
    assert!(answers[2].as_ref().unwrap().abstained);
}
