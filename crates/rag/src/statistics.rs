//! How sure a figure is: intervals, tests, and the correction for many of them. Pure functions of
//! scores and a seed.

mod bootstrap;
mod significance;

pub use bootstrap::{Interval, MOST_SEEDS, Resamples, Scores, quantile};
pub use significance::{holm, mcnemar_exact, paired_permutation};
