//! The parts of a vision tower: norms, feed-forward layers, attention blocks, mergers.

use std::sync::Arc;

use candle_core::Tensor;
use mmrag_ops::{
    AttentionPlan, attention, checkpoint, gelu, gelu_tanh, layer_norm, rms_norm, rope, swiglu,
};

use super::super::params::{Forward, KeptPass, Linear, Param, Params};
use crate::config::VisionConfig;
use crate::error::ModelError;

/// Added to the variance or mean square in the tower's norms.
const EPS: f64 = 1e-6;

/// How a tower normalises: by mean and deviation (Qwen3-VL), or by the root of the mean square
/// (Qwen2.5-VL).
enum Norm {
    Layer { gain: Param, bias: Param },
    Rms { gain: Param },
}

impl Norm {
    fn new(
        config: &VisionConfig,
        name: &str,
        width: usize,
        params: &mut Params<'_>,
    ) -> Result<Self, ModelError> {
        let gain = params.gain(&format!("{name}.weight"), width)?;
        if config.windows.is_some() {
            return Ok(Self::Rms { gain });
        }
        Ok(Self::Layer { gain, bias: params.bias(&format!("{name}.bias"), width)? })
    }

    fn forward(&self, pass: &Forward<'_>, x: &Tensor) -> Result<Tensor, ModelError> {
        Ok(match self {
            Self::Layer { gain, bias } => {
                layer_norm(x, &pass.weight(gain), &pass.weight(bias), EPS)?
            }
            Self::Rms { gain } => rms_norm(x, &pass.weight(gain), EPS)?,
        })
    }
}

/// The feed-forward layer of a block: two maps with GELU between them (Qwen3-VL), or three with a
/// gate (Qwen2.5-VL).
enum FeedForward {
    Plain { fc1: Linear, fc2: Linear },
    Gated { gate: Linear, up: Linear, down: Linear },
}

impl FeedForward {
    fn new(config: &VisionConfig, name: &str, params: &mut Params<'_>) -> Result<Self, ModelError> {
        let (d, f) = (config.hidden_size, config.intermediate_size);
        let mut map = |part: &str, sizes| params.linear(&format!("{name}.{part}"), sizes, true);
        Ok(if config.windows.is_some() {
            Self::Gated {
                gate: map("gate_proj", (d, f))?,
                up: map("up_proj", (d, f))?,
                down: map("down_proj", (f, d))?,
            }
        } else {
            Self::Plain { fc1: map("linear_fc1", (d, f))?, fc2: map("linear_fc2", (f, d))? }
        })
    }

    fn forward(&self, pass: &Forward<'_>, x_pd: &Tensor) -> Result<Tensor, ModelError> {
        match self {
            Self::Plain { fc1, fc2 } => pass.linear(fc2, &gelu_tanh(&pass.linear(fc1, x_pd)?)?),
            Self::Gated { gate, up, down } => {
                let (gate_pf, up_pf) = (pass.linear(gate, x_pd)?, pass.linear(up, x_pd)?);
                pass.linear(down, &swiglu(&gate_pf, &up_pf)?)
            }
        }
    }
}

pub(super) struct Block {
    norm1: Norm,
    qkv: Linear,
    proj: Linear,
    norm2: Norm,
    mlp: FeedForward,
    heads: usize,
}

impl Block {
    pub(super) fn new(
        config: &VisionConfig,
        name: &str,
        params: &mut Params<'_>,
    ) -> Result<Self, ModelError> {
        let d = config.hidden_size;
        Ok(Self {
            norm1: Norm::new(config, &format!("{name}.norm1"), d, params)?,
            qkv: params.linear(&format!("{name}.attn.qkv"), (d, 3 * d), true)?,
            proj: params.linear(&format!("{name}.attn.proj"), (d, d), true)?,
            norm2: Norm::new(config, &format!("{name}.norm2"), d, params)?,
            mlp: FeedForward::new(config, &format!("{name}.mlp"), params)?,
            heads: config.num_heads,
        })
    }

    /// The block computed again in the backward pass.
    pub(super) fn checkpointed(
        self: &Arc<Self>,
        pass: &KeptPass,
        x_pd: &Tensor,
        turns: &(Tensor, Tensor),
        plan: &Arc<AttentionPlan>,
    ) -> Result<Tensor, ModelError> {
        let (block, pass) = (Arc::clone(self), pass.clone());
        let (turns, plan) = (turns.clone(), Arc::clone(plan));
        Ok(checkpoint(x_pd, move |x_pd, tracked| {
            let pass = pass.forward(tracked);
            block.forward(&pass, x_pd, &turns, &plan).map_err(candle_core::Error::wrap)
        })?)
    }

    pub(super) fn forward(
        &self,
        pass: &Forward<'_>,
        x_pd: &Tensor,
        (cos, sin): &(Tensor, Tensor),
        plan: &Arc<AttentionPlan>,
    ) -> Result<Tensor, ModelError> {
        let (p, d) = x_pd.dims2()?;
        let width = d / self.heads;
        let qkv = pass.linear(&self.qkv, &self.norm1.forward(pass, x_pd)?)?;
        let part = |i: usize| qkv.narrow(1, i * d, d)?.reshape((p, self.heads, width));
        let (q, k) = (rope(&part(0)?, cos, sin)?, rope(&part(1)?, cos, sin)?);
        let scale = 1.0 / (width as f64).sqrt();
        let out = attention(&q, &k, &part(2)?.contiguous()?, plan, scale)?.reshape((p, d))?;
        let x_pd = (x_pd + pass.linear(&self.proj, &out)?)?;
        Ok((&x_pd + self.mlp.forward(pass, &self.norm2.forward(pass, &x_pd)?)?)?)
    }
}

/// Turns squares of patches into tokens of the decoder's width.
pub(super) struct Merger {
    norm: Norm,
    fc1: Linear,
    fc2: Linear,
    /// Patches in a square.
    square: usize,
    /// Whether the norm runs over the joined patches and not over each.
    joined_norm: bool,
}

impl Merger {
    pub(super) fn new(
        config: &VisionConfig,
        name: &str,
        joined_norm: bool,
        params: &mut Params<'_>,
    ) -> Result<Self, ModelError> {
        let square = config.spatial_merge_size.pow(2);
        let joined = config.hidden_size * square;
        let width = if joined_norm { joined } else { config.hidden_size };
        let [norm, fc1, fc2] = if config.windows.is_some() {
            ["ln_q", "mlp.0", "mlp.2"]
        } else {
            ["norm", "linear_fc1", "linear_fc2"]
        };
        let out = config.out_hidden_size;
        Ok(Self {
            norm: Norm::new(config, &format!("{name}.{norm}"), width, params)?,
            fc1: params.linear(&format!("{name}.{fc1}"), (joined, joined), true)?,
            fc2: params.linear(&format!("{name}.{fc2}"), (joined, out), true)?,
            square,
            joined_norm,
        })
    }

    pub(super) fn forward(&self, pass: &Forward<'_>, x_pd: &Tensor) -> Result<Tensor, ModelError> {
        let (p, d) = x_pd.dims2()?;
        let joined = (p / self.square, d * self.square);
        let x = if self.joined_norm {
            self.norm.forward(pass, &x_pd.reshape(joined)?)?
        } else {
            self.norm.forward(pass, x_pd)?.reshape(joined)?
        };
        pass.linear(&self.fc2, &gelu(&pass.linear(&self.fc1, &x)?)?)
    }
}
