//! Weights by name, and how one forward pass uses them.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use mmrag_ops::{linear, lora_linear};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::adapter::Adapter;
use crate::error::ModelError;
use crate::weights::{Placement, Precision, Weights};

/// Which variables a forward pass keeps track of for a backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grad {
    /// None: nothing is kept.
    None,
    /// No weight, but what comes in as a variable: the features of pictures.
    Inputs,
    /// Those of the adapter.
    Adapter,
    /// Those of the model itself.
    Full,
}

/// A named weight.
#[derive(Clone, Debug)]
pub struct Param {
    name: String,
    var: Var,
}

impl Param {
    /// Its name in the checkpoint.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The variable.
    pub fn var(&self) -> &Var {
        &self.var
    }
}

/// What is particular to one forward pass.
pub struct Forward<'a> {
    /// What is tracked.
    pub grad: Grad,
    /// The adapter that is on, if one is.
    pub adapter: Option<&'a Adapter>,
    /// Whether layers that are tracked keep only what goes into them, and compute the rest again in
    /// the backward pass ([`mmrag_ops::checkpoint`]).
    pub checkpointing: bool,
}

/// A pass that a checkpointed layer can keep until its backward pass.
#[derive(Clone)]
pub(super) struct KeptPass {
    grad: Grad,
    adapter: Option<Arc<Adapter>>,
}

impl KeptPass {
    /// The pass again, tracked or not.
    pub(super) fn forward(&self, tracked: bool) -> Forward<'_> {
        let grad = if tracked { self.grad } else { Grad::None };
        Forward { grad, adapter: self.adapter.as_deref(), checkpointing: false }
    }
}

impl<'a> Forward<'a> {
    /// A pass that tracks nothing.
    pub fn untracked(adapter: Option<&'a Adapter>) -> Self {
        Self { grad: Grad::None, adapter, checkpointing: false }
    }

    /// What a checkpointed layer keeps of the pass; nothing where layers are not checkpointed.
    pub(super) fn kept(&self) -> Option<KeptPass> {
        let kept = || KeptPass { grad: self.grad, adapter: self.adapter.cloned().map(Arc::new) };
        (self.checkpointing && self.grad != Grad::None).then(kept)
    }

    /// The weight, tracked or not.
    pub(super) fn weight(&self, param: &Param) -> Tensor {
        match self.grad {
            Grad::Full => param.var.as_tensor().clone(),
            Grad::None | Grad::Inputs | Grad::Adapter => param.var.as_detached_tensor(),
        }
    }

    /// Applies a linear map, with the adapter's change if it has one for this map.
    pub(super) fn linear(&self, map: &Linear, x_td: &Tensor) -> Result<Tensor, ModelError> {
        let weight = self.weight(&map.weight);
        let bias = map.bias.as_ref().map(|bias| self.weight(bias));
        let Some(lora) = self.adapter.and_then(|adapter| adapter.layer(map.module())) else {
            return Ok(linear(x_td, &weight, bias.as_ref())?);
        };
        let tracked = self.grad == Grad::Adapter;
        let pick = |var: &Var| {
            if tracked { var.as_tensor().clone() } else { var.as_detached_tensor() }
        };
        let weight = weight.detach();
        let y = lora_linear(x_td, &weight, &pick(&lora.a), &pick(&lora.b), lora.scale)?;
        Ok(match bias {
            Some(bias) => y.broadcast_add(&bias)?,
            None => y,
        })
    }
}

/// A linear map of the checkpoint.
#[derive(Clone, Debug)]
pub(super) struct Linear {
    weight: Param,
    bias: Option<Param>,
}

impl Linear {
    /// The module's path: the weight's name without its last part.
    fn module(&self) -> &str {
        self.weight.name.strip_suffix(".weight").unwrap_or(&self.weight.name)
    }
}

/// Where weights come from, while a model is put together.
pub(super) struct Params<'a> {
    source: Source<'a>,
    all: Vec<Param>,
    slots: Vec<Slot>,
}

enum Source<'a> {
    Weights(&'a Weights, &'a Placement),
    /// Nothing is read: the weights are placeholders, and only what the headers say is checked.
    Headers(&'a Weights),
    Random {
        seed: u64,
        scale: f64,
    },
    /// Small numbers of no meaning, at once: matrices of this type on this device.
    Filled(DType, &'a Device),
    Slots,
}

/// A place for a weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its name in a checkpoint.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// How it begins if it is drawn.
    pub start: Start,
}

/// How a weight begins if it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Normal numbers, for matrices.
    Normal,
    /// Ones, for norms.
    Ones,
    /// Zeros, for biases.
    Zeros,
}

impl<'a> Params<'a> {
    pub(super) fn from_weights(weights: &'a Weights, placement: &'a Placement) -> Self {
        Self { source: Source::Weights(weights, placement), all: vec![], slots: vec![] }
    }

    /// Checks that every weight is there, in the right shape and type, without reading any.
    pub(super) fn from_headers(weights: &'a Weights) -> Self {
        Self { source: Source::Headers(weights), all: vec![], slots: vec![] }
    }

