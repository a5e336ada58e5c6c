//! The policy in action: it draws completions, chooses, and says how probable replies are.

use std::cell::RefCell;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use mmrag_core::{Completion, Finish, Guide, Sampling, Tell};
use mmrag_ops::{TokenScores, linear, logprob_head, side_by_side};
use rayon::prelude::*;

use crate::adapter::Adapter;
use crate::encoded::{Cluster, Encoded, EncodedImage, clusters, reply_segment};
use crate::error::ModelError;
use crate::policy::Policy;
use crate::sampler::{Drawn, Sampler};
use crate::tokenizer::THINK;
use crate::vlm::{Cache, Forward, Grad, Packed, VisionFeatures};

/// Tokens of one forward pass without gradients, about.
pub(crate) const PASS_TOKENS: usize = 4096;

/// Completions that are written together at most, unless one prompt has more.
pub(crate) const COMPLETIONS_AT_ONCE: usize = 32;

/// Bytes of keys and values that are held at once, about.
pub(crate) const CACHE_BYTES: usize = 1 << 30;

/// Logits that exist at once, about.
const LOGITS: usize = 1 << 22;

/// A prompt and replies to it.
#[derive(Clone, Debug)]
pub struct Group {
    /// What all replies answer; computed once.
    pub prompt: Encoded,
    /// Tokens of the replies, none empty.
    pub replies: Vec<Vec<u32>>,
}

/// A policy with an adapter on, or without one.
#[derive(Clone, Copy)]
pub struct Actor<'a> {
    policy: &'a Policy,
    adapter: Option<&'a Adapter>,
    checkpointing: bool,
}

/// The pictures of a pack, each once.
#[derive(Default)]
pub(crate) struct Album {
    /// They.
    pub(crate) images: Vec<EncodedImage>,
}

impl Album {
    /// The place of a picture; one that is not in it yet is put at its end.
    pub(crate) fn index(&mut self, image: &EncodedImage) -> usize {
        let known = self.images.iter().position(|other| other.hash == image.hash);
        known.unwrap_or_else(|| {
            self.images.push(image.clone());
            self.images.len() - 1
        })
    }
}

impl<'a> Actor<'a> {
    pub(crate) fn new(policy: &'a Policy, adapter: Option<&'a Adapter>) -> Self {
        Self { policy, adapter, checkpointing: false }
    }

    /// The same, with activation checkpointing of its learning passes on or off: on, they take far
    /// less memory and a third more time, and give the same gradients.
    #[must_use]
    pub fn with_checkpointing(self, checkpointing: bool) -> Self {
        Self { checkpointing, ..self }
    }

