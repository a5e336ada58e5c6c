//! Every tensor of the reference cases, made by transformers, against this model.
//!
//! The cases are those in the project; with `MMRAG_FIXTURES` set, those of that folder.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use mmrag_model::{
    Forward, Grad, Packed, Picture, Segment, VisionFeatures, Vlm, VlmConfig, Weights,
    image_positions, text_positions,
};
use mmrag_ops::{linear, logprob_head};

fn fixtures() -> PathBuf {
    match std::env::var_os("MMRAG_FIXTURES") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"),
    }
}

struct Case {
    label: String,
    weights: Weights,
    read: RefCell<std::collections::BTreeSet<String>>,
}

impl Case {
    fn ids(&self, name: &str) -> Vec<i64> {
        let name = format!("{}.{name}", self.label);
        self.read.borrow_mut().insert(name.clone());
        self.weights.i64(&name).unwrap()
    }

    fn tensor(&self, name: &str) -> Tensor {
        let name = format!("{}.{name}", self.label);
        self.read.borrow_mut().insert(name.clone());
        let shape = self.weights.shape(&name).unwrap().to_vec();
        self.weights.f32(&name, &shape).unwrap()
    }

    fn has(&self, name: &str) -> bool {
        self.weights.contains(&format!("{}.{name}", self.label))
    }

    /// The pictures and their grids.
    fn pictures(&self, config: &VlmConfig) -> Vec<Picture> {
        if !self.has("pixel_values") {
            return vec![];
        }
        let values: Vec<f32> =
            self.tensor("pixel_values").flatten_all().unwrap().to_vec1().unwrap();
        let v = &config.vision;
        let width = v.in_channels * v.temporal_patch_size * v.patch_size * v.patch_size;
        let mut start = 0;
        let grids = self.ids("image_grid_thw");
        grids
            .chunks(3)
            .map(|grid| {
                let grid = [grid[0] as usize, grid[1] as usize, grid[2] as usize];
                let len = grid.iter().product::<usize>() * width;
                start += len;
                Picture { values: values[start - len..start].to_vec(), grid }
            })
            .collect()
    }
}

/// The case's tokens with the positions this crate gives them.
fn segment(case: &Case, config: &VlmConfig, pictures: &[Picture]) -> Segment {
    let mut segment = Segment::default();
    let (mut at, mut next, mut picture) = (0, 0u32, 0);
    let tokens: Vec<u32> = case.ids("input_ids").iter().map(|&id| id as u32).collect();
    while at < tokens.len() {
        if tokens[at] == config.tokens.image {
            let [t, h, w] = pictures[picture].grid;
            let merge = config.vision.spatial_merge_size;
            let grid = [t, h / merge, w / merge];
            let n: usize = grid.iter().product();
            segment.image_rows.extend((0..n).map(|row| (at + row, picture, row)));
            segment.positions.extend(image_positions(next, grid));
            next = segment.positions[at..].iter().flatten().max().unwrap() + 1;
            (at, picture) = (at + n, picture + 1);
        } else {
            segment.positions.extend(text_positions(next, 1));
            (at, next) = (at + 1, next + 1);
        }
    }
    segment.tokens = tokens;
    segment
}

fn assert_close(what: &str, ours: &Tensor, theirs: &Tensor, tolerance: f64) {
    assert_eq!(ours.dims(), theirs.dims(), "{what}");
    let difference = (ours - theirs).unwrap().abs().unwrap().flatten_all().unwrap();
    let difference = f64::from(difference.max(0).unwrap().to_scalar::<f32>().unwrap());
    assert!(
        difference <= tolerance,
        "{what}: differs by {difference:.2e}, allowed {tolerance:.0e}"
    );
}

fn assert_gradient(what: &str, ours: &Tensor, theirs: &Tensor) {
    let norm = |t: &Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
    let relative = norm(&(ours - theirs).unwrap()) / norm(theirs);
    assert!(relative <= 1e-3, "{what}: relative difference {relative:.2e}");
}

