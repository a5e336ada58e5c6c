//! The filter's update without sampling.
//!
//! A verdict is one of two, so the expected reward `J = p·r_yes + (1 - p)·r_no` is known, with
//! `p = sigmoid(g)` and `g` the gap between the log-probabilities of Yes and No where the two
//! replies part. Its derivative is `dJ/dg = p (1 - p) (r_yes - r_no)`: no draws, no variance. The
//! divergence from the reference is that of the two Bernoulli distributions, whose derivative with
//! respect to `g` is `p (1 - p) (g - g_ref)`.

use mmrag_core::{Completion, EngineError, Finish};
use mmrag_task::{Reply, Stage};

use crate::batch::{PassSettings, gradients, group_tokens, score};
use crate::cases::{Cases, Draw, TrainingCase};
use crate::error::TrainError;
use crate::learner::{Learner, ReplyGroup, View};
use crate::metrics::Metrics;
use crate::rollout::{Ready, encode_all};
use crate::session::Session;
use crate::settings::GrpoSettings;

/// A case with its two replies and what each is worth.
struct Verdict {
    helps: bool,
    weight: f64,
    reward_yes: f64,
    reward_no: f64,
}

/// One step of the filter stage by the exact gradient.
pub(crate) fn exact_step<L: Learner>(
    session: &mut Session<'_, '_, L>,
    stage: &Stage,
    cases: &mut Cases<'_>,
    settings: &GrpoSettings,
    draw: Draw,
) -> Result<Metrics, TrainError> {
    let learner = session.learner;
    let drawn = cases.draw(draw, &|cases| p_helps(learner, stage, cases, settings, draw.step))?;
    let Ready { cases, skipped } = encode_all(learner, stage, drawn, draw.step)?;
    let told = TrainError::policy("encode the verdicts", draw.step);
    let replies = Replies::new(learner, stage).map_err(told)?;
    let verdicts: Vec<Verdict> =
        cases.iter().map(|(case, _)| verdict(stage, case, &replies)).collect();
    let group = |(_, prompt)| ReplyGroup { prompt, replies: replies.branches.to_vec() };
    let groups: Vec<ReplyGroup<L::Encoded>> = cases.into_iter().map(group).collect();
    let how = PassSettings {
        tokens_per_pass: settings.tokens_per_pass,
        temperature: settings.rollout.temperature,
        step: draw.step,
    };
    let beta = settings.loss.beta;
    let reference = match beta {
        0.0 => None,
        _ => Some(gaps(&score(learner, &groups, &how, View::Reference)?)),
    };
    let mut measured = Measured::default();
    let share = 1.0 / verdicts.len() as f64;
    let gradients = gradients(learner, &groups, &how, |first, scores| {
        let rows: Vec<Vec<f64>> = scores.rows().map(|row| row.logprobs.to_vec()).collect();
        let mut slopes = Vec::with_capacity(rows.len());
        for (offset, pair) in rows.chunks(2).enumerate() {
            let index = first / 2 + offset;
            let verdict = &verdicts[index];
            let gap = gap(pair);
            let reference = reference.as_ref().map(|gaps| gaps[index]);
            measured.add(verdict, pair, reference);
            let slope = share * slope(verdict, gap, beta, reference);
            slopes.extend([(&pair[0], slope), (&pair[1], -slope)].map(at_branch));
        }
        slopes
    })?;
    let (norm, rate) = session.update(&gradients)?;
    let tokens = groups.iter().map(|group| group_tokens(learner, group)).sum();
    let mut metrics = measured.metrics(beta);
    session.tell_skipped(&skipped, &mut metrics);
    metrics.set("grad_norm", norm);
    metrics.set("learning_rate", rate);
    metrics.set("num_tokens", session.count_tokens(tokens));
    Ok(metrics)
}

/// P(Yes) / (P(Yes) + P(No)) of each case under the weights as they stand; 0 of a case whose prompt
/// cannot be made.
///
/// # Errors
///
/// When the policy fails.
pub(crate) fn p_helps<L: Learner>(
    learner: &L,
    stage: &Stage,
    cases: &[TrainingCase],
    settings: &GrpoSettings,
    step: usize,
) -> Result<Vec<f64>, TrainError> {
    let told = TrainError::policy("encode the verdicts", step);
    let replies = Replies::new(learner, stage).map_err(told)?;
    let mut places = Vec::with_capacity(cases.len());
    let mut groups = Vec::with_capacity(cases.len());
    for (place, case) in cases.iter().enumerate() {
        if let Ok(prompt) = learner.encode(&stage.prompt(&case.case)) {
            places.push(place);
            groups.push(ReplyGroup { prompt, replies: replies.branches.to_vec() });
        }
    }
    let tokens_per_pass = settings.tokens_per_pass;
    let how = PassSettings { tokens_per_pass, temperature: 1.0, step };
    let mut scores = vec![0.0; cases.len()];
    for (place, gap) in places.into_iter().zip(gaps(&score(learner, &groups, &how, View::Current)?))
    {
        scores[place] = sigmoid(gap);
    }
    Ok(scores)
}

