//! What is told of a pass from shapes alone is what the pass then does. Only one test here makes
//! products: they are counted for the whole process.

use std::path::Path;

use mmrag_model::{
    ALL_TARGETS, Adapter, Cost, Grad, Group, LoraSpec, Placement, Policy, Precision,
};
use mmrag_model::{Shared, Trained};
use mmrag_ops::{backward, product_flops};

/// Share by which counted operations may differ: attention is computed in blocks, of which some
/// are partly masked.
const TOLERANCE: f64 = 0.1;

#[test]
fn an_updates_operations_are_foreseen() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/qwen3_vl_tiny");
    let policy = Policy::load_for_measurement(&dir, &Placement::cpu(Precision::F32)).unwrap();
    let cost = Cost::read(&dir, Precision::F32).unwrap();
    let spec = LoraSpec { r: 4, alpha: 8.0, targets: ALL_TARGETS.map(str::to_owned).to_vec() };
    let adapter = Adapter::new(policy.vlm(), &spec, 0).unwrap();
    let shared = Shared { prompt: 300, replies: 6, new: 40 };
    let words = |n: usize, first: u32| (0..n as u32).map(|at| 5 + (first + at) % 200).collect();
    let tokens: Vec<u32> = words(shared.prompt, 0);
    let prompt = policy.encode_tokens(&tokens, &[]).unwrap();
    let replies = (0..shared.replies as u32).map(|nth| words(shared.new, nth)).collect();
    let groups = [Group { prompt, replies }];
    for (trained, grad, adapter) in
        [(Trained::Adapter(4), Grad::Adapter, Some(&adapter)), (Trained::Full, Grad::Full, None)]
    {
        for checkpointing in [false, true] {
            let before = product_flops();
            let actor = policy.with(adapter).with_checkpointing(checkpointing);
            let scores = actor.logprobs(&groups, 1.0, grad).unwrap();
            backward(&scores.logprobs_t.sum_all().unwrap()).unwrap();
            let done = (product_flops() - before) as f64;
            let told = cost.update_flops(shared, trained, checkpointing);
            assert!(
                (told / done - 1.0).abs() < TOLERANCE,
                "{trained:?}, checkpointing {checkpointing}: told {told:.3e}, done {done:.3e}"
            );
        }
    }
}

#[test]
fn trained_values_are_the_adapters() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/qwen3_vl_tiny");
    let cost = Cost::read(&dir, Precision::F32).unwrap();
    let policy = Policy::load_for_measurement(&dir, &Placement::cpu(Precision::F32)).unwrap();
    let spec = LoraSpec { r: 4, alpha: 8.0, targets: ALL_TARGETS.map(str::to_owned).to_vec() };
    let adapter = Adapter::new(policy.vlm(), &spec, 0).unwrap();
    let values: usize = adapter.vars().iter().map(|(_, var)| var.elem_count()).sum();
    assert_eq!(cost.trained_values(Trained::Adapter(4)), values);
    let weights: usize = policy.vars().iter().map(|(_, var)| 4 * var.elem_count()).sum();
    assert_eq!(cost.weights_bytes(), weights);
}
