//! What a checkpoint's `config.json` says of the model's shape.
//!
//! Three forms occur and are read alike: text fields at the top level; nested in `text_config`
//! with `rope_scaling`; nested with `rope_parameters`. The checkpoint decides: a key that is not
//! there is an error. The exceptions are the few that every published checkpoint of the family
//! leaves out, and they stand at the line that reads them.

use std::path::Path;

use serde_json::{Value, json};

use crate::error::ModelError;
use crate::settings_object::Object;
use crate::weights::read_json;

/// Which architecture a checkpoint has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Qwen3-VL, dense.
    Qwen3Vl,
    /// Qwen2.5-VL.
    Qwen25Vl,
}

impl Family {
    /// The name in `model_type`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Qwen3Vl => "qwen3_vl",
            Self::Qwen25Vl => "qwen2_5_vl",
        }
    }

    fn architecture(self) -> &'static str {
        match self {
            Self::Qwen3Vl => "Qwen3VLForConditionalGeneration",
            Self::Qwen25Vl => "Qwen2_5_VLForConditionalGeneration",
        }
    }
}

/// The shape of a vision-language model.
#[derive(Clone, Debug, PartialEq)]
pub struct VlmConfig {
    /// Its architecture.
    pub family: Family,
    /// The text decoder.
    pub text: TextConfig,
    /// The vision tower.
    pub vision: VisionConfig,
    /// Whether the head is the embedding matrix.
    pub tie_word_embeddings: bool,
    /// The tokens that stand for or around pictures.
    pub tokens: SpecialIds,
    /// Tokens that end a completion; those of `generation_config.json` if it names any.
    pub eos: Vec<u32>,
    /// The padding token, if there is one.
    pub pad: Option<u32>,
    raw: Value,
}

/// The shape of the text decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
    /// Tokens known to embedding and head.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward layer.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_layers: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads; divides `num_heads`.
    pub num_kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Rotary frequencies that turn by time, height and width; they sum to half a head.
    pub mrope_section: [usize; 3],
    /// Whether the three kinds of frequency alternate (Qwen3-VL) or stand in blocks (Qwen2.5-VL).
    pub mrope_interleaved: bool,
    /// Which of the attention's projections have a bias.
    pub attention_bias: AttentionBias,
    /// Whether queries and keys are normalised, head by head (Qwen3-VL).
    pub qk_norm: bool,
}

/// Which of an attention's projections have a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionBias {
    /// None (Qwen3-VL as published).
    None,
    /// Those of queries, keys and values, and not that of the output (Qwen2.5-VL).
    Inputs,
    /// All four (Qwen3-VL where `attention_bias` is true).
    All,
}

/// The shape of the vision tower.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionConfig {
    /// Blocks.
    pub depth: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward layer.
    pub intermediate_size: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Colour channels.
    pub in_channels: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Frames in a patch; a still picture is repeated.
    pub temporal_patch_size: usize,
    /// Side in patches of the square that becomes one token.
    pub spatial_merge_size: usize,
    /// Width of what the tower gives to the decoder.
    pub out_hidden_size: usize,
    /// Learned position embeddings, a square grid. 0 in Qwen2.5-VL, which has none.
    pub num_position_embeddings: usize,
    /// Blocks whose outputs are added to the first decoder layers. Empty in Qwen2.5-VL.
    pub deepstack_indexes: Vec<usize>,
    /// The feed-forward layer's activation, by transformers' name.
    pub hidden_act: String,
    /// Windowed attention, in Qwen2.5-VL only.
    pub windows: Option<VisionWindows>,
}

/// Windowed attention of a vision tower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisionWindows {
    /// Side of a window in pixels.
    pub window_size: usize,
    /// Blocks that attend to the whole picture.
    pub full_attention_indexes: Vec<usize>,
}

/// The tokens that stand for or around pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialIds {
    /// Stands where a picture's features go.
    pub image: u32,
    /// Stands where a film's features go.
    pub video: Option<u32>,
    /// Before a picture.
    pub vision_start: u32,
    /// After a picture.
    pub vision_end: u32,
}

