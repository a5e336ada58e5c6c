//! Curves of trainings, read back from what they logged: loss, reward and its parts, divergence, and
//! the score on dev.

use std::path::Path;

use anyhow::Context as _;
use mmrag_rag::report::Curve;
use serde_json::Value;

/// The curves of a training from its `metrics.jsonl`, under this name.
///
/// # Errors
///
/// When the file cannot be read.
pub(crate) fn curves(run: &str, metrics: &Path) -> anyhow::Result<Vec<Curve>> {
    let text = std::fs::read_to_string(metrics)
        .with_context(|| format!("failed to read {}", metrics.display()))?;
    Ok(of_run(run, &text))
}

fn of_run(run: &str, lines: &str) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    for line in lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let Some(step) = line["step"].as_f64() else { continue };
        for (name, value) in line.as_object().into_iter().flatten() {
            let (Some(part), Some(value)) = (part(name), value.as_f64()) else { continue };
            if let Some(curve) = curves.iter_mut().find(|curve| curve.part == part) {
                curve.points.push([step, value]);
            } else {
                curves.push(Curve { run: run.to_owned(), part, points: vec![[step, value]] });
            }
        }
    }
    curves
}

fn part(name: &str) -> Option<String> {
    if let Some(term) = name.strip_prefix("rewards/").and_then(|n| n.strip_suffix("/mean")) {
        return Some(format!("reward/{term}"));
    }
    match name {
        "reward" | "kl" => Some(name.to_owned()),
        "loss" => Some("loss".to_owned()),
        "eval_score" => Some("dev score".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::of_run;

    #[test]
    fn curves_are_read_from_the_log() {
        let log = "{\"step\":1,\"reward\":0.5,\"rewards/answer/mean\":0.25,\"entropy\":1}\n\
                   {\"step\":2,\"reward\":0.75}\n{\"step\":2,\"eval_score\":0.5}\n{\"step\":3,\"rew";
        let curves = of_run("rank", log);
        let found: Vec<_> = curves.iter().map(|c| (c.part.as_str(), c.points.as_slice())).collect();
        let expected: [(&str, &[[f64; 2]]); 3] = [
            ("reward", &[[1.0, 0.5], [2.0, 0.75]]),
            ("reward/answer", &[[1.0, 0.25]]),
            ("dev score", &[[2.0, 0.5]]),
        ];
        assert_eq!(found, expected);
    }
}
