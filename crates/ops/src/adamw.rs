//! The optimizer: AdamW (Loshchilov & Hutter 2019), fused and in place.

use std::sync::Mutex;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, Device, InplaceOp2, Layout, Result, Tensor, Var, bail};
use rayon::prelude::*;

use crate::muon;
use crate::slices::{input, values};

/// Values that one task works on.
const BLOCK: usize = 16 * 1024;

/// Constants of the optimizer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWOptions {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the mean of squares.
    pub eps: f64,
    /// A step takes `lr` times this share off each value of a matrix or larger tensor, and off
    /// vectors as well: as torch does without parameter groups.
    pub weight_decay: f64,
}

impl Default for AdamWOptions {
    /// The constants of torch's `AdamW`.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 }
    }
}

/// Variables with their moments. The order of the variables is part of the state.
#[derive(Debug)]
pub struct AdamW {
    vars: Vec<(String, Var)>,
    moments: Vec<Moments>,
    steps: u64,
    options: AdamWOptions,
    muon: Option<Muon>,
}

/// Which variables are stepped by Muon, and how.
#[derive(Debug)]
struct Muon {
    momentum: f32,
    /// The learning rate of the other variables, as a share.
    others: f64,
    /// Of each variable.
    chosen: Vec<bool>,
}

#[derive(Debug, Clone)]
struct Moments {
    mean: Vec<f32>,
    square: Vec<f32>,
    /// Where they are once a variable on a GPU has been stepped there; `mean` and `square` are those
    /// before its first step then.
    #[cfg(feature = "cuda")]
    on_gpu: Option<crate::cuda::adamw::Moments>,
}

impl Moments {
    fn new(mean: Vec<f32>, square: Vec<f32>) -> Self {
        Self {
            mean,
            square,
            #[cfg(feature = "cuda")]
            on_gpu: None,
        }
    }

    /// Means and means of squares, from wherever they are.
    #[cfg_attr(
        not(feature = "cuda"),
        expect(clippy::unnecessary_wraps, reason = "a GPU may fail to hand them over")
    )]
    fn values(&self) -> Result<[Vec<f32>; 2]> {
        #[cfg(feature = "cuda")]
        if let Some(on_gpu) = &self.on_gpu {
            return on_gpu.values();
        }
        Ok([self.mean.clone(), self.square.clone()])
    }
}

impl AdamW {
    /// An optimizer that has not stepped yet.
    pub fn new(vars: Vec<(String, Var)>, options: AdamWOptions) -> Self {
        let zeros = |var: &Var| vec![0f32; var.elem_count()];
        let moments = vars.iter().map(|(_, v)| Moments::new(zeros(v), zeros(v))).collect();
        Self { vars, moments, steps: 0, options, muon: None }
    }

    /// Steps the matrices that are chosen by their names by Muon (module `muon`), everything else
    /// as before but at `others` times the learning rate. `momentum` is the decay of the mean of
    /// gradients, usually 0.95.
    #[must_use]
    pub fn with_muon(mut self, momentum: f64, others: f64, choose: impl Fn(&str) -> bool) -> Self {
        let is_chosen = |(name, var): &(String, Var)| var.dims().len() == 2 && choose(name);
        let chosen = self.vars.iter().map(is_chosen).collect();
        self.muon = Some(Muon { momentum: momentum as f32, others, chosen });
        self
    }

    /// Norm of all gradients together; variables without one count nothing.
    ///
    /// # Errors
    ///
    /// When a gradient on the CPU is not `f32`.
    pub fn grad_norm(&self, grads: &GradStore) -> Result<f64> {
        let (mut total, mut elsewhere) = (0f64, vec![]);
        for grad in self.vars.iter().filter_map(|(_, var)| grads.get(var)) {
            if !grad.device().is_cpu() {
                elsewhere.push(grad.detach().to_dtype(DType::F32)?.sqr()?.sum_all()?);
                continue;
            }
            let grad = on_cpu(grad)?;
            let squares = values(&grad)?;
            let parts: Vec<f64> = squares
                .par_chunks(BLOCK)
                .map(|block| block.iter().map(|&g| f64::from(g) * f64::from(g)).sum())
                .collect();
            total += parts.iter().sum::<f64>();
        }
        if !elsewhere.is_empty() {
            // One transfer for all of them.
            let sums = Tensor::stack(&elsewhere, 0)?.to_vec1::<f32>()?;
            total += sums.into_iter().map(f64::from).sum::<f64>();
        }
        Ok(total.sqrt())
    }

