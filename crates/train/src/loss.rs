//! The policy-gradient losses of GRPO and its relatives, as values, with their gradients.
//!
//! A loss here is a pure function of numbers: it takes log-probabilities and gives the loss and
//! its derivative with respect to each of them. It needs no autograd of its own: the trainer
//! backpropagates `sum(gradient · logprobs)` with the gradient held constant, whose derivative with
//! respect to any weight is, by the chain rule, that of the loss.
//!
//! Notation, for a reply of tokens `t`: `l` its log-probabilities now, `o` when it was drawn, `f`
//! under the reference policy, `A` its advantage, `c = exp(l - o)` the ratio (per token, or for the
//! whole reply the exponential of the mean difference).

use serde::{Deserialize, Serialize};

use crate::metrics::Metrics;

/// Which loss: how tokens are averaged, and for `cispo` also how the ratio is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// The mean over replies of each reply's mean over its tokens.
    Grpo,
    /// The mean over the tokens of the update.
    Bnpo,
    /// The sum over tokens, divided by replies times the longest completion allowed: no reply's
    /// length changes the weight of its tokens.
    DrGrpo,
    /// The mean over the tokens of the update. (In TRL this one counts tokens over all devices and
    /// accumulated passes, `bnpo` over one pass; here an update is always counted whole.)
    Dapo,
    /// As `dapo`, with the capped ratio as a constant weight on the log-probability: a token far
    /// from the old policy keeps its gradient.
    Cispo,
}

/// What a ratio is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RatioLevel {
    /// Each token has its own.
    Token,
    /// All tokens of a reply share one, length-normalised (GSPO).
    Sequence,
}

/// A loss with its bounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossRule {
    /// How tokens are averaged.
    pub kind: LossKind,
    /// What a ratio is of.
    pub level: RatioLevel,
    /// A ratio is clipped below at 1 minus this.
    pub epsilon_low: f64,
    /// A ratio is clipped above at 1 plus this.
    pub epsilon_high: f64,
    /// An upper bound on the ratio where it is not clipped, that is for negative advantages
    /// (two-sided clip). Not used by `cispo`.
    pub delta: Option<f64>,
    /// `cispo`'s absolute cap on the ratio. Not used by the others.
    pub cispo_cap: f64,
    /// Weight of the divergence from the reference policy, `exp(f - l) - (f - l) - 1` (k3).
    pub beta: f64,
}

/// One reply. All slices have the reply's length, which may be 0 (a masked reply, which still
/// counts as a row).
#[derive(Clone, Copy, Debug)]
pub struct LossRow<'a> {
    /// Log-probability of each token now.
    pub logprobs: &'a [f64],
    /// Log-probability of each token when it was drawn; `None` if the policy has not changed
    /// since.
    pub old_logprobs: Option<&'a [f64]>,
    /// Log-probability of each token under the reference policy; needed if `beta` is not 0.
    pub ref_logprobs: Option<&'a [f64]>,
    /// Entropy of the policy at each token; only measured. May be empty.
    pub entropies: &'a [f64],
    /// The reply's advantage.
    pub advantage: f64,
}

/// What the sums of a loss are divided by: counts over the whole update, so that the passes it is
/// split into add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Replies, masked ones included.
    pub rows: usize,
    /// Tokens, masked ones not.
    pub tokens: usize,
    /// The longest completion allowed.
    pub max_completion_tokens: usize,
}

/// A loss, its gradient, and what was measured on the way.
#[derive(Clone, Debug)]
pub struct LossOutput {
    /// The rows' share of the update's loss.
    pub loss: f64,
    /// The derivative with respect to each log-probability, in the rows' shapes.
    pub gradients: Vec<Vec<f64>>,
    /// Sums for the log.
    pub tally: LossTally,
}

