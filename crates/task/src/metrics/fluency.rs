//! WebQA's fluency of an answer (QA-FL), from scores that a model gives.
//!
//! What a score is does not matter here: BARTScore, the mean log-probability of a text's tokens
//! after another text (Yuan et al. 2021).

/// What the scorer is asked of one answer: how likely each reference makes the answer, and itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReferenceScores {
    /// The score of the answer after the reference, in nats.
    pub answer: f64,
    /// The score of the reference after itself, in nats.
    pub itself: f64,
}

/// QA-FL of an answer, in 0..=1: over the references the greatest
/// `exp(s(reference → answer)) / exp(s(reference → reference))`, at most 1. 0 without references.
///
/// ```
/// use mmrag_task::metrics::{ReferenceScores, fluency};
/// let scores = ReferenceScores { answer: -2.0, itself: -1.0 };
/// assert!((fluency(&[scores]) - (-1f64).exp()).abs() < 1e-12);
/// let better = ReferenceScores { answer: -0.5, itself: -1.0 };
/// assert_eq!(fluency(&[scores, better]), 1.0);
/// assert_eq!(fluency(&[]), 0.0);
/// ```
pub fn fluency(references: &[ReferenceScores]) -> f64 {
    let shares = references.iter().map(|scores| scores.answer.exp() / scores.itself.exp());
    shares.fold(0.0, f64::max).min(1.0)
}

/// A text as QA-FL hands it to the scorer: without ASCII punctuation, single blanks between words.
/// Case stays.
///
/// ```
/// use mmrag_task::metrics::fluency_text;
/// assert_eq!(fluency_text(" It's  red , isn't it?\n"), "Its red isnt it");
/// ```
pub fn fluency_text(text: &str) -> String {
    let bare: String = text.chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let words = bare.split(super::python_float::is_space).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}
