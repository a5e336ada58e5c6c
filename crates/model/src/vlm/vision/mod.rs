//! The vision towers: patches in, merged features out. Qwen3-VL's has learned positions and hands
//! features to several decoder layers (DeepStack); Qwen2.5-VL's attends within windows in most of
//! its blocks.

mod block;
mod layout;

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use mmrag_ops::AttentionPlan;

use super::params::{Forward, Param, Params};
use super::positions::{cos_sin, frequencies};
use crate::config::VisionConfig;
use crate::error::ModelError;
use block::{Block, Merger};
use layout::Layout;

/// Base of the tower's rotary frequencies.
const THETA: f64 = 10_000.0;

/// A picture as patches.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// `[p, channels * frames * patch * patch]`, in merge-block order.
    pub values: Vec<f32>,
    /// Frames, rows and columns of patches.
    pub grid: [usize; 3],
}

/// What the tower says of a picture.
#[derive(Clone, Debug)]
pub struct VisionFeatures {
    /// `[m, d]`: what stands in the place of the picture's tokens.
    pub embeds_md: Tensor,
    /// For each of the first decoder layers, `[m, d]` to be added after it.
    pub deepstack: Vec<Tensor>,
}

pub(super) struct VisionTower {
    config: VisionConfig,
    patch_embed: (Param, Option<Param>),
    pos_embed: Option<Param>,
    blocks: Vec<Arc<Block>>,
    merger: Merger,
    deepstack: Vec<Merger>,
}

impl VisionTower {
    pub(super) fn new(config: &VisionConfig, params: &mut Params<'_>) -> Result<Self, ModelError> {
        let root = "model.visual";
        let d = config.hidden_size;
        let (channels, side) = (config.in_channels, config.patch_size);
        let patch = [d, channels, config.temporal_patch_size, side, side];
        let weight = params.matrix(&format!("{root}.patch_embed.proj.weight"), &patch)?;
        let learned = config.num_position_embeddings;
        let (mut bias, mut pos_embed) = (None, None);
        if config.windows.is_none() {
            bias = Some(params.bias(&format!("{root}.patch_embed.proj.bias"), d)?);
            pos_embed = Some(params.matrix(&format!("{root}.pos_embed.weight"), &[learned, d])?);
        }
        let blocks = (0..config.depth)
            .map(|i| Block::new(config, &format!("{root}.blocks.{i}"), params).map(Arc::new))
            .collect::<Result<_, _>>()?;
        let merger = Merger::new(config, &format!("{root}.merger"), false, params)?;
        let deepstack = (0..config.deepstack_indexes.len())
            .map(|i| {
                let name = format!("{root}.deepstack_merger_list.{i}");
                Merger::new(config, &name, true, params)
            })
            .collect::<Result<_, _>>()?;
        let config = config.clone();
        Ok(Self { config, patch_embed: (weight, bias), pos_embed, blocks, merger, deepstack })
    }

    pub(super) fn forward(
        &self,
        pass: &Forward<'_>,
        pictures: &[&Picture],
    ) -> Result<Vec<VisionFeatures>, ModelError> {
        if pictures.is_empty() {
            return Ok(vec![]);
        }
        let layout = Layout::new(&self.config, pictures);
        let mut x_pd = self.embed(pass, pictures, &layout)?;
        let turns = self.rotations(&layout, x_pd.device())?;
        let kept = pass.kept();
        // Each frame is attended to alone.
        let whole = Arc::new(AttentionPlan::full(layout.frames.iter().copied())?);
        let within = match &self.config.windows {
            Some(_) => Arc::new(AttentionPlan::full(layout.windows.iter().copied())?),
            None => whole.clone(),
        };
        let mut deep = vec![];
        for (index, block) in self.blocks.iter().enumerate() {
            let plan = if self.sees_all(index) { &whole } else { &within };
            x_pd = match &kept {
                Some(kept) => block.checkpointed(kept, &x_pd, &turns, plan)?,
                None => block.forward(pass, &x_pd, &turns, plan)?,
            };
            if let Some(at) = self.config.deepstack_indexes.iter().position(|&i| i == index) {
                deep.push((at, self.deepstack[at].forward(pass, &x_pd)?));
                // A node of its own for what goes on: so the gradient of the next block is one sum,
                // whether the block is checkpointed or not.
                x_pd = x_pd.reshape(x_pd.shape())?;
            }
        }
        deep.sort_by_key(|(at, _)| *at);
        let mut embeds_md = self.merger.forward(pass, &x_pd)?;
        if let Some(inverse) = layout.inverse() {
            embeds_md = embeds_md.index_select(&Tensor::new(inverse, embeds_md.device())?, 0)?;
        }
        self.split(pictures, &embeds_md, &deep)
    }

    /// Whether a block attends to whole frames.
    fn sees_all(&self, block: usize) -> bool {
        let windows = self.config.windows.as_ref();
        windows.is_none_or(|windows| windows.full_attention_indexes.contains(&block))
    }