/// The loss of `rows`, which are all of an update or a part of it.
///
/// # Panics
///
/// When slices of a row differ in length, or `beta` is not 0 and a row has no reference.
pub fn policy_loss(rule: &LossRule, rows: &[LossRow<'_>], totals: Totals) -> LossOutput {
    let mut output =
        LossOutput { loss: 0.0, gradients: Vec::with_capacity(rows.len()), tally: rule.tally() };
    for row in rows {
        row.check(rule.beta);
        let (ratio, ratio_share) = rule.ratios(row);
        let scale = rule.row_scale(row.logprobs.len(), totals);
        let mut gradient = Vec::with_capacity(row.logprobs.len());
        let mut pull = 0.0;
        for (t, &logprob) in row.logprobs.iter().enumerate() {
            let token = rule.token(ratio(t), row.advantage, logprob);
            let (kl, kl_slope) = row.divergence(t);
            output.loss += scale * (token.loss + rule.beta * kl);
            gradient.push(scale * (token.slope_logprob + rule.beta * kl_slope));
            if rule.level == RatioLevel::Token {
                gradient[t] += scale * token.slope_ratio * ratio(t);
            } else {
                pull += scale * token.slope_ratio * ratio(t) * ratio_share;
            }
        }
        for slope in &mut gradient {
            *slope += pull;
        }
        output.gradients.push(gradient);
        output.tally.add_row(rule, row, &ratio);
    }
    output
}

/// The loss of one token and what it rises with.
struct TokenLoss {
    loss: f64,
    /// Derivative with respect to the ratio.
    slope_ratio: f64,
    /// Derivative with respect to the log-probability, the ratio held.
    slope_logprob: f64,
}

impl LossRule {
    /// The loss of one token without the divergence term. The ratio is limited by `delta` only on
    /// the side that is not clipped, as in TRL.
    fn token(&self, ratio: f64, advantage: f64, logprob: f64) -> TokenLoss {
        if self.kind == LossKind::Cispo {
            let weight = ratio.min(self.cispo_cap) * advantage;
            return TokenLoss { loss: -weight * logprob, slope_ratio: 0.0, slope_logprob: -weight };
        }
        let (limited, limited_slope) = match self.delta {
            Some(delta) if ratio > delta => (delta, 0.0),
            _ => (ratio, 1.0),
        };
        let clipped = ratio.clamp(1.0 - self.epsilon_low, 1.0 + self.epsilon_high);
        let clipped_slope = if clipped == ratio { 1.0 } else { 0.0 };
        let (value, slope) = if limited * advantage <= clipped * advantage {
            (limited, limited_slope)
        } else {
            (clipped, clipped_slope)
        };
        TokenLoss { loss: -value * advantage, slope_ratio: -slope * advantage, slope_logprob: 0.0 }
    }

    /// The ratio at each token, and how much of a shared ratio's exponent one token is.
    fn ratios<'a>(&self, row: &LossRow<'a>) -> (impl Fn(usize) -> f64 + use<'a>, f64) {
        let row = *row;
        let share = 1.0 / row.logprobs.len().max(1) as f64;
        let shared = (self.level == RatioLevel::Sequence).then(|| {
            let sum: f64 = (0..row.logprobs.len()).map(|t| row.log_ratio(t)).sum();
            (sum * share).exp()
        });
        (move |t| shared.unwrap_or_else(|| row.log_ratio(t).exp()), share)
    }

    fn row_scale(&self, row_tokens: usize, totals: Totals) -> f64 {
        let rows = totals.rows.max(1) as f64;
        match self.kind {
            LossKind::Grpo => 1.0 / (rows * row_tokens.max(1) as f64),
            LossKind::DrGrpo => 1.0 / (rows * totals.max_completion_tokens.max(1) as f64),
            LossKind::Bnpo | LossKind::Dapo | LossKind::Cispo => 1.0 / totals.tokens.max(1) as f64,
        }
    }

    /// An empty tally for this loss.
    pub fn tally(&self) -> LossTally {
        LossTally {
            cispo: self.kind == LossKind::Cispo,
            per_row: self.level == RatioLevel::Sequence,
            with_kl: self.beta != 0.0,
            low_min: f64::INFINITY,
            high_max: f64::NEG_INFINITY,
            ..LossTally::default()
        }
    }
}