    /// One step: `p -= lr (weight_decay p + m̂ / (sqrt(v̂) + eps))`, gradients first scaled by
    /// `min(1, clip / (norm + 1e-6))`. Returns the norm before clipping.
    ///
    /// # Errors
    ///
    /// When the norm is not finite: nothing has changed then.
    pub fn step(&mut self, grads: &GradStore, lr: f64, clip: Option<f64>) -> Result<f64> {
        let norm = self.grad_norm(grads)?;
        if !norm.is_finite() {
            bail!("the gradient's norm is {norm}: lower the learning rate or look at the rewards")
        }
        let scale = clip.map_or(1.0, |clip| (clip / (norm + 1e-6)).min(1.0));
        self.steps += 1;
        self.step_matrices(grads, lr, scale)?;
        let lr = self.muon.as_ref().map_or(lr, |muon| lr * muon.others);
        let chosen = |index: usize| self.muon.as_ref().is_some_and(|muon| muon.chosen[index]);
        for (index, ((_, var), moments)) in self.vars.iter().zip(&mut self.moments).enumerate() {
            let Some(grad) = grads.get(var).filter(|_| !chosen(index)) else { continue };
            let step = Step::new(&self.options, self.steps, lr, scale, moments);
            #[cfg(feature = "cuda")]
            if var.device().is_cuda() && var.dtype() == DType::F32 {
                step.on_gpu(var, grad)?;
                continue;
            }
            if var.device().is_cpu() {
                var.inplace_op2(&grad.contiguous()?, &step)?;
            } else {
                let updated = on_cpu(var.as_tensor())?.copy()?;
                updated.inplace_op2(&on_cpu(grad)?, &step)?;
                var.set(&updated.to_device(var.device())?.to_dtype(var.dtype())?)?;
            }
        }
        Ok(norm)
    }

    /// The step of what Muon steps.
    fn step_matrices(&mut self, grads: &GradStore, lr: f64, scale: f64) -> Result<()> {
        let Some(Muon { momentum, chosen, .. }) = &self.muon else { return Ok(()) };
        let work: Vec<(&Var, &Tensor, Mutex<&mut Moments>)> = self
            .vars
            .iter()
            .zip(&mut self.moments)
            .zip(chosen)
            .filter(|(_, chosen)| **chosen)
            .filter_map(|(((_, var), moments), _)| {
                grads.get(var).map(|grad| (var, grad, Mutex::new(moments)))
            })
            .collect();
        let keep = 1.0 - lr * self.options.weight_decay;
        let stepped =
            crate::side_by_side(&work, &Device::Cpu, |(var, grad, moments)| -> Result<()> {
                let grad = on_cpu(&grad.detach())?;
                let shape = grad.dims2()?;
                let mut moments = moments.lock().expect("no thread panics while it holds the lock");
                let mean = &mut moments.mean;
                let step = muon::direction(mean, &values(&grad)?, *momentum, scale as f32, shape)?;
                let old = on_cpu(&var.as_detached_tensor())?;
                let new = ((old * keep)? - (step * lr)?)?;
                var.set(&new.to_device(var.device())?.to_dtype(var.dtype())?)
            });
        stepped.into_iter().collect()
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The variables, in order.
    pub fn vars(&self) -> &[(String, Var)] {
        &self.vars
    }

    /// Moments as named tensors, `NAME.mean` and `NAME.square`, for a checkpoint. The number of
    /// steps is not among them.
    ///
    /// # Errors
    ///
    /// When a tensor cannot be made.
    pub fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let mut state = Vec::with_capacity(2 * self.vars.len());
        for ((name, var), moments) in self.vars.iter().zip(&self.moments) {
            let [mean, square] = moments.values()?;
            for (kind, values) in [("mean", mean), ("square", square)] {
                let tensor = Tensor::from_vec(values, var.shape(), &Device::Cpu)?;
                state.push((format!("{name}.{kind}"), tensor));
            }
        }
        Ok(state)
    }

