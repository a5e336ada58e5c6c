//! Three optimizer steps on one group of replies, in the shared-prefix form, against the numbers
//! of TRL, PEFT and transformers, which repeat the prompt for every reply.
//!
//! The batch is the one in the project; with `MMRAG_FIXTURES` set, that of that folder.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use candle_core::{Tensor, Var};
use mmrag_core::{Completion, EngineError, Prompt, Sampling};
use mmrag_model::{
    Adapter, Forward, Grad, Packed, Picture, Precision, Segment, Vlm, VlmConfig, Weights,
    image_positions, text_positions,
};
use mmrag_ops::{TokenScores, logprob_head};
use mmrag_task::StageName;
use serde_json::Value;

use super::*;
use crate::advantages::{AdvantageRule, Aggregation, Scale, advantages};
use crate::progress::{Run, Silent};
use crate::run_folder::RunFolder;
use crate::schedule::{Decay, Schedule};
use crate::session::Plan;

fn fixtures() -> PathBuf {
    match std::env::var_os("MMRAG_FIXTURES") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures"),
    }
}

/// A model with an adapter that knows one prompt, given as token ids. It keeps the
/// log-probabilities it was asked for.
struct OnePrompt {
    model: Vlm,
    adapter: Adapter,
    picture: Picture,
    prompt: Segment,
    next: u32,
    asked: Mutex<Vec<Vec<f32>>>,
}

impl Learner for OnePrompt {
    type Encoded = ();

    fn encode(&self, _: &Prompt) -> Result<(), EngineError> {
        Ok(())
    }

    fn prompt_tokens(&self, (): &()) -> usize {
        self.prompt.tokens.len()
    }

    fn encode_reply(&self, _: &str) -> Result<Vec<u32>, EngineError> {
        Err(EngineError::new("there is no tokenizer"))
    }

    fn sample(&self, _: &[()], _: &Sampling) -> Result<Vec<Vec<Completion>>, EngineError> {
        Err(EngineError::new("the replies are given"))
    }

    fn scores(
        &self,
        groups: &[ReplyGroup<()>],
        temperature: f64,
        view: View,
    ) -> Result<TokenScores, EngineError> {
        let pass = match view {
            View::Learning => {
                Forward { grad: Grad::Adapter, ..Forward::untracked(Some(&self.adapter)) }
            }
            View::Current => Forward::untracked(Some(&self.adapter)),
            View::Reference => Forward::untracked(None),
        };
        let mut pack = Packed::default();
        let (mut rows, mut targets) = (vec![], vec![]);
        let prompt = pack.push(&self.prompt, vec![]);
        for reply in groups.iter().flat_map(|group| &group.replies) {
            rows.push(prompt.end as u32 - 1);
            let fed = &reply[..reply.len() - 1];
            if !fed.is_empty() {
                let segment = Segment {
                    tokens: fed.to_vec(),
                    positions: text_positions(self.next, fed.len()).collect(),
                    ..Segment::default()
                };
                rows.extend(pack.push(&segment, vec![prompt.clone()]).map(|row| row as u32));
            }
            targets.extend_from_slice(reply);
        }
        let features = self.model.see(&pass, &[&self.picture]).unwrap();
        let hidden_td = self.model.hidden(&pass, &pack, &[&features[0]], None).unwrap();
        let rows = Tensor::new(rows, hidden_td.device()).unwrap();
        let drawn_td = hidden_td.index_select(&rows, 0).unwrap();
        let scores =
            logprob_head(&drawn_td, &self.model.head(&pass), &targets, temperature, 64).unwrap();
        self.asked.lock().unwrap().push(scores.logprobs_t.detach().to_vec1().unwrap());
        Ok(scores)
    }

    fn vars(&self) -> Vec<(String, Var)> {
        self.adapter.vars()
    }

    fn save(&self, folder: &Path) -> Result<(), EngineError> {
        self.adapter.save(folder, "tiny").map_err(|e| EngineError::caused_by("save", e))
    }

    fn restore(&self, _: &Path) -> Result<(), EngineError> {
        Err(EngineError::new("there is nothing to resume"))
    }
}

/// The fixture's numbers, and which of them were read.
struct Numbers {
    weights: Weights,
    read: RefCell<BTreeSet<String>>,
}

impl Numbers {
    fn tensor(&self, name: &str) -> Tensor {
        self.read.borrow_mut().insert(name.into());
        self.weights.f32(name, self.weights.shape(name).unwrap()).unwrap()
    }

    fn rows(&self, name: &str) -> Vec<Vec<f32>> {
        self.tensor(name).to_vec2().unwrap()
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        self.read.borrow_mut().insert(name.into());
        self.weights.i64(name).unwrap().into_iter().map(|id| id as u32).collect()
    }

    /// The values of a padded tensor where the mask is 1.
    fn masked(&self, name: &str) -> Vec<f32> {
        let (values, mask) = (self.rows(name).concat(), self.rows("completion_mask").concat());
        values.into_iter().zip(mask).filter(|(_, m)| *m > 0.0).map(|(v, _)| v).collect()
    }
}

