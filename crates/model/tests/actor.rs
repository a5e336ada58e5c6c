//! The policy as an engine: what it samples is what it scores, alone or in a batch, with or
//! without shared prefixes and adapters.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::slice;
use std::sync::Arc;

use candle_core::DType;
use mmrag_core::{
    Attribute, Choose, Completion, Finish, Generate, Guide, ImageSource, Message, Part, Prompt,
    Role, Sampling,
};
use mmrag_model::{
    ALL_TARGETS, Adapter, Encoded, Grad, Group, LoraLayer, LoraSpec, Placement, Policy, Precision,
    save_safetensors, write_small_tokenizer,
};
use mmrag_ops::backward;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Largest difference of two log-probabilities of one token.
const TOLERANCE: f32 = 1e-5;

/// The fixtures whose shapes the random models have: one a family.
const FAMILIES: [&str; 2] = ["qwen3_vl_tiny", "qwen2_5_vl_tiny"];

/// A folder of a tiny random model of a family with a tokenizer of its own.
fn folder(dir: &Path, family: &str) {
    let texts = ["The red tower of Velmor has two windows. Yes No yes no <answer>Yes</answer>"; 4];
    let texts = texts.iter().map(|&text| text.to_owned());
    let size = write_small_tokenizer(dir, texts, 360).unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let config = std::fs::read(fixtures.join(family).join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
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

fn policy(family: &str) -> Policy {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path(), family);
    // A large deviation, so that the random model has opinions.
    Policy::random_scaled(dir.path(), 3, 0.2).unwrap()
}

/// A random picture as PNG bytes.
fn picture(rng: &mut ChaCha8Rng) -> Part {
    let (w, h) = (rng.random_range(20..90), rng.random_range(20..90));
    let image = image::RgbImage::from_fn(w, h, |_, _| image::Rgb(rng.random()));
    let mut bytes = std::io::Cursor::new(vec![]);
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    Part::Image(ImageSource::Bytes(Arc::from(bytes.into_inner())))
}

fn words(rng: &mut ChaCha8Rng, n: usize) -> Part {
    let all = ["red ", "tower ", "of ", "Velmor ", "two ", "windows ", "xq7 "];
    Part::Text((0..n).map(|_| all[rng.random_range(0..all.len())]).collect())
}

fn prompt(rng: &mut ChaCha8Rng, shared: &[Part], pictures: usize) -> Prompt {
    let mut parts = shared.to_vec();
    for _ in 0..pictures {
        let n = rng.random_range(1..8);
        parts.push(words(rng, n));
        parts.push(picture(rng));
    }
    let n = rng.random_range(1..8);
    parts.push(words(rng, n));
    let messages = vec![Message { role: Role::User, parts }];
    Prompt { messages, reply_prefix: String::new(), reasons: true }
}

fn adapter(policy: &Policy, seed: u64) -> Adapter {
    let spec = LoraSpec { r: 3, alpha: 6.0, targets: ALL_TARGETS.map(str::to_owned).to_vec() };
    let adapter = Adapter::new(policy.vlm(), &spec, seed).unwrap();
    // Away from zero, as far as training takes it, so that it changes something.
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for (name, var) in adapter.vars() {
        if name.ends_with("lora_B.weight") {
            let noise: Vec<f32> =
                (0..var.elem_count()).map(|_| rng.random_range(-0.05..0.05)).collect();
            let noise = candle_core::Tensor::from_vec(noise, var.dims(), var.device()).unwrap();
            var.set(&noise).unwrap();
        }
    }
    adapter
}

fn values(tensor: &candle_core::Tensor) -> Vec<f32> {
    tensor.to_vec1().unwrap()
}

fn assert_close(what: &str, a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (index, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= TOLERANCE, "{what}[{index}]: {a} and {b}");
    }
}

/// Each reply with a copy of the prompt of its own: separate code from the shared form.
fn repeated(policy: &Policy, adapter: Option<&Adapter>, groups: &[Group]) -> Vec<f32> {
    let mut all = vec![];
    for group in groups {
        for reply in &group.replies {
            let mut whole = group.prompt.clone();
            for &token in reply {
                whole.tokens.push(token);
                whole.positions.push([whole.next_position; 3]);
                whole.next_position += 1;
            }
            for at in group.prompt.len()..whole.len() {
                let before = cut(&whole, at);
                let set = vec![vec![whole.tokens[at]]];
                let p = policy.with(adapter).next_token_probabilities(&[before], &set).unwrap();
                all.push(p[0][0].ln() as f32);
            }
        }
    }
    all
}

