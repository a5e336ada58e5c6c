//! What an explanation's parts say of each other.

use mmrag_core::DocumentId;

use crate::explanation::{Candidate, Explanation};

/// The candidates that were ranked, in the ranker's order.
fn ranked(explanation: &Explanation) -> Vec<&Candidate> {
    let mut ranked: Vec<(usize, &Candidate)> = explanation
        .candidates
        .iter()
        .filter_map(|candidate| Some((candidate.rank.as_ref()?.position, candidate)))
        .collect();
    ranked.sort_by_key(|(position, _)| *position);
    ranked.into_iter().map(|(_, candidate)| candidate).collect()
}

/// Whether the cited documents stand first in the order; none if nothing is cited or all is.
pub(super) fn order_agrees(explanation: &Explanation) -> Option<bool> {
    let ranked = ranked(explanation);
    let cited = ranked.iter().filter(|candidate| candidate.cited).count();
    (cited > 0 && cited < ranked.len())
        .then(|| ranked[..cited].iter().all(|candidate| candidate.cited))
}

/// The share of pairs of a cited and an uncited document in which the cited one stands before;
/// none if there are no such pairs.
pub(super) fn citation_auc(explanation: &Explanation) -> Option<f64> {
    let ranked = ranked(explanation);
    let cited = ranked.iter().filter(|candidate| candidate.cited).count();
    let pairs = cited * (ranked.len() - cited);
    let (mut before, mut seen) = (0, 0);
    for candidate in &ranked {
        if candidate.cited {
            seen += 1;
        } else {
            before += seen;
        }
    }
    (pairs > 0).then(|| before as f64 / pairs as f64)
}

/// Kendall's τ-b of the filter's probability and the place in the ranker's order, so that 1 is
/// the same order (Kendall, 1945). None where fewer than two documents have both, or the filter
/// holds all for equally likely.
pub(super) fn filter_tau(explanation: &Explanation) -> Option<f64> {
    let probabilities: Vec<f64> =
        ranked(explanation).iter().filter_map(|candidate| candidate.filter.as_ref()?.p).collect();
    let (mut sum, mut untied) = (0.0, 0.0);
    for (nth, first) in probabilities.iter().enumerate() {
        for second in &probabilities[nth + 1..] {
            let sign = f64::from(i8::from(first > second) - i8::from(first < second));
            sum += sign;
            untied += sign.abs();
        }
    }
    let pairs = (probabilities.len() * probabilities.len().saturating_sub(1)) as f64 / 2.0;
    (untied > 0.0).then(|| sum / (pairs * untied).sqrt())
}

/// Share of the gold documents that a step of the reasoning names; none without reasoning or gold.
pub(super) fn gold_named(explanation: &Explanation, gold: &[DocumentId]) -> Option<f64> {
    let is_named =
        |id: &&DocumentId| explanation.reasoning.iter().any(|step| step.documents.contains(id));
    let named = gold.iter().filter(is_named).count();
    (!gold.is_empty() && !explanation.reasoning.is_empty())
        .then(|| named as f64 / gold.len() as f64)
}
