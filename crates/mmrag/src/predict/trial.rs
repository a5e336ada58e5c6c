//! Work of a kind that a run has, done on a model of few layers and measured.

use std::ops::Range;
use std::time::Instant;

use anyhow::Context as _;
use candle_core::backprop::GradStore;
use mmrag_core::Prompt;
use mmrag_model::{
    ALL_TARGETS, Adapter, Cost, Encoded, Grad, Group, LoraSpec, Policy, Shared, Trained,
};
use mmrag_ops::{at_once, backward, side_by_side};
use mmrag_train::{LoraSettings, OptimizerSettings, split_into_passes};

use super::outlook::process_bytes;
use super::probe::Told;
use crate::bench::{PromptSize, sampling};

/// Tokens of the short replies that stand for long ones: what the second adds over the first, each
/// further token takes.
const SHORT: (usize, usize) = (4, 64);

/// Seconds of trying after which nothing is tried again, once the first round is over.
const PATIENCE: f64 = 2.0;

/// Seconds of work that is not done again: a first time is slower, for memory is new to the process.
const LONG: f64 = 15.0 * PATIENCE;

/// Times that each piece of work is done if it is quick; the median counts.
const ROUNDS: usize = 5;

/// What is trained, and how.
#[derive(Clone, Debug)]
pub(super) struct Trainee {
    /// The adapter; all weights if there is none.
    pub(super) lora: Option<LoraSettings>,
    /// Whether activations are checkpointed.
    pub(super) checkpointing: bool,
    /// What steps the weights.
    pub(super) optimizer: OptimizerSettings,
}

impl Trainee {
    /// Whether the vision tower does not stay as it is.
    pub(super) fn changes_vision(&self) -> bool {
        let in_text = |target: &String| ALL_TARGETS.contains(&target.as_str());
        self.lora.as_ref().is_none_or(|lora| !lora.targets.iter().all(in_text))
    }

    /// What is trained, for counting.
    pub(super) fn trained(&self) -> Trained {
        self.lora.as_ref().map_or(Trained::Full, |lora| Trained::Adapter(lora.r))
    }
}

/// Prompts that work is tried on.
pub(super) enum Prompts {
    /// Those of a run, in batches: each is one call of the policy.
    Given(Vec<Vec<Prompt>>),
    /// One batch of one prompt that is made up.
    MadeUp(PromptSize),
}

/// Replies that are scored or learned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replies {
    /// So many to each prompt.
    pub(super) count: usize,
    /// Tokens of each.
    pub(super) tokens: usize,
}

/// A kind of work.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    /// The vision tower looks at pictures.
    Look,
    /// Replies are drawn, with room for `most` tokens each; of those that are written together the
    /// longest has so many.
    Draw { replies: Replies, longest: usize, most: usize },
    /// What comes next is chosen of given tokens.
    Choose,
    /// Replies are scored without gradients: a batch in one pass, or in passes side by side of so
    /// many tokens.
    Score { replies: Replies, tokens_per_pass: Option<usize> },
    /// Replies are learned from: forward and backward, in passes of so many tokens.
    Learn { replies: Replies, tokens_per_pass: usize },
    /// The optimizer takes a step.
    Step,
}

/// A model of few layers at work.
pub(super) struct Trial<'a> {
    policy: &'a Policy,
    adapter: Option<Adapter>,
    cost: &'a Cost,
    trainee: &'a Trainee,
}

impl<'a> Trial<'a> {
    /// With an adapter, if one is to be trained.
    ///
    /// # Errors
    ///
    /// When the adapter does not fit.
    pub(super) fn new(
        policy: &'a Policy,
        cost: &'a Cost,
        trainee: &'a Trainee,
    ) -> anyhow::Result<Self> {
        let adapter = |lora: &LoraSettings| {
            let all = || ALL_TARGETS.map(str::to_owned).to_vec();
            let targets = if lora.targets.is_empty() { all() } else { lora.targets.clone() };
            let spec = LoraSpec { r: lora.r, alpha: lora.alpha, targets };
            Adapter::new(policy.vlm(), &spec, 0).context("failed to make an adapter")
        };
        let adapter = trainee.lora.as_ref().map(adapter).transpose()?;
        Ok(Self { policy, adapter, cost, trainee })
    }

