//! The text decoder.

use std::sync::Arc;

use candle_core::{DType, Tensor};
use mmrag_ops::{AttentionPlan, attention, checkpoint, rms_norm, rope, swiglu};

use super::cache::Cache;
use super::pack::Packed;
use super::params::{Forward, KeptPass, Linear, Param, Params};
use super::positions::rotations;
use super::vision::VisionFeatures;
use crate::config::{AttentionBias, TextConfig, VlmConfig};
use crate::error::ModelError;

pub(super) struct TextDecoder {
    config: TextConfig,
    embed_tokens: Param,
    layers: Vec<Arc<DecoderLayer>>,
    norm: Param,
    lm_head: Option<Param>,
}

/// What each token sees, and by which angles queries and keys are turned.
#[derive(Clone)]
struct Turns {
    plan: Arc<AttentionPlan>,
    cos_tp: Tensor,
    sin_tp: Tensor,
}

/// What all layers of one pass share.
struct Shared<'a> {
    pass: &'a Forward<'a>,
    turns: &'a Turns,
    cache: Option<(&'a Cache, &'a [usize])>,
}

impl TextDecoder {
    pub(super) fn new(config: &VlmConfig, params: &mut Params<'_>) -> Result<Self, ModelError> {
        let text = &config.text;
        let root = "model.language_model";
        let shape = [text.vocab_size, text.hidden_size];
        let embed_tokens = params.matrix(&format!("{root}.embed_tokens.weight"), &shape)?;
        let layers = (0..text.num_layers)
            .map(|i| {
                DecoderLayer::new(text, i, &format!("{root}.layers.{i}"), params).map(Arc::new)
            })
            .collect::<Result<_, _>>()?;
        let norm = params.gain(&format!("{root}.norm.weight"), text.hidden_size)?;
        let lm_head = if config.tie_word_embeddings {
            None
        } else {
            Some(params.matrix("lm_head.weight", &shape)?)
        };
        Ok(Self { config: text.clone(), embed_tokens, layers, norm, lm_head })
    }

    pub(super) fn head(&self, pass: &Forward<'_>) -> Tensor {
        pass.weight(self.lm_head.as_ref().unwrap_or(&self.embed_tokens))
    }

    pub(super) fn forward(
        &self,
        pass: &Forward<'_>,
        pack: &Packed,
        features: &[&VisionFeatures],
        cache: Option<&Cache>,
    ) -> Result<Tensor, ModelError> {
        let embeddings_vd = pass.weight(&self.embed_tokens);
        let device = embeddings_vd.device();
        let pictures = PictureRows::new(pack, features, device)?;
        let tokens = Tensor::new(pack.tokens.as_slice(), device)?;
        let mut x_td = embeddings_vd.index_select(&tokens, 0)?.to_dtype(DType::F32)?;
        if let Some(pictures) = &pictures {
            x_td = pictures.replace(&x_td)?;
        }
        let (cos_tp, sin_tp) = rotations(&self.config, &pack.positions, device)?;
        let cache = cache.map(|cache| (cache, pack.cache_rows.as_slice()));
        let turns = Turns { plan: pack.plan()?, cos_tp, sin_tp };
        let kept = pass.kept().map(|pass| (pass, turns.clone()));
        let shared = Shared { pass, turns: &turns, cache };
        for (index, layer) in self.layers.iter().enumerate() {
            x_td = match &kept {
                Some(kept) => layer.checkpointed(kept, &x_td)?,
                None => layer.forward(&shared, &x_td)?,
            };
            if let Some(pictures) = &pictures {
                x_td = pictures.deepen(&x_td, index)?;
            }
        }
        Ok(rms_norm(&x_td, &pass.weight(&self.norm), self.config.rms_norm_eps)?)
    }
}

/// Which rows of a pack are pieces of pictures, and the features that belong there.
struct PictureRows<'a> {
    /// Rows in the pack, `[n]`.
    rows: Tensor,
    /// Index into all features one after another, `[n]`.
    pick: Tensor,
    /// For each row of the pack: itself, or behind the pack's rows the picture's row.
    merged: Tensor,
    features: &'a [&'a VisionFeatures],
}

