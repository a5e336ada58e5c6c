//! The layers of an encoder whose norms stand before what they norm (CLIP, SigLIP).

// Dimensions: `t` tokens or patches, `d` width.

use candle_core::Tensor;
use mmrag_ops::{gelu, gelu_tanh};

use super::parts::{Attention, Pair, normed, pair, project};
use crate::error::ModelError;
use crate::weights::Weights;

/// What a tower is built of.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) width: usize,
    /// Width within a layer's two projections.
    pub(super) wide: usize,
    pub(super) n_heads: usize,
    pub(super) n_layers: usize,
    pub(super) eps: f64,
    pub(super) activation: Activation,
    /// Whether a token sees only itself and those before it.
    pub(super) is_causal: bool,
}

#[derive(Clone, Copy)]
pub(super) enum Activation {
    Gelu,
    /// `x · σ(1.702 x)`.
    QuickGelu,
    GeluTanh,
}

/// The layers of one side.
pub(super) struct Tower {
    layers: Vec<Layer>,
    pub(super) eps: f64,
}

struct Layer {
    first_norm: Pair,
    attention: Attention,
    second_norm: Pair,
    mlp: Mlp,
}

/// Two projections with an activation between them.
pub(super) struct Mlp {
    wide: Pair,
    narrow: Pair,
    activation: Activation,
}

impl Activation {
    /// That of a config's name for it.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "gelu" => Some(Self::Gelu),
            "quick_gelu" => Some(Self::QuickGelu),
            "gelu_pytorch_tanh" => Some(Self::GeluTanh),
            _ => None,
        }
    }

    fn apply(self, x: &Tensor) -> Result<Tensor, ModelError> {
        match self {
            Self::Gelu => Ok(gelu(x)?),
            Self::GeluTanh => Ok(gelu_tanh(x)?),
            Self::QuickGelu => {
                let falling = ((x * -1.702)?.exp()? + 1.0)?;
                Ok((x / falling)?)
            }
        }
    }
}

impl Tower {
    /// Loads the layers under a name.
    pub(super) fn load(weights: &Weights, name: &str, shape: Shape) -> Result<Self, ModelError> {
        let d = shape.width;
        let layer = |i: usize| {
            let name = format!("{name}.encoder.layers.{i}");
            let part =
                |part: &str, shape: &[usize]| pair(weights, &format!("{name}.{part}"), shape);
            Ok::<_, ModelError>(Layer {
                first_norm: part("layer_norm1", &[d])?,
                attention: Attention {
                    query: part("self_attn.q_proj", &[d, d])?,
                    key: part("self_attn.k_proj", &[d, d])?,
                    value: part("self_attn.v_proj", &[d, d])?,
                    output: part("self_attn.out_proj", &[d, d])?,
                    n_heads: shape.n_heads,
                    is_causal: shape.is_causal,
                },
                second_norm: part("layer_norm2", &[d])?,
                mlp: Mlp::load(weights, &format!("{name}.mlp"), shape)?,
            })
        };
        let layers = (0..shape.n_layers).map(layer).collect::<Result<_, _>>()?;
        Ok(Self { layers, eps: shape.eps })
    }

    pub(super) fn forward(&self, mut x_td: Tensor) -> Result<Tensor, ModelError> {
        for layer in &self.layers {
            let seen = layer.attention.forward(&normed(&x_td, &layer.first_norm, self.eps)?)?;
            x_td = (x_td + seen)?;
            let narrow = layer.mlp.forward(&normed(&x_td, &layer.second_norm, self.eps)?)?;
            x_td = (x_td + narrow)?;
        }
        Ok(x_td)
    }
}

impl Mlp {
    pub(super) fn load(weights: &Weights, name: &str, shape: Shape) -> Result<Self, ModelError> {
        Ok(Self {
            wide: pair(weights, &format!("{name}.fc1"), &[shape.wide, shape.width])?,
            narrow: pair(weights, &format!("{name}.fc2"), &[shape.width, shape.wide])?,
            activation: shape.activation,
        })
    }

    pub(super) fn forward(&self, x_td: &Tensor) -> Result<Tensor, ModelError> {
        project(&self.activation.apply(&project(x_td, &self.wide)?)?, &self.narrow)
    }
}
