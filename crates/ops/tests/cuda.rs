//! The kernels for GPUs against the composite reference: values and gradients, on random shapes; and
//! the optimizer against its form for the CPU. They need a GPU, and a build with the feature `cuda`.

#![cfg(feature = "cuda")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use candle_core::{DType, Device, Tensor, Var};
use mmrag_ops::{self as ops, AdamW, AdamWOptions, reference};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use support::{check_on, random, trees};

fn gpu() -> Device {
    Device::new_cuda(0).unwrap()
}

/// A frozen weight of 16-bit numbers on the GPU.
fn sixteen_bits(seed: u64, shape: &[usize], dtype: DType) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let w = random(&mut rng, shape).as_detached_tensor();
    w.to_device(&gpu()).unwrap().to_dtype(dtype).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn linear(seed in any::<u64>(), t in 1usize..300, d in 1usize..600, n in 1usize..90) {
        check_on(&gpu(), seed, &[&[t, d], &[n, d], &[n]],
            |x| ops::linear(&x[0], &x[1], Some(&x[2])),
            |x| reference::linear(&x[0], &x[1])?.broadcast_add(&x[2]));
        for dtype in [DType::BF16, DType::F16] {
            let w = sixteen_bits(seed ^ 1, &[n, d], dtype);
            check_on(&gpu(), seed, &[&[t, d]], |x| ops::linear(&x[0], &w, None),
                |x| reference::linear(&x[0], &w));
        }
    }

    #[test]
    fn lora(seed in any::<u64>(), t in 1usize..200, d in 1usize..300, n in 1usize..90, r in 1usize..9) {
        for dtype in [DType::BF16, DType::F32] {
            let w = sixteen_bits(seed ^ 1, &[n, d], dtype);
            check_on(&gpu(), seed, &[&[t, d], &[r, d], &[n, r]],
                |x| ops::lora_linear(&x[0], &w, &x[1], &x[2], 0.7),
                |x| {
                    let low = reference::linear(&reference::linear(&x[0], &x[1])?, &x[2])?;
                    reference::linear(&x[0], &w)? + (low * 0.7)?
                });
        }
    }

    #[test]
    fn few_rows(seed in any::<u64>(), t in 1usize..20, eights in 1usize..400, n in 1usize..90, r in 1usize..9) {
        let d = 8 * eights;
        for dtype in [DType::BF16, DType::F32] {
            let w = sixteen_bits(seed ^ 1, &[n, d], dtype);
            check_on(&gpu(), seed, &[&[t, d]], |x| ops::linear(&x[0], &w, None),
                |x| reference::linear(&x[0], &w));
            check_on(&gpu(), seed, &[&[t, d], &[r, d], &[n, r]],
                |x| ops::lora_linear(&x[0], &w, &x[1], &x[2], 0.7),
                |x| {
                    let low = reference::linear(&reference::linear(&x[0], &x[1])?, &x[2])?;
                    reference::linear(&x[0], &w)? + (low * 0.7)?
                });
        }
    }

    #[test]
    fn pointwise(seed in any::<u64>(), t in 1usize..70, h in 1usize..4, p in 1usize..200) {
        let (gpu, d) = (&gpu(), 2 * p);
        let gain = sixteen_bits(seed ^ 2, &[d], DType::F32);
        check_on(gpu, seed, &[&[t, h, d]], |x| ops::rms_norm(&x[0], &gain, 1e-6),
            |x| reference::rms_norm(&x[0], &gain, 1e-6));
        check_on(gpu, seed, &[&[t, h, d], &[d]], |x| ops::rms_norm(&x[0], &x[1], 1e-6),
            |x| reference::rms_norm(&x[0], &x[1], 1e-6));
        check_on(gpu, seed, &[&[t, d], &[t, d]], |x| ops::swiglu(&x[0], &x[1]),
            |x| reference::swiglu(&x[0], &x[1]));
        let angle = sixteen_bits(seed ^ 1, &[t, p], DType::F32);
        let (cos, sin) = (angle.cos().unwrap(), angle.sin().unwrap());
        check_on(gpu, seed, &[&[t, h, d]], |x| ops::rope(&x[0], &cos, &sin),
            |x| reference::rope(&x[0], &cos, &sin));
        // A part of a wider tensor, as heads of one projection are.
        check_on(gpu, seed, &[&[t, h, 2, d]],
            |x| ops::rope(&x[0].narrow(2, 1, 1)?.squeeze(2)?, &cos, &sin),
            |x| reference::rope(&x[0].narrow(2, 1, 1)?.squeeze(2)?, &cos, &sin));
    }

    #[test]
    fn attention_of_trees(
        seed in any::<u64>(),
        lengths in prop::collection::vec((1usize..200, prop::collection::vec(1usize..20, 0..5)), 1..4),
        g in 1usize..4, per in 1usize..4, k in 1usize..70,
    ) {
        let (plan, t) = trees(&lengths);
        let scale = 1.0 / (k as f64).sqrt();
        check_on(&gpu(), seed, &[&[t, g * per, k], &[t, g, k], &[t, g, k]],
            |x| ops::attention(&x[0], &x[1], &x[2], &plan, scale),
            |x| reference::attention(&x[0], &x[1], &x[2], &plan, scale));
    }

    #[test]
    fn rows(seed in any::<u64>(), rows in prop::collection::vec(0usize..300, 1..150), width in 1usize..300) {
        let mut rows = rows;
        rows.sort_unstable();
        rows.dedup();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let [buffer, new] = [300, rows.len()].map(|n| random(&mut rng, &[n, width]).as_detached_tensor());
        let there = buffer.to_device(&gpu()).unwrap();
        ops::write_rows(&there, &new.to_device(&gpu()).unwrap(), &rows).unwrap();
        ops::write_rows(&buffer, &new, &rows).unwrap();
        assert_eq!(there.to_vec2::<f32>().unwrap(), buffer.to_vec2::<f32>().unwrap());
    }
}

#[test]
fn the_optimizer_steps_as_on_the_cpu_and_its_state_goes_over() {
    let step = |device: &Device, again: bool| {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let start = random(&mut rng, &[70, 50]).as_detached_tensor().to_device(device).unwrap();
        let var = Var::from_tensor(&start).unwrap();
        let named = || vec![("w".to_owned(), var.clone())];
        let mut optimizer = AdamW::new(named(), AdamWOptions::default());
        let mut norms = vec![];
        for index in 0..4 {
            if again && index == 2 {
                let state = optimizer.state().unwrap().into_iter().collect();
                optimizer = AdamW::new(named(), AdamWOptions::default());
                optimizer.load_state(2, &state).unwrap();
            }
            let weight =
                random(&mut rng, &[70, 50]).as_detached_tensor().to_device(device).unwrap();
            let loss = (var.as_tensor() * weight).unwrap().sqr().unwrap().sum_all().unwrap();
            norms.push(optimizer.step(&loss.backward().unwrap(), 1e-2, Some(1.0)).unwrap());
        }
        (var.flatten_all().unwrap().to_vec1::<f32>().unwrap(), norms)
    };
    let (expected, norms) = step(&Device::Cpu, false);
    for again in [false, true] {
        let (found, found_norms) = step(&gpu(), again);
        for (a, b) in found.iter().zip(&expected) {
            assert!((a - b).abs() < 2e-6, "{a} instead of {b}");
        }
        for (a, b) in found_norms.iter().zip(&norms) {
            assert!((a - b).abs() < 1e-4 * b, "{a} instead of {b}");
        }
    }
}
