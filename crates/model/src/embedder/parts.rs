//! What encoders are made of.

// Dimensions: `t` tokens, `s` tokens that are seen, `d` width, `n` outputs, `h` heads, `k` width of a
// head.

use std::fs;
use std::path::Path;

use candle_core::{D, Tensor};
use mmrag_ops::{layer_norm, linear};
use serde_json::Value;
use tokenizers::{Tokenizer, TruncationParams};

use crate::error::ModelError;
use crate::weights::Weights;

/// What belongs to an encoder of sentence-transformers besides the files of any model: without them it
/// makes other vectors.
pub const EMBEDDER_COMPANIONS: [&str; 4] = [
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
];

/// A weight and its bias.
pub(super) type Pair = (Tensor, Tensor);

/// `name.weight` of `shape` and `name.bias` of its first side.
pub(super) fn pair(weights: &Weights, name: &str, shape: &[usize]) -> Result<Pair, ModelError> {
    let bias = weights.f32(&format!("{name}.bias"), &shape[..1])?;
    Ok((weights.f32(&format!("{name}.weight"), shape)?, bias))
}

pub(super) fn project(x_td: &Tensor, (w_nd, bias_n): &Pair) -> Result<Tensor, ModelError> {
    Ok(linear(x_td, w_nd, Some(bias_n))?)
}

pub(super) fn normed(x_td: &Tensor, (w_d, b_d): &Pair, eps: f64) -> Result<Tensor, ModelError> {
    Ok(layer_norm(x_td, w_d, b_d, eps)?)
}

/// The projections of attention.
pub(super) struct Attention {
    pub(super) query: Pair,
    pub(super) key: Pair,
    pub(super) value: Pair,
    pub(super) output: Pair,
    pub(super) n_heads: usize,
    /// Whether a token sees only itself and those before it.
    pub(super) is_causal: bool,
}

impl Attention {
    pub(super) fn forward(&self, x_td: &Tensor) -> Result<Tensor, ModelError> {
        self.attend(x_td, x_td)
    }

    /// What the tokens of `x_td` see of those of `seen_sd`.
    pub(super) fn attend(&self, x_td: &Tensor, seen_sd: &Tensor) -> Result<Tensor, ModelError> {
        let (t, d) = x_td.dims2()?;
        let (_, k) = (seen_sd.dims2()?, d / self.n_heads);
        let heads = |x_td: &Tensor, pair| -> Result<Tensor, ModelError> {
            let projected = project(x_td, pair)?.reshape(((), self.n_heads, k))?;
            Ok(projected.transpose(0, 1)?.contiguous()?)
        };
        let q_htk = heads(x_td, &self.query)?;
        let (k_hsk, v_hsk) = (heads(seen_sd, &self.key)?, heads(seen_sd, &self.value)?);
        let mut scores_hts = (q_htk.matmul(&k_hsk.t()?)? * (k as f64).powf(-0.5))?;
        if self.is_causal {
            let hidden = |i: usize, j: usize| if j > i { f32::NEG_INFINITY } else { 0.0 };
            let mask: Vec<f32> = (0..t * t).map(|at| hidden(at / t, at % t)).collect();
            scores_hts =
                scores_hts.broadcast_add(&Tensor::from_vec(mask, (t, t), x_td.device())?)?;
        }
        let most = scores_hts.max_keepdim(D::Minus1)?;
        let weights_hts = scores_hts.broadcast_sub(&most)?.exp()?;
        let weights_hts = weights_hts.broadcast_div(&weights_hts.sum_keepdim(D::Minus1)?)?;
        let attended_htk = weights_hts.matmul(&v_hsk)?;
        project(&attended_htk.transpose(0, 1)?.reshape((t, d))?, &self.output)
    }
}

/// At length 1.
pub(super) fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
    for x in &mut vector {
        *x /= length;
    }
    vector
}

pub(super) fn json(path: &Path) -> Result<Value, ModelError> {
    let read = |source| ModelError::Read { path: path.to_owned(), source };
    let bytes = fs::read(path).map_err(read)?;
    serde_json::from_slice(&bytes)
        .map_err(|source| ModelError::Json { path: path.to_owned(), source })
}

/// The folder's tokenizer, which cuts what is longer.
pub(super) fn tokenizer(folder: &Path, longest: usize) -> Result<Tokenizer, ModelError> {
    let path = folder.join("tokenizer.json");
    let bad = |error: Box<dyn std::error::Error + Send + Sync>| ModelError::Unsupported {
        path: path.clone(),
        what: error.to_string(),
    };
    let mut tokenizer = Tokenizer::from_file(&path).map_err(bad)?;
    let truncation = TruncationParams { max_length: longest, ..Default::default() };
    tokenizer.with_truncation(Some(truncation)).map_err(bad)?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

/// The tokens of a text.
pub(super) fn tokens(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, ModelError> {
    let encoded = tokenizer.encode(text, true).map_err(|error| ModelError::Unsupported {
        path: "tokenizer.json".into(),
        what: error.to_string(),
    })?;
    Ok(encoded.get_ids().to_vec())
}
