//! Texts as vectors, by encoders of the BERT family in the folders that sentence-transformers
//! writes (BGE, E5, GTE, MiniLM and their kin).
//!
//! ```text
//! tokens ─embeddings─► layers ─► the first token's state, or the mean of all ─► unit length
//! ```
//!
//! What the folder says of pooling and of the words that go
//! before a question or a document is followed.

// Dimensions: `t` tokens, `d` width.

use std::path::Path;

use candle_core::Tensor;
use mmrag_core::{Content, Document, Embed, EngineError};
use mmrag_ops::gelu;
use rayon::prelude::*;
use serde_json::Value;
use tokenizers::Tokenizer;

use super::parts::{Attention, Pair, json, normed, pair, project, tokenizer, tokens, unit};
use crate::error::ModelError;
use crate::settings_object::Object;
use crate::weights::Weights;

/// An encoder of texts.
pub struct TextEmbedder {
    tokenizer: Tokenizer,
    embeddings: Embeddings,
    layers: Vec<Layer>,
    width: usize,
    eps: f64,
    pooling: Pooling,
    before_question: String,
    before_document: String,
}

/// Which states make the vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pooling {
    First,
    Mean,
}

struct Embeddings {
    words_vd: Tensor,
    places_pd: Tensor,
    type_d: Tensor,
    norm: Pair,
    /// The place of the first token: RoBERTa counts from behind the padding token.
    first_place: usize,
}

struct Layer {
    attention: Attention,
    attention_norm: Pair,
    wide: Pair,
    narrow: Pair,
    norm: Pair,
}

impl TextEmbedder {
    /// Loads an encoder's folder.
    ///
    /// # Errors
    ///
    /// When a file is missing, or the encoder is of another family.
    pub fn load(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join("config.json");
        let config = json(&path)?;
        let config = Object::new(&path, "", &config)?;
        let family = config.str("model_type")?;
        if !matches!(family, "bert" | "roberta" | "xlm-roberta") {
            return Err(config.unsupported(format!(
                "texts are embedded by models of the types bert, roberta and xlm-roberta, not {family}"
            )));
        }
        if config.get("hidden_act").and_then(Value::as_str).is_some_and(|act| act != "gelu") {
            return Err(config.unsupported("its activation is another one than gelu".to_owned()));
        }
        check_modules(folder)?;
        let weights = Weights::open(folder)?;
        let shape = Shape {
            width: config.size("hidden_size")?,
            wide: config.size("intermediate_size")?,
            words: config.size("vocab_size")?,
            places: config.size("max_position_embeddings")?,
            types: config.size("type_vocab_size")?,
            n_heads: config.size("num_attention_heads")?,
            prefix: prefix(&weights),
        };
        let first_place = if family == "bert" { 0 } else { config.size("pad_token_id")? + 1 };
        let n_layers = config.size("num_hidden_layers")?;
        if !shape.width.is_multiple_of(shape.n_heads) {
            return Err(config.bad("num_attention_heads", "a divisor of hidden_size"));
        }
        let layers = (0..n_layers).map(|i| shape.layer(&weights, i)).collect::<Result<_, _>>()?;
        let longest = shape.places - first_place;
        Ok(Self {
            tokenizer: tokenizer(folder, longest_text(folder, longest)?)?,
            embeddings: shape.embeddings(&weights, first_place)?,
            layers,
            width: shape.width,
            eps: config.float("layer_norm_eps")?,
            pooling: pooling(folder)?,
            before_question: prompt(folder, "query")?,
            before_document: prompt(folder, "document")?,
        })
    }

    /// The unit vector of a text.
    ///
    /// # Errors
    ///
    /// When the text cannot be tokenised.
    pub fn embed(&self, text: &str) -> Result<Vec<f32>, ModelError> {
        let ids = tokens(&self.tokenizer, text)?;
        if ids.is_empty() {
            return Ok(vec![0.0; self.width]);
        }
        let mut x_td = self.embeddings.forward(&ids, self.eps)?;
        for layer in &self.layers {
            x_td = layer.forward(&x_td, self.eps)?;
        }
        let pooled_d = match self.pooling {
            Pooling::First => x_td.get(0)?,
            Pooling::Mean => x_td.mean(0)?,
        };
        Ok(unit(pooled_d.to_vec1()?))
    }

    fn embed_all(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, EngineError> {
        let failed = |error| EngineError::caused_by("embed a text", error);
        texts.par_iter().map(|text| self.embed(text).map_err(failed)).collect()
    }
}

impl Embed for TextEmbedder {
    fn width(&self) -> usize {
        self.width
    }

    fn embed_questions(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EngineError> {
        let texts: Vec<String> =
            texts.iter().map(|text| format!("{}{text}", self.before_question)).collect();
        self.embed_all(&texts)
    }

    /// What documents say: title and text, or a table's cells. Of pictures, the caption.
    fn embed_documents(&self, documents: &[&Document]) -> Result<Vec<Vec<f32>>, EngineError> {
        let text = |document: &&Document| {
            let mut text = format!("{}{}", self.before_document, document.title);
            match &document.content {
                Content::Text(body) => {
                    text.push('\n');
                    text.push_str(body);
                }
                Content::Table(table) => {
                    for row in std::iter::once(&table.header).chain(&table.rows) {
                        text.push('\n');
                        text.push_str(&row.join(" | "));
                    }
                }
                Content::Image(_) => {}
            }
            text
        };
        self.embed_all(&documents.iter().map(text).collect::<Vec<_>>())
    }

    fn count_tokens(&self, text: &str) -> Result<usize, EngineError> {
        let text = format!("{}{text}", self.before_question);
        let ids = tokens(&self.tokenizer, &text);
        ids.map(|ids| ids.len()).map_err(|error| EngineError::caused_by("read a text", error))
    }
}

struct Shape {
    width: usize,
    wide: usize,
    words: usize,
    places: usize,
    types: usize,
    n_heads: usize,
    prefix: String,
}

impl Shape {
    fn embeddings(&self, weights: &Weights, first_place: usize) -> Result<Embeddings, ModelError> {
        let name = |name: &str| format!("{}embeddings.{name}.weight", self.prefix);
        let types_sd = weights.f32(&name("token_type_embeddings"), &[self.types, self.width])?;
        Ok(Embeddings {
            words_vd: weights.f32(&name("word_embeddings"), &[self.words, self.width])?,
            places_pd: weights.f32(&name("position_embeddings"), &[self.places, self.width])?,
            type_d: types_sd.get(0)?,
            norm: self.norm(weights, "embeddings.LayerNorm")?,
            first_place,
        })
    }

