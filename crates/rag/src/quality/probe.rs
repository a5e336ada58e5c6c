//! Questions asked again, with other documents or other reasoning.

use std::collections::BTreeSet;
use std::sync::Arc;

use mmrag_core::{Document, DocumentId, Prompt};
use mmrag_task::{Case, Grammar, Reply, Stage};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::{Probed, THINK_SHARES};
use crate::explanation::Explanation;
use crate::version::digest;

const ANSWER: &str = "<answer>";

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    WithoutCited,
    WithoutOthers,
    CitedOnly,
    Counterfactual,
    CutThink,
    ShuffledThink,
}

/// One prompt, and how its reply is read.
pub(super) struct Probe {
    pub(super) kind: Kind,
    pub(super) prompt: Prompt,
    case: Case,
}

impl Probe {
    /// The answer of a reply; empty if it cannot be read.
    pub(super) fn answer(&self, stage: &Stage, completion: &str) -> String {
        let reply = if self.prompt.reply_prefix.is_empty() {
            stage.parse(&self.case, completion)
        } else {
            // The reasoning is given, and may be empty: what follows it is read.
            let whole = format!("{}{completion}", self.prompt.reply_prefix);
            let after = whole.split_once("</think>").map_or(&whole[..], |(_, after)| after);
            let grammar = Grammar { think: false, ..stage.grammar };
            grammar.parse(after, self.case.documents.len())
        };
        match reply {
            Ok(Reply::Rank { answer, .. }) => answer,
            Ok(Reply::Filter { .. }) | Err(_) => String::new(),
        }
    }
}

/// All that is asked about one explanation: nothing of one that has no readable answer.
pub(super) fn probes(stage: &Stage, probed: &Probed<'_>, seed: u64) -> Vec<Probe> {
    let explanation = probed.explanation;
    if explanation.fallback.is_some() || explanation.abstained {
        return Vec::new();
    }
    let Some(shown) = shown(explanation, &probed.example.candidates) else { return Vec::new() };
    let case = Case { question: probed.example.question.clone(), documents: shown };
    let mut probes = removals(stage, explanation, &case, seed);
    probes.extend(counterfactual(stage, probed, &case));
    probes.extend(thinking(stage, explanation, &case, seed));
    probes
}

/// The documents in the order of their labels; none if one of them is not at hand.
fn shown(explanation: &Explanation, documents: &[Arc<Document>]) -> Option<Vec<Arc<Document>>> {
    let mut labelled: Vec<(usize, &DocumentId)> = explanation
        .candidates
        .iter()
        .filter_map(|candidate| Some((candidate.rank.as_ref()?.label, &candidate.document)))
        .collect();
    labelled.sort_by_key(|(label, _)| *label);
    let find = |id: &DocumentId| documents.iter().find(|document| document.id == *id).cloned();
    let shown: Option<Vec<_>> = labelled.into_iter().map(|(_, id)| find(id)).collect();
    shown.filter(|shown| !shown.is_empty())
}

fn removals(stage: &Stage, explanation: &Explanation, case: &Case, seed: u64) -> Vec<Probe> {
    let cited: BTreeSet<&DocumentId> =
        explanation.citations.iter().map(|citation| &citation.document).collect();
    let mut others: Vec<&DocumentId> =
        case.documents.iter().map(|d| &d.id).filter(|id| !cited.contains(id)).collect();
    if cited.is_empty() || others.len() < cited.len() {
        return Vec::new();
    }
    shuffle(&mut others, "removed documents", seed, case.question.id.as_str());
    let others: BTreeSet<&DocumentId> = others.into_iter().take(cited.len()).collect();
    let keep = |kind, stays: &dyn Fn(&DocumentId) -> bool| {
        let mut case = case.clone();
        case.documents.retain(|document| stays(&document.id));
        (!case.documents.is_empty()).then(|| Probe { kind, prompt: stage.prompt(&case), case })
    };
    let probes = [
        keep(Kind::WithoutCited, &|id| !cited.contains(id)),
        keep(Kind::WithoutOthers, &|id| !others.contains(id)),
        keep(Kind::CitedOnly, &|id| cited.contains(id)),
    ];
    probes.into_iter().flatten().collect()
}

/// The question with an edited document in place of a cited one.
fn counterfactual(stage: &Stage, probed: &Probed<'_>, case: &Case) -> Option<Probe> {
    let edited = probed.edited?;
    let mut case = case.clone();
    let mut changed = false;
    for document in &mut case.documents {
        let other = edited.candidates.iter().find(|other| other.id == document.id)?;
        let is_cited = probed.explanation.citations.iter().any(|c| c.document == document.id);
        changed |= is_cited && other != document;
        *document = Arc::clone(other);
    }
    changed.then(|| Probe { kind: Kind::Counterfactual, prompt: stage.prompt(&case), case })
}

/// The answer alone after other reasoning, the order given.
fn thinking(stage: &Stage, explanation: &Explanation, case: &Case, seed: u64) -> Vec<Probe> {
    let steps: Vec<&str> = explanation.reasoning.iter().map(|step| step.text.as_str()).collect();
    if steps.len() < 2 || !stage.grammar.think {
        return Vec::new();
    }
    let mut ranked: Vec<(usize, usize)> = explanation
        .candidates
        .iter()
        .filter_map(|c| c.rank.as_ref().map(|rank| (rank.position, rank.label)))
        .collect();
    ranked.sort_unstable();
    let order: Vec<usize> = ranked.into_iter().map(|(_, label)| label).collect();
    let probe = |kind, steps: &[&str]| {
        let reply = Reply::Rank {
            think: Some(steps.join(" ")),
            order: order.clone(),
            answer: String::new(),
            citations: Vec::new(),
        };
        let text = stage.render(&reply);
        let end = text.find(ANSWER).map_or(text.len(), |at| at + ANSWER.len());
        let prompt = Prompt { reply_prefix: text[..end].to_owned(), ..stage.prompt(case) };
        Probe { kind, prompt, case: case.clone() }
    };
    let cut = |share: f64| (share * steps.len() as f64).floor() as usize;
    let mut probes: Vec<Probe> =
        THINK_SHARES.iter().map(|share| probe(Kind::CutThink, &steps[..cut(*share)])).collect();
    let mut shuffled = steps.clone();
    shuffle(&mut shuffled, "shuffled steps", seed, case.question.id.as_str());
    if shuffled == steps {
        shuffled.rotate_left(1);
    }
    probes.push(probe(Kind::ShuffledThink, &shuffled));
    probes
}

fn shuffle<T>(items: &mut [T], purpose: &str, seed: u64, name: &str) {
    let mut draws = ChaCha8Rng::from_seed(digest(purpose, seed, name));
    for last in (1..items.len()).rev() {
        let pick = (u128::from(draws.next_u64()) * (last as u128 + 1)) >> 64;
        items.swap(last, pick as usize);
    }
}