fn run(model: &Vlm, case: &Case, grad: Grad) {
    let config = model.config();
    let pictures = case.pictures(config);
    let segment = segment(case, config, &pictures);
    if case.has("position_ids") {
        let ours: Vec<i64> = (0..3)
            .flat_map(|axis| segment.positions.iter().map(move |p| i64::from(p[axis])))
            .collect();
        assert_eq!(ours, case.ids("position_ids"), "{}: positions", case.label);
    }
    let pass = Forward { grad, adapter: None };
    let features = model.see(&pass, &pictures.iter().collect::<Vec<_>>()).unwrap();
    let features: Vec<&VisionFeatures> = features.iter().collect();
    if !features.is_empty() {
        let embeds: Vec<_> = features.iter().map(|f| &f.embeds_md).collect();
        let embeds = Tensor::cat(&embeds, 0).unwrap();
        assert_close(&case.label, &embeds, &case.tensor("image_embeds"), 2e-4);
    }
    let mut pack = Packed::default();
    pack.push(&segment, vec![]);
    let hidden = model.hidden(&pass, &pack, &features, None).unwrap();
    assert_close(&case.label, &hidden, &case.tensor("last_hidden_state"), 2e-4);
    let head = model.head(&pass);
    let logits = linear(&hidden, &head, None).unwrap();
    assert_close(&case.label, &logits, &case.tensor("logits"), 2e-4);
    let n = segment.tokens.len();
    let scored = hidden.narrow(0, 0, n - 1).unwrap();
    let scores = logprob_head(&scored, &head, &segment.tokens[1..], 1.0, 100).unwrap();
    assert_close(&case.label, &scores.logprobs_t, &case.tensor("token_logprobs"), 1e-4);
    let loss = scores.logprobs_t.narrow(0, n - 9, 8).unwrap().mean_all().unwrap().neg().unwrap();
    assert_close(&case.label, &loss.reshape(1).unwrap(), &case.tensor("loss"), 1e-4);
    if grad == Grad::Full {
        check_gradients(model, case, &loss);
    }
}

fn check_gradients(model: &Vlm, case: &Case, loss: &Tensor) {
    let grads = loss.backward().unwrap();
    let mut compared = 0;
    for param in model.params() {
        let name = format!("grad.{}", param.name());
        if case.has(&name) {
            let what = format!("{} {name}", case.label);
            assert_gradient(&what, grads.get(param.var()).unwrap(), &case.tensor(&name));
            compared += 1;
        }
        if case.has("pixel_values") || !param.name().contains("visual") {
            let grad =
                grads.get(param.var()).unwrap_or_else(|| panic!("{} untrained", param.name()));
            let size = grad.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(size.is_finite() && size > 0.0, "{}: gradient of size {size}", param.name());
        }
    }
    assert!(compared >= 4, "{compared} gradients compared");
}

fn check_family(name: &str) {
    let dir = fixtures().join(name);
    let config = VlmConfig::load(&dir).unwrap();
    let model = Vlm::load(config, &Weights::open(&dir).unwrap()).unwrap();
    let cases: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.join("cases.json")).unwrap()).unwrap();
    for case in cases["cases"].as_array().unwrap() {
        let label = case["label"].as_str().unwrap().to_owned();
        let weights = Weights::open_file(dir.join("cases.safetensors")).unwrap();
        let case = Case { label, weights, read: RefCell::default() };
        run(&model, &case, Grad::None);
        run(&model, &case, Grad::Full);
        check_greedy(&model, &case);
        let unread: Vec<_> = case
            .weights
            .names()
            .filter(|name| name.starts_with(&format!("{}.", case.label)))
            .filter(|name| !case.read.borrow().contains(*name))
            .collect();
        assert!(unread.is_empty(), "tensors that nothing compares: {unread:?}");
    }
}

/// Continues greedily, computing everything again for each token: the slow form.
fn check_greedy(model: &Vlm, case: &Case) {
    let config = model.config();
    let pictures = case.pictures(config);
    let mut segment = segment(case, config, &pictures);
    let pass = Forward { grad: Grad::None, adapter: None };
    let features = model.see(&pass, &pictures.iter().collect::<Vec<_>>()).unwrap();
    let features: Vec<&VisionFeatures> = features.iter().collect();
    let expected = case.ids("greedy_new_tokens");
    let mut ours = vec![];
    for _ in 0..expected.len() {
        let mut pack = Packed::default();
        let rows = pack.push(&segment, vec![]);
        let hidden = model.hidden(&pass, &pack, &features, None).unwrap();
        let last = hidden.narrow(0, rows.end - 1, 1).unwrap();
        let logits = linear(&last, &model.head(&pass), None).unwrap();
        let token = logits.argmax(1).unwrap().to_vec1::<u32>().unwrap()[0];
        ours.push(i64::from(token));
        let next = segment.positions.iter().flatten().max().unwrap() + 1;
        segment.tokens.push(token);
        segment.positions.push([next; 3]);
    }
    assert_eq!(ours, expected, "{}: greedy tokens", case.label);
}

#[test]
fn qwen3_vl_agrees_with_every_tensor() {
    check_family("qwen3_vl_tiny");
}

#[test]
fn qwen2_5_vl_agrees_with_every_tensor() {
    check_family("qwen2_5_vl_tiny");
}