    /// Does some work, and says what it takes.
    ///
    /// # Errors
    ///
    /// When a prompt cannot be made ready, or memory is out.
    pub(super) fn run(&self, work: Work, prompts: &Prompts) -> anyhow::Result<Told> {
        let batches = self.encoded(prompts)?;
        match work {
            Work::Look => self.look(&batches.concat()),
            Work::Step => self.step(&batches[0][0]),
            Work::Draw { replies, longest, most } => self.draw(&batches, replies, longest, most),
            Work::Choose => {
                self.know(&batches)?;
                let sets = [vec![1], vec![2]];
                pieces(&batches, Vec::len, |batches| {
                    batches.iter().try_for_each(|batch| {
                        let chosen = self.actor().next_token_probabilities(batch, &sets);
                        chosen.map(drop).context("failed to choose")
                    })
                })
            }
            Work::Score { replies, tokens_per_pass } => {
                self.know(&batches)?;
                let waves = self.waves(&batches, replies, tokens_per_pass);
                pieces(&waves, |wave| tokens(wave), |waves| self.score(waves))
                    .map(|told| told.a_prompt(&batches, &waves))
            }
            Work::Learn { replies, tokens_per_pass } => {
                self.know(&batches)?;
                let waves = self.waves(&batches, replies, Some(tokens_per_pass));
                pieces(&waves, |wave| tokens(wave), |waves| self.learn(waves))
                    .map(|told| told.a_prompt(&batches, &waves))
            }
        }
    }

    /// The prompts made ready. A picture that is broken is one that training would skip.
    fn encoded(&self, prompts: &Prompts) -> anyhow::Result<Vec<Vec<Encoded>>> {
        let batches = match prompts {
            Prompts::MadeUp(size) => return Ok(vec![vec![size.prompt(self.policy, 0)?]]),
            Prompts::Given(batches) => batches,
        };
        let mut broken = None;
        let mut ready = Vec::with_capacity(batches.len());
        for batch in batches {
            let encoded = batch.iter().map(|prompt| self.policy.encode(prompt));
            let (good, bad): (Vec<_>, Vec<_>) = encoded.partition(Result::is_ok);
            broken = broken.or(bad.into_iter().find_map(Result::err));
            let good: Vec<Encoded> = good.into_iter().flatten().collect();
            if !good.is_empty() {
                ready.push(good);
            }
        }
        match broken {
            Some(error) if ready.is_empty() => Err(error).context("failed to make prompts ready"),
            _ => Ok(ready),
        }
    }

    /// Looks at all pictures before work on them is measured.
    fn know(&self, batches: &[Vec<Encoded>]) -> anyhow::Result<()> {
        let all: Vec<&Encoded> = batches.iter().flatten().collect();
        self.policy.look_at(&all).map(drop).context("failed to look at pictures")
    }

    fn look(&self, prompts: &[Encoded]) -> anyhow::Result<Told> {
        let all: Vec<&Encoded> = prompts.iter().collect();
        let mut pictures = 0;
        let told = measured(|| {
            self.policy.forget_pictures();
            pictures = self.policy.look_at(&all).context("failed to look at pictures")?;
            Ok(())
        })?;
        Ok(Told { seconds: told.seconds / pictures.max(1) as f64, ..told })
    }

