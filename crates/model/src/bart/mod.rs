//! BART (Lewis et al. 2019), an encoder–decoder, as a judge of texts: how likely one text is after
//! another (BARTScore, Yuan et al. 2021). It is frozen: there is no training path.
//!
//! Legend of tensor names: `s` source tokens of all pairs, one pair after another, `t` target
//! tokens likewise, `d` width, `h` heads, `k` head width, `v` vocabulary.

mod config;
mod layers;
mod tensors;
mod tokenizer;

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use mmrag_ops::{AttentionPlan, Own, QuerySpan, logprob_head};

use crate::error::ModelError;
use config::BartConfig;
use layers::{Decoder, Encoder, Plans};
use tensors::Tensors;
use tokenizer::BartTokenizer;

/// Tokens of sources and targets that one pass takes, unless a single pair has more.
const PASS_TOKENS: usize = 2048;
/// Vocabulary entries whose logits are made at a time.
const VOCABULARY_CHUNK: usize = 4096;
/// Tokens that BARTScore reads of a text at most.
const MAX_TOKENS: usize = 1024;

/// A source and a target, as tokens with their special ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenPair {
    /// What the encoder reads.
    pub source: Vec<u32>,
    /// What is scored.
    pub target: Vec<u32>,
}

/// A BART with its head.
pub struct Bart {
    path: PathBuf,
    config: BartConfig,
    encoder: Encoder,
    decoder: Decoder,
    embeddings_vd: Tensor,
    /// The embeddings once more, with the logits' bias as one more column if there is a bias.
    head: Tensor,
    is_biased: bool,
}

impl Bart {
    /// Loads `config.json` of a folder and its weights (`model.safetensors`, its shards, or
    /// `pytorch_model.bin`), or the weights of a file: safetensors, or a state dict as `torch.save`
    /// writes it.
    ///
    /// # Errors
    ///
    /// When a file is missing or damaged, the model is no BART, or a tensor is missing or has
    /// another shape.
    pub fn load(dir: &Path, weights: Option<&Path>) -> Result<Self, ModelError> {
        let config = BartConfig::load(dir)?;
        let tensors = match weights {
            Some(file) => Tensors::open_file(file)?,
            None => Tensors::open(dir)?,
        };
        let (v, d) = (config.vocab_size, config.width);
        let embeddings_vd = tensors.embeddings(&[v, d])?;
        let bias_1v = tensors.maybe("final_logits_bias", &[1, v])?;
        let is_zero = |bias: &Tensor| -> Result<bool, ModelError> {
            Ok(bias.abs()?.max_all()?.to_scalar::<f32>()? == 0.0)
        };
        let bias_1v = match bias_1v {
            Some(bias) if !is_zero(&bias)? => Some(bias),
            _ => None,
        };
        let head = match &bias_1v {
            Some(bias) => Tensor::cat(&[&embeddings_vd, &bias.reshape((v, 1))?], 1)?,
            None => embeddings_vd.clone(),
        };
        Ok(Self {
            path: dir.to_owned(),
            encoder: Encoder::load(&tensors, &config)?,
            decoder: Decoder::load(&tensors, &config)?,
            embeddings_vd,
            head,
            is_biased: bias_1v.is_some(),
            config,
        })
    }

    /// The log-probability of each target token after its source and the target's tokens before
    /// it, in nats; the first token's after the token that begins targets.
    ///
    /// # Errors
    ///
    /// When a text is empty, too long for the model, or has tokens outside its vocabulary.
    pub fn token_logprobs(&self, pairs: &[TokenPair]) -> Result<Vec<Vec<f32>>, ModelError> {
        for pair in pairs {
            self.check(&pair.source)?;
            self.check(&pair.target)?;
        }
        let mut scored = Vec::with_capacity(pairs.len());
        let mut rest = pairs;
        while !rest.is_empty() {
            let (pass, after) = rest.split_at(pass_length(rest));
            scored.extend(self.pass(pass)?);
            rest = after;
        }
        Ok(scored)
    }

    fn check(&self, tokens: &[u32]) -> Result<(), ModelError> {
        let bad = |reason: String| Err(ModelError::Prompt { reason });
        if tokens.is_empty() {
            return bad("a text without tokens".into());
        }
        if tokens.len() > self.config.max_positions {
            return bad(format!(
                "{} tokens; the model of {} reads {}",
                tokens.len(),
                self.path.display(),
                self.config.max_positions
            ));
        }
        match tokens.iter().find(|token| **token as usize >= self.config.vocab_size) {
            Some(token) => bad(format!(
                "token {token} of a vocabulary of {}; take tokenizer and weights from one \
                 checkpoint",
                self.config.vocab_size
            )),
            None => Ok(()),
        }
    }

