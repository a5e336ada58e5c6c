//! A folder of reference updates, and a policy that knows its one prompt.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use candle_core::{Device, Tensor, Var};
use mmrag_core::{Completion, EngineError, Prompt, Sampling};
use mmrag_model::{
    Adapter, Forward, Grad, ModelError, Packed, Picture, Placement, Precision, Segment, Vlm,
    VlmConfig, Weights, reference_prompt, text_positions,
};
use mmrag_ops::{TokenScores, logprob_head};
use serde::Deserialize;

use crate::error::TrainError;
use crate::learner::{Learner, ReplyGroup, View};
use crate::loss::LossKind;

/// Rows of the vocabulary whose logits exist at once.
const CHUNK: usize = 4096;

/// `update.json`: how the reference updated, and what it told of each step.
#[derive(Deserialize)]
pub(super) struct Told {
    /// The name of the model's folder, beside the update's.
    pub(super) model: String,
    pub(super) loss_type: LossKind,
    pub(super) beta: f64,
    pub(super) epsilon_low: f64,
    pub(super) epsilon_high: f64,
    pub(super) max_grad_norm: f64,
    pub(super) optimizer: ToldOptimizer,
    pub(super) steps: Vec<ToldStep>,
}

#[derive(Deserialize)]
pub(super) struct ToldOptimizer {
    pub(super) lr: f64,
    pub(super) betas: [f64; 2],
    pub(super) eps: f64,
    pub(super) weight_decay: f64,
}

#[derive(Deserialize)]
pub(super) struct ToldStep {
    pub(super) loss: f64,
    pub(super) grad_norm: f64,
    pub(super) kl: f64,
}