    fn layer(&self, weights: &Weights, i: usize) -> Result<Layer, ModelError> {
        let (d, wide) = (self.width, self.wide);
        let part = |part: &str, n: usize, d: usize| {
            pair(weights, &format!("{}encoder.layer.{i}.{part}", self.prefix), &[n, d])
        };
        let norm = |name: &str| self.norm(weights, &format!("encoder.layer.{i}.{name}"));
        Ok(Layer {
            attention: Attention {
                query: part("attention.self.query", d, d)?,
                key: part("attention.self.key", d, d)?,
                value: part("attention.self.value", d, d)?,
                output: part("attention.output.dense", d, d)?,
                n_heads: self.n_heads,
                is_causal: false,
            },
            attention_norm: norm("attention.output.LayerNorm")?,
            wide: part("intermediate.dense", wide, d)?,
            narrow: part("output.dense", d, wide)?,
            norm: norm("output.LayerNorm")?,
        })
    }

    fn norm(&self, weights: &Weights, name: &str) -> Result<Pair, ModelError> {
        pair(weights, &format!("{}{name}", self.prefix), &[self.width])
    }
}

impl Embeddings {
    fn forward(&self, ids: &[u32], eps: f64) -> Result<Tensor, ModelError> {
        let ids_t = Tensor::new(ids, self.words_vd.device())?;
        let places_td = self.places_pd.narrow(0, self.first_place, ids.len())?;
        let x_td = (self.words_vd.index_select(&ids_t, 0)? + places_td)?;
        let x_td = x_td.broadcast_add(&self.type_d)?;
        normed(&x_td, &self.norm, eps)
    }
}

impl Layer {
    fn forward(&self, x_td: &Tensor, eps: f64) -> Result<Tensor, ModelError> {
        let attended_td = self.attention.forward(x_td)?;
        let x_td = normed(&(x_td + attended_td)?, &self.attention_norm, eps)?;
        let wide = gelu(&project(&x_td, &self.wide)?)?;
        normed(&(&x_td + project(&wide, &self.narrow)?)?, &self.norm, eps)
    }
}

/// What stands before the names of tensors: models with a head have the encoder under a name.
fn prefix(weights: &Weights) -> String {
    let word = "embeddings.word_embeddings.weight";
    let found = weights.names().find_map(|name| name.strip_suffix(word));
    found.unwrap_or_default().to_owned()
}

/// The longest text in tokens: sentence-transformers may cut earlier than the places end.
fn longest_text(folder: &Path, places: usize) -> Result<usize, ModelError> {
    let path = folder.join("sentence_bert_config.json");
    let said = if path.is_file() { json(&path)?.get("max_seq_length").cloned() } else { None };
    let said = said.and_then(|said| said.as_u64()).map_or(places, |said| said as usize);
    Ok(said.min(places))
}

/// Refuses folders in which something follows that would change the vectors.
fn check_modules(folder: &Path) -> Result<(), ModelError> {
    let path = folder.join("modules.json");
    if !path.is_file() {
        return Ok(());
    }
    let modules = json(&path)?;
    let kinds =
        modules.as_array().into_iter().flatten().filter_map(|module| module.get("type")?.as_str());
    let kinds = kinds.map(|kind| kind.rsplit('.').next().unwrap_or(kind));
    match kinds.into_iter().find(|kind| !matches!(*kind, "Transformer" | "Pooling" | "Normalize")) {
        None => Ok(()),
        Some(kind) => Err(ModelError::Unsupported {
            what: format!("the module {kind} after the encoder: Pooling and Normalize are built"),
            path,
        }),
    }
}

fn pooling(folder: &Path) -> Result<Pooling, ModelError> {
    let path = folder.join("1_Pooling").join("config.json");
    if !path.is_file() {
        return Ok(Pooling::Mean);
    }
    let config = json(&path)?;
    let is = |key: &str| config.get(key).and_then(Value::as_bool).unwrap_or(false);
    match (is("pooling_mode_cls_token"), is("pooling_mode_mean_tokens")) {
        (true, false) => Ok(Pooling::First),
        (false, true) => Ok(Pooling::Mean),
        _ => Err(ModelError::Unsupported {
            path,
            what: "states are pooled by the first token or by the mean of all".into(),
        }),
    }
}

/// The words that go before a text of this sort.
fn prompt(folder: &Path, sort: &str) -> Result<String, ModelError> {
    let path = folder.join("config_sentence_transformers.json");
    if !path.is_file() {
        return Ok(String::new());
    }
    let config = json(&path)?;
    let prompt = config.get("prompts").and_then(|prompts| prompts.get(sort));
    Ok(prompt.and_then(Value::as_str).unwrap_or_default().to_owned())
}
