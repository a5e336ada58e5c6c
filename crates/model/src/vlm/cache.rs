//! Keys and values of tokens that have been computed.

use candle_core::{DType, Device, Tensor};
use mmrag_ops::write_rows;

use crate::config::TextConfig;
use crate::error::ModelError;

/// For each layer, keys and values by row. Who owns which rows is the caller's business.
pub struct Cache {
    layers: Vec<(Tensor, Tensor)>,
}

impl Cache {
    /// Room for `rows` tokens.
    ///
    /// # Errors
    ///
    /// When the device has no room.
    pub fn new(config: &TextConfig, rows: usize, device: &Device) -> Result<Self, ModelError> {
        let shape = (rows, config.num_kv_heads, config.head_dim);
        let empty = || Tensor::zeros(shape, DType::F32, device);
        let layers = (0..config.num_layers).map(|_| Ok((empty()?, empty()?)));
        Ok(Self { layers: layers.collect::<Result<_, ModelError>>()? })
    }

    /// Writes one layer's new keys and values, and returns all.
    pub(super) fn update(
        &self,
        layer: usize,
        (k_tgk, v_tgk): (&Tensor, &Tensor),
        rows: &[usize],
    ) -> Result<(Tensor, Tensor), ModelError> {
        let (k_sgk, v_sgk) = &self.layers[layer];
        write_rows(k_sgk, k_tgk, rows)?;
        write_rows(v_sgk, v_tgk, rows)?;
        Ok((k_sgk.clone(), v_sgk.clone()))
    }
}
