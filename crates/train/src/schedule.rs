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

/// A learning rate for each step: rises in a straight line, then decays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Share of all steps that the rise takes, 0 to 1.
    pub warmup: f64,
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
    ///     Schedule { learning_rate: 1.0, warmup: 0.2, decay: Decay::Linear, floor: 0.0 };
    /// assert_eq!(schedule.at(0, 10), 0.5);
    /// assert_eq!(schedule.at(2, 10), 1.0);
    /// assert_eq!(schedule.at(6, 10), 0.5);
    /// ```
    pub fn at(&self, step: usize, steps: usize) -> f64 {
        let warmup_steps = (self.warmup * steps as f64).ceil() as usize;
        if step < warmup_steps {
            return self.learning_rate * (step + 1) as f64 / warmup_steps as f64;
        }
        let left = steps.saturating_sub(warmup_steps).max(1) as f64;
        let progress = ((step - warmup_steps) as f64 / left).min(1.0);
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
        let schedule = Schedule { learning_rate: 2.0, warmup: 0.1, decay, floor: 0.1 };
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
    fn no_warmup_begins_at_the_top() {
        let schedule =
            Schedule { learning_rate: 1.0, warmup: 0.0, decay: Decay::Constant, floor: 0.0 };
        assert_eq!(schedule.at(0, 0), 1.0);
        assert_eq!(schedule.at(0, 5), 1.0);
    }
}