fn one_prompt(family: &str, numbers: &Numbers) -> OnePrompt {
    let folder = fixtures().join(family);
    let config = VlmConfig::load(&folder).unwrap();
    let model = Vlm::load(config, &Weights::open(&folder).unwrap(), Precision::F32).unwrap();
    let adapter_folder = fixtures().join(format!("{family}_update/adapter_init"));
    let adapter = Adapter::load(adapter_folder, &model).unwrap();
    let cases = Weights::open_file(folder.join("cases.safetensors")).unwrap();
    let pixels = "one_image.pixel_values";
    let values = cases.f32(pixels, cases.shape(pixels).unwrap()).unwrap();
    let grid = cases.i64("one_image.image_grid_thw").unwrap();
    let grid = [grid[0] as usize, grid[1] as usize, grid[2] as usize];
    let picture = Picture { values: values.flatten_all().unwrap().to_vec1().unwrap(), grid };
    let mut prompt = Segment { tokens: numbers.ids("prompt_ids"), ..Segment::default() };
    let merge = model.config().vision.spatial_merge_size;
    let merged = [grid[0], grid[1] / merge, grid[2] / merge];
    let (mut next, mut at) = (0, 0);
    while at < prompt.tokens.len() {
        if prompt.tokens[at] == model.config().tokens.image {
            prompt.positions.extend(image_positions(next, merged));
            let count = prompt.positions.len() - at;
            prompt.image_rows.extend((0..count).map(|row| (at + row, 0, row)));
            next = prompt.positions.iter().flatten().max().unwrap() + 1;
        } else {
            prompt.positions.extend(text_positions(next, 1));
            next += 1;
        }
        at = prompt.positions.len();
    }
    OnePrompt { model, adapter, picture, prompt, next, asked: Mutex::default() }
}

fn update_settings(told: &Value) -> GrpoSettings {
    let number = |value: &Value| value.as_f64().unwrap();
    let mut settings = GrpoSettings::paper_like(StageName::Rank);
    settings.iterations = 3;
    settings.tokens_per_pass = 10_000;
    settings.loss.kind = serde_json::from_value(told["loss_type"].clone()).unwrap();
    settings.loss.beta = number(&told["beta"]);
    settings.loss.epsilon_low = number(&told["epsilon_low"]);
    settings.loss.epsilon_high = number(&told["epsilon_high"]);
    let optimizer = &told["optimizer"];
    settings.optimizer.beta1 = number(&optimizer["betas"][0]);
    settings.optimizer.beta2 = number(&optimizer["betas"][1]);
    settings.optimizer.eps = number(&optimizer["eps"]);
    settings.optimizer.weight_decay = number(&optimizer["weight_decay"]);
    settings.optimizer.clip = Some(number(&told["max_grad_norm"]));
    settings.schedule = Schedule {
        learning_rate: number(&optimizer["lr"]),
        warmup: 0.0,
        hold: 0.0,
        decay: Decay::Constant,
        floor: 0.0,
    };
    settings
}

/// The fixture's group, as it would have been drawn.
fn given_replies(numbers: &Numbers) -> Replies<()> {
    let mask = numbers.rows("completion_mask");
    let width = mask[0].len();
    let ids = numbers.ids("completion_ids");
    let lengths: Vec<usize> = mask.iter().map(|m| m.iter().sum::<f32>() as usize).collect();
    let replies: Vec<Vec<u32>> =
        lengths.iter().enumerate().map(|(i, &n)| ids[i * width..i * width + n].to_vec()).collect();
    let rewards: Vec<f32> = numbers.tensor("rewards").to_vec1().unwrap();
    let rewards: Vec<_> = rewards.iter().map(|&r| vec![Some(f64::from(r))]).collect();
    let rule = AdvantageRule {
        scale: Scale::Group,
        aggregation: Aggregation::SumThenNormalize,
        std_floor: 0.0,
    };
    let advantages = advantages(&rewards, &[1.0], rewards.len(), &rule);
    let told: Vec<f32> = numbers.tensor("advantages").to_vec1().unwrap();
    assert_near("advantages", &advantages.iter().map(|&a| a as f32).collect::<Vec<_>>(), &told);
    let tokens = lengths.iter().sum();
    Replies {
        sampled: vec![Vec::new(); replies.len()],
        totals: Totals { rows: replies.len(), tokens, max_completion_tokens: width },
        groups: vec![ReplyGroup { prompt: (), replies }],
        advantages,
    }
}

fn assert_near(what: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let furthest = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(furthest <= 1e-4, "{what}: differs by {furthest:.2e}");
}

fn norm(tensor: &Tensor) -> f64 {
    f64::from(tensor.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap()).sqrt()
}

/// PEFT's name in the batch of a variable's gradient.
fn gradient_name(var: &str) -> String {
    let var = var.replace(".lora_A.weight", ".lora_A.default.weight");
    let var = var.replace(".lora_B.weight", ".lora_B.default.weight");
    format!("grad_clipped.base_model.model.{var}")
}

