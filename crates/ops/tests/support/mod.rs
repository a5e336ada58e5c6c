//! Two forms of an operation beside each other.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor, Var};
use mmrag_ops::{AttentionPlan, Own, QuerySpan};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Largest difference allowed, relative to the largest value (at least 1).
const TOLERANCE: f32 = 2e-5;

pub(crate) fn random(rng: &mut ChaCha8Rng, shape: &[usize]) -> Var {
    random_on(rng, shape, &Device::Cpu)
}

fn random_on(rng: &mut ChaCha8Rng, shape: &[usize], device: &Device) -> Var {
    let n = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|_| rng.random_range(-1.0..1.0)).collect();
    Var::from_tensor(&Tensor::from_vec(values, shape, device).unwrap()).unwrap()
}

fn assert_close(what: &str, a: &Tensor, b: &Tensor) {
    assert_eq!(a.dims(), b.dims(), "{what}");
    let (a, b) = (a.flatten_all().unwrap(), b.flatten_all().unwrap());
    let (a, b) = (a.to_vec1::<f32>().unwrap(), b.to_vec1::<f32>().unwrap());
    let largest = b.iter().fold(1f32, |m, x| m.max(x.abs()));
    for (i, (a, b)) in a.iter().zip(&b).enumerate() {
        assert!((a - b).abs() <= TOLERANCE * largest, "{what}[{i}]: {a} instead of {b}");
    }
}

/// Runs both forms on the same inputs, with the same random gradient of the result.
#[allow(dead_code, reason = "each test file uses what it needs")]
pub(crate) fn check(
    seed: u64,
    shapes: &[&[usize]],
    fast: impl Fn(&[Tensor]) -> Result<Tensor>,
    slow: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    check_on(&Device::Cpu, seed, shapes, fast, slow);
}

/// The same on a device.
pub(crate) fn check_on(
    device: &Device,
    seed: u64,
    shapes: &[&[usize]],
    fast: impl Fn(&[Tensor]) -> Result<Tensor>,
    slow: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let vars: Vec<Var> = shapes.iter().map(|shape| random_on(&mut rng, shape, device)).collect();
    let inputs: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let (a, b) = (fast(&inputs).unwrap(), slow(&inputs).unwrap());
    assert_close("value", &a, &b);
    let weight = random_on(&mut rng, a.dims(), device);
    let grads =
        |y: &Tensor| (y * weight.as_tensor()).unwrap().sum_all().unwrap().backward().unwrap();
    let (ga, gb) = (grads(&a), grads(&b));
    for (i, var) in vars.iter().enumerate() {
        assert_close(&format!("gradient {i}"), ga.get(var).unwrap(), gb.get(var).unwrap());
    }
}

/// A packed batch of trees: prompts with replies, in one row of tokens.
pub(crate) fn trees(lengths: &[(usize, Vec<usize>)]) -> (Arc<AttentionPlan>, usize) {
    let (mut spans, mut at) = (vec![], 0);
    for (prompt, replies) in lengths {
        let shared = at..at + prompt;
        spans.push(QuerySpan { queries: shared.clone(), seen: vec![], own: Own::Causal(at) });
        at += prompt;
        for reply in replies {
            let (queries, seen) = (at..at + reply, vec![shared.clone()]);
            spans.push(QuerySpan { queries, seen, own: Own::Causal(at) });
            at += reply;
        }
    }
    (Arc::new(AttentionPlan::new(spans).unwrap()), at)
}
