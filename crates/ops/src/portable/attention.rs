//! Attention a block of queries at a time, over the keys between the first and the last that any of
//! the block sees.
//!
//! Legend: `g` key heads, `r` query heads that share one, `n` queries of a block, `s` keys.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{D, Device, DeviceLocation, Result, Tensor};

use crate::attention::AttentionPlan;
use crate::gemm::count_flops;
use crate::given::given3;

/// Scores that exist at once, about.
const SCORES: usize = 1 << 26;

/// See [`crate::attention()`].
///
/// # Errors
///
/// When the shapes do not fit.
pub fn attention(
    q_thk: &Tensor,
    k_sgk: &Tensor,
    v_sgk: &Tensor,
    plan: &Arc<AttentionPlan>,
    scale: f64,
) -> Result<Tensor> {
    let inputs = [q_thk, k_sgk, v_sgk];
    let [q, k, v] = inputs.map(Tensor::detach);
    let whole = Whole::new([&q, &k, &v], plan, scale)?;
    let y = whole.forward()?;
    let plan = Arc::clone(plan);
    given3("attention", inputs, y, move |inputs, grad_thk| {
        let [q, k, v] = inputs.map(Tensor::detach);
        let gradients = Whole::new([&q, &k, &v], &plan, scale)?.backward(grad_thk)?;
        Ok(gradients.map(Some))
    })
}

/// The inputs by key head.
struct Whole<'a> {
    q_grtk: Tensor,
    k_gsk: Tensor,
    v_gsk: Tensor,
    plan: &'a AttentionPlan,
    scale: f64,
}

/// How the queries of a plan are cut. The masks lie on the device, and making them takes longer than
/// using them, so a plan keeps them.
#[derive(Clone, Debug)]
pub(crate) struct Blocks {
    /// Queries in all.
    t: usize,
    /// Queries of a block.
    n: usize,
    device: DeviceLocation,
    list: Arc<Vec<Block>>,
}

/// Queries in a row, and the keys that may concern them.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) queries: Range<usize>,
    pub(crate) keys: Range<usize>,
    /// 0 where a query sees a key, a large negative number elsewhere, `[n, s]`.
    pub(crate) mask_ns: Tensor,
    /// 1 where a query sees anything, `[n, 1]`.
    pub(crate) live_n1: Tensor,
}

/// The blocks of a plan for `t` queries of some heads: few enough that their scores fit.
pub(crate) fn blocks(
    plan: &AttentionPlan,
    (t, heads): (usize, usize),
    device: &Device,
) -> Result<Arc<Vec<Block>>> {
    let n = (SCORES / (heads * plan.keys().max(1)).max(1)).clamp(1, t.max(1));
    let location = device.location();
    if let Some(kept) = plan.blocks.get()
        && (kept.t, kept.n, kept.device) == (t, n, location)
    {
        return Ok(Arc::clone(&kept.list));
    }
    let starts = (0..t).step_by(n);
    let blocks = starts.map(|start| Block::new(plan, start..(start + n).min(t), device));
    let list = Arc::new(blocks.collect::<Result<_>>()?);
    // Another pass of the plan may have been first, with blocks of its own.
    drop(plan.blocks.set(Blocks { t, n, device: location, list: Arc::clone(&list) }));
    Ok(list)
}

impl Block {
    fn new(plan: &AttentionPlan, queries: Range<usize>, device: &Device) -> Result<Self> {
        let seen = plan.seen_by(queries.clone());
        let first = seen.iter().flatten().map(|range| range.start).min().unwrap_or(0);
        let last = seen.iter().flatten().map(|range| range.end).max().unwrap_or(first + 1);
        let (n, s) = (queries.len(), last - first);
        let mut mask = vec![-1e30f32; n * s];
        for (row, ranges) in seen.iter().enumerate() {
            for range in ranges {
                mask[row * s + range.start - first..row * s + range.end - first].fill(0.0);
            }
        }
        let live: Vec<f32> = seen.iter().map(|r| f32::from(u8::from(!r.is_empty()))).collect();
        Ok(Self {
            queries,
            keys: first..last,
            mask_ns: Tensor::from_vec(mask, (n, s), device)?,
            live_n1: Tensor::from_vec(live, (n, 1), device)?,
        })
    }
}

impl<'a> Whole<'a> {
    fn new([q, k, v]: [&Tensor; 3], plan: &'a AttentionPlan, scale: f64) -> Result<Self> {
        let ((t, h, width), g) = (q.dims3()?, k.dim(1)?);
        let q_grtk = q.reshape((t, g, h / g, width))?.permute((1, 2, 0, 3))?.contiguous()?;
        let by_head = |x: &Tensor| x.transpose(0, 1)?.contiguous();
        Ok(Self { q_grtk, k_gsk: by_head(k)?, v_gsk: by_head(v)?, plan, scale })
    }

