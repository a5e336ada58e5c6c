//! What a checkpoint is chosen by: how well the policy does on the development split.

use mmrag_core::{Completion, Example, Gold, Sampling};
use mmrag_task::metrics::multimodalqa;
use mmrag_task::{Case, Reply, Stage, answer_items};
use mmrag_train::{Evaluate, Evaluation, Learner, Metrics, ReplyGroup, SourceError, View};

use crate::loading::verdict_tokens;

/// Prompts that are run at once.
pub(crate) const AT_ONCE: usize = 32;

/// Measures a ranker: greedy replies, judged by the rubric. The score is the mean reward.
pub(crate) struct RankDev {
    stage: Stage,
    cases: Vec<(Case, Gold)>,
    max_new_tokens: usize,
}

/// Measures a filter by its verdicts' probabilities. The score is the share of pairs of a gold
/// document and a distractor of one question in which gold is the more probable.
pub(crate) struct FilterDev {
    stage: Stage,
    examples: Vec<Example>,
}

impl RankDev {
    /// A measure over examples, each with all its candidates.
    pub(crate) fn new(stage: Stage, examples: &[Example], max_new_tokens: usize) -> Self {
        let case = |example: &Example| {
            let case = Case::listwise(&example.question, &example.candidates, 0);
            (case, example.gold.clone())
        };
        Self { stage, cases: examples.iter().map(case).collect(), max_new_tokens }
    }
}

impl<L: Learner> Evaluate<L> for RankDev {
    fn evaluate(&mut self, learner: &L, _step: usize) -> Result<Evaluation, SourceError> {
        let mut sums = Sums::default();
        for cases in self.cases.chunks(AT_ONCE) {
            let prompts = cases
                .iter()
                .map(|(case, _)| learner.encode(&self.stage.prompt(case)))
                .collect::<Result<Vec<_>, _>>()?;
            let replies = learner.sample(&prompts, &Sampling::greedy(self.max_new_tokens))?;
            for ((case, gold), completions) in cases.iter().zip(&replies) {
                let completion = completions.first().ok_or("the policy gave no completion")?;
                sums.add("reward", self.stage.score(case, gold, completion).total);
                let reply = self.stage.parse(case, &completion.text);
                sums.add("unparsable", f64::from(u8::from(reply.is_err())));
                sums.add("answer_em", reply.map_or(0.0, |reply| exact(&reply, gold)));
            }
        }
        Ok(sums.evaluation("reward"))
    }
}

impl FilterDev {
    /// A measure over examples, each with all its candidates.
    pub(crate) fn new(stage: Stage, examples: Vec<Example>) -> Self {
        Self { stage, examples }
    }
}

impl<L: Learner> Evaluate<L> for FilterDev {
    fn evaluate(&mut self, learner: &L, _step: usize) -> Result<Evaluation, SourceError> {
        let mut sums = Sums::default();
        for example in &self.examples {
            let probabilities = verdicts(learner, &self.stage, example)?;
            let (mut gold, mut others) = (Vec::new(), Vec::new());
            for (document, p) in example.candidates.iter().zip(probabilities) {
                let is_gold = example.gold.documents.contains(&document.id);
                sums.add("verdict", f64::from(u8::from((p > 0.5) == is_gold)));
                if is_gold { gold.push(p) } else { others.push(p) }
            }
            for pair in gold.iter().flat_map(|g| others.iter().map(move |o| (g, o))) {
                sums.add("auc", f64::from(u8::from(pair.0 > pair.1)));
            }
        }
        Ok(sums.evaluation("auc"))
    }
}

/// P(Yes) / (P(Yes) + P(No)) of every candidate, from the two replies' log-probabilities; of a
/// filter that reasons its verdict, 1 or 0, and a half where that does not parse.
fn verdicts<L: Learner>(
    learner: &L,
    stage: &Stage,
    example: &Example,
) -> Result<Vec<f64>, SourceError> {
    if stage.grammar.think {
        return written_verdicts(learner, stage, example);
    }
    let reply = |helps| learner.encode_reply(&stage.render(&Reply::Filter { think: None, helps }));
    let (yes, no) = (reply(true)?, reply(false)?);
    let groups = example
        .candidates
        .iter()
        .map(|document| {
            let prompt = stage.prompt(&Case::pointwise(&example.question, document));
            let prompt = learner.encode(&prompt)?;
            Ok(ReplyGroup { prompt, replies: vec![yes.clone(), no.clone()] })
        })
        .collect::<Result<Vec<_>, SourceError>>()?;
    let scores = learner.scores(&groups, 1.0, View::Current)?;
    let logprobs = scores.logprobs_t.to_vec1::<f32>()?;
    let sum = |part: &[f32]| part.iter().map(|logprob| f64::from(*logprob)).sum::<f64>();
    let pairs = logprobs.chunks(yes.len() + no.len());
    Ok(pairs.map(|pair| odds(sum(&pair[..yes.len()]) - sum(&pair[yes.len()..]))).collect())
}

fn written_verdicts<L: Learner>(
    learner: &L,
    stage: &Stage,
    example: &Example,
) -> Result<Vec<f64>, SourceError> {
    let case = |document| Case::pointwise(&example.question, document);
    let cases: Vec<Case> = example.candidates.iter().map(case).collect();
    let prompts: Vec<_> =
        cases.iter().map(|c| learner.encode(&stage.prompt(c))).collect::<Result<_, _>>()?;
    let replies = learner.sample(&prompts, &Sampling::greedy(verdict_tokens(stage)))?;
    let verdict = |(case, completions): (&Case, &Vec<Completion>)| match completions.first() {
        Some(completion) => match stage.parse(case, &completion.text) {
            Ok(Reply::Filter { helps, .. }) => f64::from(u8::from(helps)),
            Ok(Reply::Rank { .. }) | Err(_) => 0.5,
        },
        None => 0.5,
    };
    Ok(cases.iter().zip(&replies).map(verdict).collect())
}

fn odds(difference: f64) -> f64 {
    1.0 / (1.0 + (-difference).exp())
}

/// 1 if the reply's answer is exactly right by MultimodalQA's rules, else 0.
pub(crate) fn exact(reply: &Reply, gold: &Gold) -> f64 {
    match reply {
        Reply::Rank { answer, .. } if gold.is_answerable() => {
            multimodalqa::exact_match(&answer_items(answer), &gold.answers)
        }
        reply => f64::from(u8::from(reply.abstains())),
    }
}

/// Sums and counts by name.
#[derive(Default)]
struct Sums(Vec<(&'static str, f64, usize)>);

impl Sums {
    fn add(&mut self, name: &'static str, value: f64) {
        match self.0.iter_mut().find(|(known, ..)| *known == name) {
            Some((_, sum, count)) => (*sum, *count) = (*sum + value, *count + 1),
            None => self.0.push((name, value, 1)),
        }
    }

    fn evaluation(&self, score: &str) -> Evaluation {
        let mut metrics = Metrics::default();
        for (name, sum, count) in &self.0 {
            metrics.set(*name, sum / *count as f64);
        }
        Evaluation { score: metrics.get(score).unwrap_or(0.0), metrics }
    }
}
