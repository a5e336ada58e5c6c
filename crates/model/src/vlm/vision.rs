//! The vision tower of Qwen3-VL: patches in, merged features out, with deepstack.

use candle_core::{Device, Tensor};
use mmrag_ops::{AttentionPlan, attention, gelu, gelu_tanh, layer_norm, rope};
use std::sync::Arc;

use super::params::{Forward, Linear, Param, Params};
use super::positions::{cos_sin, frequencies};
use crate::config::VisionConfig;
use crate::error::ModelError;

/// Added to the variance in the tower's norms.
const EPS: f64 = 1e-6;

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
    patch_embed: (Param, Param),
    pos_embed: Param,
    blocks: Vec<Block>,
    merger: Merger,
    deepstack: Vec<Merger>,
}

impl VisionTower {
    pub(super) fn new(config: &VisionConfig, params: &mut Params<'_>) -> Result<Self, ModelError> {
        let root = "model.visual";
        let d = config.hidden_size;
        let patch = [
            d,
            config.in_channels,
            config.temporal_patch_size,
            config.patch_size,
            config.patch_size,
        ];
        let patch_embed = (
            params.matrix(&format!("{root}.patch_embed.proj.weight"), &patch)?,
            params.bias(&format!("{root}.patch_embed.proj.bias"), d)?,
        );
        let grid = [config.num_position_embeddings, d];
        let pos_embed = params.matrix(&format!("{root}.pos_embed.weight"), &grid)?;
        let blocks = (0..config.depth)
            .map(|i| Block::new(config, &format!("{root}.blocks.{i}"), params))
            .collect::<Result<_, _>>()?;
        let merger = Merger::new(config, &format!("{root}.merger"), false, params)?;
        let deepstack = (0..config.deepstack_indexes.len())
            .map(|i| {
                let name = format!("{root}.deepstack_merger_list.{i}");
                Merger::new(config, &name, true, params)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { config: config.clone(), patch_embed, pos_embed, blocks, merger, deepstack })
    }

    pub(super) fn forward(
        &self,
        pass: &Forward<'_>,
        pictures: &[&Picture],
    ) -> Result<Vec<VisionFeatures>, ModelError> {
        if pictures.is_empty() {
            return Ok(vec![]);
        }
        let weight = pass.weight(&self.patch_embed.0);
        let device = weight.device();
        let width = weight.elem_count() / self.config.hidden_size;
        let values: Vec<f32> = pictures.iter().flat_map(|p| &p.values).copied().collect();
        let patches: usize = pictures.iter().map(|p| p.grid.iter().product::<usize>()).sum();
        if values.len() != patches * width {
            return Err(ModelError::Prompt {
                reason: format!("{patches} patches of {width} values, but {}", values.len()),
            });
        }
        let values = Tensor::from_vec(values, (patches, width), device)?;
        let weight = weight.reshape((self.config.hidden_size, width))?;
        let bias = pass.weight(&self.patch_embed.1);
        let x_pd = mmrag_ops::linear(&values, &weight, Some(&bias))?;
        let mut x_pd = (x_pd + self.positions(pass, pictures)?)?;
        let (cos, sin) = self.rotations(pictures, device)?;
        // Each frame is attended to alone.
        let frames = pictures.iter().flat_map(|p| vec![p.grid[1] * p.grid[2]; p.grid[0]]);
        let plan = Arc::new(AttentionPlan::full(frames)?);
        let mut deep = vec![];
        for (index, block) in self.blocks.iter().enumerate() {
            x_pd = block.forward(pass, &x_pd, (&cos, &sin), &plan)?;
            if let Some(at) = self.config.deepstack_indexes.iter().position(|&i| i == index) {
                deep.push((at, self.deepstack[at].forward(pass, &x_pd)?));
            }
        }
        deep.sort_by_key(|(at, _)| *at);
        let embeds_md = self.merger.forward(pass, &x_pd)?;
        self.split(pictures, &embeds_md, &deep)
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
    fn positions(&self, pass: &Forward<'_>, pictures: &[&Picture]) -> Result<Tensor, ModelError> {
        let table = pass.weight(&self.pos_embed);
        let side = (self.config.num_position_embeddings as f64).sqrt().round() as usize;
        let mut corners: [(Vec<u32>, Vec<f32>); 4] = Default::default();
        for picture in pictures {
            let (ys, xs) = (spread(picture.grid[1], side), spread(picture.grid[2], side));
            for (y, x) in self.places(picture.grid) {
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
            let weights = Tensor::from_vec(weights, (n, 1), table.device())?;
            let part = rows.broadcast_mul(&weights)?;
            total = Some(match total {
                Some(total) => (total + part)?,
                None => part,
            });
        }
        Ok(total.expect("there are four corners"))
    }

    /// Row and column of each patch, in merge-block order, for all frames.
    fn places(&self, [t, h, w]: [usize; 3]) -> Vec<(usize, usize)> {
        let m = self.config.spatial_merge_size;
        let mut places = Vec::with_capacity(t * h * w);
        for _ in 0..t {
            for block_y in 0..h / m {
                for block_x in 0..w / m {
                    for y in 0..m {
                        places.extend((0..m).map(|x| (block_y * m + y, block_x * m + x)));
                    }
                }
            }
        }
        places
    }

    /// Rotations by row in the first half of the columns and by column in the second.
    fn rotations(
        &self,
        pictures: &[&Picture],
        device: &Device,
    ) -> Result<(Tensor, Tensor), ModelError> {
        let head_dim = self.config.hidden_size / self.config.num_heads;
        let frequencies = frequencies(THETA, head_dim / 2);
        let mut angles = vec![];
        for picture in pictures {
            for (y, x) in self.places(picture.grid) {
                angles.extend(frequencies.iter().map(|f| y as f32 * f));
                angles.extend(frequencies.iter().map(|f| x as f32 * f));
            }
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

struct Block {
    norm1: (Param, Param),
    qkv: Linear,
    proj: Linear,
    norm2: (Param, Param),
    fc1: Linear,
    fc2: Linear,
    heads: usize,
}

fn norm_params(
    params: &mut Params<'_>,
    name: &str,
    width: usize,
) -> Result<(Param, Param), ModelError> {
    Ok((
        params.gain(&format!("{name}.weight"), width)?,
        params.bias(&format!("{name}.bias"), width)?,
    ))
}

fn norm(pass: &Forward<'_>, x: &Tensor, (w, b): &(Param, Param)) -> Result<Tensor, ModelError> {
    Ok(layer_norm(x, &pass.weight(w), &pass.weight(b), EPS)?)
}

impl Block {
    fn new(config: &VisionConfig, name: &str, params: &mut Params<'_>) -> Result<Self, ModelError> {
        let (d, f) = (config.hidden_size, config.intermediate_size);
        Ok(Self {
            norm1: norm_params(params, &format!("{name}.norm1"), d)?,
            qkv: params.linear(&format!("{name}.attn.qkv"), (d, 3 * d), true)?,
            proj: params.linear(&format!("{name}.attn.proj"), (d, d), true)?,
            norm2: norm_params(params, &format!("{name}.norm2"), d)?,
            fc1: params.linear(&format!("{name}.mlp.linear_fc1"), (d, f), true)?,
            fc2: params.linear(&format!("{name}.mlp.linear_fc2"), (f, d), true)?,
            heads: config.num_heads,
        })
    }

    fn forward(
        &self,
        pass: &Forward<'_>,
        x_pd: &Tensor,
        (cos, sin): (&Tensor, &Tensor),
        plan: &Arc<AttentionPlan>,
    ) -> Result<Tensor, ModelError> {
        let (p, d) = x_pd.dims2()?;
        let width = d / self.heads;
        let qkv = pass.linear(&self.qkv, &norm(pass, x_pd, &self.norm1)?)?;
        let part = |i: usize| qkv.narrow(1, i * d, d)?.reshape((p, self.heads, width));
        let (q, k) = (rope(&part(0)?, cos, sin)?, rope(&part(1)?, cos, sin)?);
        let scale = 1.0 / (width as f64).sqrt();
        let out = attention(&q, &k, &part(2)?.contiguous()?, plan, scale)?.reshape((p, d))?;
        let x_pd = (x_pd + pass.linear(&self.proj, &out)?)?;
        let hidden = pass.linear(&self.fc1, &norm(pass, &x_pd, &self.norm2)?)?;
        Ok((&x_pd + pass.linear(&self.fc2, &gelu_tanh(&hidden)?)?)?)
    }
}

/// Turns squares of patches into tokens of the decoder's width.
struct Merger {
    norm: (Param, Param),
    fc1: Linear,
    fc2: Linear,
    /// Patches in a square.
    square: usize,
    /// Whether the norm runs over the joined patches and not over each.
    joined_norm: bool,
}

impl Merger {
    fn new(
        config: &VisionConfig,
        name: &str,
        joined_norm: bool,
        params: &mut Params<'_>,
    ) -> Result<Self, ModelError> {
        let square = config.spatial_merge_size.pow(2);
        let joined = config.hidden_size * square;
        let width = if joined_norm { joined } else { config.hidden_size };
        Ok(Self {
            norm: norm_params(params, &format!("{name}.norm"), width)?,
            fc1: params.linear(&format!("{name}.linear_fc1"), (joined, joined), true)?,
            fc2: params.linear(
                &format!("{name}.linear_fc2"),
                (joined, config.out_hidden_size),
                true,
            )?,
            square,
            joined_norm,
        })
    }

    fn forward(&self, pass: &Forward<'_>, x_pd: &Tensor) -> Result<Tensor, ModelError> {
        let (p, d) = x_pd.dims2()?;
        let joined = (p / self.square, d * self.square);
        let x = if self.joined_norm {
            norm(pass, &x_pd.reshape(joined)?, &self.norm)?
        } else {
            norm(pass, x_pd, &self.norm)?.reshape(joined)?
        };
        pass.linear(&self.fc2, &gelu(&pass.linear(&self.fc1, &x)?)?)
    }
}
