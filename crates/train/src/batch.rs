//! From replies to one update: passes of bounded size whose gradients add up.
//!
//! Dimensions: `t` reply tokens of a pass, all groups and replies one after the other.

use std::ops::Range;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use mmrag_ops::{TokenScores, at_once, backward, side_by_side};
use rayon::prelude::*;

use crate::error::TrainError;
use crate::learner::{Learner, ReplyGroup, View};

/// What a loss says of one reply.
pub(crate) struct RowScores<'a> {
    /// Log-probabilities of the reply's tokens.
    pub(crate) logprobs: &'a [f64],
    /// Entropies at the reply's tokens.
    pub(crate) entropies: &'a [f64],
}

/// Log-probabilities and entropies of a pass, by reply.
pub(crate) struct PassScores {
    logprobs: Vec<f64>,
    entropies: Vec<f64>,
    ends: Vec<usize>,
}

impl PassScores {
    pub(crate) fn rows(&self) -> impl Iterator<Item = RowScores<'_>> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, &end)| RowScores {
            logprobs: &self.logprobs[begin..end],
            entropies: &self.entropies[begin..end],
        })
    }

    fn new<E>(groups: &[ReplyGroup<E>], scores: &TokenScores) -> candle_core::Result<Self> {
        let values = |tensor: &Tensor| -> candle_core::Result<Vec<f64>> {
            tensor.detach().to_dtype(DType::F64)?.to_vec1()
        };
        let replies = groups.iter().flat_map(|group| &group.replies);
        let ends = replies
            .scan(0, |end, reply| {
                *end += reply.len();
                Some(*end)
            })
            .collect();
        let (logprobs, entropies) = (values(&scores.logprobs_t)?, values(&scores.entropy_t)?);
        Ok(Self { logprobs, entropies, ends })
    }
}

/// Splits groups into consecutive passes of at most `tokens_per_pass` tokens, each prompt counted
/// once. A group that is larger alone is a pass of its own.
pub(crate) fn passes<L: Learner>(
    learner: &L,
    groups: &[ReplyGroup<L::Encoded>],
    tokens_per_pass: usize,
) -> Vec<Range<usize>> {
    let sizes = groups.iter().map(|group| group_tokens(learner, group));
    split_into_passes(sizes, tokens_per_pass)
}

/// Tokens of a group, its prompt counted once.
pub(crate) fn group_tokens<L: Learner>(learner: &L, group: &ReplyGroup<L::Encoded>) -> usize {
    learner.prompt_tokens(&group.prompt) + group.replies.iter().map(Vec::len).sum::<usize>()
}

/// Splits groups of so many tokens into consecutive passes, as the trainings do.
pub fn split_into_passes(
    sizes: impl Iterator<Item = usize>,
    tokens_per_pass: usize,
) -> Vec<Range<usize>> {
    let mut passes: Vec<Range<usize>> = Vec::new();
    let mut filled = 0;
    for (index, size) in sizes.enumerate() {
        match passes.last_mut() {
            Some(pass) if filled + size <= tokens_per_pass => pass.end = index + 1,
            _ => {
                passes.push(index..index + 1);
                filled = 0;
            }
        }
        filled += size;
    }
    passes
}

/// The scores of every reply under a view, no gradients.
pub(crate) fn score<L: Learner>(
    learner: &L,
    groups: &[ReplyGroup<L::Encoded>],
    how: &PassSettings,
    view: View,
) -> Result<Vec<Vec<f64>>, TrainError> {
    let passes = passes(learner, groups, how.tokens_per_pass);
    let device = device(&learner.vars());
    let scored = side_by_side(&passes, &device, |pass| -> Result<Vec<Vec<f64>>, TrainError> {
        let groups = &groups[pass.clone()];
        let scores = learner
            .scores(groups, how.temperature, view)
            .map_err(TrainError::policy("score replies", how.step))?;
        let scores = PassScores::new(groups, &scores)
            .map_err(TrainError::tensor("score replies", how.step))?;
        Ok(scores.rows().map(|row| row.logprobs.to_vec()).collect())
    });
    Ok(scored.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
}

/// How passes are run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PassSettings {
    pub(crate) tokens_per_pass: usize,
    pub(crate) temperature: f64,
    /// Steps done before, for messages.
    pub(crate) step: usize,
}