    /// The adapter that is on, if one is.
    pub(crate) fn adapter(&self) -> Option<&'a Adapter> {
        self.adapter
    }

    /// The policy behind it.
    pub fn policy(&self) -> &'a Policy {
        self.policy
    }

    /// Natural logarithms of the probabilities of all reply tokens of all groups, in order, and the
    /// entropies where they were drawn, at a temperature.
    ///
    /// The whole batch is one forward pass; the caller bounds its size.
    ///
    /// # Errors
    ///
    /// When a reply is empty or a token is unknown.
    pub fn logprobs(
        &self,
        groups: &[Group],
        temperature: f64,
        grad: Grad,
    ) -> Result<TokenScores, ModelError> {
        let mut pack = Packed::default();
        let mut album = Album::default();
        let (mut rows, mut targets) = (vec![], vec![]);
        for group in groups {
            let whole = group.prompt.segment(0..group.prompt.len(), &mut |i| album.index(i));
            let prompt = pack.push(&whole, vec![]);
            for reply in &group.replies {
                let Some((_, fed)) = reply.split_last() else {
                    return Err(ModelError::Prompt { reason: "a reply has no token".into() });
                };
                rows.push(prompt.end as u32 - 1);
                if !fed.is_empty() {
                    let segment = reply_segment(fed, group.prompt.next_position);
                    rows.extend(pack.push(&segment, vec![prompt.clone()]).map(|row| row as u32));
                }
                targets.extend(reply);
            }
        }
        let checkpointing = self.checkpointing;
        let pass = Forward { grad, adapter: self.adapter, checkpointing };
        let hidden_td = self.hidden(&pass, &pack, &album, None)?;
        let rows = Tensor::new(rows, hidden_td.device())?;
        let drawn_td = hidden_td.index_select(&rows, 0)?;
        let head_vd = self.policy.vlm().head(&pass);
        Ok(logprob_head(&drawn_td, &head_vd, &targets, temperature, logit_chunk(targets.len()))?)
    }

    /// Draws `sampling.n` completions for each prompt.
    ///
    /// # Errors
    ///
    /// When memory is out.
    pub fn sample(
        &self,
        prompts: &[Encoded],
        sampling: &Sampling,
    ) -> Result<Vec<Vec<Completion>>, ModelError> {
        self.sample_watched(prompts, sampling, Watch::default())
    }

    /// Draws, held to the prompts' guides if there are such, and tells each prompt's first completion
    /// while it is being written, if that is asked for.
    pub(crate) fn sample_watched(
        &self,
        prompts: &[Encoded],
        sampling: &Sampling,
        Watch { tell, guides }: Watch<'_>,
    ) -> Result<Vec<Vec<Completion>>, ModelError> {
        let all: Vec<&Encoded> = prompts.iter().collect();
        self.policy.look_at(&all)?;
        let mut batches = vec![];
        let mut start = 0;
        while start < prompts.len() {
            let end = self.fitting(&prompts[start..], sampling) + start;
            batches.push(start..end);
            start = end;
        }
        let drawn = side_by_side(&batches, self.policy.device(), |batch| {
            let mut watch = |writings: &[Writing]| {
                if let Some(tell) = tell {
                    self.tell_firsts(writings, batch.start, tell);
                }
            };
            let guides = guides.map(|guides| &guides[batch.clone()]);
            self.sample_batch(&all[batch.clone()], sampling, (batch.start, guides), &mut watch)
        });
        Ok(drawn.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// Draws one completion and hands its text on, piece by piece, as it is written. It is the one
    /// that [`sample`](Self::sample) draws first for this prompt alone.
    ///
    /// # Errors
    ///
    /// When memory is out.
    pub fn stream(
        &self,
        prompt: &Encoded,
        sampling: &Sampling,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Completion, ModelError> {
        self.policy.look_at(&[prompt])?;
        let mut told = String::new();
        let mut watch = |writings: &[Writing]| {
            let text = self.completion(&writings[0]).text;
            // A character of several tokens is no character before its last one.
            let is_whole = !text.ends_with(char::REPLACEMENT_CHARACTER);
            if let Some(new) = text.strip_prefix(&told).filter(|new| is_whole && !new.is_empty()) {
                tell(new);
                told = text;
            }
        };
        let one = Sampling { n: 1, ..sampling.clone() };
        let completions = self.sample_batch(&[prompt], &one, (0, None), &mut watch)?;
        let completion = completions.into_iter().flatten().next().expect("one was asked for");
        if let Some(rest) = completion.text.strip_prefix(&told).filter(|rest| !rest.is_empty()) {
            tell(rest);
        }
        Ok(completion)
    }

    /// Tells of each prompt's first completion what has been written so far. A character of several
    /// tokens is no character before its last one, so a text that ends in one has to wait.
    fn tell_firsts(&self, writings: &[Writing], first_index: usize, tell: Tell<'_>) {
        let mut told = None;
        for writing in writings {
            if told.replace(writing.prompt) == Some(writing.prompt) {
                continue;
            }
            let text = self.completion(writing).text;
            if !text.ends_with(char::REPLACEMENT_CHARACTER) {
                tell(first_index + writing.prompt, &text);
            }
        }
    }

    /// How many prompts, from the first on, make a batch; at least one. It does not depend on the
    /// number of threads, so neither do the completions.
    fn fitting(&self, prompts: &[Encoded], sampling: &Sampling) -> usize {
        let text = &self.policy.vlm().config().text;
        let row_bytes = 8 * text.num_layers * text.num_kv_heads * text.head_dim;
        let mut room = CACHE_BYTES / row_bytes;
        for (index, prompt) in prompts.iter().enumerate() {
            let rows = prompt.len() + sampling.n * sampling.max_new_tokens;
            let is_full = rows > room || (index + 1) * sampling.n > COMPLETIONS_AT_ONCE;
            if is_full && index > 0 {
                return index;
            }
            room = room.saturating_sub(rows);
        }
        prompts.len()
    }

    fn sample_batch(
        &self,
        prompts: &[&Encoded],
        sampling: &Sampling,
        (first_index, guides): (usize, Option<&[&dyn Guide]>),
        watch: &mut dyn FnMut(&[Writing]),
    ) -> Result<Vec<Vec<Completion>>, ModelError> {
        let config = &self.policy.vlm().config().text;
        let device = self.policy.device();
        let rows = prompts.iter().map(|p| p.len() + sampling.n * sampling.max_new_tokens).sum();
        let cache = Cache::new(config, rows, device)?;
        let (placed, logits) = self.prefill(prompts, &cache)?;
        let mut next_row = placed.iter().flat_map(|p| &p.seen).map(|r| r.end).max().unwrap_or(0);
        let mut live = vec![];
        for (index, (placed, prompt)) in placed.into_iter().zip(prompts).enumerate() {
            for sample in 0..sampling.n {
                let sampler = Sampler::new(sampling, first_index + index, sample);
                live.push(Writing {
                    prompt: index,
                    seen: placed.seen.clone(),
                    start: next_row,
                    position: prompt.next_position,
                    opens_think: prompt.opens_think,
                    guide: guides.map(|guides| guides[index]),
                    drawn: vec![],
                    sampler,
                    finish: None,
                });
                next_row += sampling.max_new_tokens;
            }
        }
        self.decode(&cache, &mut live, &logits, sampling, watch)?;
        let mut completions = vec![vec![]; prompts.len()];
        for writing in live {
            completions[writing.prompt].push(self.completion(&writing));
        }
        Ok(completions)
    }

    /// Computes the prompts, each shared beginning once, and returns where they lie in the cache
    /// and the logits `[prompts, v]` of what comes next.
    fn prefill(
        &self,
        prompts: &[&Encoded],
        cache: &Cache,
    ) -> Result<(Vec<Placed>, Tensor), ModelError> {
        let (mut placed, mut logits) = (vec![], vec![]);
        let mut next_row = 0;
        for clusters in passes(prompts) {
            let (mut pack, mut album, mut last_rows) =
                (Packed::default(), Album::default(), vec![]);
            for cluster in clusters {
                let first = prompts[cluster.members.start];
                let trunk = next_row..next_row + cluster.trunk;
                if cluster.trunk > 0 {
                    let segment = first.segment(0..cluster.trunk, &mut |i| album.index(i));
                    pack.push_cached(&segment, vec![], trunk.start);
                    next_row = trunk.end;
                }
                for prompt in &prompts[cluster.members] {
                    let rest = trunk.len()..prompt.len();
                    let segment = prompt.segment(rest, &mut |i| album.index(i));
                    let seen = if trunk.is_empty() { vec![] } else { vec![trunk.clone()] };
                    let rows = pack.push_cached(&segment, seen.clone(), next_row);
                    let own = next_row..next_row + rows.len();
                    next_row = own.end;
                    last_rows.push(rows.end as u32 - 1);
                    placed.push(Placed { seen: seen.into_iter().chain([own]).collect() });
                }
            }
            logits.push(self.last_logits(&pack, &album, last_rows, Some(cache))?);
        }
        Ok((placed, Tensor::cat(&logits, 0)?))
    }

    /// Logits at some rows of a pack.
    fn last_logits(
        &self,
        pack: &Packed,
        album: &Album,
        rows: Vec<u32>,
        cache: Option<&Cache>,
    ) -> Result<Tensor, ModelError> {
        let pass = Forward::untracked(self.adapter);
        let hidden_td = self.hidden(&pass, pack, album, cache)?;
        let rows = Tensor::new(rows, hidden_td.device())?;
        let last_nd = hidden_td.index_select(&rows, 0)?;
        Ok(linear(&last_nd, &self.policy.vlm().head(&pass), None)?)
    }

    fn hidden(
        &self,
        pass: &Forward<'_>,
        pack: &Packed,
        album: &Album,
        cache: Option<&Cache>,
    ) -> Result<Tensor, ModelError> {
        let features = self.policy.features(pass, &album.images)?;
        let features: Vec<&VisionFeatures> = features.iter().map(Arc::as_ref).collect();
        self.policy.vlm().hidden(pass, pack, &features, cache)
    }

    /// Draws a token for every live completion, again and again, until all have ended. `watch` sees
    /// them all after each.
    fn decode(
        &self,
        cache: &Cache,
        writings: &mut [Writing],
        prompt_logits: &Tensor,
        sampling: &Sampling,
        watch: &mut dyn FnMut(&[Writing]),
    ) -> Result<(), ModelError> {
        let ends = self.policy.ends();
        let owners: Vec<u32> = writings.iter().map(|w| w.prompt as u32).collect();
        let owners = Tensor::new(owners, prompt_logits.device())?;
        let mut logits_bv = prompt_logits.index_select(&owners, 0)?;
        loop {
            let width = logits_bv.dim(1)?;
            let values: Vec<f32> = logits_bv.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
            let mut live: Vec<&mut Writing> =
                writings.iter_mut().filter(|w| w.finish.is_none()).collect();
            live.par_iter_mut().zip(values.par_chunks(width)).for_each(|(writing, logits)| {
                let drawn = self.next_token(writing, logits);
                writing.push(drawn, ends, sampling.max_new_tokens);
            });
            watch(writings);
            let live: Vec<&Writing> = writings.iter().filter(|w| w.finish.is_none()).collect();
            if live.is_empty() {
                return Ok(());
            }
            let mut pack = Packed::default();
            for writing in &live {
                writing.push_last(&mut pack);
            }
            let rows = (0..live.len() as u32).collect();
            logits_bv = self.last_logits(&pack, &Album::default(), rows, Some(cache))?;
        }
    }

    /// Draws the next token of a completion: one that its guide allows, if it has one and there is
    /// such a token.
    fn next_token(&self, writing: &mut Writing<'_>, logits: &[f32]) -> Drawn {
        let Some(guide) = writing.guide else { return writing.sampler.draw(logits) };
        let ends = self.policy.ends();
        let mut tokens: Vec<u32> = writing.drawn.iter().map(|drawn| drawn.token).collect();
        let so_far = self.text(&tokens, writing.opens_think);
        tokens.push(0);
        let last = tokens.len() - 1;
        let tokens = RefCell::new(tokens);
        let is_allowed = |token: u32| {
            if ends.contains(&token) {
                return guide.is_whole(&so_far);
            }
            tokens.borrow_mut()[last] = token;
            let text = self.text(&tokens.borrow(), writing.opens_think);
            // A token that adds nothing is a special one: none belongs into a reply. Nor do bytes that
            // become no character.
            let before_last = text.strip_suffix(char::REPLACEMENT_CHARACTER).unwrap_or(&text);
            text != so_far
                && !before_last.contains(char::REPLACEMENT_CHARACTER)
                && guide.allows(&text)
        };
        let drawn = writing.sampler.draw_allowed(logits, &is_allowed);
        drawn.unwrap_or_else(|| writing.sampler.draw(logits))
    }

    fn text(&self, tokens: &[u32], opens_think: bool) -> String {
        let opened = if opens_think { THINK } else { "" };
        opened.to_owned() + &self.policy.decode(tokens)
    }

    fn completion(&self, writing: &Writing) -> Completion {
        let tokens: Vec<u32> = writing.drawn.iter().map(|drawn| drawn.token).collect();
        Completion {
            text: self.text(&tokens, writing.opens_think),
            sampled_logprobs: writing.drawn.iter().map(|drawn| drawn.logprob).collect(),
            tokens,
            finish: writing.finish.unwrap_or(Finish::Length),
        }
    }

    /// For each prompt, for each set of tokens, the probability that one of them comes next.
    ///
    /// # Errors
    ///
    /// When memory is out.
    pub fn next_token_probabilities(
        &self,
        prompts: &[Encoded],
        sets: &[Vec<u32>],
    ) -> Result<Vec<Vec<f64>>, ModelError> {
        let prompts: Vec<&Encoded> = prompts.iter().collect();
        self.policy.look_at(&prompts)?;
        let passes = passes(&prompts);
        let all = side_by_side(&passes, self.policy.device(), |clusters| {
            self.next_of_pass(&prompts, clusters, sets)
        });
        Ok(all.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// The same for the prompts of one pass.
    fn next_of_pass(
        &self,
        prompts: &[&Encoded],
        clusters: &[Cluster],
        sets: &[Vec<u32>],
    ) -> Result<Vec<Vec<f64>>, ModelError> {
        let (mut pack, mut album, mut last_rows) = (Packed::default(), Album::default(), vec![]);
        for cluster in clusters {
            let first = prompts[cluster.members.start];
            let trunk = first.segment(0..cluster.trunk, &mut |i| album.index(i));
            let seen = match cluster.trunk {
                0 => vec![],
                _ => vec![pack.push(&trunk, vec![])],
            };
            for prompt in &prompts[cluster.members.clone()] {
                let rest = prompt.segment(cluster.trunk..prompt.len(), &mut |i| album.index(i));
                last_rows.push(pack.push(&rest, seen.clone()).end as u32 - 1);
            }
        }
        let logits = self.last_logits(&pack, &album, last_rows, None)?;
        let width = logits.dim(1)?;
        let logits: Vec<f32> = logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        Ok(logits.chunks(width).map(|row| shares(row, sets)).collect())
    }
}

/// Where a prompt lies in the cache.
struct Placed {
    seen: Vec<std::ops::Range<usize>>,
}

/// What goes along with the drawing of completions.
#[derive(Clone, Copy, Default)]
pub(crate) struct Watch<'a> {
    /// Is told what has been written.
    pub(crate) tell: Option<Tell<'a>>,
    /// Hold the completions to a form, one a prompt.
    pub(crate) guides: Option<&'a [&'a dyn Guide]>,
}

/// A completion that is being written.
struct Writing<'g> {
    prompt: usize,
    seen: Vec<std::ops::Range<usize>>,
    /// First row of its own in the cache.
    start: usize,
    /// Position of its first token.
    position: u32,
    /// Whether it goes on inside a `<think>` that the chat template has opened.
    opens_think: bool,
    /// Holds it to a form.
    guide: Option<&'g dyn Guide>,
    drawn: Vec<Drawn>,
    sampler: Sampler,
    finish: Option<Finish>,
}

impl Writing<'_> {
    fn push(&mut self, drawn: Drawn, ends: &[u32], max_new_tokens: usize) {
        self.drawn.push(drawn);
        if ends.contains(&drawn.token) {
            self.finish = Some(Finish::Stop);
        } else if self.drawn.len() >= max_new_tokens {
            self.finish = Some(Finish::Length);
        }
    }

    /// Feeds the last drawn token.
    fn push_last(&self, pack: &mut Packed) {
        let index = self.drawn.len() - 1;
        let segment = reply_segment(&[self.drawn[index].token], self.position + index as u32);
        let mut seen = self.seen.clone();
        if index > 0 {
            seen.push(self.start..self.start + index);
        }
        pack.push_cached(&segment, seen, self.start + index);
    }
}

