//! Is a run good enough? Bounds on metrics, for machines that must decide.

use std::str::FromStr;

use serde::Serialize;

use crate::evaluation::Metric;
use crate::statistics::Interval;

/// Rounding of means is no difference.
const ROUNDING: f64 = 1e-9;

/// A bound as it is written: `answer_em=0.7`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// What is bounded.
    pub metric: Metric,
    /// The bound, a fraction.
    pub value: f64,
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Metric::all().map(Metric::name).collect::<Vec<_>>().join(", ");
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| format!("it is METRIC=VALUE, such as answer_em=0.7, not {text:?}"))?;
        let metric = Metric::named(name)
            .ok_or_else(|| format!("there is no metric {name:?}; there are {}", known()))?;
        let value: f64 = value.parse().map_err(|_| format!("{value:?} is no number"))?;
        if !(0.0..=1.0).contains(&value) {
            return Err(format!("{value} is no fraction between 0 and 1"));
        }
        Ok(Self { metric, value })
    }
}

/// What a bound is laid on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The run's value is at least the bound.
    Min,
    /// The run's value is at most the bound.
    Max,
    /// The run is worse than the one before by at most the bound.
    MaxDrop,
}

/// What was found of a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The bound holds.
    Pass,
    /// It does not.
    Fail,
    /// Nothing can be said: there is no figure, or its interval lies on both sides of the bound.
    CannotJudge,
}

/// A bound with what was found of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// What is bounded.
    pub metric: Metric,
    /// How.
    pub rule: Rule,
    /// The bound.
    pub bound: f64,
    /// The value, or how much worse it became; none if there is no figure.
    pub found: Option<Interval>,
    /// What follows.
    pub verdict: Verdict,
}

impl Judgement {
    /// Judges a bound by a figure: of [`Rule::MaxDrop`] the gain of the run over the one before,
    /// which is turned into a loss here. If `confident`, the whole interval must lie on one side.
    pub fn of(rule: Rule, bound: Bound, figure: Option<Interval>, confident: bool) -> Self {
        let Bound { metric, value: bound } = bound;
        let is_worse_up = metric.less_is_better();
        let found = figure.map(|gain| match rule {
            Rule::MaxDrop if !is_worse_up => {
                Interval { value: -gain.value, low: -gain.high, high: -gain.low }
            }
            _ => gain,
        });
        let holds = |value: f64| match rule {
            Rule::Min => value >= bound - ROUNDING,
            Rule::Max | Rule::MaxDrop => value <= bound + ROUNDING,
        };
        let verdict = match found {
            None => Verdict::CannotJudge,
            Some(Interval { value, .. }) if !confident => {
                if holds(value) {
                    Verdict::Pass
                } else {
                    Verdict::Fail
                }
            }
            Some(Interval { low, high, .. }) => match (holds(low), holds(high)) {
                (true, true) => Verdict::Pass,
                (false, false) => Verdict::Fail,
                _ => Verdict::CannotJudge,
            },
        };
        Self { metric, rule, bound, found, verdict }
    }
}

/// What follows for the run: it fails if a bound does, cannot be judged if a bound cannot and none
/// fails, and passes otherwise.
pub fn overall(judgements: &[Judgement]) -> Verdict {
    let has = |verdict| judgements.iter().any(|judgement| judgement.verdict == verdict);
    match (has(Verdict::Fail), has(Verdict::CannotJudge) || judgements.is_empty()) {
        (true, _) => Verdict::Fail,
        (false, true) => Verdict::CannotJudge,
        (false, false) => Verdict::Pass,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Interval = Interval { value: 0.7, low: 0.6, high: 0.8 };

    fn verdict(rule: Rule, bound: &str, figure: Interval, confident: bool) -> Verdict {
        Judgement::of(rule, bound.parse().unwrap(), Some(figure), confident).verdict
    }

    #[test]
    fn bounds_hold_for_the_value_or_for_the_whole_interval() {
        use Verdict::{CannotJudge, Fail, Pass};
        let check = |bound: &str, by_value, by_interval| {
            assert_eq!(verdict(Rule::Min, bound, INTERVAL, false), by_value, "{bound}");
            assert_eq!(verdict(Rule::Min, bound, INTERVAL, true), by_interval, "{bound}");
        };
        check("answer_em=0.55", Pass, Pass);
        check("answer_em=0.65", Pass, CannotJudge);
        check("answer_em=0.7", Pass, CannotJudge);
        check("answer_em=0.75", Fail, CannotJudge);
        check("answer_em=0.85", Fail, Fail);
        assert_eq!(verdict(Rule::Max, "unparsable=0.69", INTERVAL, false), Fail);
    }

    #[test]
    fn a_drop_is_what_gets_worse() {
        let gain = Interval { value: -0.03, low: -0.06, high: 0.01 };
        let check = |bound: &str, confident, expected| {
            assert_eq!(verdict(Rule::MaxDrop, bound, gain, confident), expected, "{bound}");
        };
        check("answer_em=0.02", false, Verdict::Fail);
        check("answer_em=0.03", false, Verdict::Pass);
        check("answer_em=0.07", true, Verdict::Pass);
        check("answer_em=0.03", true, Verdict::CannotJudge);
        // Fewer replies that cannot be read are no drop.
        check("unparsable=0.0", false, Verdict::Pass);
    }

    #[test]
    fn one_failure_fails_and_nothing_known_is_not_a_pass() {
        let judged =
            |figure, bound: &str| Judgement::of(Rule::Min, bound.parse().unwrap(), figure, false);
        let (pass, fail) = (judged(Some(INTERVAL), "ndcg=0.1"), judged(Some(INTERVAL), "ndcg=0.9"));
        let unknown = judged(None, "ndcg=0.1");
        assert_eq!(overall(&[pass.clone(), unknown.clone(), fail]), Verdict::Fail);
        assert_eq!(overall(&[pass.clone(), unknown]), Verdict::CannotJudge);
        assert_eq!(overall(&[pass]), Verdict::Pass);
        assert_eq!(overall(&[]), Verdict::CannotJudge);
    }

    #[test]
    fn bounds_that_cannot_be_read_say_why() {
        let error = |text: &str| text.parse::<Bound>().unwrap_err();
        assert!(error("answer_em").contains("METRIC=VALUE"));
        assert!(error("em=0.5").contains("there are answer_em"));
        assert!(error("answer_em=x").contains("no number"));
        assert!(error("answer_em=70").contains("between 0 and 1"));
        assert!(error("answer_em=NaN").contains("between 0 and 1"));
    }
}
