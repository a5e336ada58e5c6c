//! Learning-rate schedules.

use serde::{Deserialize, Serialize};

/// How the learning rate changes after the warmup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// Not at all.
    Constant,
    /// In a straight line to the floor.
    Linear,
    /// Along half a cosine to the floor.
    Cosine,
}

/// A learning rate for each step: rises in a straight line, stays, then decays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Share of all steps that the rise takes, 0 to 1.
    pub warmup: f64,
    /// Share of all steps that it then stays at the top, 0 to 1. Runs of different lengths that
    /// stay until the same step are one run until there.
    #[serde(default)]
    pub hold: f64,
    /// How it falls.
    pub decay: Decay,
    /// The lowest learning rate of the decay, as a share of the highest.
    pub floor: f64,
}

impl Schedule {
    /// The learning rate of `step`, counted from 0, of `steps`. It is never 0 on the first step.
    ///
    /// ```
    /// use mmrag_train::{Decay, Schedule};
    ///
    /// let schedule =
    ///     Schedule { learning_rate: 1.0, warmup: 0.2, hold: 0.3, decay: Decay::Linear, floor: 0.0 };
    /// assert_eq!(schedule.at(0, 10), 0.5);
    /// assert_eq!(schedule.at(2, 10), 1.0);
    /// assert_eq!(schedule.at(5, 10), 1.0);
    /// assert_eq!(schedule.at(6, 10), 0.8);
    /// ```
    pub fn at(&self, step: usize, steps: usize) -> f64 {
        let warmup_steps = (self.warmup * steps as f64).ceil() as usize;
        if step < warmup_steps {
            return self.learning_rate * (step + 1) as f64 / warmup_steps as f64;
        }
        let top_steps = warmup_steps + (self.hold * steps as f64).floor() as usize;
        let left = steps.saturating_sub(top_steps).max(1) as f64;
        let progress = (step.saturating_sub(top_steps) as f64 / left).min(1.0);
        let share = match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear => 1.0 - progress,
            Decay::Cosine => f64::midpoint(1.0, (std::f64::consts::PI * progress).cos()),
        };
        self.learning_rate * (self.floor + (1.0 - self.floor) * share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(decay: Decay, step: usize, expected: f64) {
        let schedule = Schedule { learning_rate: 2.0, warmup: 0.1, hold: 0.0, decay, floor: 0.1 };
        assert!((schedule.at(step, 100) - expected).abs() < 1e-12, "{decay:?} at {step}");
    }

    #[test]
    fn rises_then_decays_to_the_floor() {
        check(Decay::Cosine, 0, 0.2);
        check(Decay::Cosine, 9, 2.0);
        check(Decay::Cosine, 10, 2.0);
        check(Decay::Cosine, 55, 1.1);
        check(Decay::Cosine, 100, 0.2);
        check(Decay::Linear, 55, 1.1);
        check(Decay::Constant, 99, 2.0);
    }

    #[test]
    fn runs_that_hold_until_the_same_step_are_one_run_until_there() {
        let schedule = |warmup, hold| {
            let decay = Decay::Linear;
            Schedule { learning_rate: 2.0, warmup, hold, decay, floor: 0.1 }
        };
        let (short, long) = (schedule(0.02, 0.5), schedule(0.01, 0.25));
        assert!((0..=52).all(|step| short.at(step, 100) == long.at(step, 200)));
        assert_eq!(short.at(52, 100), 2.0);
        assert!(short.at(53, 100) < long.at(53, 200) && long.at(53, 200) < 2.0);
    }

    #[test]
    fn no_warmup_begins_at_the_top() {
        let decay = Decay::Constant;
        let schedule = Schedule { learning_rate: 1.0, warmup: 0.0, hold: 0.0, decay, floor: 0.0 };
        assert_eq!(schedule.at(0, 0), 1.0);
        assert_eq!(schedule.at(0, 5), 1.0);
    }
}
