//! Every kernel against its composite reference: values and gradients, on random shapes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use mmrag_ops::{self as ops, AttentionPlan, reference};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use support::{check, random, trees};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn linear_of_16_bit_weights(
        seed in any::<u64>(),
        t in 1usize..70,
        d in 60usize..130,
        n in 1usize..50,
        is_bf16 in any::<bool>(),
    ) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let dtype = if is_bf16 { DType::BF16 } else { DType::F16 };
        let w = random(&mut rng, &[n, d]).as_detached_tensor().to_dtype(dtype).unwrap();
        let wide = w.to_dtype(DType::F32).unwrap();
        check(seed, &[&[t, d]], |x| ops::linear(&x[0], &w, None),
            |x| reference::linear(&x[0], &wide));
        check(seed, &[&[t, d], &[4, d], &[n, 4]],
            |x| ops::lora_linear(&x[0], &w, &x[1], &x[2], 0.5),
            |x| ops::lora_linear(&x[0], &wide, &x[1], &x[2], 0.5));
        let targets: Vec<u32> = (0..t).map(|_| rng.random_range(0..n as u32)).collect();
        check(seed, &[&[t, d]],
            |x| Ok(ops::logprob_head(&x[0], &w, &targets, 0.7, 9)?.logprobs_t),
            |x| Ok(reference::logprob_head(&x[0], &wide, &targets, 0.7)?.logprobs_t));
    }

    #[test]
    fn linear(seed in any::<u64>(), t in 1usize..70, d in 1usize..40, n in 1usize..40) {
        check(seed, &[&[t, d], &[n, d]], |x| ops::linear(&x[0], &x[1], None),
            |x| reference::linear(&x[0], &x[1]));
        check(seed, &[&[t, d], &[n, d], &[n]], |x| ops::linear(&x[0], &x[1], Some(&x[2])),
            |x| reference::linear(&x[0], &x[1])?.broadcast_add(&x[2]));
    }

    #[test]
    fn lora(seed in any::<u64>(), t in 1usize..70, d in 1usize..40, n in 1usize..40, r in 1usize..9) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 1);
        let w = random(&mut rng, &[n, d]).as_detached_tensor();
        check(seed, &[&[t, d], &[r, d], &[n, r]],
            |x| ops::lora_linear(&x[0], &w, &x[1], &x[2], 0.7),
            |x| reference::linear(&x[0], &w)?
                + (reference::linear(&reference::linear(&x[0], &x[1])?, &x[2])? * 0.7)?);
    }

    #[test]
    fn norms(seed in any::<u64>(), t in 1usize..70, d in 2usize..70) {
        check(seed, &[&[t, d], &[d]], |x| ops::rms_norm(&x[0], &x[1], 1e-6),
            |x| reference::rms_norm(&x[0], &x[1], 1e-6));
        check(seed, &[&[t, d], &[d], &[d]], |x| ops::layer_norm(&x[0], &x[1], &x[2], 1e-2),
            |x| reference::layer_norm(&x[0], &x[1], &x[2], 1e-2));
    }

    #[test]
    fn rope(seed in any::<u64>(), t in 1usize..70, h in 1usize..5, p in 1usize..20) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 1);
        let angle = random(&mut rng, &[t, p]).as_detached_tensor();
        let (cos, sin) = (angle.cos().unwrap(), angle.sin().unwrap());
        check(seed, &[&[t, h, 2 * p]], |x| ops::rope(&x[0], &cos, &sin),
            |x| reference::rope(&x[0], &cos, &sin));
    }

    #[test]
    fn activations(seed in any::<u64>(), t in 1usize..70, d in 1usize..70) {
        check(seed, &[&[t, d], &[t, d]], |x| ops::swiglu(&x[0], &x[1]),
            |x| reference::swiglu(&x[0], &x[1]));
        check(seed, &[&[t, d]], |x| ops::gelu_tanh(&x[0]), |x| x[0].gelu());
    }

    #[test]
    fn attention_of_trees(
        seed in any::<u64>(),
        lengths in prop::collection::vec((1usize..90, prop::collection::vec(1usize..9, 0..5)), 1..4),
        g in 1usize..3, per in 1usize..4, k in 1usize..20,
    ) {
        let (plan, t) = trees(&lengths);
        let scale = 1.0 / (k as f64).sqrt();
        check(seed, &[&[t, g * per, k], &[t, g, k], &[t, g, k]],
            |x| ops::attention(&x[0], &x[1], &x[2], &plan, scale),
            |x| reference::attention(&x[0], &x[1], &x[2], &plan, scale));
    }

    #[test]
    fn attention_without_order(seed in any::<u64>(), a in 1usize..70, b in 1usize..70, k in 1usize..20) {
        let plan = Arc::new(AttentionPlan::full([a, b]).unwrap());
        let t = a + b;
        check(seed, &[&[t, 2, k], &[t, 2, k], &[t, 2, k]],
            |x| ops::attention(&x[0], &x[1], &x[2], &plan, 0.3),
            |x| reference::attention(&x[0], &x[1], &x[2], &plan, 0.3));
    }

    #[test]
    fn head(seed in any::<u64>(), t in 1usize..40, d in 1usize..20, v in 2usize..60, chunk in 1usize..70) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 1);
        let targets: Vec<u32> = (0..t).map(|_| rng.random_range(0..v as u32)).collect();
        let stack = |s: ops::TokenScores| Tensor::stack(&[s.logprobs_t, s.entropy_t], 0);
        check(seed, &[&[t, d], &[v, d]],
            |x| stack(ops::logprob_head(&x[0], &x[1], &targets, 0.8, chunk)?),
            |x| stack(reference::logprob_head(&x[0], &x[1], &targets, 0.8)?));
    }
}

