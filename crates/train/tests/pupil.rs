//! The project's own model, tiny and random, as a learner: lessons, then reinforcement of an
//! adapter; both resume to the byte.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

mod questions;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use mmrag_core::{Example, Gold, Sampling};
use mmrag_model::{ALL_TARGETS, Adapter, LoraSpec, Policy, write_small_tokenizer};
use mmrag_task::{Case, FilterMode, PromptStyle, Stage, StageName};
use mmrag_train::{
    Cadence, Estimator, Event, GrpoSettings, Learner, Lesson, Progress, Pupil, ReplyGroup, Run,
    RunFolder, SftSettings, View, train_grpo, train_sft,
};
use questions::examples;

fn stage() -> Stage {
    Stage::filter(PromptStyle::Compact, FilterMode::Direct)
}

/// A folder of a tiny model without weights, with a tokenizer of its own.
fn folder(dir: &Path) {
    let texts = ["Does it help? What is it? Something. <answer>Yes</answer> No".to_owned(); 1];
    let size = write_small_tokenizer(dir, texts.into_iter(), 340).unwrap();
    let config = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../model/tests/fixtures/qwen3_vl_tiny/config.json");
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(config).unwrap()).unwrap();
    let tokenizer = std::fs::read(dir.join("tokenizer.json")).unwrap();
    let tokenizer: serde_json::Value = serde_json::from_slice(&tokenizer).unwrap();
    let id = |text: &str| {
        let added = tokenizer["added_tokens"].as_array().unwrap();
        added.iter().find(|token| token["content"] == text).unwrap()["id"].clone()
    };
    config["text_config"]["vocab_size"] = size.into();
    config["image_token_id"] = id("<|image_pad|>");
    config["video_token_id"] = id("<|video_pad|>");
    config["vision_start_token_id"] = id("<|vision_start|>");
    config["vision_end_token_id"] = id("<|vision_end|>");
    config["eos_token_id"] = id("<|im_end|>");
    config["text_config"]["eos_token_id"] = id("<|im_end|>");
    config["vision_config"]["patch_size"] = 8.into();
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
}

/// Stops a run after a step.
struct StopAfter<'a>(usize, &'a AtomicBool);

impl Progress for StopAfter<'_> {
    fn tell(&self, event: &Event<'_>) {
        if matches!(event, Event::Stepped { step, .. } if *step == self.0) {
            self.1.store(true, Ordering::Relaxed);
        }
    }
}

/// Lessons of the reply's form: each prompt is answered by Yes and by No, so that the policy stays
/// undecided.
fn lessons() -> Vec<Lesson> {
    let lesson = |example: Example| {
        let case = Case::pointwise(&example.question, &example.candidates[1]);
        ["Yes", "No"].map(|verdict| Lesson {
            prompt: stage().prompt(&case),
            reply: format!("<answer>{verdict}</answer>"),
        })
    };
    examples(4).into_iter().flat_map(lesson).collect()
}

fn learn_form(policy: &Policy, place: &Path, stop_after: usize) {
    let mut settings = SftSettings::from_scratch();
    settings.steps = Some(24);
    settings.lessons_per_step = 8;
    settings.schedule.learning_rate = 1e-2;
    settings.cadence = Cadence { evaluate: 0, checkpoint: 9, samples: 0 };
    let folder = RunFolder::open(place, &settings).unwrap();
    let stop = AtomicBool::new(false);
    let progress = StopAfter(stop_after, &stop);
    let mut run = Run { folder: &folder, evaluate: None, progress: &progress, stop: &stop };
    train_sft(&Pupil::full(policy), &lessons(), &settings, &mut run).unwrap();
}

/// Every file under the checkpoint of a step.
fn checkpoint(place: &Path, step: usize) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![place.join(format!("checkpoints/step-{step:06}"))];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(place).unwrap().to_string_lossy().into_owned();
                files.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    files
}

fn assert_same(whole: &BTreeMap<String, Vec<u8>>, parts: &BTreeMap<String, Vec<u8>>) {
    assert!(whole.len() > 2 && whole.keys().eq(parts.keys()), "{:?}", whole.keys());
    for (name, content) in whole {
        assert!(*content == parts[name], "{name} differs");
    }
}

/// The probability of Yes, of Yes and No, in the mean over cases.
fn p_yes(pupil: &Pupil<'_>) -> f64 {
    let cases: Vec<_> = examples(4)
        .iter()
        .map(|e| stage().prompt(&Case::pointwise(&e.question, &e.candidates[1])))
        .collect();
    let of_reply = |prompt, text: &str| {
        let reply = pupil.encode_reply(text).unwrap();
        let group = ReplyGroup { prompt: pupil.encode(prompt).unwrap(), replies: vec![reply] };
        let scores = pupil.scores(&[group], 1.0, View::Current).unwrap();
        f64::from(scores.logprobs_t.sum_all().unwrap().to_scalar::<f32>().unwrap()).exp()
    };
    let share = |prompt| {
        let yes = of_reply(prompt, "<answer>Yes</answer>");
        yes / (yes + of_reply(prompt, "<answer>No</answer>"))
    };
    cases.iter().map(share).sum::<f64>() / cases.len() as f64
}

