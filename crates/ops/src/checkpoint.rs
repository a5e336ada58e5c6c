//! Activation checkpointing: what a layer computes is computed again when its gradient is asked for
//! (Chen et al. 2016, arXiv 1604.06174).
//!
//! Between the passes only a layer's input is kept. The gradients are those of the plain form, to
//! the last bit.

use std::cell::RefCell;

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var, bail};

use crate::given::given1;

thread_local! {
    /// Gradients of the variables inside checkpointed layers, while [`backward`] runs.
    static INNER: RefCell<Option<GradStore>> = const { RefCell::new(None) };
}

/// `layer(x)` of which nothing is kept for the backward pass but `x`.
///
/// `layer` is called once at once, with `false`, and once in the backward pass, with `true`: it
/// then must track the variables that are trained. Both calls must compute the same. The gradients
/// are made by [`backward`] alone; candle's own is refused.
///
/// # Errors
///
/// When the layer fails, or `x` is not an `f32` tensor.
pub fn checkpoint(
    x: &Tensor,
    layer: impl Fn(&Tensor, bool) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    let y = layer(&x.detach(), false)?.detach().contiguous()?;
    // Without a variable behind it, the operation would not be asked for gradients at all.
    let x = if x.track_op() { x.clone() } else { Var::from_tensor(x)?.into_inner() };
    given1("checkpoint", &x.contiguous()?, y, move |x, grad| {
        if INNER.with_borrow(Option::is_none) {
            bail!("checkpoint: use mmrag_ops::backward, or gradients would be lost")
        }
        let input = Var::from_tensor(&x.detach())?;
        let y = layer(input.as_tensor(), true)?;
        let mut gradients = (y * grad)?.sum_all()?.backward()?;
        // candle also gives a gradient of the factor, and that holds on to all of the layer.
        gradients.remove(grad);
        let dx = gradients.remove(&input);
        INNER.with_borrow_mut(|inner| match inner {
            Some(inner) => inner.extend(gradients),
            None => Ok(()),
        })?;
        Ok(dx)
    })
}

/// The gradients of a scalar with respect to all variables behind it, those inside checkpointed
/// layers too.
///
/// # Errors
///
/// When an operation fails.
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    let outer = INNER.replace(Some(GradStore::default()));
    let gradients = loss.backward();
    let inner = INNER.replace(outer);
    let mut gradients = gradients?;
    gradients.extend(inner.unwrap_or_default())?;
    Ok(gradients)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn var(seed: usize, shape: (usize, usize)) -> Var {
        let n = shape.0 * shape.1;
        let values: Vec<f32> = (0..n).map(|i| ((i * 37 + seed) % 19) as f32 / 10.0 - 0.9).collect();
        Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
    }

    fn layer(x: &Tensor, w: &Tensor) -> Result<Tensor> {
        crate::linear(x, w, None)?.tanh()? + x
    }

    #[test]
    fn gradients_are_the_plain_ones_to_the_last_bit() {
        let (x, a, b) = (var(0, (5, 8)), var(1, (8, 8)), var(2, (8, 8)));
        let plain = layer(&layer(&x, &a).unwrap(), &b).unwrap().sqr().unwrap().sum_all().unwrap();
        let within = |x: &Tensor, w: &Var| {
            let w = w.clone();
            checkpoint(x, move |x, tracked| {
                layer(x, &if tracked { w.as_tensor().clone() } else { w.as_detached_tensor() })
            })
            .unwrap()
        };
        let again = within(&within(&x, &a), &b).sqr().unwrap().sum_all().unwrap();
        assert_eq!(plain.to_scalar::<f32>().unwrap(), again.to_scalar::<f32>().unwrap());
        let (plain, found) = (plain.backward().unwrap(), backward(&again).unwrap());
        // Nothing else is held on to: a gradient of a factor would keep the layer's activations.
        assert_eq!(found.get_ids().count(), 3);
        for var in [&x, &a, &b] {
            let values = |store: &GradStore| -> Vec<f32> {
                store.get(var).unwrap().flatten_all().unwrap().to_vec1().unwrap()
            };
            assert_eq!(values(&plain), values(&found));
        }
    }

    #[test]
    fn an_input_without_a_variable_loses_no_gradient_and_candles_own_pass_is_refused() {
        let (x, w) = (Tensor::ones((3, 8), DType::F32, &Device::Cpu).unwrap(), var(1, (8, 8)));
        let inner = w.clone();
        let y = checkpoint(&x, move |x, _| layer(x, &inner)).unwrap().sum_all().unwrap();
        assert!(y.backward().unwrap_err().to_string().contains("mmrag_ops::backward"));
        let y = checkpoint(&x, {
            let w = w.clone();
            move |x, _| layer(x, &w)
        })
        .unwrap();
        assert!(backward(&y.sum_all().unwrap()).unwrap().get(&w).is_some());
    }
}