/// The gradient of a loss over all groups. `loss` is given each pass (the index of its first
/// reply among all, and its scores) and says the derivative with respect to each log-probability;
/// it keeps what it measures.
pub(crate) fn gradients<L: Learner>(
    learner: &L,
    groups: &[ReplyGroup<L::Encoded>],
    how: &PassSettings,
    mut loss: impl FnMut(usize, &PassScores) -> Vec<Vec<f64>>,
) -> Result<GradStore, TrainError> {
    let mut gradients = GradStore::default();
    let mut first_reply = 0;
    let vars = learner.vars();
    let passes = passes(learner, groups, how.tokens_per_pass);
    // As many passes are held at a time as run side by side; the order of all sums is that of the
    // passes, whatever the number of threads.
    let device = device(&vars);
    for wave in passes.chunks(at_once(&device)) {
        let forward = side_by_side(wave, &device, |pass| {
            learning_scores(learner, &groups[pass.clone()], how)
        });
        let mut pulls = Vec::with_capacity(wave.len());
        for scores in forward {
            let (logprobs_t, values) = scores?;
            let slopes_t = loss(first_reply, &values).concat();
            first_reply += values.ends.len();
            pulls.push((logprobs_t, slopes_t));
        }
        let told = TrainError::tensor("backpropagate", how.step);
        let backward =
            side_by_side(&pulls, &device, |(logprobs_t, slopes_t)| pull_back(logprobs_t, slopes_t));
        let backward = backward.into_iter().collect::<candle_core::Result<Vec<_>>>();
        let sum = backward.and_then(|passes| add(&mut gradients, &passes, &vars));
        sum.map_err(told)?;
    }
    Ok(gradients)
}

/// Where the learner's passes run: where its variables lie.
fn device(vars: &[(String, Var)]) -> Device {
    vars.first().map_or(Device::Cpu, |(_, var)| var.device().clone())
}

/// Adds the gradients of passes to `total`, in the passes' order.
fn add(
    total: &mut GradStore,
    passes: &[GradStore],
    vars: &[(String, Var)],
) -> candle_core::Result<()> {
    let known: &GradStore = total;
    let sums: Vec<candle_core::Result<Option<Tensor>>> = vars
        .par_iter()
        .map(|(_, var)| {
            let mut parts = passes.iter().filter_map(|pass| pass.get(var));
            parts.try_fold(known.get(var).cloned(), |sum, part| match sum {
                Some(sum) => (sum + part).map(Some),
                None => Ok(Some(part.clone())),
            })
        })
        .collect();
    for ((_, var), sum) in vars.iter().zip(sums) {
        if let Some(sum) = sum? {
            total.insert(var, sum);
        }
    }
    Ok(())
}

/// The differentiable log-probabilities of a pass, and all its scores as numbers.
fn learning_scores<L: Learner>(
    learner: &L,
    groups: &[ReplyGroup<L::Encoded>],
    how: &PassSettings,
) -> Result<(Tensor, PassScores), TrainError> {
    let scores = learner
        .scores(groups, how.temperature, View::Learning)
        .map_err(TrainError::policy("score replies", how.step))?;
    let values =
        PassScores::new(groups, &scores).map_err(TrainError::tensor("score replies", how.step))?;
    Ok((scores.logprobs_t, values))
}

/// Gradients of a loss whose derivative with respect to the log-probabilities is `slopes_t`.
fn pull_back(logprobs_t: &Tensor, slopes_t: &[f64]) -> candle_core::Result<GradStore> {
    let t = logprobs_t.dims1()?;
    let slopes_t = Tensor::from_slice(slopes_t, t, logprobs_t.device())?;
    let slopes_t = slopes_t.to_dtype(logprobs_t.dtype())?;
    let mut gradients = backward(&(logprobs_t * &slopes_t)?.sum_all()?)?;
    // The gradient of the factor would hold on to all that the forward pass has kept.
    gradients.remove(&slopes_t);
    Ok(gradients)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_are_full_but_not_over_full() {
        let check = |sizes: &[usize], expected: &[Range<usize>]| {
            assert_eq!(split_into_passes(sizes.iter().copied(), 10), expected, "{sizes:?}");
        };
        check(&[], &[]);
        check(&[4, 6, 1], &[0..2, 2..3]);
        check(&[11, 1], &[0..1, 1..2]);
        check(&[1, 11, 2, 8], &[0..1, 1..2, 2..4]);
    }
}