/// Entries of the vocabulary whose logits are made at once for so many tokens.
pub(crate) fn logit_chunk(tokens: usize) -> usize {
    (LOGITS / tokens.max(1)).max(256)
}

/// Clusters of prompts, cut into passes of bounded size.
fn passes(prompts: &[&Encoded]) -> Vec<Vec<Cluster>> {
    let mut passes: Vec<Vec<Cluster>> = vec![];
    let mut tokens = usize::MAX;
    for cluster in clusters(prompts) {
        let members = prompts[cluster.members.clone()].iter();
        let size = cluster.trunk + members.map(|p| p.len() - cluster.trunk).sum::<usize>();
        if tokens.saturating_add(size) > PASS_TOKENS {
            passes.push(vec![]);
            tokens = 0;
        }
        tokens += size;
        passes.last_mut().expect("the first cluster begins a pass").push(cluster);
    }
    passes
}

/// The probability of each set of tokens under the softmax of a row of logits.
fn shares(logits: &[f32], sets: &[Vec<u32>]) -> Vec<f64> {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x));
    let weight = |logit: f32| f64::from(logit - largest).exp();
    let total: f64 = logits.iter().map(|&logit| weight(logit)).sum();
    let of_set = |set: &Vec<u32>| set.iter().map(|&id| weight(logits[id as usize])).sum::<f64>();
    sets.iter().map(|set| of_set(set) / total).collect()
}