fn cut(whole: &Encoded, len: usize) -> Encoded {
    let mut cut = whole.clone();
    cut.tokens.truncate(len);
    cut.positions.truncate(len);
    cut
}

#[test]
fn what_is_sampled_is_what_is_scored() {
    for family in FAMILIES {
        check_sampled(family);
    }
}

fn check_sampled(family: &str) {
    check_sampled_with(&policy(family));
}

fn check_sampled_with(policy: &Policy) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let shared = [words(&mut rng, 30), picture(&mut rng)];
    let prompts: Vec<Prompt> =
        (0..5).map(|i| prompt(&mut rng, if i < 3 { &shared } else { &[] }, i % 3)).collect();
    let encoded: Vec<Encoded> = prompts.iter().map(|p| policy.encode(p).unwrap()).collect();
    let sampling =
        Sampling { temperature: 0.9, top_p: 1.0, top_k: 0, max_new_tokens: 9, n: 4, seed: 5 };
    let adapter = adapter(policy, 1);
    for adapter in [None, Some(&adapter)] {
        let actor = policy.with(adapter);
        let together = actor.sample(&encoded, &sampling).unwrap();
        let groups: Vec<Group> = encoded
            .iter()
            .zip(&together)
            .map(|(prompt, completions)| Group {
                prompt: prompt.clone(),
                replies: completions.iter().map(|c| c.tokens.clone()).collect(),
            })
            .collect();
        let sampled: Vec<f32> =
            together.iter().flatten().flat_map(|c| c.sampled_logprobs.clone()).collect();
        let batched = actor.logprobs(&groups, 0.9, Grad::None).unwrap();
        assert_close("in one batch", &values(&batched.logprobs_t), &sampled);
        let alone: Vec<f32> = groups
            .iter()
            .flat_map(|group| {
                let one = slice::from_ref(group);
                values(&actor.logprobs(one, 0.9, Grad::None).unwrap().logprobs_t)
            })
            .collect();
        assert_close("each group alone", &alone, &sampled);
    }
}

/// What is asked of two parts of a reply is, added up, what is asked of both: every token of the
/// text is in one part and in one alone.
#[test]
fn where_pictures_helped_adds_up_over_the_parts_of_a_reply() {
    for family in FAMILIES {
        let policy = policy(family);
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let (prompt, adapter) = (prompt(&mut rng, &[], 2), adapter(&policy, 2));
        let text = "red two windows<answer>Yes</answer>";
        let completion = Completion {
            text: text.into(),
            tokens: policy.encode_reply(text).unwrap(),
            sampled_logprobs: vec![],
            finish: Finish::Stop,
        };
        let (start, end) = (text.find("Yes").unwrap(), text.find("</").unwrap());
        for adapter in [None, Some(&adapter)] {
            let actor = policy.with(adapter);
            let of = |spans: &[std::ops::Range<usize>]| -> Vec<f32> {
                let found = actor.attribute(&prompt, &completion, spans).unwrap();
                assert_eq!(found.len(), 2);
                found.into_iter().flat_map(|shares| shares.values).collect()
            };
            let (before, answer, after) =
                (of(&[0..5, 5..start]), of(&[start..end, end..end]), of(&[end..end + 1, end..99]));
            let whole = of(&[0..start, start..99]);
            assert!(answer.iter().any(|share| share.abs() > 1e-4), "{answer:?}");
            for (at, whole) in whole.iter().enumerate() {
                let parts = before[at] + answer[at] + after[at];
                assert!((parts - whole).abs() < 1e-4, "{family}: {parts} and {whole}");
            }
            let nothing = actor.attribute(&prompt, &completion, &[]).unwrap_err().to_string();
            assert!(nothing.contains("no token of the reply"), "{nothing}");
        }
    }
}

#[test]
fn greedy_is_the_most_probable_and_seeds_repeat() {
    for family in FAMILIES {
        check_greedy(family);
    }
}

fn check_greedy(family: &str) {
    let policy = policy(family);
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let encoded = [policy.encode(&prompt(&mut rng, &[], 1)).unwrap()];
    let greedy = policy.with(None).sample(&encoded, &Sampling::greedy(6)).unwrap();
    let tokens = &greedy[0][0].tokens;
    let group = Group { prompt: encoded[0].clone(), replies: vec![tokens.clone()] };
    let scores = policy.with(None).logprobs(&[group], 1.0, Grad::None).unwrap();
    assert_close("greedy", &values(&scores.logprobs_t), &greedy[0][0].sampled_logprobs);
    let sampling =
        Sampling { temperature: 1.0, top_p: 0.9, top_k: 20, max_new_tokens: 6, n: 3, seed: 5 };
    let once = policy.with(None).sample(&encoded, &sampling).unwrap();
    assert_eq!(once, policy.with(None).sample(&encoded, &sampling).unwrap());
    let other = Sampling { seed: 6, ..sampling };
    assert_ne!(once, policy.with(None).sample(&encoded, &other).unwrap());
}

