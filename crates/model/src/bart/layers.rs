//! The two stacks. Norms stand behind what is added (Vaswani et al. 2017).

use std::sync::Arc;

use candle_core::{Device, Tensor};
use mmrag_ops::{AttentionPlan, attention, gelu, layer_norm, linear};

use super::config::{BartConfig, StackConfig};
use super::tensors::Tensors;
use crate::error::ModelError;

/// What norms add to variances.
const EPSILON: f64 = 1e-5;
/// Places before the first token's: BART's table of positions begins with two that nothing uses.
const PLACES_BEFORE: u32 = 2;

/// What sees what in one pass.
pub(super) struct Plans {
    pub(super) encoder: Arc<AttentionPlan>,
    pub(super) decoder: Arc<AttentionPlan>,
    pub(super) cross: Arc<AttentionPlan>,
}

pub(super) struct Encoder {
    input: Input,
    layers: Vec<EncoderLayer>,
}

pub(super) struct Decoder {
    input: Input,
    layers: Vec<DecoderLayer>,
}

struct EncoderLayer {
    attention: Attention,
    inner: Inner,
}

struct DecoderLayer {
    attention: Attention,
    cross: Attention,
    inner: Inner,
}

impl Encoder {
    pub(super) fn load(tensors: &Tensors, config: &BartConfig) -> Result<Self, ModelError> {
        let load = |layer: usize| {
            let at = format!("encoder.layers.{layer}");
            let names = [format!("{at}.self_attn"), format!("{at}.self_attn_layer_norm")];
            Ok(EncoderLayer {
                attention: Attention::load(tensors, names, config.width, config.encoder.heads)?,
                inner: Inner::load(tensors, &at, config.width, config.encoder)?,
            })
        };
        Ok(Self {
            input: Input::load(tensors, "encoder", config)?,
            layers: (0..config.encoder.layers).map(load).collect::<Result<_, ModelError>>()?,
        })
    }

    /// What the decoder reads of embedded sources; `places` are the tokens' places in their texts.
    pub(super) fn forward(
        &self,
        x_sd: &Tensor,
        places: &[u32],
        plans: &Plans,
    ) -> Result<Tensor, ModelError> {
        let mut x_sd = self.input.forward(x_sd, places)?;
        for layer in &self.layers {
            x_sd = layer.attention.forward(&x_sd, &x_sd, &plans.encoder)?;
            x_sd = layer.inner.forward(&x_sd)?;
        }
        Ok(x_sd)
    }
}

impl Decoder {
    pub(super) fn load(tensors: &Tensors, config: &BartConfig) -> Result<Self, ModelError> {
        let load = |layer: usize| {
            let at = format!("decoder.layers.{layer}");
            let attention = |name: &str| {
                let names = [format!("{at}.{name}"), format!("{at}.{name}_layer_norm")];
                Attention::load(tensors, names, config.width, config.decoder.heads)
            };
            Ok(DecoderLayer {
                attention: attention("self_attn")?,
                cross: attention("encoder_attn")?,
                inner: Inner::load(tensors, &at, config.width, config.decoder)?,
            })
        };
        Ok(Self {
            input: Input::load(tensors, "decoder", config)?,
            layers: (0..config.decoder.layers).map(load).collect::<Result<_, ModelError>>()?,
        })
    }

    /// The last hidden states of embedded targets, which read what the encoder made.
    pub(super) fn forward(
        &self,
        x_td: &Tensor,
        places: &[u32],
        memory_sd: &Tensor,
        plans: &Plans,
    ) -> Result<Tensor, ModelError> {
        let mut x_td = self.input.forward(x_td, places)?;
        for layer in &self.layers {
            x_td = layer.attention.forward(&x_td, &x_td, &plans.decoder)?;
            x_td = layer.cross.forward(&x_td, memory_sd, &plans.cross)?;
            x_td = layer.inner.forward(&x_td)?;
        }
        Ok(x_td)
    }
}

/// Embeddings with their places.
struct Input {
    places: Tensor,
    norm: Norm,
}

