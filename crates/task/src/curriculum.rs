//! Curricula: how many distractors a prompt shows as training goes on.

use serde::{Deserialize, Serialize};

/// How the number of distractors grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Curriculum {
    /// One distractor in the first half, all in the second.
    #[default]
    MinMax,
    /// From one to all, evenly.
    Linear,
    /// All from the start.
    Off,
}

impl Curriculum {
    /// How many of `available` distractors to show at `progress`, the share of training that is
    /// done (0 to 1).
    ///
    /// ```
    /// use mmrag_task::curriculum::Curriculum;
    /// assert_eq!(Curriculum::MinMax.distractors(0.3, 9), 1);
    /// assert_eq!(Curriculum::MinMax.distractors(0.5, 9), 9);
    /// assert_eq!(Curriculum::Linear.distractors(0.5, 9), 5);
    /// ```
    pub fn distractors(self, progress: f64, available: usize) -> usize {
        let least = available.min(1);
        match self {
            Self::MinMax if progress < 0.5 => least,
            Self::MinMax | Self::Off => available,
            Self::Linear => {
                let growth = (available - least) as f64 * progress.clamp(0.0, 1.0);
                least + growth.round() as usize
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_curriculum_ends_with_all_distractors() {
        for curriculum in [Curriculum::MinMax, Curriculum::Linear, Curriculum::Off] {
            for available in 0..5 {
                assert_eq!(curriculum.distractors(1.0, available), available);
                let counts: Vec<usize> = (0..=10)
                    .map(|p| curriculum.distractors(f64::from(p) / 10.0, available))
                    .collect();
                assert!(counts.is_sorted() && counts[10] <= available, "{counts:?}");
            }
        }
        assert_eq!(Curriculum::Linear.distractors(0.0, 9), 1);
        assert_eq!(Curriculum::Linear.distractors(f64::NAN, 9), 1);
        assert_eq!(Curriculum::Off.distractors(0.0, 9), 9);
    }
}
