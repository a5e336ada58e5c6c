//! A checkpoint against reference outputs of the same checkpoint, tensor by tensor.
//!
//! A folder of cases holds `cases.json` (each case's `label` and `images`), the images, and
//! `cases.safetensors` with the reference's tensors `LABEL.OUTPUT`: `input_ids`, `pixel_values`,
//! `image_grid_thw`, `position_ids`, `image_embeds`, `last_hidden_state`, `logits`,
//! `token_logprobs`, `greedy_new_tokens`, `loss` (the mean of the last eight tokens' negative
//! log-probabilities) and `grad.NAME` of that loss. Of these only `input_ids` has to be there.

mod case;

use std::path::Path;

use candle_core::{Device, Tensor};
use mmrag_ops::{backward, linear, logprob_head};

use crate::adapter::Adapter;
use crate::config::VlmConfig;
use crate::error::ModelError;
use crate::processor::ImageProcessor;
use crate::vlm::{Forward, Grad, Packed, Picture, Segment, VisionFeatures, Vlm};
use crate::weights::{Placement, Precision, Weights, read_json};
use case::{Case, segment};

/// Largest difference of a pixel value; neighbouring 8-bit colours are 8e-3 apart.
const PIXELS: f64 = 1e-5;
/// Largest difference of hidden states, embeddings and logits in f32.
const STATES: f64 = 2e-4;
/// Largest difference of log-probabilities and losses.
const SCORES: f64 = 1e-4;
/// Largest norm of the difference of gradients, over their norm.
const GRADIENTS: f64 = 1e-3;
/// Tokens at the end of a case that its loss is the mean of.
const SCORED: usize = 8;

/// One output of one case, ours against the reference's.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// The case's label.
    pub case: String,
    /// The output's name.
    pub output: String,
    /// How far ours is off: the largest difference of an element; of a gradient the norm of the
    /// difference over the norm; of whole numbers how many differ. Nothing if no code of ours makes
    /// such an output.
    pub difference: Option<f64>,
    /// How far it may be off.
    pub tolerance: f64,
}

impl Compared {
    /// Whether ours is the reference's, as far as it should be.
    pub fn agrees(&self) -> bool {
        self.difference.is_some_and(|difference| difference <= self.tolerance)
    }
}

/// Compares every tensor of a folder of cases with what the model in another folder makes, with an
/// adapter on or without one. Gradients are those of the model's own weights, so that with an
/// adapter none are compared. All is computed on `device`.
///
/// # Errors
///
/// When model or adapter cannot be loaded or a case not be read. That outputs differ is no error.
pub fn check(
    model: impl AsRef<Path>,
    adapter: Option<&Path>,
    cases: impl AsRef<Path>,
    device: &Device,
) -> Result<Vec<Compared>, ModelError> {
    let (dir, cases) = (model.as_ref(), cases.as_ref());
    if let Some(adapter) = adapter {
        Adapter::foresee(adapter, dir)?;
    }
    let (config, weights) = (VlmConfig::load(dir)?, Weights::open(dir)?);
    let path = cases.join("cases.json");
    let listed = read_json(&path)?;
    let missing = |key: &str| ModelError::MissingKey { path: path.clone(), key: key.to_owned() };
    let listed = listed["cases"].as_array().ok_or_else(|| missing("cases"))?;
    let outputs = Weights::open_file(cases.join("cases.safetensors"))?;
    // Only f32 weights have gradients; without any, a checkpoint is compared as it is used.
    let has_gradients = adapter.is_none() && outputs.names().any(|name| name.contains(".grad."));
    let precision = if has_gradients { Precision::F32 } else { Precision::Stored };
    let placement = Placement { precision, device: device.clone() };
    let model = Vlm::load(config, &weights, &placement)?;
    let adapter = adapter.map(|folder| Adapter::load(folder, &model)).transpose()?;
    let mut rows = vec![];
    for (index, listed) in listed.iter().enumerate() {
        let name = |key: &str| missing(&format!("cases[{index}].{key}"));
        let label = listed["label"].as_str().ok_or_else(|| name("label"))?;
        let images = listed["images"].as_array().ok_or_else(|| name("images"))?;
        let images = images.iter().map(|image| image.as_str().map(|file| cases.join(file)));
        let images: Option<Vec<_>> = images.collect();
        let mut case = Case::new(label, &outputs, images.ok_or_else(|| name("images"))?);
        if !case.images.is_empty() {
            case.compare_pixels(&ImageProcessor::load(dir)?)?;
        }
        compare(&model, adapter.as_ref(), &mut case)?;
        rows.extend(case.finish());
    }
    Ok(rows)
}

/// The case of a folder that has exactly these tokens: the tokens with their positions, and the
/// pictures as the reference's image processor made them.
///
/// # Errors
///
/// When the folder holds no such case, or its pictures do not fit the tokens.
pub fn reference_prompt(
    cases: impl AsRef<Path>,
    config: &VlmConfig,
    tokens: Vec<u32>,
) -> Result<(Segment, Vec<Picture>), ModelError> {
    let path = cases.as_ref().join("cases.safetensors");
    let outputs = Weights::open_file(&path)?;
    let labels: Vec<&str> =
        outputs.names().filter_map(|name| name.strip_suffix(".input_ids")).collect();
    for label in labels {
        let mut case = Case::new(label, &outputs, vec![]);
        if case.tokens()? == tokens {
            let pictures = case.pictures(config)?;
            return Ok((segment(tokens, config, &pictures)?, pictures));
        }
    }
    let reason = format!(
        "no case of {} has its {} tokens, so its pictures are not known",
        path.display(),
        tokens.len()
    );
    Err(ModelError::Prompt { reason })
}

