//! A policy small enough to follow by hand: one table of logits, a row for each position of the
//! reply, whatever the prompt. Its replies are pieces of text, one a token.

use std::path::Path;

use candle_core::{D, DType, Device, Tensor, Var};
use mmrag_core::{Completion, EngineError, Finish, Part, Prompt, Sampling};
use mmrag_train::{Learner, ReplyGroup, TokenScores, View};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The pieces; the last ends the turn.
pub(crate) const PIECES: [&str; 5] = ["<answer>", "</answer>", "Yes", "No", ""];
/// The piece that ends the turn.
pub(crate) const END: u32 = 4;
const POSITIONS: usize = 5;

/// The policy.
#[derive(Debug)]
pub(crate) struct TablePolicy {
    logits: Var,
    reference: Tensor,
}

impl TablePolicy {
    /// Knows the form of a verdict, and says No twice as often as Yes.
    pub(crate) fn new() -> Self {
        let mut logits = [[-4.0_f32; PIECES.len()]; POSITIONS];
        for (position, piece) in [(0, 0), (1, 3), (2, 1), (3, 4), (4, 4)] {
            logits[position][piece] = 2.0;
        }
        logits[1][2] = 2.0 - 2.0_f32.ln();
        let logits = Var::new(&logits, &Device::Cpu).unwrap();
        let reference = logits.as_tensor().copy().unwrap();
        Self { logits, reference }
    }

    /// The probability of Yes where the verdict stands.
    pub(crate) fn p_yes(&self) -> f64 {
        let rows = log_softmax(self.logits.as_tensor()).unwrap().to_vec2::<f32>().unwrap();
        f64::from(rows[1][2].exp())
    }

    /// The table as it stands.
    pub(crate) fn table(&self) -> Vec<Vec<f32>> {
        self.logits.to_vec2().unwrap()
    }
}

fn log_softmax(logits: &Tensor) -> candle_core::Result<Tensor> {
    logits.broadcast_sub(&logits.exp()?.sum_keepdim(D::Minus1)?.log()?)
}

fn told(error: candle_core::Error) -> EngineError {
    EngineError::caused_by("compute", error)
}

impl Learner for TablePolicy {
    type Encoded = usize;

    fn encode(&self, prompt: &Prompt) -> Result<usize, EngineError> {
        let is_picture = |part: &Part| matches!(part, Part::Image(_));
        if prompt.messages.iter().flat_map(|m| &m.parts).any(is_picture) {
            return Err(EngineError::new("decode a picture: it is blind"));
        }
        Ok(prompt.messages.len() * 7)
    }

    fn prompt_tokens(&self, prompt: &usize) -> usize {
        *prompt
    }

    fn encode_reply(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let mut tokens = Vec::new();
        let mut rest = text.trim();
        while let Some(piece) =
            (0..PIECES.len() - 1).find(|&p| !rest.is_empty() && rest.starts_with(PIECES[p]))
        {
            tokens.push(piece as u32);
            rest = &rest[PIECES[piece].len()..];
        }
        assert_eq!(rest, "", "only the pieces can be said");
        tokens.push(END);
        Ok(tokens)
    }

    fn sample(
        &self,
        prompts: &[usize],
        sampling: &Sampling,
    ) -> Result<Vec<Vec<Completion>>, EngineError> {
        let rows = log_softmax(self.logits.as_tensor()).and_then(|l| l.to_vec2::<f32>());
        let rows = rows.map_err(told)?;
        let complete = |prompt: usize, nth: usize| {
            let mut draws = ChaCha8Rng::seed_from_u64(
                sampling.seed ^ ((prompt as u64) << 40) ^ ((nth as u64) << 20),
            );
            let (mut tokens, mut sampled_logprobs) = (Vec::new(), Vec::new());
            for row in rows.iter().take(sampling.max_new_tokens) {
                let mut left = draws.next_u32() as f32 / u32::MAX as f32;
                let picked = row.iter().position(|l| {
                    left -= l.exp();
                    left <= 0.0
                });
                let picked = picked.unwrap_or(PIECES.len() - 1);
                tokens.push(picked as u32);
                sampled_logprobs.push(row[picked]);
                if picked as u32 == END {
                    break;
                }
            }
            let finish = if tokens.last() == Some(&END) { Finish::Stop } else { Finish::Length };
            let text = tokens.iter().map(|&t| PIECES[t as usize]).collect();
            Completion { text, tokens, sampled_logprobs, finish }
        };
        let replies = |prompt| (0..sampling.n).map(|nth| complete(prompt, nth)).collect();
        Ok((0..prompts.len()).map(replies).collect())
    }

    fn scores(
        &self,
        groups: &[ReplyGroup<usize>],
        temperature: f64,
        view: View,
    ) -> Result<TokenScores, EngineError> {
        let logits = match view {
            View::Learning => self.logits.as_tensor().clone(),
            View::Current => self.logits.as_detached_tensor(),
            View::Reference => self.reference.clone(),
        };
        let score = || -> candle_core::Result<TokenScores> {
            let (mut positions, mut tokens) = (Vec::new(), Vec::new());
            for reply in groups.iter().flat_map(|group| &group.replies) {
                positions.extend(0..reply.len() as u32);
                tokens.extend_from_slice(reply);
            }
            let count = tokens.len();
            let positions = Tensor::from_vec(positions, count, &Device::Cpu)?;
            let tokens = Tensor::from_vec(tokens, (count, 1), &Device::Cpu)?;
            let logprobs_tv = log_softmax(&(logits / temperature)?)?.index_select(&positions, 0)?;
            Ok(TokenScores {
                logprobs_t: logprobs_tv.gather(&tokens, 1)?.squeeze(1)?,
                entropy_t: (logprobs_tv.exp()? * &logprobs_tv)?.sum(D::Minus1)?.neg()?,
            })
        };
        score().map_err(told)
    }

    fn vars(&self) -> Vec<(String, Var)> {
        vec![("logits".into(), self.logits.clone())]
    }

    fn save(&self, folder: &Path) -> Result<(), EngineError> {
        let tensors =
            std::collections::HashMap::from([("logits", self.logits.as_tensor().clone())]);
        candle_core::safetensors::save(&tensors, folder.join("table.safetensors")).map_err(told)
    }

    fn restore(&self, folder: &Path) -> Result<(), EngineError> {
        let tensors =
            candle_core::safetensors::load(folder.join("table.safetensors"), &Device::Cpu);
        let table = tensors.map_err(told)?["logits"].to_dtype(DType::F32).map_err(told)?;
        self.logits.set(&table).map_err(told)
    }
}