impl<'a> PictureRows<'a> {
    fn new(
        pack: &Packed,
        features: &'a [&'a VisionFeatures],
        device: &candle_core::Device,
    ) -> Result<Option<Self>, ModelError> {
        if pack.image_rows.is_empty() {
            return Ok(None);
        }
        let mut starts = vec![0u32];
        for feature in features {
            let rows = feature.embeds_md.dim(0)? as u32;
            starts.push(starts[starts.len() - 1] + rows);
        }
        let mut merged: Vec<u32> = (0..pack.len() as u32).collect();
        let (mut rows, mut pick) = (vec![], vec![]);
        for (index, &(row, picture, part)) in pack.image_rows.iter().enumerate() {
            if picture >= features.len() || starts[picture] + part as u32 >= starts[picture + 1] {
                return Err(ModelError::Prompt {
                    reason: format!("picture {picture} of the batch has no feature {part}"),
                });
            }
            merged[row] = (pack.len() + index) as u32;
            rows.push(row as u32);
            pick.push(starts[picture] + part as u32);
        }
        Ok(Some(Self {
            rows: Tensor::new(rows, device)?,
            pick: Tensor::new(pick, device)?,
            merged: Tensor::new(merged, device)?,
            features,
        }))
    }

    /// Puts the pictures' embeddings in the place of their tokens' embeddings.
    fn replace(&self, x_td: &Tensor) -> Result<Tensor, ModelError> {
        let parts: Vec<_> = self.features.iter().map(|f| &f.embeds_md).collect();
        let picked_nd = Tensor::cat(&parts, 0)?.index_select(&self.pick, 0)?;
        Ok(Tensor::cat(&[x_td, &picked_nd], 0)?.index_select(&self.merged, 0)?)
    }

    /// Adds what the vision tower hands to the decoder after layer `layer` (DeepStack).
    fn deepen(&self, x_td: &Tensor, layer: usize) -> Result<Tensor, ModelError> {
        let parts: Vec<_> = self.features.iter().filter_map(|f| f.deepstack.get(layer)).collect();
        if parts.is_empty() {
            return Ok(x_td.clone());
        }
        let picked_nd = Tensor::cat(&parts, 0)?.index_select(&self.pick, 0)?;
        Ok(x_td.index_add(&self.rows, &picked_nd, 0)?)
    }
}

struct DecoderLayer {
    index: usize,
    eps: f64,
    input_layernorm: Param,
    self_attn: SelfAttention,
    post_attention_layernorm: Param,
    mlp: Mlp,
}

impl DecoderLayer {
    fn new(
        config: &TextConfig,
        index: usize,
        name: &str,
        params: &mut Params<'_>,
    ) -> Result<Self, ModelError> {
        let d = config.hidden_size;
        Ok(Self {
            index,
            eps: config.rms_norm_eps,
            input_layernorm: params.gain(&format!("{name}.input_layernorm.weight"), d)?,
            self_attn: SelfAttention::new(config, &format!("{name}.self_attn"), params)?,
            post_attention_layernorm: params
                .gain(&format!("{name}.post_attention_layernorm.weight"), d)?,
            mlp: Mlp::new(config, &format!("{name}.mlp"), params)?,
        })
    }

    /// The layer without a cache, computed again in the backward pass.
    fn checkpointed(
        self: &Arc<Self>,
        (pass, turns): &(KeptPass, Turns),
        x_td: &Tensor,
    ) -> Result<Tensor, ModelError> {
        let (layer, pass, turns) = (Arc::clone(self), pass.clone(), turns.clone());
        Ok(checkpoint(x_td, move |x_td, tracked| {
            let pass = pass.forward(tracked);
            let shared = Shared { pass: &pass, turns: &turns, cache: None };
            layer.forward(&shared, x_td).map_err(candle_core::Error::wrap)
        })?)
    }

    fn forward(&self, shared: &Shared<'_>, x_td: &Tensor) -> Result<Tensor, ModelError> {
        let norm = |x: &Tensor, w: &Param| rms_norm(x, &shared.pass.weight(w), self.eps);
        let normed = norm(x_td, &self.input_layernorm)?;
        let x_td = (x_td + self.self_attn.forward(shared, &normed, self.index)?)?;
        let normed = norm(&x_td, &self.post_attention_layernorm)?;
        Ok((&x_td + self.mlp.forward(shared.pass, &normed)?)?)
    }
}

