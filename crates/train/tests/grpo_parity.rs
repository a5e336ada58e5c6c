//! Advantages, losses, gradients and metrics agree with the numbers TRL gives in float64.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use std::path::PathBuf;

use mmrag_train::{
    AdvantageRule, Aggregation, LossKind, LossRow, LossRule, RatioLevel, Scale, Totals, advantages,
    policy_loss,
};
use proptest::prelude::*;
use serde_json::Value;

const TOLERANCE: f64 = 1e-9;

fn fixture() -> Value {
    let folder = std::env::var_os("MMRAG_FIXTURES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"),
        PathBuf::from,
    );
    let text = std::fs::read_to_string(folder.join("grpo.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn get<T: serde::de::DeserializeOwned>(case: &Value, name: &str) -> T {
    serde_json::from_value(case[name].clone()).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn close(found: f64, expected: f64, what: &str) {
    assert!((found - expected).abs() <= TOLERANCE, "{what}: {found} instead of {expected}");
}

#[test]
fn advantages_agree() {
    let cases: Vec<Value> = get(&fixture(), "advantages");
    assert_eq!(cases.len(), 8);
    for (i, case) in cases.iter().enumerate() {
        let rule = AdvantageRule {
            scale: get::<Scale>(case, "scale_rewards"),
            aggregation: get::<Aggregation>(case, "aggregation"),
            std_floor: 0.0,
        };
        let rewards: Vec<Vec<Option<f64>>> = get(case, "rewards");
        let weights: Vec<f64> = get(case, "weights");
        let expected: Vec<f64> = get(case, "advantages");
        let found = advantages(&rewards, &weights, get(case, "group_size"), &rule);
        assert_eq!(found.len(), expected.len());
        for (n, (found, expected)) in found.iter().zip(&expected).enumerate() {
            close(*found, *expected, &format!("case {i}, reply {n}"));
        }
    }
}

fn rule(case: &Value) -> LossRule {
    LossRule {
        kind: get::<LossKind>(case, "loss_type"),
        level: get::<RatioLevel>(case, "importance_sampling_level"),
        epsilon_low: get(case, "epsilon_low"),
        epsilon_high: get(case, "epsilon_high"),
        delta: get(case, "delta"),
        cispo_cap: get(case, "epsilon_high"),
        beta: get(case, "beta"),
    }
}

#[test]
fn losses_gradients_and_metrics_agree() {
    let cases: Vec<Value> = get(&fixture(), "losses");
    assert_eq!(cases.len(), 56);
    for (i, case) in cases.iter().enumerate() {
        check_loss(case, &format!("case {i} ({})", case["loss_type"]));
    }
}

fn check_loss(case: &Value, what: &str) {
    let mask: Vec<Vec<f64>> = get(case, "mask");
    let ragged = |name: &str| -> Vec<Vec<f64>> {
        let rows: Vec<Vec<f64>> = get(case, name);
        let keep = |(row, mask): (&Vec<f64>, &Vec<f64>)| {
            row.iter().zip(mask).filter(|(_, m)| **m > 0.0).map(|(v, _)| *v).collect()
        };
        rows.iter().zip(&mask).map(keep).collect()
    };
    let (logprobs, old, reference) =
        (ragged("logprobs"), ragged("old_logprobs"), ragged("ref_logprobs"));
    let advantages: Vec<f64> = get(case, "advantages");
    // The entropies are an input of the case of which only the mean is told.
    let entropy: f64 = get(&case["metrics"], "entropy");
    let entropies: Vec<Vec<f64>> = logprobs.iter().map(|row| vec![entropy; row.len()]).collect();
    let rows: Vec<LossRow<'_>> = (0..logprobs.len())
        .map(|i| LossRow {
            logprobs: &logprobs[i],
            old_logprobs: Some(&old[i]),
            ref_logprobs: Some(&reference[i]),
            entropies: &entropies[i],
            advantage: advantages[i],
        })
        .collect();
    let totals = Totals {
        rows: rows.len(),
        tokens: logprobs.iter().map(Vec::len).sum(),
        max_completion_tokens: get(case, "max_completion_length"),
    };
    let output = policy_loss(&rule(case), &rows, totals);
    close(output.loss, get(case, "loss"), &format!("{what}: loss"));
    for (row, (found, expected)) in output.gradients.iter().zip(ragged("grad")).enumerate() {
        assert_eq!(found.len(), expected.len());
        for (t, (found, expected)) in found.iter().zip(&expected).enumerate() {
            close(*found, *expected, &format!("{what}: gradient at {row}, {t}"));
        }
    }
    let metrics = output.tally.metrics();
    let expected = case["metrics"].as_object().unwrap();
    assert_eq!(metrics.iter().count(), expected.len(), "{what}: {metrics:?}");
    for (name, value) in expected {
        let found = metrics.get(name).unwrap_or_else(|| panic!("{what}: no {name}"));
        close(found, value.as_f64().unwrap(), &format!("{what}: {name}"));
    }
}

proptest! {
    /// The analytic gradient is the slope of the loss, and an update split in two passes adds up.
    #[test]
    fn gradient_is_the_slope(
        kind in prop::sample::select(vec![
            LossKind::Grpo, LossKind::Bnpo, LossKind::DrGrpo, LossKind::Dapo,
        ]),
        level in prop::sample::select(vec![RatioLevel::Token, RatioLevel::Sequence]),
        delta in prop::option::of(1.05..2.0_f64),
        values in prop::collection::vec((-3.0..-0.1_f64, -0.4..0.4_f64, -0.4..0.4_f64), 6),
        advantages in (-2.0..2.0_f64, -2.0..2.0_f64),
        split in 0..7_usize,
        at in 0..6_usize,
    ) {
        let rule = LossRule {
            kind, level, delta, epsilon_low: 0.2, epsilon_high: 0.28, cispo_cap: 5.0, beta: 0.1,
        };
        let totals = Totals { rows: 2, tokens: 6, max_completion_tokens: 7 };
        let old: Vec<f64> = values.iter().map(|v| v.0 + v.1).collect();
        let reference: Vec<f64> = values.iter().map(|v| v.0 + v.2).collect();
        let run = |logprobs: &[f64]| {
            let row = |from: usize, to: usize, advantage| LossRow {
                logprobs: &logprobs[from..to],
                old_logprobs: Some(&old[from..to]),
                ref_logprobs: Some(&reference[from..to]),
                entropies: &[],
                advantage,
            };
            let rows = [row(0, split.min(6), advantages.0), row(split.min(6), 6, advantages.1)];
            let whole = policy_loss(&rule, &rows, totals);
            let parts: f64 =
                rows.iter().map(|r| policy_loss(&rule, &[*r], totals).loss).sum();
            (whole.loss, parts, whole.gradients.concat())
        };
        let logprobs: Vec<f64> = values.iter().map(|v| v.0).collect();
        let step = 1e-6;
        let moved = |by: f64| {
            let mut moved = logprobs.clone();
            moved[at] += by;
            run(&moved).0
        };
        let (loss, parts, gradient) = run(&logprobs);
        prop_assert!((loss - parts).abs() < 1e-12);
        // At a kink of the clip the slope is not defined.
        let (below, above) = ((loss - moved(-step)) / step, (moved(step) - loss) / step);
        prop_assume!((below - above).abs() < 1e-4);
        let slope = f64::midpoint(below, above);
        prop_assert!((slope - gradient[at]).abs() < 1e-6, "{slope} and {}", gradient[at]);
    }
}
