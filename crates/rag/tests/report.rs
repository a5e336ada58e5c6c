//! The report of a small comparison: figures by hand, stable bytes, a page that stands alone.

mod world;

use mmrag_core::{Content, Document, Example, Modality, QuestionId};
use mmrag_rag::RagError;
use mmrag_rag::evaluation::{BenchmarkScores, Metric, Outcome};
use mmrag_rag::report::{
    Curve, Report, ReportExample, ReportInput, Run, Variant, render_html, write_report,
};
use mmrag_task::metrics::SetScore;

use world::{examples, parts, pipeline};

fn outcome(i: usize, is_right: bool, confidence: f64) -> Outcome {
    let set = |f1: f64| Some(SetScore { precision: f1, recall: 1.0, f1 });
    let is_picture = i.is_multiple_of(2);
    Outcome {
        question: QuestionId::new(format!("q{i}")),
        text: format!("Question {i} <b>?"),
        answer: if is_right { "red" } else { "<i>blue</i>" }.into(),
        gold: vec!["red".into()],
        gold_documents: vec![mmrag_core::DocumentId::new("d")],
        kind: if is_picture { "ImageQ" } else { "TextQ" }.into(),
        modalities: [if is_picture { Modality::Image } else { Modality::Text }].into(),
        picture_dependent: is_picture,
        answerable: true,
        abstained: false,
        unparsable: false,
        confidence: Some(confidence),
        answer_em: f64::from(is_right),
        answer_f1: f64::from(is_right),
        retrieved: set(0.1),
        filtered: set(0.5),
        ranked: set(0.5),
        cited: set(1.0),
        ndcg: Some(1.0),
        gold_kept: Some(true),
        distractors_dropped: Some(0.75),
        benchmark: BenchmarkScores::default(),
    }
}

fn variant(name: &str, is_right: fn(usize) -> bool) -> Variant {
    let outcomes = |shift: usize| (0..40).map(|i| outcome(i, is_right(i + shift), 0.85)).collect();
    let run = |seed| Run { seed, outcomes: outcomes(seed as usize) };
    Variant { name: name.into(), about: format!("the {name} one"), runs: vec![run(1), run(2)] }
}

fn input() -> ReportInput {
    ReportInput {
        title: "A <small> comparison".into(),
        facts: vec![("Data".into(), "<b>atlas</b>".into())],
        variants: vec![variant("base", |i| i % 4 == 0), variant("two_stage", |i| i % 4 != 0)],
        comparisons: vec![("two_stage".into(), "base".into())],
        curves: vec![Curve {
            run: "rank".into(),
            part: "reward".into(),
            points: (0..20).map(|i| [f64::from(i), f64::from(i).sqrt()]).collect(),
        }],
        settings: serde_json::json!({ "lr": 0.001 }),
        resamples: 400,
        seed: 5,
        ..ReportInput::default()
    }
}

#[test]
fn figures_by_hand() {
    let report = Report::of(input()).unwrap();
    let em = report.figure("two_stage", Metric::AnswerEm).unwrap();
    assert_eq!(em.value, 0.75);
    assert!(em.low < 0.75 && em.high > 0.75 && em.low > 0.5, "{em:?}");
    assert_eq!(report.figure("base", Metric::Ndcg).unwrap().low, 1.0);
    let test = &report.summary.tests[0];
    assert_eq!((test.metric, test.diff), ("answer_em", 0.5));
    assert!(test.low > 0.0 && test.p < 0.01 && test.p_holm >= test.p, "{test:?}");
    // Equal scores everywhere: no difference, p is 1.
    let same = report.summary.tests.iter().find(|test| test.metric == "ndcg").unwrap();
    assert_eq!((same.diff, same.p, same.p_holm), (0.0, 1.0, 1.0));
    assert_eq!(report.by_kind.get("ImageQ").unwrap().questions, 20);
    let filtered = &report.funnel.get("base").unwrap()[1];
    assert_eq!((filtered.step, filtered.recall, filtered.precision), ("filtered", 1.0, Some(0.5)));
    assert!((report.reliability.get("two_stage").unwrap().ece - 0.1).abs() < 1e-9);
}

#[test]
fn json_has_the_promised_keys_and_is_the_same_each_time() {
    let text = Report::of(input()).unwrap().to_json().unwrap();
    assert_eq!(text, Report::of(input()).unwrap().to_json().unwrap());
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["summary"]["questions"], 40);
    for name in ["base", "two_stage"] {
        let figures = &json["summary"]["variants"][name];
        for metric in Metric::CORE {
            for key in ["value", "low", "high"] {
                assert!(figures[metric.name()][key].is_f64(), "{name} {metric:?} {key}");
            }
        }
    }
    let row = json["summary"]["tests"][0].as_object().unwrap();
    let keys: Vec<&str> = row.keys().map(String::as_str).collect();
    let expected = [
        "metric",
        "a",
        "b",
        "diff",
        "low",
        "high",
        "p",
        "p_holm",
        "how",
        "detectable",
        "wins",
        "losses",
    ];
    assert_eq!(keys, expected);
    assert!(json.get("timings").is_none());
}