impl Input {
    fn load(tensors: &Tensors, stack: &str, config: &BartConfig) -> Result<Self, ModelError> {
        let shape = [config.max_positions + PLACES_BEFORE as usize, config.width];
        Ok(Self {
            places: tensors.get(&format!("{stack}.embed_positions.weight"), &shape)?,
            norm: Norm::load(tensors, &format!("{stack}.layernorm_embedding"), config.width)?,
        })
    }

    fn forward(&self, x_td: &Tensor, places: &[u32]) -> Result<Tensor, ModelError> {
        let rows: Vec<u32> = places.iter().map(|place| place + PLACES_BEFORE).collect();
        let rows = Tensor::new(rows, &Device::Cpu)?;
        self.norm.forward(&(x_td + self.places.index_select(&rows, 0)?)?)
    }
}

struct Attention {
    query: Map,
    key: Map,
    value: Map,
    out: Map,
    norm: Norm,
    heads: usize,
}

impl Attention {
    fn load(
        tensors: &Tensors,
        [name, norm]: [String; 2],
        width: usize,
        heads: usize,
    ) -> Result<Self, ModelError> {
        let map = |part: &str| Map::load(tensors, &format!("{name}.{part}"), [width, width]);
        Ok(Self {
            query: map("q_proj")?,
            key: map("k_proj")?,
            value: map("v_proj")?,
            out: map("out_proj")?,
            norm: Norm::load(tensors, &norm, width)?,
            heads,
        })
    }

    fn forward(
        &self,
        x_td: &Tensor,
        seen_sd: &Tensor,
        plan: &Arc<AttentionPlan>,
    ) -> Result<Tensor, ModelError> {
        let (t, d) = x_td.dims2()?;
        let k = d / self.heads;
        let split = |x_td: Tensor| x_td.reshape(((), self.heads, k));
        let q_thk = split(self.query.forward(x_td)?)?;
        let k_shk = split(self.key.forward(seen_sd)?)?;
        let v_shk = split(self.value.forward(seen_sd)?)?;
        let seen_thk = attention(&q_thk, &k_shk, &v_shk, plan, (k as f64).sqrt().recip())?;
        self.norm.forward(&(x_td + self.out.forward(&seen_thk.reshape((t, d))?)?)?)
    }
}

/// The two maps with the activation between them.
struct Inner {
    up: Map,
    down: Map,
    norm: Norm,
}

impl Inner {
    fn load(
        tensors: &Tensors,
        layer: &str,
        width: usize,
        config: StackConfig,
    ) -> Result<Self, ModelError> {
        Ok(Self {
            up: Map::load(tensors, &format!("{layer}.fc1"), [config.inner_width, width])?,
            down: Map::load(tensors, &format!("{layer}.fc2"), [width, config.inner_width])?,
            norm: Norm::load(tensors, &format!("{layer}.final_layer_norm"), width)?,
        })
    }

    fn forward(&self, x_td: &Tensor) -> Result<Tensor, ModelError> {
        let inner = gelu(&self.up.forward(x_td)?)?;
        self.norm.forward(&(x_td + self.down.forward(&inner)?)?)
    }
}

struct Map {
    weight: Tensor,
    bias: Tensor,
}

impl Map {
    /// `shape` is outputs by inputs.
    fn load(tensors: &Tensors, name: &str, shape: [usize; 2]) -> Result<Self, ModelError> {
        Ok(Self {
            weight: tensors.get(&format!("{name}.weight"), &shape)?,
            bias: tensors.get(&format!("{name}.bias"), &shape[..1])?,
        })
    }

    fn forward(&self, x_td: &Tensor) -> Result<Tensor, ModelError> {
        Ok(linear(x_td, &self.weight, Some(&self.bias))?)
    }
}

struct Norm {
    weight: Tensor,
    bias: Tensor,
}

impl Norm {
    fn load(tensors: &Tensors, name: &str, width: usize) -> Result<Self, ModelError> {
        Ok(Self {
            weight: tensors.get(&format!("{name}.weight"), &[width])?,
            bias: tensors.get(&format!("{name}.bias"), &[width])?,
        })
    }

    fn forward(&self, x_td: &Tensor) -> Result<Tensor, ModelError> {
        Ok(layer_norm(x_td, &self.weight, &self.bias, EPSILON)?)
    }
}
