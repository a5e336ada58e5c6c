//! The optimizer's step, with moments that stay on the GPU.

use std::sync::Mutex;

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DeviceRepr, PushKernelArg};
use candle_core::{
    CpuStorage, CudaDevice, CudaStorage, InplaceOp2, Layout, Result, Tensor, Var, bail,
};

use super::launch::{arguments, device_of, each, kernel, launch};

/// What is the same for all values of a step, as the kernel takes it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Constants {
    pub(crate) beta1: f32,
    pub(crate) beta2: f32,
    pub(crate) eps: f32,
    pub(crate) keep: f32,
    pub(crate) rate: f32,
    pub(crate) root: f32,
    pub(crate) grad_scale: f32,
}

// SAFETY: seven numbers, laid out as the kernel's structure.
unsafe impl DeviceRepr for Constants {}

/// The moments of one variable.
#[derive(Debug, Clone)]
pub(crate) struct Moments {
    device: CudaDevice,
    mean: CudaSlice<f32>,
    square: CudaSlice<f32>,
}

impl Moments {
    /// Moments with these values, beside a variable.
    pub(crate) fn new(var: &Var, mean: &[f32], square: &[f32]) -> Result<Self> {
        let device = device_of(var.as_tensor())?;
        let (mean, square) = (device.clone_htod(mean)?, device.clone_htod(square)?);
        Ok(Self { device, mean, square })
    }

    /// Their values: means, and means of squares.
    pub(crate) fn values(&self) -> Result<[Vec<f32>; 2]> {
        Ok([self.device.clone_dtoh(&self.mean)?, self.device.clone_dtoh(&self.square)?])
    }

    /// Steps the variable, which must be contiguous.
    pub(crate) fn step(&mut self, var: &Var, grad: &Tensor, constants: Constants) -> Result<()> {
        var.inplace_op2(&grad.contiguous()?, &Step { moments: Mutex::new(self), constants })
    }
}

struct Step<'a> {
    moments: Mutex<&'a mut Moments>,
    constants: Constants,
}

impl InplaceOp2 for Step<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<()> {
        bail!("adamw: moments on a GPU for a variable that is not")
    }

    fn cuda_fwd(
        &self,
        p: &mut CudaStorage,
        p_layout: &Layout,
        grad: &CudaStorage,
        grad_layout: &Layout,
    ) -> Result<()> {
        let mut moments = self.moments.lock().expect("no thread panics while it holds the lock");
        let Moments { device, mean, square } = &mut **moments;
        let (Some((start, end)), Some((from, to))) =
            (p_layout.contiguous_offsets(), grad_layout.contiguous_offsets())
        else {
            bail!("adamw: a tensor is not contiguous")
        };
        let count = end - start;
        if to - from != count || mean.len() != count || square.len() != count {
            bail!("adamw: {count} values, {} of a gradient, {} moments", to - from, mean.len())
        }
        let n = count as u64;
        let mut values = p.as_cuda_slice_mut::<f32>()?.slice_mut(start..end);
        let grad = grad.as_cuda_slice::<f32>()?.slice(from..to);
        let func = kernel(device, "adamw")?;
        let args = arguments!(func, &mut values, &grad, mean, square, &n, &self.constants);
        // SAFETY: all are of `n` values.
        unsafe { launch(args, each(count)) }
    }
}