#[test]
fn what_cannot_be_compared_is_named() {
    let mut unknown = input();
    unknown.comparisons.push(("two_stage".into(), "three_stage".into()));
    let error = Report::of(unknown).unwrap_err();
    let expected = "compare variants: three_stage is not among base, two_stage";
    assert_eq!(error.to_string(), expected);
    let mut many = input();
    many.variants[0].runs = vec![many.variants[0].runs[0].clone(); 17];
    let error = Report::of(many).unwrap_err().to_string();
    assert_eq!(error, "compare variants: base has 17 seeds, more than 16");
    let mut other = input();
    other.variants[1].runs[1].outcomes.swap(0, 1);
    let error = Report::of(other).unwrap_err();
    assert!(matches!(error, RagError::DifferentQuestions { seed: 2, .. }), "{error}");
}

fn shown() -> Vec<ReportExample> {
    let (mut examples, parts) = (examples(), parts());
    let hostile = "<img src=x onerror=\"alert(1)\">";
    examples[0].question.text.push_str(hostile);
    let document = Document { title: hostile.into(), ..(*examples[0].candidates[0]).clone() };
    examples[0].candidates[0] = document.into();
    let explain = |example: &Example| {
        pipeline(&parts)
            .answer(&example.question, Some(&example.candidates))
            .expect("the engines answer")
    };
    let show = |example: Example| ReportExample::of("two_stage", &explain(&example), &example);
    examples.into_iter().map(show).collect()
}

#[test]
fn the_page_stands_alone_and_escapes_what_is_from_outside() {
    let html = render_html(&Report::of(input()).unwrap(), &shown());
    assert!(!html.contains("<img src=x") && html.contains("&lt;img src=x onerror=&quot;"));
    assert!(html.contains("A &lt;small&gt; comparison"));
    assert!(html.contains("data:image/png;base64,iVBORw0KGgo"));
    for loaded in ["http://", "https://", "<script", "url(", "@import", "<link"] {
        assert!(!html.contains(loaded), "{loaded}");
    }
    for tag in ["section", "table", "figure", "svg", "details", "div", "ul", "article", "tr"] {
        let opened =
            html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn files_are_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let report = Report::of(input()).unwrap();
    write_report(&path, &report, &shown()).unwrap();
    let json = std::fs::read_to_string(path.join("report.json")).unwrap();
    assert_eq!(json, report.to_json().unwrap());
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 2);
    if let Some(keep) = std::env::var_os("MMRAG_KEEP_REPORT") {
        write_report(keep.as_ref(), &report, &shown()).unwrap();
    }
    assert!(matches!(examples()[0].candidates[0].content, Content::Text(_)));
}

#[test]
fn a_comparison_of_two_single_runs_lists_what_got_worse_and_links_to_it() {
    let mut input = input();
    for variant in &mut input.variants {
        variant.runs.truncate(1);
    }
    let report = Report::of(input).unwrap();
    let em = &report.summary.tests[0];
    assert_eq!((em.how, em.wins, em.losses), ("mcnemar", 30, 10));
    // 2 Σ_{i ≤ 10} C(40, i) / 2^40.
    assert!((em.p - 0.002_221_4).abs() < 1e-6, "{}", em.p);
    assert!(em.detectable > 0.2 && em.detectable < 0.6, "{}", em.detectable);
    let worst = &report.changes[0];
    assert!(worst.is_regression() && worst.em == -1.0, "{worst:?}");
    assert_eq!(report.changes.iter().filter(|change| change.is_regression()).count(), 10);
    let pictures = report.slice_tests.iter().find(|row| row.slice == "image").unwrap();
    assert_eq!((pictures.questions, pictures.slicing), (20, "modality"));
    assert!(pictures.test.p_holm >= pictures.test.p);
    let html = render_html(&report, &[]);
    assert!(html.contains("10 questions got worse, 30 better"), "{html}");
    assert!(!html.contains("<i>blue") && html.contains("&lt;i&gt;blue"));
    assert!(html.contains("&lt;b&gt;atlas"));
}

#[test]
fn filters_are_rules_of_style_and_hold_no_text_from_outside() {
    let mut shown = shown();
    shown[0].example.kind = "</style><script>alert(1)</script>".into();
    let html = render_html(&Report::of(input()).unwrap(), &shown);
    assert!(html.contains("main:has(#fo0:checked) .example:not(.o0){display:none}"));
    assert!(!html.contains("<script") && html.contains("&lt;/style&gt;&lt;script&gt;"));
    // A label in the reasoning leads to the card of its document.
    let (_, link) = html.split_once("<li>").unwrap().1.split_once("href=\"#").unwrap();
    let target = link.split('"').next().unwrap();
    assert!(html.contains(&format!("id=\"{target}\"")), "{target}");
}