    /// The patches as vectors of the tower's width, in the layout's order, with their learned
    /// positions if there are any.
    fn embed(
        &self,
        pass: &Forward<'_>,
        pictures: &[&Picture],
        layout: &Layout,
    ) -> Result<Tensor, ModelError> {
        let weight = pass.weight(&self.patch_embed.0);
        let device = weight.device();
        let width = weight.elem_count() / self.config.hidden_size;
        let mut values: Vec<f32> = pictures.iter().flat_map(|p| &p.values).copied().collect();
        let patches = layout.places.len();
        if values.len() != patches * width {
            return Err(ModelError::Prompt {
                reason: format!("{patches} patches of {width} values, but {}", values.len()),
            });
        }
        if let Some(order) = &layout.order {
            let square = self.config.spatial_merge_size.pow(2) * width;
            values =
                order.iter().flat_map(|at| &values[at * square..][..square]).copied().collect();
        }
        let values = Tensor::from_vec(values, (patches, width), device)?;
        let weight = weight.reshape((self.config.hidden_size, width))?;
        let bias = self.patch_embed.1.as_ref().map(|bias| pass.weight(bias));
        let x_pd = mmrag_ops::linear(&values, &weight, bias.as_ref())?;
        match &self.pos_embed {
            Some(table) => Ok((x_pd + self.positions(&pass.weight(table), pictures, layout)?)?),
            None => Ok(x_pd),
        }
    }

    /// The features of each picture alone.
    fn split(
        &self,
        pictures: &[&Picture],
        embeds_md: &Tensor,
        deep: &[(usize, Tensor)],
    ) -> Result<Vec<VisionFeatures>, ModelError> {
        let merge = self.config.spatial_merge_size.pow(2);
        let mut start = 0;
        let mut features = Vec::with_capacity(pictures.len());
        for picture in pictures {
            let len = picture.grid.iter().product::<usize>() / merge;
            let part = |x: &Tensor| x.narrow(0, start, len);
            features.push(VisionFeatures {
                embeds_md: part(embeds_md)?,
                deepstack: deep.iter().map(|(_, x)| part(x)).collect::<Result<_, _>>()?,
            });
            start += len;
        }
        Ok(features)
    }

    /// The learned grid of position embeddings, stretched over each picture's grid by bilinear
    /// interpolation, in merge-block order.
    fn positions(
        &self,
        table: &Tensor,
        pictures: &[&Picture],
        layout: &Layout,
    ) -> Result<Tensor, ModelError> {
        let side = (self.config.num_position_embeddings as f64).sqrt().round() as usize;
        let mut corners: [(Vec<u32>, Vec<f32>); 4] = Default::default();
        let mut places = layout.places.iter();
        for picture in pictures {
            let (ys, xs) = (spread(picture.grid[1], side), spread(picture.grid[2], side));
            for &(y, x) in places.by_ref().take(picture.grid.iter().product()) {
                let ((y0, y1, fy), (x0, x1, fx)) = (ys[y], xs[x]);
                let four = [
                    (y0, x0, (1.0 - fy) * (1.0 - fx)),
                    (y0, x1, (1.0 - fy) * fx),
                    (y1, x0, fy * (1.0 - fx)),
                    (y1, x1, fy * fx),
                ];
                for ((ids, weights), (y, x, weight)) in corners.iter_mut().zip(four) {
                    ids.push((y * side + x) as u32);
                    weights.push(weight);
                }
            }
        }
        let mut total: Option<Tensor> = None;
        for (ids, weights) in corners {
            let n = ids.len();
            let rows = table.index_select(&Tensor::new(ids, table.device())?, 0)?;
            let rows = rows.to_dtype(DType::F32)?;
            let weights = Tensor::from_vec(weights, (n, 1), table.device())?;
            let part = rows.broadcast_mul(&weights)?;
            total = Some(match total {
                Some(total) => (total + part)?,
                None => part,
            });
        }
        Ok(total.expect("there are four corners"))
    }

    /// Rotations by row in the first half of the columns and by column in the second.
    fn rotations(&self, layout: &Layout, device: &Device) -> Result<(Tensor, Tensor), ModelError> {
        let head_dim = self.config.hidden_size / self.config.num_heads;
        let frequencies = frequencies(THETA, head_dim / 2);
        let mut angles = vec![];
        for &(y, x) in &layout.places {
            angles.extend(frequencies.iter().map(|f| y as f32 * f));
            angles.extend(frequencies.iter().map(|f| x as f32 * f));
        }
        cos_sin(&angles, head_dim / 2, device)
    }
}

/// `n` places spread evenly over `0 ..= side - 1`: cell below, cell above, and how far between.
fn spread(n: usize, side: usize) -> Vec<(usize, usize, f32)> {
    let step = if n > 1 { (side - 1) as f32 / (n - 1) as f32 } else { 0.0 };
    let last = (side - 1) as f32;
    (0..n)
        .map(|i| {
            // As torch's linspace: the second half counts from the end.
            let at = if i < n / 2 { i as f32 * step } else { last - (n - 1 - i) as f32 * step };
            let at = if n == 1 { 0.0 } else { at };
            let below = at as usize;
            (below, (below + 1).min(side - 1), at - below as f32)
        })
        .collect()
}
