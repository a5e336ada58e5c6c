//! The form for devices without kernels of ours against the composite reference: values and
//! gradients, on random shapes; on a GPU too in builds with the feature `cuda`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use mmrag_ops::{self as ops, AttentionPlan, Own, QuerySpan, portable, reference};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use support::{check_on, random, trees};

/// The GPU in builds for one; the CPU elsewhere.
fn device() -> Device {
    if cfg!(feature = "cuda") { Device::new_cuda(0).unwrap() } else { Device::Cpu }
}

fn stacked(scores: ops::TokenScores) -> candle_core::Result<Tensor> {
    Tensor::stack(&[scores.logprobs_t, scores.entropy_t], 0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn linear(seed in any::<u64>(), t in 1usize..70, d in 1usize..40, n in 1usize..40) {
        let device = &device();
        check_on(device, seed, &[&[t, d], &[n, d], &[n]],
            |x| portable::linear(&x[0], &x[1], Some(&x[2])),
            |x| reference::linear(&x[0], &x[1])?.broadcast_add(&x[2]));
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 1);
        let w = random(&mut rng, &[n, d]).as_detached_tensor().to_device(device).unwrap().to_dtype(DType::BF16).unwrap();
        check_on(device, seed, &[&[t, d]], |x| portable::linear(&x[0], &w, None),
            |x| reference::linear(&x[0], &w));
    }

    #[test]
    fn pointwise(seed in any::<u64>(), t in 1usize..70, h in 1usize..4, p in 1usize..20) {
        let (device, d) = (&device(), 2 * p);
        check_on(device, seed, &[&[t, h, d], &[d]], |x| portable::rms_norm(&x[0], &x[1], 1e-6),
            |x| reference::rms_norm(&x[0], &x[1], 1e-6));
        check_on(device, seed, &[&[t, d], &[d], &[d]],
            |x| portable::layer_norm(&x[0], &x[1], &x[2], 1e-2),
            |x| reference::layer_norm(&x[0], &x[1], &x[2], 1e-2));
        check_on(device, seed, &[&[t, d], &[t, d]], |x| portable::swiglu(&x[0], &x[1]),
            |x| reference::swiglu(&x[0], &x[1]));
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 1);
        let angle = random(&mut rng, &[t, p]).as_detached_tensor().to_device(device).unwrap();
        let (cos, sin) = (angle.cos().unwrap(), angle.sin().unwrap());
        check_on(device, seed, &[&[t, h, d]], |x| portable::rope(&x[0], &cos, &sin),
            |x| reference::rope(&x[0], &cos, &sin));
    }

    #[test]
    fn attention_of_trees(
        seed in any::<u64>(),
        lengths in prop::collection::vec((1usize..90, prop::collection::vec(1usize..9, 0..5)), 1..4),
        g in 1usize..3, per in 1usize..4, k in 1usize..20,
    ) {
        let (plan, t) = trees(&lengths);
        let scale = 1.0 / (k as f64).sqrt();
        check_on(&device(), seed, &[&[t, g * per, k], &[t, g, k], &[t, g, k]],
            |x| portable::attention(&x[0], &x[1], &x[2], &plan, scale),
            |x| reference::attention(&x[0], &x[1], &x[2], &plan, scale));
    }

    #[test]
    fn head(seed in any::<u64>(), t in 1usize..40, d in 1usize..20, v in 2usize..60, chunk in 1usize..70) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 1);
        let targets: Vec<u32> = (0..t).map(|_| rng.random_range(0..v as u32)).collect();
        check_on(&device(), seed, &[&[t, d], &[v, d]],
            |x| stacked(portable::logprob_head(&x[0], &x[1], &targets, 0.8, chunk)?),
            |x| stacked(reference::logprob_head(&x[0], &x[1], &targets, 0.8)?));
        let w = random(&mut rng, &[v, d]).as_detached_tensor().to_device(&device()).unwrap();
        let w = w.to_dtype(DType::BF16).unwrap();
        check_on(&device(), seed, &[&[t, d]],
            |x| stacked(portable::logprob_head(&x[0], &w, &targets, 1.3, chunk)?),
            |x| stacked(reference::logprob_head(&x[0], &w, &targets, 1.3)?));
    }
}

#[test]
fn queries_that_see_nothing_get_zeros_and_rows_of_a_cache_are_skipped() {
    // Two queries of four rows, over the rows 3 and 4 of six, and the second query its own row too.
    let seen = std::iter::once(3..5).collect();
    let span = QuerySpan { queries: 1..3, seen, own: Own::Causal(5) };
    let plan = Arc::new(AttentionPlan::new(vec![span]).unwrap());
    check_on(
        &device(),
        5,
        &[&[4, 2, 3], &[7, 1, 3], &[7, 1, 3]],
        |x| portable::attention(&x[0], &x[1], &x[2], &plan, 0.5),
        |x| reference::attention(&x[0], &x[1], &x[2], &plan, 0.5),
    );
}

#[test]
fn frozen_weights_get_no_gradient() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let x = random(&mut rng, &[5, 4]);
    let frozen = random(&mut rng, &[3, 4]).as_detached_tensor();
    let y = portable::linear(&x, &frozen, None).unwrap();
    let grads = y.sum_all().unwrap().backward().unwrap();
    assert!(grads.get(&x).is_some());
    assert!(grads.get(&frozen).is_none());
}

#[test]
fn rows_and_checkpoints_are_the_same_on_the_device() {
    let device = &device();
    let buffer = Tensor::zeros((5, 2), DType::F32, device).unwrap();
    let new = Tensor::new(&[[1f32, 2.], [3., 4.], [5., 6.]], device).unwrap();
    ops::write_rows(&buffer, &new, &[2, 3, 0]).unwrap();
    let expected = vec![vec![5f32, 6.], vec![0., 0.], vec![1., 2.], vec![3., 4.], vec![0., 0.]];
    assert_eq!(buffer.to_vec2::<f32>().unwrap(), expected);
    let w = candle_core::Var::from_tensor(&new).unwrap();
    let inner = w.clone();
    let y = ops::checkpoint(&new, move |x, _| x.mul(inner.as_tensor())).unwrap();
    let gradients = ops::backward(&y.sum_all().unwrap()).unwrap();
    let found = gradients.get(&w).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(found, new.to_vec2::<f32>().unwrap());
}