/// Compares each gradient the fixture holds; says how many there were.
fn check_gradients(
    learner: &OnePrompt,
    gradients: &GradStore,
    whole: f64,
    numbers: &Numbers,
) -> usize {
    let mut compared = 0;
    for (name, var) in learner.vars() {
        let gradient = gradients.get(&var).unwrap_or_else(|| panic!("{name} is not trained"));
        let theirs = gradient_name(&name);
        if !numbers.weights.contains(&theirs) {
            continue;
        }
        let theirs = numbers.tensor(&theirs);
        let ours = (gradient * (1.0 / (whole + 1e-6)).min(1.0)).unwrap();
        let difference = norm(&(ours - &theirs).unwrap()) / norm(&theirs).max(1e-12);
        assert!(difference <= 1e-3, "gradient of {name}: relative difference {difference:.2e}");
        compared += 1;
    }
    compared
}

/// Compares how far every variable has come.
fn check_adapter(learner: &OnePrompt, folder: &Path) {
    let load = |name: &str| Adapter::load(folder.join(name), &learner.model).unwrap().vars();
    let (before, after) = (load("adapter_init"), load("adapter_after_3_steps"));
    let (mut difference, mut change, mut far, mut count) = (0.0, 0.0, 0, 0);
    for (((name, ours), (_, before)), (_, after)) in learner.vars().iter().zip(&before).zip(&after)
    {
        let off = (ours.as_tensor() - after.as_tensor()).unwrap();
        let moved = norm(&(after.as_tensor() - before.as_tensor()).unwrap());
        assert!(moved > 0.0, "{name} did not move in the fixture");
        difference += norm(&off).powi(2);
        change += moved.powi(2);
        let off: Vec<f32> = off.flatten_all().unwrap().to_vec1().unwrap();
        far += off.iter().filter(|d| d.abs() > 1e-4).count();
        count += off.len();
    }
    let relative = (difference / change).sqrt();
    assert!(relative <= 1e-3, "the change of the adapter is off by {relative:.2e}");
    assert!(far * 1000 <= count, "{far} of {count} elements are off");
}

fn check_update(family: &str) {
    let folder = fixtures().join(format!("{family}_update"));
    let told: Value =
        serde_json::from_slice(&std::fs::read(folder.join("update.json")).unwrap()).unwrap();
    let weights = Weights::open_file(folder.join("batch.safetensors")).unwrap();
    let numbers = Numbers { weights, read: RefCell::default() };
    let learner = one_prompt(family, &numbers);
    let settings = update_settings(&told);
    let place = tempfile::tempdir().unwrap();
    let run_folder = RunFolder::open(place.path(), &settings).unwrap();
    let stop = AtomicBool::new(false);
    let mut run = Run { folder: &run_folder, evaluate: None, progress: &Silent, stop: &stop };
    let GrpoSettings { schedule, optimizer, cadence, .. } = &settings;
    let plan = Plan { schedule, optimizer, cadence };
    let mut session = Session::begin(&learner, &mut run, plan, 1).unwrap();
    let update = Update::new(&learner, given_replies(&numbers), &settings, 0).unwrap();
    for (step, told) in told["steps"].as_array().unwrap().iter().enumerate() {
        let iteration = update.iterate(&learner).unwrap();
        let near = |what: &str, ours: f64| {
            let theirs = told[what].as_f64().unwrap();
            assert!((ours - theirs).abs() <= 1e-4, "{what} of step {step}: {ours} not {theirs}");
        };
        near("loss", iteration.loss);
        near("kl", iteration.tally.metrics().get("kl").unwrap());
        let (whole, _) = session.update(&iteration.gradients).unwrap();
        assert!((whole / told["grad_norm"].as_f64().unwrap() - 1.0).abs() <= 1e-3, "grad_norm");
        if step == 0 {
            let compared = check_gradients(&learner, &iteration.gradients, whole, &numbers);
            assert!(compared > 0, "no gradient was compared");
        }
    }
    let asked = learner.asked.lock().unwrap().clone();
    let asked_for = ["step0", "reference", "step0", "step1", "step2"];
    assert_eq!(asked.len(), asked_for.len());
    for (ours, what) in asked.iter().zip(asked_for) {
        let name = match what {
            "reference" => "ref_logprobs".to_owned(),
            step => format!("{step}.logprobs"),
        };
        assert_near(&name, ours, &numbers.masked(&name));
    }
    check_adapter(&learner, &folder);
    let read = numbers.read.borrow();
    let unread: Vec<_> = numbers.weights.names().filter(|name| !read.contains(*name)).collect();
    assert!(unread.is_empty(), "tensors that nothing compares: {unread:?}");
}

#[test]
fn three_steps_of_qwen3_vl_agree() {
    check_update("qwen3_vl_tiny");
}

#[test]
fn three_steps_of_qwen2_5_vl_agree() {
    check_update("qwen2_5_vl_tiny");
}