    /// Scores pairs in one pass, packed: no pair sees another, and nothing is padded.
    fn pass(&self, pairs: &[TokenPair]) -> Result<Vec<Vec<f32>>, ModelError> {
        let plans = Plans {
            encoder: AttentionPlan::full(pairs.iter().map(|pair| pair.source.len()))?.into(),
            decoder: AttentionPlan::causal(pairs.iter().map(|pair| pair.target.len()))?.into(),
            cross: cross_plan(pairs)?.into(),
        };
        let sources: Vec<u32> = pairs.iter().flat_map(|pair| pair.source.clone()).collect();
        let before: Vec<u32> = pairs.iter().flat_map(|pair| self.shifted(&pair.target)).collect();
        let targets: Vec<u32> = pairs.iter().flat_map(|pair| pair.target.clone()).collect();
        let source_places = places(pairs.iter().map(|pair| pair.source.len()));
        let target_places = places(pairs.iter().map(|pair| pair.target.len()));

        let source_sd = self.embed(&sources)?;
        let memory_sd = self.encoder.forward(&source_sd, &source_places, &plans)?;
        let target_td = self.embed(&before)?;
        let mut h_td = self.decoder.forward(&target_td, &target_places, &memory_sd, &plans)?;
        if self.is_biased {
            let ones = Tensor::ones((targets.len(), 1), h_td.dtype(), h_td.device())?;
            h_td = Tensor::cat(&[&h_td, &ones], 1)?;
        }
        let scores = logprob_head(&h_td, &self.head, &targets, 1.0, VOCABULARY_CHUNK)?;
        let mut logprobs = scores.logprobs_t.to_vec1::<f32>()?.into_iter();
        let of_pair = |pair: &TokenPair| logprobs.by_ref().take(pair.target.len()).collect();
        Ok(pairs.iter().map(of_pair).collect())
    }

    /// What the decoder reads to tell each token of a target.
    fn shifted(&self, target: &[u32]) -> Vec<u32> {
        let begin = std::iter::once(self.config.decoder_start);
        begin.chain(target[..target.len() - 1].iter().copied()).collect()
    }

    fn embed(&self, tokens: &[u32]) -> Result<Tensor, ModelError> {
        let ids = Tensor::new(tokens, &Device::Cpu)?;
        let x_td = self.embeddings_vd.index_select(&ids, 0)?;
        let scale = if self.config.scales_embeddings { self.config.width as f64 } else { 1.0 };
        Ok((x_td * scale.sqrt())?)
    }
}

/// A BART with its tokenizer.
pub struct BartScorer {
    bart: Bart,
    tokenizer: BartTokenizer,
}

impl BartScorer {
    /// Loads a folder such as that of `facebook/bart-large-cnn`, with its own weights or those of
    /// a file such as BARTScore's `bart.pth`.
    ///
    /// # Errors
    ///
    /// As [`Bart::load`], and when the folder has neither `tokenizer.json` nor `vocab.json` with
    /// `merges.txt`.
    pub fn load(dir: &Path, weights: Option<&Path>) -> Result<Self, ModelError> {
        // What is small is read first: a fault there is told before the weights are read.
        let tokenizer = BartTokenizer::load(dir, &BartConfig::load(dir)?)?;
        Ok(Self { bart: Bart::load(dir, weights)?, tokenizer })
    }

    /// BARTScore of each pair of a source and a target: the mean of
    /// `log p(target_t | source, target_<t)` over the target's tokens, special ones included, in
    /// nats. Of a text longer than 1024 tokens the beginning counts.
    ///
    /// # Errors
    ///
    /// When a text cannot be turned into tokens of the model.
    pub fn scores(&self, pairs: &[(&str, &str)]) -> Result<Vec<f64>, ModelError> {
        let most = self.bart.config.max_positions.min(MAX_TOKENS);
        let tokens = |(source, target): &(&str, &str)| {
            Ok(TokenPair {
                source: self.tokenizer.encode(source, most)?,
                target: self.tokenizer.encode(target, most)?,
            })
        };
        let pairs = pairs.iter().map(tokens).collect::<Result<Vec<_>, ModelError>>()?;
        let logprobs = self.bart.token_logprobs(&pairs)?;
        Ok(logprobs.iter().map(|tokens| mean(tokens)).collect())
    }
}

fn mean(logprobs: &[f32]) -> f64 {
    logprobs.iter().map(|logprob| f64::from(*logprob)).sum::<f64>() / logprobs.len() as f64
}

/// How many of the pairs one pass takes: at least one.
fn pass_length(pairs: &[TokenPair]) -> usize {
    let mut n_tokens = 0;
    let fits = |pair: &&TokenPair| {
        n_tokens += pair.source.len() + pair.target.len();
        n_tokens <= PASS_TOKENS
    };
    pairs.iter().take_while(fits).count().max(1)
}

/// Each target sees all of its own source.
fn cross_plan(pairs: &[TokenPair]) -> Result<AttentionPlan, ModelError> {
    let (mut source, mut target) = (0, 0);
    let span = |pair: &TokenPair| {
        let (keys, queries) =
            (source..source + pair.source.len(), target..target + pair.target.len());
        (source, target) = (keys.end, queries.end);
        QuerySpan { queries, seen: vec![keys], own: Own::None }
    };
    Ok(AttentionPlan::new(pairs.iter().map(span).collect())?)
}

/// The place of each token in its own text.
fn places(lengths: impl Iterator<Item = usize>) -> Vec<u32> {
    lengths.flat_map(|length| 0..length as u32).collect()
}