impl VlmConfig {
    /// Reads `config.json`, and `generation_config.json` if there is one.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, a key is missing or of another kind, or the architecture is
    /// neither Qwen3-VL nor Qwen2.5-VL.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self, ModelError> {
        let dir = dir.as_ref();
        let path = dir.join("config.json");
        let generation_path = dir.join("generation_config.json");
        let generation =
            if generation_path.is_file() { Some(read_json(&generation_path)?) } else { None };
        Self::from_json(&path, &read_json(&path)?, generation.as_ref())
    }

    /// Reads a configuration, of either family, from JSON. `path` is for the errors.
    ///
    /// # Errors
    ///
    /// When a key is missing or of another kind, the sizes contradict each other, or the
    /// architecture is neither Qwen3-VL nor Qwen2.5-VL.
    pub fn from_json(
        path: &Path,
        config: &Value,
        generation: Option<&Value>,
    ) -> Result<Self, ModelError> {
        let top = Object::new(path, "", config)?;
        let family = family_of(&top)?;
        let text_object = top.child("text_config")?;
        let text = text_object.as_ref().unwrap_or(&top);
        let Some(vision) = top.child("vision_config")? else {
            return Err(top.missing("vision_config"));
        };
        let config = Self {
            family,
            text: text_of(family, text)?,
            vision: vision_of(family, &vision)?,
            tie_word_embeddings: top.or(text, "tie_word_embeddings").bool("tie_word_embeddings")?,
            tokens: SpecialIds {
                image: top.id("image_token_id")?,
                video: top.maybe_id("video_token_id")?,
                vision_start: top.id("vision_start_token_id")?,
                vision_end: top.id("vision_end_token_id")?,
            },
            eos: eos_of(&top, text, generation)?,
            pad: top.or(text, "pad_token_id").maybe_id("pad_token_id")?,
            raw: config.clone(),
        };
        config.check(&top)?;
        Ok(config)
    }

    /// The configuration in the nested form that transformers 5 writes, for f32 tensors.
    /// What mmrag does not read but the loaded file held, such as `max_position_embeddings`, is
    /// kept.
    pub fn to_json(&self) -> Value {
        let mut top = json!({
            "architectures": [self.family.architecture()],
            "model_type": self.family.model_type(),
            "dtype": "float32",
            "tie_word_embeddings": self.tie_word_embeddings,
            "image_token_id": self.tokens.image,
            "vision_start_token_id": self.tokens.vision_start,
            "vision_end_token_id": self.tokens.vision_end,
            "eos_token_id": one_or_many(&self.eos),
            "text_config": self.text_json(),
            "vision_config": self.vision_json(),
        });
        if let Some(video) = self.tokens.video {
            top["video_token_id"] = video.into();
        }
        if let Some(pad) = self.pad {
            top["pad_token_id"] = pad.into();
        }
        if let (Some(bos), Value::Object(top)) = (self.raw.get("bos_token_id"), &mut top) {
            top.insert("bos_token_id".into(), bos.clone());
        }
        top
    }

    fn text_json(&self) -> Value {
        let text = &self.text;
        let mut rope = json!({
            "rope_type": "default",
            "rope_theta": text.rope_theta,
            "mrope_section": text.mrope_section,
        });
        let mut object = json!({
            "model_type": format!("{}_text", self.family.model_type()),
            "vocab_size": text.vocab_size,
            "hidden_size": text.hidden_size,
            "intermediate_size": text.intermediate_size,
            "num_hidden_layers": text.num_layers,
            "num_attention_heads": text.num_heads,
            "num_key_value_heads": text.num_kv_heads,
            "hidden_act": "silu",
            "rms_norm_eps": text.rms_norm_eps,
            "tie_word_embeddings": self.tie_word_embeddings,
            "eos_token_id": one_or_many(&self.eos),
        });
        if self.family == Family::Qwen3Vl {
            rope["mrope_interleaved"] = text.mrope_interleaved.into();
            object["head_dim"] = text.head_dim.into();
            object["attention_bias"] = (text.attention_bias == AttentionBias::All).into();
        }
        object["rope_parameters"] = rope;
        let raw = self.raw.get("text_config").unwrap_or(&self.raw);
        for key in KEPT_TEXT_KEYS {
            if let Some(value) = raw.get(key) {
                object[key] = value.clone();
            }
        }
        object
    }

    fn vision_json(&self) -> Value {
        let vision = &self.vision;
        let mut object = json!({
            "model_type": format!("{}_vision", self.family.model_type()),
            "depth": vision.depth,
            "hidden_size": vision.hidden_size,
            "intermediate_size": vision.intermediate_size,
            "num_heads": vision.num_heads,
            "in_channels": vision.in_channels,
            "patch_size": vision.patch_size,
            "temporal_patch_size": vision.temporal_patch_size,
            "spatial_merge_size": vision.spatial_merge_size,
            "out_hidden_size": vision.out_hidden_size,
            "hidden_act": vision.hidden_act,
        });
        if let Some(windows) = &vision.windows {
            object["window_size"] = windows.window_size.into();
            object["fullatt_block_indexes"] = windows.full_attention_indexes.clone().into();
        } else {
            object["num_position_embeddings"] = vision.num_position_embeddings.into();
            object["deepstack_visual_indexes"] = vision.deepstack_indexes.clone().into();
        }
        let raw = self.raw.get("vision_config");
        for key in KEPT_VISION_KEYS {
            if let Some(value) = raw.and_then(|raw| raw.get(key)) {
                object[key] = value.clone();
            }
        }
        object
    }

    /// Sizes that must fit each other, so that nothing below has to doubt them.
    fn check(&self, top: &Object<'_>) -> Result<(), ModelError> {
        let (text, vision) = (&self.text, &self.vision);
        let rules = [
            (text.num_heads.is_multiple_of(text.num_kv_heads), "num_key_value_heads divides heads"),
            (text.head_dim.is_multiple_of(2), "head_dim is even"),
            (
                2 * text.mrope_section.iter().sum::<usize>() == text.head_dim,
                "mrope_section sums to half of head_dim",
            ),
            (vision.hidden_size.is_multiple_of(vision.num_heads), "vision heads divide the width"),
            (
                (vision.hidden_size / vision.num_heads).is_multiple_of(4),
                "the width of a vision head is a multiple of 4",
            ),
            (vision.out_hidden_size == text.hidden_size, "out_hidden_size is the text's width"),
            (
                vision.num_position_embeddings.isqrt().pow(2) == vision.num_position_embeddings,
                "num_position_embeddings is a square",
            ),
            (
                vision.deepstack_indexes.iter().all(|index| *index < vision.depth),
                "deepstack_visual_indexes are below depth",
            ),
            (
                vision.deepstack_indexes.len() <= text.num_layers,
                "there are no more deepstack_visual_indexes than decoder layers",
            ),
            (
                vision.windows.as_ref().is_none_or(|windows| {
                    let square = vision.patch_size * vision.spatial_merge_size;
                    windows.window_size >= square
                        && windows.full_attention_indexes.iter().all(|index| *index < vision.depth)
                }),
                "a window holds a square of patches and fullatt_block_indexes are below depth",
            ),
            ((self.tokens.image as usize) < text.vocab_size, "image_token_id is below vocab_size"),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(top.unsupported(format!("it breaks the rule that {rule}"))),
            None => Ok(()),
        }
    }
}

