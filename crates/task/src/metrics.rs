//! Metrics: how right an answer, an order and a set of citations are.
//!
//! Rewards call metrics; metrics never call rewards.

mod assignment;
mod fluency;
mod lemmas;
pub mod multimodalqa;
mod pass;
mod python_float;
mod ranking;
pub mod vqa;
pub mod webqa;
mod word_number;

pub use fluency::{ReferenceScores, fluency, fluency_text};
pub use lemmas::{ENGLISH_LEMMAS, english_lemmas};
pub use pass::pass_at_k;
pub(crate) use python_float::decimal_digit;
pub(crate) use ranking::discounted_gain;
pub use ranking::{SetScore, ndcg, recall_at_k, reciprocal_rank, set_score};