#[test]
fn frozen_weights_get_no_gradient() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let x = random(&mut rng, &[5, 4]);
    let w = random(&mut rng, &[3, 4]);
    let frozen = w.as_detached_tensor();
    let grads = ops::linear(&x, &frozen, None).unwrap().sum_all().unwrap().backward().unwrap();
    assert!(grads.get(&x).is_some());
    assert!(grads.get(&frozen).is_none());
}

#[test]
fn rows_are_written_in_place() {
    let buffer = Tensor::zeros((4, 2), DType::F32, &Device::Cpu).unwrap();
    let new = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu).unwrap();
    ops::write_rows(&buffer, &new, &[2, 0]).unwrap();
    let expected = vec![vec![3f32, 4.], vec![0., 0.], vec![1., 2.], vec![0., 0.]];
    assert_eq!(buffer.to_vec2::<f32>().unwrap(), expected);
    assert!(ops::write_rows(&buffer, &new, &[4, 0]).is_err());
}

#[test]
fn adamw_walks_as_by_hand() {
    let var = Var::from_tensor(&Tensor::new(&[1f32, -2.], &Device::Cpu).unwrap()).unwrap();
    let options = ops::AdamWOptions { weight_decay: 0.1, ..Default::default() };
    let mut adamw = ops::AdamW::new(vec![("p".into(), var.clone())], options);
    let factor = Tensor::new(&[3f32, 4.], &Device::Cpu).unwrap();
    let grads = (var.as_tensor() * factor).unwrap().sum_all().unwrap().backward().unwrap();
    assert_eq!(adamw.step(&grads, 0.01, Some(1.0)).unwrap(), 5.0);
    // The first step moves each value by lr against the gradient's sign, after the decay.
    let after = var.to_vec1::<f32>().unwrap();
    assert!((after[0] - (1.0 * (1.0 - 0.001) - 0.01)).abs() < 1e-6);
    assert!((after[1] - (-2.0 * (1.0 - 0.001) - 0.01)).abs() < 1e-6);
}