#[test]
fn what_streams_is_what_is_sampled_alone() {
    let policy = policy(FAMILIES[0]);
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let encoded = policy.encode(&prompt(&mut rng, &[], 1)).unwrap();
    let sampling =
        Sampling { temperature: 1.2, top_p: 1.0, top_k: 0, max_new_tokens: 40, n: 1, seed: 8 };
    let mut pieces = vec![];
    let mut tell = |text: &str| pieces.push(text.to_owned());
    let streamed = policy.with(None).stream(&encoded, &sampling, &mut tell).unwrap();
    assert_eq!(streamed, policy.with(None).sample(&[encoded], &sampling).unwrap()[0][0]);
    assert_eq!(pieces.concat(), streamed.text);
    assert!(pieces.len() > 5, "{pieces:?}");
}

#[test]
fn what_never_ends_goes_on_as_it_began() {
    let policy = policy(FAMILIES[0]);
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let encoded = [policy.encode(&prompt(&mut rng, &[], 1)).unwrap()];
    let sampling =
        Sampling { temperature: 3.0, top_p: 1.0, top_k: 0, max_new_tokens: 40, n: 64, seed: 8 };
    let ending = policy.with(None).sample(&encoded, &sampling).unwrap().remove(0);
    assert!(ending.iter().any(|reply| reply.finish == Finish::Stop), "no reply shows anything");
    let never = policy.never_ending();
    let all = never.with(None).sample(&encoded, &sampling).unwrap().remove(0);
    for (reply, ended) in all.iter().zip(&ending) {
        assert_eq!((reply.tokens.len(), reply.finish), (40, Finish::Length));
        assert_eq!(reply.tokens[..ended.tokens.len()], ended.tokens);
    }
}

#[test]
fn choices_do_not_depend_on_the_batch() {
    for family in FAMILIES {
        check_choices(family);
    }
}

fn check_choices(family: &str) {
    let policy = policy(family);
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let shared = [words(&mut rng, 40)];
    let prompts: Vec<Prompt> = (0..6).map(|i| prompt(&mut rng, &shared, i % 2)).collect();
    let together = policy.with(None).choose(&prompts, &["Yes", "No"]).unwrap();
    for (prompt, expected) in prompts.iter().zip(&together) {
        let alone = policy.with(None).choose(slice::from_ref(prompt), &["Yes", "No"]).unwrap();
        for (a, b) in alone[0].iter().zip(expected) {
            assert!((a - b).abs() < 1e-6 && *a > 0.0 && *a < 1.0, "{a} and {b}");
        }
    }
}

#[test]
fn saved_is_loaded() {
    for family in FAMILIES {
        let dir = tempfile::tempdir().unwrap();
        folder(dir.path(), family);
        policy_from_kept_folder(&policy(family), dir.path());
    }
}

fn policy_from_kept_folder(policy: &Policy, dir: &Path) {
    policy.save(dir).unwrap();
    let again = Policy::load(dir).unwrap();
    for ((name, a), (_, b)) in policy.vars().iter().zip(&again.vars()) {
        let flat = |v: &candle_core::Var| v.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(flat(a), flat(b), "{name}");
    }
    let adapter = adapter(policy, 4);
    adapter.save(dir.join("adapter"), "tiny").unwrap();
    let loaded = Adapter::load(dir.join("adapter"), policy.vlm()).unwrap();
    assert_eq!(loaded.vars().len(), adapter.vars().len());
    for ((name, a), (_, b)) in adapter.vars().iter().zip(&loaded.vars()) {
        assert_eq!(a.to_vec2::<f32>().unwrap(), b.to_vec2::<f32>().unwrap(), "{name}");
    }
}

/// A group with pictures.
fn group(policy: &Policy, rng: &mut ChaCha8Rng) -> Group {
    let prompt = policy.encode(&prompt(rng, &[], 2)).unwrap();
    let mut reply = |len: usize| (0..len).map(|_| rng.random_range(10..200)).collect();
    Group { prompt, replies: vec![reply(5), reply(3)] }
}