fn reinforce(policy: &Policy, place: &Path, estimator: Estimator, stop_after: usize) -> f64 {
    let mut settings = GrpoSettings::demo(StageName::Filter);
    settings.estimator = estimator;
    settings.cases.positive_weight = 1.0;
    settings.steps = Some(12);
    settings.prompts_per_step = 4;
    settings.cases.hard_negatives = 0;
    settings.schedule.learning_rate = 5e-3;
    settings.loss.beta = 0.01;
    settings.cadence = Cadence { evaluate: 0, checkpoint: 4, samples: 6 };
    let spec = LoraSpec { r: 4, alpha: 8.0, targets: ALL_TARGETS.map(str::to_owned).to_vec() };
    let adapter = Adapter::new(policy.vlm(), &spec, settings.seed).unwrap();
    let pupil = Pupil::adapter(policy, &adapter);
    let folder = RunFolder::open(place, &settings).unwrap();
    let stop = AtomicBool::new(false);
    let progress = StopAfter(stop_after, &stop);
    let mut run = Run { folder: &folder, evaluate: None, progress: &progress, stop: &stop };
    let examples: Vec<Example> = examples(4)
        .into_iter()
        .map(|e| Example { gold: Gold { answers: vec!["it".into()], ..e.gold.clone() }, ..e })
        .collect();
    train_grpo(&pupil, &stage(), &examples, &settings, &mut run).unwrap();
    p_yes(&pupil)
}

#[test]
fn a_real_model_learns_from_lessons_and_from_rewards_and_resumes() {
    let model = tempfile::tempdir().unwrap();
    folder(model.path());
    let random = || Policy::random_scaled(model.path(), 5, 0.1).unwrap();
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let policy = random();
    learn_form(&policy, whole.path(), usize::MAX);
    learn_form(&random(), parts.path(), 10);
    learn_form(&random(), parts.path(), usize::MAX);
    assert_same(&checkpoint(whole.path(), 24), &checkpoint(parts.path(), 24));
    let text = std::fs::read_to_string(whole.path().join("metrics.jsonl")).unwrap();
    let losses: Vec<f64> = text
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["loss"].as_f64().unwrap())
        .collect();
    assert!(losses[23] < 0.3 && losses[0] > 3.0, "{losses:?}");

    let before = p_yes(&Pupil::full(&policy));
    for estimator in [Estimator::Sampled, Estimator::Exact] {
        let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let after = reinforce(&policy, whole.path(), estimator, usize::MAX);
        assert!(after > before.max(0.8), "{estimator:?}: {before} became {after}");
        reinforce(&policy, parts.path(), estimator, 5);
        reinforce(&policy, parts.path(), estimator, usize::MAX);
        assert_same(&checkpoint(whole.path(), 12), &checkpoint(parts.path(), 12));
    }
}

/// With a chat template that opens `<think>` by itself the replies are read and written as with any
/// other: the tag stands once, whoever wrote it, and a stage without reasoning closes it.
#[test]
fn a_template_may_open_the_reasoning() {
    let place = tempfile::tempdir().unwrap();
    folder(place.path());
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n\
                    {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n\
                    {% endif %}";
    std::fs::write(place.path().join("chat_template.jinja"), template).unwrap();
    let policy = Policy::random(place.path(), 3).unwrap();
    let pupil = Pupil::full(&policy);
    let example = &examples(1)[0];
    let case = Case::listwise(&example.question, &example.candidates, 0);
    let turn = |prompt: &mmrag_core::Prompt, reply: &str| {
        let encoded = pupil.encode(prompt).unwrap();
        let tokens = [encoded.tokens.clone(), pupil.encode_reply(reply).unwrap()].concat();
        let text = policy.decode(&tokens);
        (encoded, text.split_once("assistant\n").unwrap().1.to_owned())
    };
    let drawn = |encoded| {
        let drawn = pupil.sample(&[encoded], &Sampling::greedy(4)).unwrap();
        drawn[0][0].clone()
    };
    let reasoned = Stage::rank(PromptStyle::Compact, true);
    let reply = reasoned.render(&reasoned.demonstration(&case, example));
    let (encoded, text) = turn(&reasoned.prompt(&case), &reply);
    assert_eq!(text, format!("<think>\n{}", reply.strip_prefix("<think>").unwrap()));
    let completion = drawn(encoded);
    let written = policy.decode(&completion.tokens);
    assert_eq!(completion.text, format!("<think>{written}"));
    // So the grammar reads what follows the template's tag as it reads any reply.
    let rest = reply.strip_prefix("<think>").unwrap();
    assert!(reasoned.parse(&case, rest).is_err() && reasoned.parse(&case, &reply).is_ok());

    let direct = Stage::rank(PromptStyle::Compact, false);
    let reply = direct.render(&direct.demonstration(&case, example));
    let (encoded, text) = turn(&direct.prompt(&case), &reply);
    assert_eq!(text, format!("<think>\n\n</think>\n\n{reply}"));
    let completion = drawn(encoded);
    assert_eq!(completion.text, policy.decode(&completion.tokens));

    let case = Case::pointwise(&example.question, &example.candidates[0]);
    let (_, text) = turn(&stage().choice_prompt(&case), "Yes");
    assert_eq!(text, "<think>\n\n</think>\n\n<answer>Yes");
    // A verdict that is read after reasoning: the prompt repeats it, the tag does not.
    let thinking = Stage::filter(PromptStyle::Compact, FilterMode::Think);
    let mut begun = thinking.prompt(&case);
    begun.reply_prefix = "<think>It does.</think><answer>".into();
    assert_eq!(turn(&begun, "Yes").1, "<think>\nIt does.</think><answer>Yes");
}