/// What checkpoints say that mmrag does not read; it is passed on.
const KEPT_TEXT_KEYS: [&str; 10] = [
    "attention_dropout",
    "bos_token_id",
    "initializer_range",
    "layer_types",
    "max_position_embeddings",
    "max_window_layers",
    "pad_token_id",
    "sliding_window",
    "use_cache",
    "use_sliding_window",
];
const KEPT_VISION_KEYS: [&str; 3] = ["initializer_range", "rope_parameters", "tokens_per_second"];

fn family_of(top: &Object<'_>) -> Result<Family, ModelError> {
    let name = top.str("model_type")?;
    [Family::Qwen3Vl, Family::Qwen25Vl]
        .into_iter()
        .find(|family| family.model_type() == name)
        .ok_or_else(|| {
            top.unsupported(format!(
                "its architecture is `{name}`, and only qwen3_vl and qwen2_5_vl are known"
            ))
        })
}

fn text_of(family: Family, text: &Object<'_>) -> Result<TextConfig, ModelError> {
    let activation = text.str("hidden_act")?;
    if activation != "silu" {
        return Err(text.unsupported(format!("the activation `{activation}` is not built")));
    }
    let rope = match text.child("rope_parameters")? {
        Some(rope) => rope,
        None => text.child("rope_scaling")?.ok_or_else(|| text.missing("rope_parameters"))?,
    };
    let hidden_size = text.size("hidden_size")?;
    let num_heads = text.size("num_attention_heads")?;
    let attention_bias = match family {
        Family::Qwen3Vl if text.bool("attention_bias")? => AttentionBias::All,
        Family::Qwen3Vl => AttentionBias::None,
        // Qwen2.5-VL has no such key.
        Family::Qwen25Vl => AttentionBias::Inputs,
    };
    Ok(TextConfig {
        vocab_size: text.size("vocab_size")?,
        hidden_size,
        intermediate_size: text.size("intermediate_size")?,
        num_layers: text.size("num_hidden_layers")?,
        num_heads,
        num_kv_heads: text.size("num_key_value_heads")?,
        head_dim: match family {
            Family::Qwen3Vl => text.size("head_dim")?,
            // Qwen2.5-VL has no such key: its heads share the width.
            Family::Qwen25Vl => hidden_size / num_heads,
        },
        rms_norm_eps: text.float("rms_norm_eps")?,
        rope_theta: rope.or(text, "rope_theta").float("rope_theta")?,
        mrope_section: mrope_section_of(&rope)?,
        mrope_interleaved: is_interleaved(family, &rope)?,
        attention_bias,
        qk_norm: family == Family::Qwen3Vl,
    })
}