impl LossRow<'_> {
    fn check(&self, beta: f64) {
        let tokens = self.logprobs.len();
        assert!(self.old_logprobs.is_none_or(|o| o.len() == tokens), "one old value a token");
        assert!(self.ref_logprobs.is_none_or(|f| f.len() == tokens), "one reference a token");
        assert!(self.entropies.is_empty() || self.entropies.len() == tokens, "one entropy a token");
        assert!(beta == 0.0 || self.ref_logprobs.is_some(), "beta needs a reference");
    }

    fn log_ratio(&self, t: usize) -> f64 {
        self.old_logprobs.map_or(0.0, |old| self.logprobs[t] - old[t])
    }

    /// k3 at a token and its derivative with respect to the log-probability.
    fn divergence(&self, t: usize) -> (f64, f64) {
        let Some(reference) = self.ref_logprobs else { return (0.0, 0.0) };
        let gap = reference[t] - self.logprobs[t];
        (gap.exp() - gap - 1.0, 1.0 - gap.exp())
    }
}

/// Sums behind the loss's metrics; tallies of an update's parts merge.
#[derive(Clone, Debug, Default)]
pub struct LossTally {
    cispo: bool,
    per_row: bool,
    with_kl: bool,
    rows: usize,
    tokens: usize,
    entropy_tokens: usize,
    entropy: f64,
    kl: f64,
    low: f64,
    high: f64,
    capped: f64,
    low_min: f64,
    high_max: f64,
}

impl LossTally {
    /// Adds the counts of another part of the same update.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.tokens += other.tokens;
        self.entropy_tokens += other.entropy_tokens;
        self.entropy += other.entropy;
        self.kl += other.kl;
        self.low += other.low;
        self.high += other.high;
        self.capped += other.capped;
        self.low_min = self.low_min.min(other.low_min);
        self.high_max = self.high_max.max(other.high_max);
    }

    /// The metrics under TRL's names: `kl` (if the loss has one), `entropy` (if it was given), and
    /// `clip_ratio/*` or `cispo_clip_ratio`. Shares of a sequence-level ratio are of replies, of a
    /// token-level one of tokens.
    pub fn metrics(&self) -> Metrics {
        let mut metrics = Metrics::default();
        let tokens = self.tokens.max(1) as f64;
        if self.with_kl {
            metrics.set("kl", self.kl / tokens);
        }
        if self.entropy_tokens > 0 {
            metrics.set("entropy", self.entropy / self.entropy_tokens as f64);
        }
        let count = if self.per_row { self.rows.max(1) as f64 } else { tokens };
        if self.cispo {
            metrics.set("cispo_clip_ratio", self.capped / count);
            return metrics;
        }
        metrics.set("clip_ratio/low_mean", self.low / count);
        metrics.set("clip_ratio/high_mean", self.high / count);
        metrics.set("clip_ratio/region_mean", (self.low + self.high) / count);
        metrics.set("clip_ratio/low_min", finite_or_zero(self.low_min));
        metrics.set("clip_ratio/high_max", finite_or_zero(self.high_max));
        metrics
    }

    fn add_row(&mut self, rule: &LossRule, row: &LossRow<'_>, ratio: &impl Fn(usize) -> f64) {
        let tokens = row.logprobs.len();
        self.rows += 1;
        self.tokens += tokens;
        self.entropy_tokens += row.entropies.len();
        self.entropy += row.entropies.iter().sum::<f64>();
        self.kl += (0..tokens).map(|t| row.divergence(t).0).sum::<f64>();
        // A reply of no tokens has a sequence ratio (1), but no token ratio.
        let steps = if self.per_row { 1 } else { tokens };
        let share = |happens: &dyn Fn(f64) -> bool| {
            (0..steps).filter(|&t| happens(ratio(t))).count() as f64
        };
        let limit = rule.delta.unwrap_or(f64::INFINITY);
        let low = share(&|c| c.min(limit) < 1.0 - rule.epsilon_low && row.advantage < 0.0);
        let high = share(&|c| c.min(limit) > 1.0 + rule.epsilon_high && row.advantage > 0.0);
        self.capped += share(&|c| c > rule.cispo_cap && row.advantage > 0.0);
        self.low += low;
        self.high += high;
        if steps > 0 {
            self.low_min = self.low_min.min(low / steps as f64);
            self.high_max = self.high_max.max(high / steps as f64);
        }
    }
}

fn finite_or_zero(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}
