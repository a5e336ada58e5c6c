//! How sure the policy is of its answer.

use mmrag_core::{Completion, Generate, Message, Part, Prompt, Role};
use serde::{Deserialize, Serialize};

const OPENING: &str = "<answer>";
const CLOSING: &str = "</answer>";

/// The mean probability of the tokens between `<answer>` and `</answer>` of a reply, in [0, 1].
///
/// An engine tells probabilities by token and not where a token stands in the text. So the text
/// before the answer, and the text with it, are counted by the engine's own tokenizer. Where that
/// does not give the number of tokens that were drawn (a text can be drawn as other tokens than it
/// is read as), the mean over the whole reply is taken. None if the engine tells no probabilities
/// or the reply has no answer.
pub fn answer_confidence(engine: &dyn Generate, completion: &Completion) -> Option<f64> {
    let logprobs = &completion.sampled_logprobs;
    let text = &completion.text;
    let start = text.find(OPENING)? + OPENING.len();
    let end = start + text[start..].find(CLOSING)?;
    let count = |text: &str| count_reply(engine, text);
    let whole = count(text);
    let is_same_cut = whole.is_some_and(|n| n == logprobs.len() || n + 1 == logprobs.len());
    let tokens = match (is_same_cut, count(&text[..start]), count(&text[..end])) {
        (true, Some(first), Some(last)) if first < last => logprobs.get(first..last),
        _ => Some(&logprobs[..]),
    };
    let tokens = tokens.filter(|tokens| !tokens.is_empty())?;
    let sum: f64 = tokens.iter().map(|logprob| f64::from(*logprob).exp()).sum();
    Some((sum / tokens.len() as f64).clamp(0.0, 1.0))
}

/// Tokens that a text takes as the beginning of a reply.
fn count_reply(engine: &dyn Generate, text: &str) -> Option<usize> {
    let prompt = |reply_prefix: &str| Prompt {
        messages: vec![Message { role: Role::User, parts: vec![Part::Text("?".into())] }],
        reply_prefix: reply_prefix.to_owned(),
        reasons: true,
    };
    let whole = engine.count_tokens(&prompt(text)).ok()?;
    whole.checked_sub(engine.count_tokens(&prompt("")).ok()?)
}

/// A monotone map from a raw confidence to the share of answers that are right at it, learned on
/// dev.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConfidenceMap {
    /// Raw confidence and share right, both ascending. Between points the map is linear, beyond
    /// them constant. Without points it changes nothing.
    pub points: Vec<[f64; 2]>,
}

impl ConfidenceMap {
    /// Learns the map from answers: raw confidence, and whether the answer was right. Isotonic
    /// regression by pooling adjacent violators: the non-decreasing step function with the least
    /// squared error, one point a step at its mean confidence.
    pub fn fit(answers: &[(f64, bool)]) -> Self {
        let mut sorted = answers.to_vec();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        // Steps as (sum of confidences, number right, number).
        let mut steps: Vec<(f64, f64, f64)> = Vec::new();
        for (confidence, is_right) in sorted {
            steps.push((confidence, f64::from(is_right), 1.0));
            while let [.., a, b] = steps[..]
                && a.1 / a.2 >= b.1 / b.2
            {
                steps.truncate(steps.len() - 2);
                steps.push((a.0 + b.0, a.1 + b.1, a.2 + b.2));
            }
        }
        Self { points: steps.into_iter().map(|(sum, right, n)| [sum / n, right / n]).collect() }
    }

    /// The calibrated confidence.
    pub fn apply(&self, raw: f64) -> f64 {
        let after = self.points.partition_point(|point| point[0] <= raw);
        match (after.checked_sub(1).map(|i| self.points[i]), self.points.get(after)) {
            (None, None) => raw,
            (Some([_, share]), None) | (None, Some(&[_, share])) => share,
            (Some([x0, y0]), Some(&[x1, y1])) => y0 + (y1 - y0) * (raw - x0) / (x1 - x0),
        }
    }
}

#[cfg(test)]
mod tests {
    use mmrag_core::Finish;

    use super::*;
    use crate::fakes::ScriptedGenerate;

    fn confidence(text: &str, probabilities: &[f64]) -> Option<f64> {
        let completion = Completion {
            text: text.into(),
            tokens: vec![0; probabilities.len()],
            sampled_logprobs: probabilities.iter().map(|p| p.ln() as f32).collect(),
            finish: Finish::Stop,
        };
        answer_confidence(&ScriptedGenerate::new(|_| String::new()), &completion)
    }

    fn check(found: Option<f64>, expected: f64) {
        assert!((found.unwrap() - expected).abs() < 1e-6, "{found:?} is not {expected}");
    }

    #[test]
    fn only_the_answers_tokens_count() {
        // The fake's tokens are words; the last probability is of the end of the turn.
        let text = "<rank> [1] </rank> <answer> red house </answer>";
        check(confidence(text, &[0.1, 0.1, 0.1, 0.1, 0.5, 0.7, 0.1, 0.1]), 0.6);
        check(confidence(text, &[0.1, 0.1, 0.1, 0.1, 0.5, 0.7, 0.1]), 0.6);
    }

    #[test]
    fn another_cut_takes_the_whole_reply() {
        check(confidence("<answer> red </answer>", &[0.2, 0.4]), 0.3);
        assert_eq!(confidence("<answer> red </answer>", &[]), None);
        assert_eq!(confidence("no tags", &[0.5, 0.5]), None);
    }

    #[test]
    fn the_map_is_monotone_and_pools_what_is_not() {
        let answers = [(0.1, false), (0.3, true), (0.5, false), (0.9, true)];
        let map = ConfidenceMap::fit(&answers);
        assert_eq!(map.points, [[0.1, 0.0], [0.4, 0.5], [0.9, 1.0]]);
        for (raw, expected) in [(0.0, 0.0), (0.4, 0.5), (0.65, 0.75), (1.0, 1.0)] {
            assert!((map.apply(raw) - expected).abs() < 1e-12);
        }
        assert_eq!(ConfidenceMap::default().apply(0.37), 0.37);
    }
}