fn mrope_section_of(rope: &Object<'_>) -> Result<[usize; 3], ModelError> {
    // The type may be left out, and "mrope" is what older files call "default".
    for key in ["rope_type", "type"] {
        let kind = rope.get(key).and_then(Value::as_str).unwrap_or("default");
        if !matches!(kind, "default" | "mrope") {
            return Err(
                rope.unsupported(format!("rotary positions of type `{kind}` are not built"))
            );
        }
    }
    let section = rope.sizes("mrope_section")?;
    section.try_into().map_err(|_| rope.bad("mrope_section", "three whole numbers"))
}

/// The family decides; files older than the key leave it out, and none may say otherwise.
fn is_interleaved(family: Family, rope: &Object<'_>) -> Result<bool, ModelError> {
    let interleaved = family == Family::Qwen3Vl;
    match rope.get("mrope_interleaved") {
        Some(said) if said != &Value::Bool(interleaved) => {
            Err(rope.bad("mrope_interleaved", &format!("{interleaved} in this family")))
        }
        _ => Ok(interleaved),
    }
}

fn vision_of(family: Family, vision: &Object<'_>) -> Result<VisionConfig, ModelError> {
    let is_qwen3 = family == Family::Qwen3Vl;
    let hidden_act = vision.str("hidden_act")?;
    if hidden_act != (if is_qwen3 { "gelu_pytorch_tanh" } else { "silu" }) {
        return Err(vision.unsupported(format!("the activation `{hidden_act}` is not built")));
    }
    let channels = if vision.get("in_channels").is_some() { "in_channels" } else { "in_chans" };
    let temporal = vision.get("temporal_patch_size").is_some();
    Ok(VisionConfig {
        depth: vision.size("depth")?,
        hidden_size: vision.size("hidden_size")?,
        intermediate_size: vision.size("intermediate_size")?,
        num_heads: vision.size("num_heads")?,
        in_channels: vision.size(if is_qwen3 { "in_channels" } else { channels })?,
        patch_size: vision.size("patch_size")?,
        // Flat Qwen2.5-VL files may leave it out; it is 2 in all of them.
        temporal_patch_size: if is_qwen3 || temporal {
            vision.size("temporal_patch_size")?
        } else {
            2
        },
        spatial_merge_size: vision.size("spatial_merge_size")?,
        out_hidden_size: vision.size("out_hidden_size")?,
        num_position_embeddings: if is_qwen3 {
            vision.size("num_position_embeddings")?
        } else {
            0
        },
        deepstack_indexes: if is_qwen3 {
            vision.sizes("deepstack_visual_indexes")?
        } else {
            Vec::new()
        },
        hidden_act: hidden_act.to_owned(),
        windows: if is_qwen3 {
            None
        } else {
            Some(VisionWindows {
                window_size: vision.size("window_size")?,
                full_attention_indexes: vision.sizes("fullatt_block_indexes")?,
            })
        },
    })
}

fn eos_of(
    top: &Object<'_>,
    text: &Object<'_>,
    generation: Option<&Value>,
) -> Result<Vec<u32>, ModelError> {
    let from_generation = generation.and_then(|generation| generation.get("eos_token_id"));
    if let Some(eos) = from_generation.filter(|eos| !eos.is_null()) {
        let path = top.path.with_file_name("generation_config.json");
        return Object::ids_in(&path, "eos_token_id", eos);
    }
    let holder = top.or(text, "eos_token_id");
    match holder.get("eos_token_id") {
        Some(eos) => Object::ids_in(top.path, &holder.key("eos_token_id"), eos),
        None => Err(top.missing("eos_token_id")),
    }
}

fn one_or_many(ids: &[u32]) -> Value {
    match ids {
        [id] => (*id).into(),
        ids => ids.into(),
    }
}