impl Told {
    pub(super) fn read(folder: &Path) -> Result<Self, TrainError> {
        let path = folder.join("update.json");
        let bytes = std::fs::read(&path).map_err(TrainError::file("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|error| TrainError::malformed(&path, &error))
    }
}

/// The reference's tensors, and which of them were read.
pub(super) struct Numbers {
    weights: Weights,
    read: RefCell<BTreeSet<String>>,
}

impl Numbers {
    pub(super) fn open(folder: &Path) -> Result<Self, TrainError> {
        let weights = Weights::open_file(folder.join("batch.safetensors"))?;
        Ok(Self { weights, read: RefCell::default() })
    }

    /// A tensor, if there is one of this name.
    pub(super) fn maybe(&self, name: &str) -> Result<Option<Tensor>, ModelError> {
        let Some(shape) = self.weights.shape(name) else { return Ok(None) };
        self.read.borrow_mut().insert(name.to_owned());
        self.weights.f32(name, shape).map(Some)
    }

    pub(super) fn tensor(&self, name: &str) -> Result<Tensor, ModelError> {
        let shape = self.weights.shape(name).unwrap_or_default();
        self.read.borrow_mut().insert(name.to_owned());
        self.weights.f32(name, shape)
    }

    pub(super) fn vector(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        Ok(self.tensor(name)?.flatten_all()?.to_vec1()?)
    }

    pub(super) fn rows(&self, name: &str) -> Result<Vec<Vec<f32>>, ModelError> {
        Ok(self.tensor(name)?.to_vec2()?)
    }

    pub(super) fn ids(&self, name: &str) -> Result<Vec<u32>, ModelError> {
        self.read.borrow_mut().insert(name.to_owned());
        Ok(self.weights.i64(name)?.into_iter().map(|id| id as u32).collect())
    }

    /// The values of a padded tensor where the mask is 1.
    pub(super) fn masked(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        let (values, mask) = (self.vector(name)?, self.vector("completion_mask")?);
        Ok(values.into_iter().zip(mask).filter(|(_, m)| *m > 0.0).map(|(v, _)| v).collect())
    }

    pub(super) fn unread(&self) -> Vec<String> {
        let read = self.read.borrow();
        let names = self.weights.names().filter(|name| !read.contains(*name));
        names.map(ToOwned::to_owned).collect()
    }
}

/// A model with an adapter that knows one prompt, given as token ids. It keeps the
/// log-probabilities it was asked for.
pub(super) struct OnePrompt {
    pub(super) model: Vlm,
    pub(super) adapter: Adapter,
    pictures: Vec<Picture>,
    prompt: Segment,
    next: u32,
    asked: Mutex<Vec<Vec<f32>>>,
}

impl OnePrompt {
    /// The prompt is a case of the model's own reference outputs: in its folder, or in the one
    /// beside the update's that `update.json` names.
    pub(super) fn load(
        model: &Path,
        folder: &Path,
        told: &Told,
        numbers: &Numbers,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let placement = Placement { precision: Precision::F32, device: device.clone() };
        let vlm = Vlm::load(VlmConfig::load(model)?, &Weights::open(model)?, &placement)?;
        let adapter = Adapter::load(folder.join("adapter_init"), &vlm)?;
        let beside = folder.parent().unwrap_or(Path::new("")).join(&told.model);
        let places: [PathBuf; 3] = [folder.to_owned(), model.to_owned(), beside];
        let has_cases = |place: &&PathBuf| place.join("cases.safetensors").is_file();
        let cases = places.iter().find(has_cases).unwrap_or(&places[1]);
        let tokens = numbers.ids("prompt_ids")?;
        let (prompt, pictures) = reference_prompt(cases, vlm.config(), tokens)?;
        let next = prompt.positions.iter().flatten().max().map_or(0, |last| last + 1);
        Ok(Self { model: vlm, adapter, pictures, prompt, next, asked: Mutex::default() })
    }

    /// The log-probabilities of each pass so far.
    pub(super) fn asked(&self) -> Vec<Vec<f32>> {
        self.asked.lock().expect("no thread panics while it holds the lock").clone()
    }

    fn score(
        &self,
        groups: &[ReplyGroup<()>],
        temperature: f64,
        view: View,
    ) -> Result<TokenScores, ModelError> {
        let pass = match view {
            View::Learning => {
                Forward { grad: Grad::Adapter, ..Forward::untracked(Some(&self.adapter)) }
            }
            View::Current => Forward::untracked(Some(&self.adapter)),
            View::Reference => Forward::untracked(None),
        };
        let mut pack = Packed::default();
        let (mut rows, mut targets) = (vec![], vec![]);
        let prompt = pack.push(&self.prompt, vec![]);
        for reply in groups.iter().flat_map(|group| &group.replies) {
            rows.push(prompt.end as u32 - 1);
            let fed = &reply[..reply.len() - 1];
            if !fed.is_empty() {
                let segment = Segment {
                    tokens: fed.to_vec(),
                    positions: text_positions(self.next, fed.len()).collect(),
                    ..Segment::default()
                };
                rows.extend(pack.push(&segment, vec![prompt.clone()]).map(|row| row as u32));
            }
            targets.extend_from_slice(reply);
        }
        let features = self.model.see(&pass, &self.pictures.iter().collect::<Vec<_>>())?;
        let features: Vec<_> = features.iter().collect();
        let hidden_td = self.model.hidden(&pass, &pack, &features, None)?;
        let rows = Tensor::new(rows, hidden_td.device())?;
        let drawn_td = hidden_td.index_select(&rows, 0)?;
        let head_vd = self.model.head(&pass);
        let scores = logprob_head(&drawn_td, &head_vd, &targets, temperature, CHUNK)?;
        let logprobs = scores.logprobs_t.detach().to_vec1()?;
        self.asked.lock().expect("no thread panics while it holds the lock").push(logprobs);
        Ok(scores)
    }
}

impl Learner for OnePrompt {
    type Encoded = ();

    fn encode(&self, _: &Prompt) -> Result<(), EngineError> {
        Ok(())
    }

    fn prompt_tokens(&self, (): &()) -> usize {
        self.prompt.tokens.len()
    }

    fn encode_reply(&self, _: &str) -> Result<Vec<u32>, EngineError> {
        Err(EngineError::new("the replies are given as tokens"))
    }

    fn sample(&self, _: &[()], _: &Sampling) -> Result<Vec<Vec<Completion>>, EngineError> {
        Err(EngineError::new("the replies are given"))
    }

    fn scores(
        &self,
        groups: &[ReplyGroup<()>],
        temperature: f64,
        view: View,
    ) -> Result<TokenScores, EngineError> {
        self.score(groups, temperature, view)
            .map_err(|error| EngineError::caused_by("score the replies", error))
    }

    fn vars(&self) -> Vec<(String, Var)> {
        self.adapter.vars()
    }

    fn save(&self, _: &Path) -> Result<(), EngineError> {
        Err(EngineError::new("nothing is saved"))
    }

    fn restore(&self, _: &Path) -> Result<(), EngineError> {
        Err(EngineError::new("nothing is resumed"))
    }
}