    /// Seconds of replies of their mean length and, for as long as the longest takes beyond that, of
    /// one alone; bytes with the room that all of them need.
    fn draw(
        &self,
        batches: &[Vec<Encoded>],
        replies: Replies,
        longest: usize,
        most: usize,
    ) -> anyhow::Result<Told> {
        self.know(batches)?;
        let prompts = batches.concat();
        let mean = prompts.iter().map(Encoded::len).sum::<usize>().div_ceil(prompts.len());
        let room = Shared { prompt: mean, replies: replies.count, new: most };
        let together: Vec<&[Encoded]> = prompts.chunks(self.cost.prompts_at_once(room)).collect();
        let threads = at_once(self.policy.device());
        let waves: Vec<&[&[Encoded]]> = together.chunks(threads).collect();
        let answered = |wave: &&[&[Encoded]]| wave.iter().map(|batch| batch.len()).sum();
        let drawn = |waves: &[&[&[Encoded]]], count: usize, new: usize| {
            let sampling = sampling(count, new);
            pieces(waves, answered, |waves| {
                waves.iter().try_for_each(|wave| {
                    let drawn = side_by_side(wave, self.policy.device(), |batch| {
                        self.actor().sample(batch, &sampling).map(drop)
                    });
                    drawn.into_iter().collect::<Result<(), _>>().context("failed to draw replies")
                })
            })
        };
        let (all, tried) = if replies.tokens <= SHORT.1 {
            (drawn(&waves, replies.count, replies.tokens)?, replies.tokens)
        } else {
            (long(|new| drawn(&waves, replies.count, new), replies.tokens)?, SHORT.1)
        };
        let beyond = longest.saturating_sub(replies.tokens);
        let alone = if beyond == 0 {
            0.0
        } else {
            let one: Vec<&[Encoded]> = waves[0].iter().map(|batch| &batch[..1]).collect();
            let a_token = a_token(|new| drawn(&[&one], 1, new))? * one.len() as f64;
            a_token * beyond as f64 / answered(&waves[0]) as f64
        };
        let told = Told { seconds: all.seconds + alone, ..all };
        let at_a_time = waves.iter().map(answered).max().unwrap_or(0);
        let missing = at_a_time * replies.count * most.saturating_sub(tried);
        let room = missing * self.cost.cache_bytes_per_token();
        Ok(Told { bytes: told.bytes + room as f64, ..told })
    }

    /// The passes of some batches, as many side by side as the device takes.
    fn waves(
        &self,
        batches: &[Vec<Encoded>],
        replies: Replies,
        tokens_per_pass: Option<usize>,
    ) -> Vec<Vec<Vec<Group>>> {
        let reply = words(self.policy, replies.tokens);
        let group = |prompt: &Encoded| Group {
            prompt: prompt.clone(),
            replies: vec![reply.clone(); replies.count],
        };
        let mut waves = Vec::new();
        for batch in batches {
            let groups: Vec<Group> = batch.iter().map(group).collect();
            let Some(most) = tokens_per_pass else {
                waves.push(vec![groups]);
                continue;
            };
            let passes: Vec<Range<usize>> = split_into_passes(groups.iter().map(size), most);
            let threads = at_once(self.policy.device());
            let of_wave = |wave: &[Range<usize>]| {
                wave.iter().map(|pass| groups[pass.clone()].to_vec()).collect()
            };
            waves.extend(passes.chunks(threads).map(of_wave));
        }
        waves
    }

    fn score(&self, waves: &[Vec<Vec<Group>>]) -> anyhow::Result<()> {
        waves.iter().try_for_each(|wave| {
            let scored = side_by_side(wave, self.policy.device(), |pass| {
                self.actor().logprobs(pass, 1.0, Grad::None).map(drop)
            });
            scored.into_iter().collect::<Result<(), _>>().context("failed to score replies")
        })
    }

    fn learn(&self, waves: &[Vec<Vec<Group>>]) -> anyhow::Result<()> {
        waves.iter().try_for_each(|wave| {
            let learnt = side_by_side(wave, self.policy.device(), |pass| {
                self.gradients(pass)?;
                anyhow::Ok(())
            });
            learnt.into_iter().collect()
        })
    }

    fn step(&self, prompt: &Encoded) -> anyhow::Result<Told> {
        let replies = vec![words(self.policy, 1)];
        let gradients = self.gradients(&[Group { prompt: prompt.clone(), replies }])?;
        let vars = self.adapter.as_ref().map_or_else(|| self.policy.vars(), Adapter::vars);
        let mut optimizer = self.trainee.optimizer.of(vars);
        let told = measured(|| {
            // So small a rate that every round is of the same weights.
            optimizer.step(&gradients, 1e-12, Some(1.0)).context("failed to step")?;
            Ok(self.policy.device().synchronize()?)
        })?;
        // The optimizer's state is counted with what is trained, and what learning leaves behind is
        // with learning.
        Ok(Told { bytes: 0.0, process: 0, ..told })
    }

    fn gradients(&self, pass: &[Group]) -> anyhow::Result<GradStore> {
        let grad = if self.adapter.is_some() { Grad::Adapter } else { Grad::Full };
        let scores = self.actor().logprobs(pass, 1.0, grad).context("failed to score replies")?;
        let gradients = backward(&scores.logprobs_t.sum_all()?);
        let gradients = gradients.context("failed to backpropagate")?;
        self.policy.device().synchronize()?;
        Ok(gradients)
    }