#[test]
fn checkpointed_gradients_are_the_plain_ones_to_the_last_bit() {
    for family in FAMILIES {
        let policy = policy(family);
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let (adapter, groups) = (adapter(&policy, 6), [group(&policy, &mut rng)]);
        let trained =
            [(Grad::Adapter, Some(&adapter), adapter.vars()), (Grad::Full, None, policy.vars())];
        for (grad, adapter, vars) in trained {
            let gradients = |checkpointing| {
                let actor = policy.with(adapter).with_checkpointing(checkpointing);
                let scores = actor.logprobs(&groups, 1.0, grad).unwrap();
                let loss = scores.logprobs_t.sum_all().unwrap();
                (loss.to_scalar::<f32>().unwrap(), backward(&loss).unwrap())
            };
            let ((plain_loss, plain), (loss, found)) = (gradients(false), gradients(true));
            assert_eq!(plain_loss, loss);
            for (name, var) in vars {
                let flat = |store: &candle_core::backprop::GradStore| {
                    let gradient = store.get(&var).unwrap_or_else(|| panic!("{name} has none"));
                    gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap()
                };
                assert!(flat(&plain) == flat(&found), "{name}");
            }
        }
    }
}

#[test]
fn stored_16_bit_weights_give_what_their_values_give_in_f32() {
    for (family, dtype) in FAMILIES.into_iter().zip([DType::BF16, DType::F16]) {
        let dir = tempfile::tempdir().unwrap();
        folder(dir.path(), family);
        let random = policy(family);
        let narrow = |(name, var): (String, candle_core::Var)| {
            (name, var.as_detached_tensor().to_dtype(dtype).unwrap())
        };
        let tensors: Vec<_> = random.vars().into_iter().map(narrow).collect();
        save_safetensors(dir.path().join("model.safetensors"), &tensors).unwrap();
        let stored = Policy::load(dir.path()).unwrap();
        let widened = Policy::load_as(dir.path(), &Placement::cpu(Precision::F32)).unwrap();
        let kept = |policy: &Policy| policy.vars().iter().any(|(_, var)| var.dtype() == dtype);
        assert!(kept(&stored) && !kept(&widened));
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let groups = [group(&stored, &mut rng)];
        let adapter = adapter(&stored, 7);
        let results = [&stored, &widened].map(|policy| {
            let actor = policy.with(Some(&adapter));
            let scores = actor.logprobs(&groups, 1.0, Grad::Adapter).unwrap();
            let gradients = backward(&scores.logprobs_t.sum_all().unwrap()).unwrap();
            (values(&scores.logprobs_t), gradients)
        });
        assert_close("scores", &results[0].0, &results[1].0);
        for (name, var) in adapter.vars() {
            let [a, b] = [&results[0].1, &results[1].1].map(|store| store.get(&var).unwrap());
            let norm = |x: &candle_core::Tensor| {
                x.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt()
            };
            let off = norm(&(a - b).unwrap());
            assert!(off <= 1e-4 * norm(b), "{name}: {off} of {}", norm(b));
        }
        let full = stored.with(None).logprobs(&groups, 1.0, Grad::Full).unwrap();
        let refused = backward(&full.logprobs_t.sum_all().unwrap()).unwrap_err().to_string();
        assert!(refused.contains("must be f32"), "{refused}");
        check_sampled_with(&stored);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn shared_prefix_is_the_repeated_prompt(
        seed in any::<u64>(),
        pictures in 2usize..4,
        family in 0usize..2,
    ) {
        let policy = policy(FAMILIES[family]);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let adapter = adapter(&policy, seed);
        let groups: Vec<Group> = (0..2)
            .map(|_| Group {
                prompt: policy.encode(&prompt(&mut rng, &[], pictures)).unwrap(),
                replies: [1usize, 4, 2]
                    .map(|len| (0..len).map(|_| rng.random_range(10..200)).collect())
                    .to_vec(),
            })
            .collect();
        let shared = policy.with(Some(&adapter)).logprobs(&groups, 1.0, Grad::None).unwrap();
        let slow = repeated(&policy, Some(&adapter), &groups);
        assert_close("shared", &values(&shared.logprobs_t), &slow);
    }
}

/// The features that are kept are the base's: an adapter that changes the vision tower makes its
/// own, on and off in any order, and what it samples is what it scores.
#[test]
fn an_adapter_of_the_vision_tower_is_not_given_kept_features() {
    let policy = policy("qwen3_vl_tiny");
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let prompt = policy.encode(&prompt(&mut rng, &[], 1)).unwrap();
    let params = policy.vlm().params();
    let module = "model.visual.blocks.0.mlp.linear_fc1";
    let weight = params.iter().find(|p| p.name() == format!("{module}.weight")).unwrap().var();
    let (outer, inner) = weight.dims2().unwrap();
    let mut noise = |rows: usize, columns: usize| {
        let noise: Vec<f32> = (0..rows * columns).map(|_| rng.random_range(-1.0..1.0)).collect();
        let noise = candle_core::Tensor::from_vec(noise, (rows, columns), weight.device());
        candle_core::Var::from_tensor(&noise.unwrap()).unwrap()
    };
    let layer = LoraLayer { a: noise(2, inner), b: noise(outer, 2), scale: 1.0 };
    let seeing = Adapter::from_layers([(module.to_owned(), layer)].into());
    let first = |adapter: Option<&Adapter>| {
        let drawn =
            policy.with(adapter).sample(slice::from_ref(&prompt), &Sampling::greedy(3)).unwrap();
        let drawn = drawn[0][0].clone();
        let group = Group { prompt: prompt.clone(), replies: vec![drawn.tokens] };
        for grad in [Grad::None, Grad::Adapter] {
            let scores = policy.with(adapter).logprobs(slice::from_ref(&group), 1.0, grad).unwrap();
            assert_close("scored", &values(&scores.logprobs_t), &drawn.sampled_logprobs);
        }
        drawn.sampled_logprobs[0]
    };
    let off = first(None);
    let on = first(Some(&seeing));
    assert!((on - off).abs() > 1e-3, "{on} and {off}");
    assert_eq!(first(None), off);
    assert_eq!(first(Some(&seeing)), on);
    // The adapter's own variables get a gradient through the pictures.
    let group = Group { prompt: prompt.clone(), replies: vec![vec![7, 8]] };
    let scores = policy.with(Some(&seeing)).logprobs(&[group], 1.0, Grad::Adapter).unwrap();
    let gradients = scores.logprobs_t.sum_all().unwrap().backward().unwrap();
    for (name, var) in seeing.vars() {
        let gradient = gradients.get(&var).unwrap_or_else(|| panic!("{name} is not trained"));
        let size = gradient.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(size > 0.0, "{name}");
    }
}

/// One of a few texts, to the letter.
struct OneOf(&'static [&'static str]);

