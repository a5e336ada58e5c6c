//! Normalisation, rotation and activation.

use candle_core::cuda_backend::cudarc::driver::PushKernelArg;
use candle_core::{Result, Tensor, bail};

use super::launch::{Input, arguments, by_row, device_of, each, kernel, launch, room, tensor};
use crate::given::{given2, given3};

/// See [`crate::rms_norm`], for a frozen weight.
pub(crate) fn rms_norm(x: &Tensor, w_d: &Tensor, eps: f64) -> Result<Tensor> {
    let y = norm(&x.contiguous()?.detach(), &w_d.detach(), eps as f32)?;
    given2("rms_norm", [x, w_d], y, move |[x, w_d], grad| {
        let (x, grad) = (x.contiguous()?.detach(), grad.contiguous()?);
        Ok([Some(norm_back([&x, &w_d.detach(), &grad], eps as f32)?), None])
    })
}

fn norm(x: &Tensor, w_d: &Tensor, eps: f32) -> Result<Tensor> {
    let (device, d) = (device_of(x)?, w_d.dims1()?);
    if x.dims().last() != Some(&d) {
        bail!("norm: weight of {d} for input {:?}", x.dims())
    }
    let (input, w, rows, width) = (Input::of(x)?, Input::of(w_d)?, x.elem_count() / d, d as u32);
    let mut y = room(&device, x.elem_count())?;
    let func = kernel(&device, "rms_norm")?;
    let (x_values, w_values) = (input.f32()?, w.f32()?);
    let args = arguments!(func, &x_values, &w_values, &mut y, &width, &eps);
    // SAFETY: `x` and `y` are `rows` rows of `d` values, `w` is one.
    unsafe { launch(args, by_row(rows, d)) }?;
    Ok(tensor(&device, y, x.shape()))
}

fn norm_back([x, w_d, grad]: [&Tensor; 3], eps: f32) -> Result<Tensor> {
    let (device, d) = (device_of(x)?, w_d.dims1()?);
    let (inputs, rows, width) =
        ([Input::of(x)?, Input::of(w_d)?, Input::of(grad)?], x.elem_count() / d, d as u32);
    let mut dx = room(&device, x.elem_count())?;
    let func = kernel(&device, "rms_norm_back")?;
    let [x_values, w_values, grad_values] = [inputs[0].f32()?, inputs[1].f32()?, inputs[2].f32()?];
    let args = arguments!(func, &x_values, &w_values, &grad_values, &mut dx, &width, &eps);
    // SAFETY: as in `norm`; a gradient is as long as its value.
    unsafe { launch(args, by_row(rows, d)) }?;
    Ok(tensor(&device, dx, x.shape()))
}

/// See [`crate::rope()`].
pub(crate) fn rope(x_thk: &Tensor, cos_tp: &Tensor, sin_tp: &Tensor) -> Result<Tensor> {
    let y = rotated(&x_thk.detach(), [cos_tp, sin_tp], 1.0)?;
    // A rotation's transpose is the rotation back.
    given3("rope", [x_thk, cos_tp, sin_tp], y, |[_, cos_tp, sin_tp], grad_thk| {
        Ok([Some(rotated(grad_thk, [cos_tp, sin_tp], -1.0)?), None, None])
    })
}

fn rotated(x_thk: &Tensor, angles: [&Tensor; 2], sign: f32) -> Result<Tensor> {
    let x = x_thk.contiguous()?;
    let [cos_tp, sin_tp] = [angles[0].contiguous()?, angles[1].contiguous()?];
    let (device, (t, h, k)) = (device_of(&x)?, x.dims3()?);
    if cos_tp.dims2()? != (t, k / 2) || sin_tp.dims2()? != (t, k / 2) {
        bail!("rope: angles {:?} for input {:?}", cos_tp.dims(), x.dims())
    }
    let [input, cosines, sines] = [Input::of(&x)?, Input::of(&cos_tp)?, Input::of(&sin_tp)?];
    let mut y = room(&device, t * h * k)?;
    let (pairs, heads, half) = ((t * h * k / 2) as u64, h as u32, (k / 2) as u32);
    let func = kernel(&device, "rope")?;
    let (x_values, c, s) = (input.f32()?, cosines.f32()?, sines.f32()?);
    let args = arguments!(func, &x_values, &c, &s, &mut y, &pairs, &heads, &half, &sign);
    // SAFETY: two values a pair in `x` and `y`; the angles have a row of `half` for each token.
    unsafe { launch(args, each(t * h * k / 2)) }?;
    Ok(tensor(&device, y, (t, h, k)))
}

/// See [`crate::swiglu`].
pub(crate) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if gate.dims() != up.dims() {
        bail!("swiglu: gate {:?}, up {:?}", gate.dims(), up.dims())
    }
    let y = gated(&gate.detach().contiguous()?, &up.detach().contiguous()?)?;
    given2("swiglu", [gate, up], y, |[gate, up], grad| {
        let inputs = [gate.detach().contiguous()?, up.detach().contiguous()?, grad.contiguous()?];
        Ok(gated_back(&inputs)?.map(Some))
    })
}

fn gated(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    let (device, count) = (device_of(gate)?, gate.elem_count());
    let (gate_in, up_in, n) = (Input::of(gate)?, Input::of(up)?, count as u64);
    let mut y = room(&device, count)?;
    let func = kernel(&device, "swiglu")?;
    let (g, u) = (gate_in.f32()?, up_in.f32()?);
    let args = arguments!(func, &g, &u, &mut y, &n);
    // SAFETY: all are of `n` values.
    unsafe { launch(args, each(count)) }?;
    Ok(tensor(&device, y, gate.shape()))
}

fn gated_back([gate, up, grad]: &[Tensor; 3]) -> Result<[Tensor; 2]> {
    let (device, count) = (device_of(gate)?, gate.elem_count());
    let (inputs, n) = ([Input::of(gate)?, Input::of(up)?, Input::of(grad)?], count as u64);
    let (mut dgate, mut dup) = (room(&device, count)?, room(&device, count)?);
    let func = kernel(&device, "swiglu_back")?;
    let [g, u, dy] = [inputs[0].f32()?, inputs[1].f32()?, inputs[2].f32()?];
    let args = arguments!(func, &g, &u, &dy, &mut dgate, &mut dup, &n);
    // SAFETY: all are of `n` values.
    unsafe { launch(args, each(count)) }?;
    Ok([tensor(&device, dgate, gate.shape()), tensor(&device, dup, up.shape())])
}
