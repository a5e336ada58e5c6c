//! Operations whose result is computed before and whose gradient is a closure: how something that is
//! not one kernel becomes one node of the tape, on any device.

use std::sync::{Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage,
    Tensor, bail,
};

/// The gradients of `N` inputs, where they are asked for.
pub(crate) type Gradients<const N: usize> = [Option<Tensor>; N];

/// `y`, computed from `x` without a graph; `pull(x, grad)` gives the gradient of `x`.
pub(crate) fn given1(
    name: &'static str,
    x: &Tensor,
    y: Tensor,
    pull: impl Fn(&Tensor, &Tensor) -> Result<Option<Tensor>> + Send + Sync + 'static,
) -> Result<Tensor> {
    let pull = move |[x]: [&Tensor; 1], grad: &Tensor| Ok([pull(x, grad)?]);
    x.apply_op1(Given { name, y: Mutex::new(Some(y)), pull })
}

/// The same of two inputs. Where no variable stands behind either, `y` is handed on as it is.
pub(crate) fn given2(
    name: &'static str,
    [a, b]: [&Tensor; 2],
    y: Tensor,
    pull: impl Fn([&Tensor; 2], &Tensor) -> Result<Gradients<2>> + Send + Sync + 'static,
) -> Result<Tensor> {
    if !a.track_op() && !b.track_op() {
        return Ok(y);
    }
    a.apply_op2(b, Given { name, y: Mutex::new(Some(y)), pull })
}

/// The same of three inputs.
pub(crate) fn given3(
    name: &'static str,
    [a, b, c]: [&Tensor; 3],
    y: Tensor,
    pull: impl Fn([&Tensor; 3], &Tensor) -> Result<Gradients<3>> + Send + Sync + 'static,
) -> Result<Tensor> {
    if !a.track_op() && !b.track_op() && !c.track_op() {
        return Ok(y);
    }
    a.apply_op3(b, c, Given { name, y: Mutex::new(Some(y)), pull })
}

struct Given<F> {
    name: &'static str,
    /// The result, until it is handed on.
    y: Mutex<Option<Tensor>>,
    pull: F,
}

impl<F> Given<F> {
    fn take(&self) -> Result<Tensor> {
        let y = self.y.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(y) = y else { bail!("{}: the forward pass runs once", self.name) };
        y.contiguous()
    }

    fn on_cpu(&self) -> Result<(CpuStorage, Shape)> {
        let y = self.take()?;
        let (storage, layout) = y.storage_and_layout();
        match (&*storage, layout.contiguous_offsets()) {
            (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) => {
                Ok((CpuStorage::F32(values[start..end].to_vec()), layout.shape().clone()))
            }
            _ => bail!("{}: expected an f32 tensor on the CPU, got {:?}", self.name, y.dtype()),
        }
    }

    fn on_cuda(&self) -> Result<(CudaStorage, Shape)> {
        let mut y = self.take()?;
        if y.layout().start_offset() != 0 {
            y = y.copy()?;
        }
        let (storage, layout) = y.storage_and_layout();
        match &*storage {
            Storage::Cuda(storage) => Ok((storage.try_clone(layout)?, layout.shape().clone())),
            _ => bail!("{}: expected a tensor on the GPU", self.name),
        }
    }
}

impl<F: Fn([&Tensor; 1], &Tensor) -> Result<Gradients<1>>> CustomOp1 for Given<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.on_cpu()
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.on_cuda()
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let [dx] = (self.pull)([x], grad)?;
        Ok(dx)
    }
}

impl<F: Fn([&Tensor; 2], &Tensor) -> Result<Gradients<2>>> CustomOp2 for Given<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.on_cpu()
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.on_cuda()
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [da, db] = (self.pull)([a, b], grad)?;
        Ok((da, db))
    }
}

impl<F: Fn([&Tensor; 3], &Tensor) -> Result<Gradients<3>>> CustomOp3 for Given<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.on_cpu()
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.on_cuda()
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [da, db, dc] = (self.pull)([a, b, c], grad)?;
        Ok((da, db, dc))
    }
}