    pub(super) fn random(seed: u64, scale: f64) -> Self {
        Self { source: Source::Random { seed, scale }, all: vec![], slots: vec![] }
    }

    /// Matrices of a type, filled with small numbers of no meaning.
    pub(super) fn filled(dtype: DType, device: &'a Device) -> Self {
        Self { source: Source::Filled(dtype, device), all: vec![], slots: vec![] }
    }

    /// Places alone: the weights are empty.
    pub(super) fn slots() -> Params<'static> {
        Params { source: Source::Slots, all: vec![], slots: vec![] }
    }

    pub(super) fn into_slots(self) -> Vec<Slot> {
        self.slots
    }

    pub(super) fn into_all(self) -> Vec<Param> {
        self.all
    }

    /// A matrix or larger tensor.
    pub(super) fn matrix(&mut self, name: &str, shape: &[usize]) -> Result<Param, ModelError> {
        self.take(name, shape, Start::Normal)
    }

    /// The weight of a norm.
    pub(super) fn gain(&mut self, name: &str, width: usize) -> Result<Param, ModelError> {
        self.take(name, &[width], Start::Ones)
    }

    /// A bias.
    pub(super) fn bias(&mut self, name: &str, width: usize) -> Result<Param, ModelError> {
        self.take(name, &[width], Start::Zeros)
    }

    /// A linear map from `inner` to `outer` values.
    pub(super) fn linear(
        &mut self,
        module: &str,
        (inner, outer): (usize, usize),
        bias: bool,
    ) -> Result<Linear, ModelError> {
        let weight = self.matrix(&format!("{module}.weight"), &[outer, inner])?;
        let bias = if bias { Some(self.bias(&format!("{module}.bias"), outer)?) } else { None };
        Ok(Linear { weight, bias })
    }

    fn take(&mut self, name: &str, shape: &[usize], start: Start) -> Result<Param, ModelError> {
        let var = match &self.source {
            Source::Weights(weights, placement) => {
                // A vector is a norm's or a bias.
                let is_vector = shape.len() < 2;
                let precision = if is_vector { Precision::F32 } else { placement.precision };
                placed(weights.var(name, shape, precision)?, &placement.device)?
            }
            Source::Headers(weights) => {
                weights.foresee(name, shape)?;
                Var::zeros(0, DType::F32, &Device::Cpu)?
            }
            Source::Filled(dtype, device) => {
                let kept = if shape.len() < 2 { DType::F32 } else { *dtype };
                placed(Var::from_tensor(&filled(shape, start)?.to_dtype(kept)?)?, device)?
            }
            Source::Slots => Var::zeros(0, DType::F32, &Device::Cpu)?,
            Source::Random { seed, scale } => {
                Var::from_tensor(&draw(name, shape, start, *seed, *scale)?)?
            }
        };
        self.slots.push(Slot { name: name.to_owned(), shape: shape.to_vec(), start });
        let param = Param { name: name.to_owned(), var };
        self.all.push(param.clone());
        Ok(param)
    }
}

/// A variable on a device; no copy is made where it lies there.
fn placed(var: Var, device: &Device) -> Result<Var, ModelError> {
    if var.device().same_device(device) {
        return Ok(var);
    }
    Ok(Var::from_tensor(&var.to_device(device)?)?)
}

/// A weight that depends on the seed and its own name alone.
fn draw(
    name: &str,
    shape: &[usize],
    start: Start,
    seed: u64,
    scale: f64,
) -> Result<Tensor, ModelError> {
    let device = &Device::Cpu;
    Ok(match start {
        Start::Ones => Tensor::ones(shape, DType::F32, device)?,
        Start::Zeros => Tensor::zeros(shape, DType::F32, device)?,
        Start::Normal => {
            let mut rng = stream("weight", seed, name);
            let n = shape.iter().product();
            let values: Vec<f32> = (0..n).map(|_| (normal(&mut rng) * scale) as f32).collect();
            Tensor::from_vec(values, shape, device)?
        }
    })
}

/// A weight of numbers within ±0.02 that only look random; vectors as they are drawn.
fn filled(shape: &[usize], start: Start) -> Result<Tensor, ModelError> {
    if start != Start::Normal {
        return draw("", shape, start, 0, 0.0);
    }
    let value = |at: usize| {
        let mixed = (at as u32).wrapping_mul(2_654_435_761) >> 8;
        (mixed as f32 / (1 << 24) as f32 - 0.5) * 0.04
    };
    let values: Vec<f32> =
        (0..shape.iter().product()).into_par_iter().with_min_len(1 << 16).map(value).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// The stream of random numbers for one purpose.
pub(crate) fn stream(purpose: &str, seed: u64, name: &str) -> ChaCha8Rng {
    let digest = Sha256::new()
        .chain_update(purpose)
        .chain_update([0])
        .chain_update(seed.to_le_bytes())
        .chain_update(name)
        .finalize();
    ChaCha8Rng::from_seed(digest.into())
}

/// A standard normal number (Box & Muller 1958).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}