    fn blocks(&self) -> Result<Arc<Vec<Block>>> {
        let (g, r, t, _) = self.q_grtk.dims4()?;
        blocks(self.plan, (t, g * r), self.q_grtk.device())
    }

    /// Queries, keys and values of a block: `[g, r n, k]`, `[g, s, k]`, `[g, s, k]`.
    fn narrowed(&self, block: &Block) -> Result<[Tensor; 3]> {
        let (g, r, _, width) = self.q_grtk.dims4()?;
        let n = block.queries.len();
        let q = self.q_grtk.narrow(2, block.queries.start, n)?.contiguous()?;
        let keys = |x: &Tensor| x.narrow(1, block.keys.start, block.keys.len())?.contiguous();
        Ok([q.reshape((g, r * n, width))?, keys(&self.k_gsk)?, keys(&self.v_gsk)?])
    }

    /// Probabilities `[g, r n, s]`.
    fn probabilities(&self, block: &Block, [q, k]: [&Tensor; 2]) -> Result<Tensor> {
        let (g, rn, width) = q.dims3()?;
        let (n, s) = block.mask_ns.dims2()?;
        count_flops(g * rn, width, s);
        let scores = (q.matmul(&k.transpose(1, 2)?)? * self.scale)?;
        let scores = scores.reshape((g, rn / n, n, s))?.broadcast_add(&block.mask_ns)?;
        let weights = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
        let p = weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)?;
        p.broadcast_mul(&block.live_n1)?.reshape((g, rn, s))
    }

    fn forward(&self) -> Result<Tensor> {
        let (g, r, _, width) = self.q_grtk.dims4()?;
        let mut parts = vec![];
        for block in self.blocks()?.iter() {
            let [q, k, v] = self.narrowed(block)?;
            let out = self.probabilities(block, [&q, &k])?.matmul(&v)?;
            count_flops(g * r * block.queries.len(), block.keys.len(), width);
            parts.push(rows(&out.reshape((g, r, block.queries.len(), width))?)?);
        }
        Tensor::cat(&parts, 0)
    }

    /// With `p` the probabilities and `o` the gradient of the result: `dv = pᵀ o`,
    /// `ds = p (o vᵀ - rowsum(p o vᵀ))`, `dq = scale ds k`, `dk = scale dsᵀ q`.
    fn backward(&self, grad_thk: &Tensor) -> Result<[Tensor; 3]> {
        let (g, r, t, width) = self.q_grtk.dims4()?;
        let grad_grtk = grad_thk.reshape((t, g, r, width))?.permute((1, 2, 0, 3))?.contiguous()?;
        let s = self.k_gsk.dim(1)?;
        let mut dq = vec![];
        let [mut dk_gsk, mut dv_gsk] = [self.k_gsk.zeros_like()?, self.v_gsk.zeros_like()?];
        for block in self.blocks()?.iter() {
            let n = block.queries.len();
            let [q, k, v] = self.narrowed(block)?;
            let p = self.probabilities(block, [&q, &k])?;
            let grad = grad_grtk.narrow(2, block.queries.start, n)?.contiguous()?;
            let grad = grad.reshape((g, r * n, width))?;
            let dp = grad.matmul(&v.transpose(1, 2)?)?;
            for _ in 0..4 {
                count_flops(g * r * n, block.keys.len(), width);
            }
            let along = (&dp * &p)?.sum_keepdim(D::Minus1)?;
            let ds = ((dp.broadcast_sub(&along)? * &p)? * self.scale)?;
            dq.push(rows(&ds.matmul(&k)?.reshape((g, r, n, width))?)?);
            let placed = |x: Tensor| x.pad_with_zeros(1, block.keys.start, s - block.keys.end);
            dk_gsk = (dk_gsk + placed(ds.transpose(1, 2)?.matmul(&q)?)?)?;
            dv_gsk = (dv_gsk + placed(p.transpose(1, 2)?.matmul(&grad)?)?)?;
        }
        let by_row = |x: Tensor| x.transpose(0, 1)?.contiguous();
        Ok([Tensor::cat(&dq, 0)?, by_row(dk_gsk)?, by_row(dv_gsk)?])
    }
}

/// `[g, r, n, k]` as `[n, g r, k]`.
fn rows(x_grnk: &Tensor) -> Result<Tensor> {
    let (g, r, n, width) = x_grnk.dims4()?;
    x_grnk.permute((2, 0, 1, 3))?.contiguous()?.reshape((n, g * r, width))
}