/// The derivative of a case's loss with respect to the gap.
fn slope(verdict: &Verdict, gap: f64, beta: f64, reference: Option<f64>) -> f64 {
    let p = sigmoid(gap);
    let pull = verdict.weight * (verdict.reward_yes - verdict.reward_no);
    let divergence = reference.map_or(0.0, |reference| beta * (gap - reference));
    p * (1.0 - p) * (divergence - pull)
}

/// The slope at the reply's last token, where the replies part, and 0 before it.
fn at_branch((reply, slope): (&Vec<f64>, f64)) -> Vec<f64> {
    let mut slopes = vec![0.0; reply.len()];
    if let Some(last) = slopes.last_mut() {
        *last = slope;
    }
    slopes
}

/// The replies Yes and No.
struct Replies {
    whole: [Completion; 2],
    /// Their tokens up to and including the one at which they part.
    branches: [Vec<u32>; 2],
}

impl Replies {
    fn new<L: Learner>(learner: &L, stage: &Stage) -> Result<Self, EngineError> {
        let reply = |helps| {
            let text = stage.render(&Reply::Filter { think: None, helps });
            let tokens = learner.encode_reply(&text)?;
            Ok(Completion { text, tokens, sampled_logprobs: Vec::new(), finish: Finish::Stop })
        };
        let whole = [reply(true)?, reply(false)?];
        let [yes, no] = [&whole[0].tokens, &whole[1].tokens];
        let shared = yes.iter().zip(no).take_while(|(yes, no)| yes == no).count();
        if yes.len() <= shared || no.len() <= shared {
            return Err(EngineError::new("tell Yes from No: one reply's tokens begin the other's"));
        }
        let branches = [yes, no].map(|tokens| tokens[..=shared].to_vec());
        Ok(Self { whole, branches })
    }
}

fn verdict(stage: &Stage, case: &TrainingCase, replies: &Replies) -> Verdict {
    let [reward_yes, reward_no] =
        [0, 1].map(|reply| stage.score(&case.case, &case.gold, &replies.whole[reply]).total);
    Verdict { helps: case.shows_gold(), weight: case.weight, reward_yes, reward_no }
}

fn gaps(rows: &[Vec<f64>]) -> Vec<f64> {
    rows.chunks(2).map(gap).collect()
}

fn gap(pair: &[Vec<f64>]) -> f64 {
    let at = |reply: &Vec<f64>| *reply.last().expect("a reply has the token at which it parts");
    at(&pair[0]) - at(&pair[1])
}

fn sigmoid(gap: f64) -> f64 {
    1.0 / (1.0 + (-gap).exp())
}

/// Sums for the log.
#[derive(Default)]
struct Measured {
    cases: f64,
    reward: f64,
    kl: f64,
    right: f64,
    mass: f64,
    helping: (f64, f64),
    others: (f64, f64),
}

impl Measured {
    fn add(&mut self, verdict: &Verdict, pair: &[Vec<f64>], reference: Option<f64>) {
        let gap = gap(pair);
        let p = sigmoid(gap);
        self.cases += 1.0;
        self.reward += p * verdict.reward_yes + (1.0 - p) * verdict.reward_no;
        self.right += f64::from(u8::from((p > 0.5) == verdict.helps));
        self.mass += pair.iter().filter_map(|reply| reply.last()).map(|l| l.exp()).sum::<f64>();
        let side = if verdict.helps { &mut self.helping } else { &mut self.others };
        side.0 += p;
        side.1 += 1.0;
        if let Some(reference) = reference {
            // ln p = -ln(1 + exp(-g)) and ln(1 - p) = ln p - g; likewise of the reference.
            let log_p = |gap: f64| -(-gap).exp().ln_1p();
            let (now, then) = (log_p(gap), log_p(reference));
            self.kl += p * (now - then) + (1.0 - p) * ((now - gap) - (then - reference));
        }
    }

    fn metrics(&self, beta: f64) -> Metrics {
        let cases = self.cases.max(1.0);
        let mut metrics = Metrics::default();
        metrics.set("reward", self.reward / cases);
        metrics.set("loss", (beta * self.kl - self.reward) / cases);
        if beta != 0.0 {
            metrics.set("kl", self.kl / cases);
        }
        metrics.set("filter/accuracy", self.right / cases);
        metrics.set("filter/mass", self.mass / cases);
        for (name, (sum, count)) in [("helping", self.helping), ("others", self.others)] {
            if count > 0.0 {
                metrics.set(format!("filter/p_{name}"), sum / count);
            }
        }
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_that_of_the_loss() {
        let verdict = Verdict { helps: true, weight: 1.0, reward_yes: 1.0, reward_no: 0.1 };
        let loss = |gap: f64| {
            let mut measured = Measured::default();
            // Log-probabilities of Yes and No whose gap this is.
            let no = -gap.exp().ln_1p();
            measured.add(&verdict, &[vec![no + gap], vec![no]], Some(0.4));
            measured.metrics(0.3).get("loss").unwrap()
        };
        for gap in [-2.0, 0.0, 0.4, 3.0] {
            let numeric = (loss(gap + 1e-6) - loss(gap - 1e-6)) / 2e-6;
            assert!((numeric - slope(&verdict, gap, 0.3, Some(0.4))).abs() < 1e-8, "at {gap}");
        }
    }
}