/// Compares what the model makes of a case's tokens and the reference's pixels.
fn compare(model: &Vlm, adapter: Option<&Adapter>, case: &mut Case<'_>) -> Result<(), ModelError> {
    let pictures = case.pictures(model.config())?;
    let segment = segment(case.tokens()?, model.config(), &pictures)?;
    case.whole("position_ids", || {
        let axis = |axis: usize| segment.positions.iter().map(move |at| i64::from(at[axis]));
        Ok((0..3).flat_map(axis).collect())
    })?;
    let has_gradients = adapter.is_none() && case.has_gradients();
    let grad = if has_gradients { Grad::Full } else { Grad::None };
    let pass = Forward { grad, adapter, checkpointing: false };
    let features = model.see(&pass, &pictures.iter().collect::<Vec<_>>())?;
    let features: Vec<&VisionFeatures> = features.iter().collect();
    case.near("image_embeds", STATES, || {
        let embeds: Vec<_> = features.iter().map(|features| &features.embeds_md).collect();
        Ok(Tensor::cat(&embeds, 0)?)
    })?;
    let hidden_td = hidden(model, &pass, &segment, &features)?;
    case.near("last_hidden_state", STATES, || Ok(hidden_td.clone()))?;
    let head_vd = model.head(&pass);
    case.near("logits", STATES, || Ok(linear(&hidden_td, &head_vd, None)?))?;
    let n = segment.tokens.len();
    if n > SCORED {
        let scored_td = hidden_td.narrow(0, 0, n - 1)?;
        let scores = logprob_head(&scored_td, &head_vd, &segment.tokens[1..], 1.0, CHUNK)?;
        let logprobs_t = scores.logprobs_t;
        let loss = logprobs_t.narrow(0, n - 1 - SCORED, SCORED)?.mean_all()?.neg()?;
        case.near("token_logprobs", SCORES, || Ok(logprobs_t.clone()))?;
        case.near("loss", SCORES, || Ok(loss.reshape(1)?))?;
        if has_gradients {
            compare_gradients(model, case, &loss)?;
        }
    }
    compare_greedy(model, adapter, case, segment, &pictures)
}

/// The row of a case with gradients that counts the weights which have none.
const UNTRAINED: &str = "weights without a gradient";

/// Tokens whose logits are computed at once.
const CHUNK: usize = 100;

fn hidden(
    model: &Vlm,
    pass: &Forward<'_>,
    segment: &Segment,
    features: &[&VisionFeatures],
) -> Result<Tensor, ModelError> {
    let mut pack = Packed::default();
    pack.push(segment, vec![]);
    model.hidden(pass, &pack, features, None)
}

fn compare_gradients(model: &Vlm, case: &mut Case<'_>, loss: &Tensor) -> Result<(), ModelError> {
    let gradients = backward(loss)?;
    let mut n_untrained = 0;
    for param in model.params() {
        let name = format!("grad.{}", param.name());
        let concerned = case.has_pictures() || !param.name().contains("visual");
        let concerned =
            concerned && !is_last_deepstack(model, param.name()) && !case.is_zero(&name)?;
        let size = match gradients.get(param.var()) {
            Some(gradient) => gradient.abs()?.sum_all()?.to_scalar::<f32>()?,
            None => 0.0,
        };
        n_untrained += usize::from(concerned && !(size.is_finite() && size > 0.0));
        case.relative(&name, GRADIENTS, || match gradients.get(param.var()) {
            Some(gradient) => Ok(gradient.clone()),
            None => Ok(param.var().zeros_like()?),
        })?;
    }
    case.row(UNTRAINED, n_untrained as f64, 0.0);
    Ok(())
}

/// Whether what a weight makes is added after the last decoder layer, to the pictures' own tokens:
/// no text token sees it, and so no loss of text changes it.
fn is_last_deepstack(model: &Vlm, name: &str) -> bool {
    let last = model.config().text.num_layers - 1;
    name.contains(&format!("deepstack_merger_list.{last}."))
}

/// Continues greedily, computing everything again for each token: the slow form.
fn compare_greedy(
    model: &Vlm,
    adapter: Option<&Adapter>,
    case: &mut Case<'_>,
    mut segment: Segment,
    pictures: &[Picture],
) -> Result<(), ModelError> {
    let Some(expected) = case.ids("greedy_new_tokens")? else { return Ok(()) };
    let pass = Forward::untracked(adapter);
    let features = model.see(&pass, &pictures.iter().collect::<Vec<_>>())?;
    let features: Vec<&VisionFeatures> = features.iter().collect();
    let mut ours = vec![];
    for _ in 0..expected.len() {
        let hidden_td = hidden(model, &pass, &segment, &features)?;
        let last = hidden_td.narrow(0, segment.tokens.len() - 1, 1)?;
        let logits = linear(&last, &model.head(&pass), None)?;
        let token = logits.argmax(1)?.to_vec1::<u32>()?[0];
        ours.push(i64::from(token));
        let next = segment.positions.iter().flatten().max().map_or(0, |last| last + 1);
        segment.tokens.push(token);
        segment.positions.push([next; 3]);
    }
    case.whole("greedy_new_tokens", || Ok(ours))
}