impl Guide for OneOf {
    fn allows(&self, text: &str) -> bool {
        self.0.iter().any(|whole| whole.starts_with(text))
    }

    fn is_whole(&self, text: &str) -> bool {
        self.0.contains(&text)
    }
}

#[test]
fn a_guide_holds_each_reply_to_its_own_form() {
    let policy = policy("qwen3_vl_tiny");
    let actor = policy.with(None);
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let prompts: Vec<Prompt> = (0..3).map(|_| prompt(&mut rng, &[], 1)).collect();
    let forms = [OneOf(&["tower", "red"]), OneOf(&["[1][2]"]), OneOf(&["a < b", "a <b", "x"])];
    let guides: Vec<&dyn Guide> = forms.iter().map(|form| form as &dyn Guide).collect();
    for temperature in [0.0, 1.0] {
        let sampling =
            Sampling { temperature, top_p: 1.0, top_k: 0, max_new_tokens: 40, n: 4, seed: 3 };
        let told = std::sync::Mutex::new(vec![String::new(); 3]);
        let tell = |index: usize, text: &str| text.clone_into(&mut told.lock().unwrap()[index]);
        let drawn = actor.generate_guided(&prompts, &guides, &sampling, &tell).unwrap();
        let free = actor.generate(&prompts, &sampling).unwrap();
        for ((completions, form), told) in drawn.iter().zip(&forms).zip(told.lock().unwrap().iter())
        {
            assert_eq!(completions.len(), 4);
            assert_eq!(&completions[0].text, told);
            for completion in completions {
                assert!(form.is_whole(&completion.text), "{:?}", completion.text);
                assert_eq!(completion.finish, Finish::Stop);
                assert!(completion.sampled_logprobs.iter().all(|p| p.is_finite() && *p <= 0.0));
            }
        }
        assert!(free.iter().zip(&forms).any(|(c, form)| !form.is_whole(&c[0].text)));
    }
    // The probabilities told are those without a guide.
    let greedy = Sampling::greedy(40);
    let drawn = actor.generate_guided(&prompts[..1], &guides[..1], &greedy, &|_, _| {}).unwrap();
    let completion = &drawn[0][0];
    let encoded = policy.encode(&prompts[0]).unwrap();
    let group = Group { prompt: encoded, replies: vec![completion.tokens.clone()] };
    let scores = actor.logprobs(&[group], 1.0, Grad::None).unwrap();
    assert_close("guided", &values(&scores.logprobs_t), &completion.sampled_logprobs);
}