struct SelfAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    /// Norms of queries and keys, where the architecture has them.
    norms: Option<(Param, Param)>,
    heads: usize,
    key_heads: usize,
    head_dim: usize,
    eps: f64,
}

impl SelfAttention {
    fn new(config: &TextConfig, name: &str, params: &mut Params<'_>) -> Result<Self, ModelError> {
        let (d, k) = (config.hidden_size, config.head_dim);
        let (queries, keys) = (config.num_heads * k, config.num_kv_heads * k);
        let bias = config.attention_bias != AttentionBias::None;
        let output_bias = config.attention_bias == AttentionBias::All;
        Ok(Self {
            q_proj: params.linear(&format!("{name}.q_proj"), (d, queries), bias)?,
            k_proj: params.linear(&format!("{name}.k_proj"), (d, keys), bias)?,
            v_proj: params.linear(&format!("{name}.v_proj"), (d, keys), bias)?,
            o_proj: params.linear(&format!("{name}.o_proj"), (queries, d), output_bias)?,
            norms: if config.qk_norm {
                Some((
                    params.gain(&format!("{name}.q_norm.weight"), k)?,
                    params.gain(&format!("{name}.k_norm.weight"), k)?,
                ))
            } else {
                None
            },
            heads: config.num_heads,
            key_heads: config.num_kv_heads,
            head_dim: k,
            eps: config.rms_norm_eps,
        })
    }

    fn forward(
        &self,
        shared: &Shared<'_>,
        x_td: &Tensor,
        layer: usize,
    ) -> Result<Tensor, ModelError> {
        let (t, _) = x_td.dims2()?;
        let pass = shared.pass;
        let mut q_thk = pass.linear(&self.q_proj, x_td)?.reshape((t, self.heads, self.head_dim))?;
        let mut k_tgk =
            pass.linear(&self.k_proj, x_td)?.reshape((t, self.key_heads, self.head_dim))?;
        let v_tgk = pass.linear(&self.v_proj, x_td)?.reshape((t, self.key_heads, self.head_dim))?;
        if let Some((q_norm, k_norm)) = &self.norms {
            q_thk = rms_norm(&q_thk, &pass.weight(q_norm), self.eps)?;
            k_tgk = rms_norm(&k_tgk, &pass.weight(k_norm), self.eps)?;
        }
        let Turns { plan, cos_tp, sin_tp } = shared.turns;
        let q_thk = rope(&q_thk, cos_tp, sin_tp)?;
        let k_tgk = rope(&k_tgk, cos_tp, sin_tp)?;
        let (k_sgk, v_sgk) = match shared.cache {
            Some((cache, rows)) => cache.update(layer, (&k_tgk, &v_tgk), rows)?,
            None => (k_tgk, v_tgk),
        };
        let scale = 1.0 / (self.head_dim as f64).sqrt();
        let out_thk = attention(&q_thk, &k_sgk, &v_sgk, plan, scale)?;
        pass.linear(&self.o_proj, &out_thk.reshape((t, self.heads * self.head_dim))?)
    }
}

#[expect(clippy::struct_field_names, reason = "these are the checkpoint's names")]
struct Mlp {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

impl Mlp {
    fn new(config: &TextConfig, name: &str, params: &mut Params<'_>) -> Result<Self, ModelError> {
        let (d, f) = (config.hidden_size, config.intermediate_size);
        Ok(Self {
            gate_proj: params.linear(&format!("{name}.gate_proj"), (d, f), false)?,
            up_proj: params.linear(&format!("{name}.up_proj"), (d, f), false)?,
            down_proj: params.linear(&format!("{name}.down_proj"), (f, d), false)?,
        })
    }

    fn forward(&self, pass: &Forward<'_>, x_td: &Tensor) -> Result<Tensor, ModelError> {
        let gate_tf = pass.linear(&self.gate_proj, x_td)?;
        let up_tf = pass.linear(&self.up_proj, x_td)?;
        pass.linear(&self.down_proj, &swiglu(&gate_tf, &up_tf)?)
    }
}