    fn actor(&self) -> mmrag_model::Actor<'_> {
        self.policy.with(self.adapter.as_ref()).with_checkpointing(self.trainee.checkpointing)
    }
}

impl Told {
    /// Seconds of tokens as seconds of prompts.
    fn a_prompt(self, batches: &[Vec<Encoded>], waves: &[Vec<Vec<Group>>]) -> Self {
        let prompts = batches.iter().map(Vec::len).sum::<usize>().max(1);
        let all: usize = waves.iter().map(|wave| tokens(wave)).sum();
        Self { seconds: self.seconds * all as f64 / prompts as f64, ..self }
    }
}

/// What long replies take, from short ones.
fn long(draw: impl Fn(usize) -> anyhow::Result<Told>, tokens: usize) -> anyhow::Result<Told> {
    let (short, long) = (draw(SHORT.0)?, draw(SHORT.1)?);
    let each = (long.seconds - short.seconds).max(0.0) / (SHORT.1 - SHORT.0) as f64;
    Ok(Told { seconds: short.seconds + each * (tokens - SHORT.0) as f64, ..long })
}

/// Seconds of a further token.
fn a_token(draw: impl Fn(usize) -> anyhow::Result<Told>) -> anyhow::Result<f64> {
    let (short, long) = (draw(SHORT.0)?, draw(SHORT.1)?);
    Ok((long.seconds - short.seconds).max(0.0) / (SHORT.1 - SHORT.0) as f64)
}

/// Tokens of a pass that a group fills.
fn size(group: &Group) -> usize {
    group.prompt.len() + group.replies.iter().map(Vec::len).sum::<usize>()
}

fn tokens(wave: &[Vec<Group>]) -> usize {
    wave.iter().flatten().map(size).sum()
}

/// Tokens that are words.
fn words(policy: &Policy, n: usize) -> Vec<u32> {
    let vocabulary = policy.vlm().config().text.vocab_size as u32;
    let image = policy.tokenizer().image_token();
    let word = |at: u32| (at * 37) % vocabulary;
    (0..n.max(1) as u32).map(|at| if word(at) == image { 0 } else { word(at) }).collect()
}

/// Measures work on as many pieces as patience allows, the first at least, and says the seconds of
/// one unit of their size. A first piece that takes very long is not done again.
fn pieces<T>(
    all: &[T],
    size: impl Fn(&T) -> usize,
    work: impl Fn(&[T]) -> anyhow::Result<()>,
) -> anyhow::Result<Told> {
    let one = once(|| work(&all[..1]))?;
    let count = (PATIENCE / one.seconds.max(1e-9)) as usize;
    let tried = &all[..count.clamp(1, all.len())];
    let told = if one.seconds > LONG {
        one
    } else if tried.len() == 1 {
        Told { seconds: once(|| work(tried))?.seconds, ..one }
    } else {
        measured(|| work(tried))?
    };
    let units: usize = tried.iter().map(size).sum();
    Ok(Told { seconds: told.seconds / units.max(1) as f64, ..told })
}

/// Measures work: the median of some rounds after one that is not counted, or that one alone if it
/// takes very long.
fn measured(mut work: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Told> {
    let first = once(&mut work)?;
    if first.seconds > LONG {
        return Ok(first);
    }
    let mut rounds = vec![once(&mut work)?.seconds];
    let began = Instant::now();
    while rounds.len() < ROUNDS && began.elapsed().as_secs_f64() < PATIENCE {
        rounds.push(once(&mut work)?.seconds);
    }
    rounds.sort_by(f64::total_cmp);
    Ok(Told { seconds: rounds[rounds.len() / 2], process: process_bytes(), ..first })
}

fn once(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Told> {
    let before = crate::ALLOCATOR.live_bytes();
    crate::ALLOCATOR.take_most_live_bytes();
    let start = Instant::now();
    work()?;
    let seconds = start.elapsed().as_secs_f64();
    let most = crate::ALLOCATOR.take_most_live_bytes();
    let bytes = most.saturating_sub(before) as f64;
    Ok(Told { seconds, bytes, process: process_bytes() })
}