    /// Takes up the state of an optimizer of the same variables after `steps` steps.
    ///
    /// # Errors
    ///
    /// When a moment is missing or misshapen; it is named.
    pub fn load_state(
        &mut self,
        steps: u64,
        state: &std::collections::HashMap<String, Tensor>,
    ) -> Result<()> {
        let take = |name: String, len: usize| -> Result<Vec<f32>> {
            let Some(tensor) = state.get(&name) else {
                bail!("the optimizer's state lacks {name}")
            };
            let values = tensor.flatten_all()?.to_vec1::<f32>()?;
            if values.len() != len {
                bail!("the optimizer's {name} has {} values, not {len}", values.len())
            }
            Ok(values)
        };
        let mut moments = Vec::with_capacity(self.vars.len());
        for (name, var) in &self.vars {
            let mean = take(format!("{name}.mean"), var.elem_count())?;
            moments.push(Moments::new(mean, take(format!("{name}.square"), var.elem_count())?));
        }
        (self.moments, self.steps) = (moments, steps);
        Ok(())
    }
}

fn on_cpu(tensor: &Tensor) -> Result<Tensor> {
    tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.contiguous()
}

/// The update of one variable.
struct Step<'a> {
    moments: Mutex<&'a mut Moments>,
    beta1: f32,
    beta2: f32,
    eps: f32,
    /// `1 - lr weight_decay`.
    keep: f32,
    /// `lr / (1 - beta1^steps)`.
    rate: f32,
    /// `sqrt(1 - beta2^steps)`.
    root: f32,
    grad_scale: f32,
}

impl<'a> Step<'a> {
    fn new(o: &AdamWOptions, steps: u64, lr: f64, scale: f64, moments: &'a mut Moments) -> Self {
        let steps = i32::try_from(steps).unwrap_or(i32::MAX);
        Self {
            moments: Mutex::new(moments),
            beta1: o.beta1 as f32,
            beta2: o.beta2 as f32,
            eps: o.eps as f32,
            keep: (1.0 - lr * o.weight_decay) as f32,
            rate: (lr / (1.0 - o.beta1.powi(steps))) as f32,
            root: (1.0 - o.beta2.powi(steps)).sqrt() as f32,
            grad_scale: scale as f32,
        }
    }

    #[cfg(feature = "cuda")]
    fn on_gpu(self, var: &Var, grad: &Tensor) -> Result<()> {
        let moments = self.moments.into_inner().expect("nobody else has had it");
        let on_gpu = match &mut moments.on_gpu {
            Some(on_gpu) => on_gpu,
            none => {
                none.insert(crate::cuda::adamw::Moments::new(var, &moments.mean, &moments.square)?)
            }
        };
        let constants = crate::cuda::adamw::Constants {
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.eps,
            keep: self.keep,
            rate: self.rate,
            root: self.root,
            grad_scale: self.grad_scale,
        };
        on_gpu.step(var, &grad.detach().to_dtype(DType::F32)?, constants)
    }

    #[inline(always)]
    fn block(&self, p: &mut [f32], grad: &[f32], mean: &mut [f32], square: &mut [f32]) {
        for i in 0..p.len() {
            let g = grad[i] * self.grad_scale;
            mean[i] += (1.0 - self.beta1) * (g - mean[i]);
            square[i] = self.beta2 * square[i] + (1.0 - self.beta2) * g * g;
            let root = square[i].sqrt() / self.root + self.eps;
            p[i] = p[i] * self.keep - self.rate * mean[i] / root;
        }
    }
}

impl InplaceOp2 for Step<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(
        &self,
        p: &mut CpuStorage,
        p_layout: &Layout,
        grad: &CpuStorage,
        grad_layout: &Layout,
    ) -> Result<()> {
        let grad = input(grad, grad_layout)?;
        let Some((start, end)) = p_layout.contiguous_offsets() else {
            bail!("adamw: the variable is not contiguous")
        };
        let CpuStorage::F32(p) = p else { bail!("adamw: the variable is not f32") };
        let mut moments = self.moments.lock().expect("no thread panics while it holds the lock");
        let Moments { mean, square, .. } = &mut **moments;
        p[start..end]
            .par_chunks_mut(BLOCK)
            .zip(grad.par_chunks(BLOCK))
            .zip(mean.par_chunks_mut(BLOCK).zip(square.par_chunks_mut(BLOCK)))
            .for_each(|((p, grad), (mean, square))| {
                crate::simd::vectorised!(self.block(p, grad, mean, square));
            });
        Ok(())
    }
}
