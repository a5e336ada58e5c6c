//! Drawing one token from logits.

use mmrag_core::Sampling;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::vlm::stream;

/// A drawn token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Drawn {
    pub(crate) token: u32,
    /// Under the softmax at the sampling temperature over the whole vocabulary.
    pub(crate) logprob: f32,
}

/// Tokens that a guide may refuse at one place before it is given up there.
const MAX_REFUSED: usize = 512;

/// How logits become probabilities.
struct Shares {
    /// The most probable token.
    best: usize,
    /// One over the temperature.
    inverse: f32,
    /// The largest logit over the temperature.
    largest: f32,
    /// What all weights add up to.
    total: f64,
}

impl Shares {
    fn logprob(&self, logit: f32) -> f32 {
        (f64::from(logit * self.inverse - self.largest) - self.total.ln()) as f32
    }
}

/// Draws the tokens of one completion.
pub(crate) struct Sampler {
    temperature: f64,
    top_p: f64,
    top_k: usize,
    rng: ChaCha8Rng,
}

impl Sampler {
    /// The sampler of the `sample`-th completion of the `prompt`-th prompt.
    pub(crate) fn new(sampling: &Sampling, prompt: usize, sample: usize) -> Self {
        Self {
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            top_k: sampling.top_k,
            rng: stream("sample", sampling.seed, &format!("{prompt}/{sample}")),
        }
    }

    pub(crate) fn draw(&mut self, logits: &[f32]) -> Drawn {
        let shares = self.shares(logits);
        let Shares { best, inverse, largest, total } = shares;
        let greedy = self.temperature <= 0.0;
        let token = if greedy { best } else { self.pick(logits, (inverse, largest), total) };
        Drawn { token: token as u32, logprob: shares.logprob(logits[token]) }
    }

    fn shares(&self, logits: &[f32]) -> Shares {
        let greedy = self.temperature <= 0.0;
        let inverse = if greedy { 1.0 } else { (1.0 / self.temperature) as f32 };
        let best = argmax(logits);
        let largest = logits[best] * inverse;
        let total = logits.iter().map(|l| f64::from(l * inverse - largest).exp()).sum();
        Shares { best, inverse, largest, total }
    }

    /// Draws until a token is allowed, each time from those that were not refused. None if none of
    /// many is. The log-probability is that without a guide.
    pub(crate) fn draw_allowed(
        &mut self,
        logits: &[f32],
        is_allowed: &dyn Fn(u32) -> bool,
    ) -> Option<Drawn> {
        let mut drawn = self.draw(logits);
        let mut left: Option<Vec<f32>> = None;
        for _ in 0..MAX_REFUSED {
            if is_allowed(drawn.token) {
                let logprob = self.shares(logits).logprob(logits[drawn.token as usize]);
                return Some(Drawn { logprob, ..drawn });
            }
            let left = left.get_or_insert_with(|| logits.to_vec());
            left[drawn.token as usize] = f32::NEG_INFINITY;
            drawn = self.draw(left);
        }
        None
    }

    fn pick(&mut self, logits: &[f32], (inverse, largest): (f32, f32), total: f64) -> usize {
        let weight = |token: usize| f64::from(logits[token] * inverse - largest).exp();
        let draw: f64 = self.rng.random();
        if self.top_p >= 1.0 && self.top_k == 0 {
            return take(0..logits.len(), weight, draw * total);
        }
        let mut tokens: Vec<usize> = (0..logits.len()).collect();
        tokens.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        if self.top_k > 0 {
            tokens.truncate(self.top_k);
        }
        let mut kept = 0.0;
        let enough = tokens.iter().position(|&token| {
            kept += weight(token);
            kept >= self.top_p * total
        });
        tokens.truncate(enough.map_or(tokens.len(), |last| last + 1));
        let kept: f64 = tokens.iter().map(|&token| weight(token)).sum();
        take(tokens.into_iter(), weight, draw * kept)
    }
}

/// The token at which the weights, added up, pass `threshold`; the last one if none does.
fn take(
    tokens: impl Iterator<Item = usize>,
    weight: impl Fn(usize) -> f64,
    threshold: f64,
) -> usize {
    let (mut sum, mut last) = (0.0, 0);
    for token in tokens {
        last = token;
        sum += weight(token);
        if sum > threshold {
            break;
        }
    }
    last
}

/// The first of the largest.
fn argmax(logits: &[f32]) -> usize {
    let larger = |best: usize, (index, logit): (usize, &f32)| {
        if *logit > logits[best] { index } else { best }
    };
    logits.iter().enumerate().fold(0, larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling(temperature: f64, top_p: f64, top_k: usize) -> Sampling {
        Sampling { temperature, top_p, top_k, max_new_tokens: 1, n: 1, seed: 7 }
    }

    fn frequencies(sampling: &Sampling, logits: &[f32]) -> Vec<f64> {
        let mut counts = vec![0.0; logits.len()];
        for index in 0..20_000 {
            counts[Sampler::new(sampling, index, 0).draw(logits).token as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    #[test]
    fn tokens_come_as_often_as_they_are_probable() {
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let check = |sampling: &Sampling, expected: [f64; 3]| {
            let found = frequencies(sampling, &logits);
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 0.015, "{found} instead of {expected}");
            }
        };
        check(&sampling(1.0, 1.0, 0), [0.5, 0.3, 0.2]);
        check(&sampling(1.0, 1.0, 2), [0.625, 0.375, 0.0]);
        check(&sampling(1.0, 0.7, 0), [0.625, 0.375, 0.0]);
        check(&sampling(0.5, 1.0, 0), [0.25 / 0.38, 0.09 / 0.38, 0.04 / 0.38]);
        check(&sampling(0.0, 1.0, 0), [1.0, 0.0, 0.0]);
    }

    #[test]
    fn what_is_refused_is_not_drawn_and_the_rest_is_by_its_share() {
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let mut counts = [0.0f64; 3];
        for index in 0..20_000 {
            let mut sampler = Sampler::new(&sampling(1.0, 1.0, 0), index, 0);
            let drawn = sampler.draw_allowed(&logits, &|token| token != 0).unwrap();
            assert!((drawn.logprob - logits[drawn.token as usize]).abs() < 1e-6);
            counts[drawn.token as usize] += 1.0 / 20_000.0;
        }
        for (found, expected) in counts.iter().zip([0.0, 0.6, 0.4]) {
            assert!((found - expected).abs() < 0.015, "{found} instead of {expected}");
        }
        let mut greedy = Sampler::new(&sampling(0.0, 1.0, 0), 0, 0);
        assert_eq!(greedy.draw_allowed(&logits, &|token| token == 2).unwrap().token, 2);
        assert!(greedy.draw_allowed(&logits, &|_| false).is_none());
    }

    #[test]
    fn logprobs_are_those_of_the_whole_vocabulary() {
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln()];
        let drawn = Sampler::new(&sampling(1.0, 0.4, 1), 0, 0).draw(&logits);
        assert!((drawn.logprob - 0.5f32.ln()).abs() < 1e-6);
    }
}
