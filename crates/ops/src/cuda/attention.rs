//! Attention over keys and values where they lie: a product for each query head of a group, batched
//! over the key heads, and one kernel for the softmax of all rows.
//!
//! Legend: `g` key heads, `r` query heads that share one, `n` queries of a block, `s` keys it sees.

use std::ops::Range;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, PushKernelArg};
use candle_core::{CudaDevice, Result, Tensor, bail};

use super::launch::{Input, arguments, by_row, device_of, kernel, launch, room, tensor};
use super::product::{Factor, Output, Sizes, multiply};
use crate::attention::AttentionPlan;
use crate::gemm::count_flops;
use crate::given::given3;
use crate::portable::{Block, blocks};

/// See [`crate::attention()`].
pub(crate) fn attention(
    q_thk: &Tensor,
    k_sgk: &Tensor,
    v_sgk: &Tensor,
    plan: &Arc<AttentionPlan>,
    scale: f64,
) -> Result<Tensor> {
    let inputs = [q_thk, k_sgk, v_sgk];
    let y = Whole::new(inputs, plan, scale)?.forward()?;
    let plan = Arc::clone(plan);
    given3("attention", inputs, y, move |inputs, grad_thk| {
        let gradients = Whole::new(inputs, &plan, scale)?.backward(&grad_thk.contiguous()?)?;
        Ok(gradients.map(Some))
    })
}

/// The inputs, and how their heads lie.
struct Whole<'a> {
    device: CudaDevice,
    q_thk: Tensor,
    k_sgk: Tensor,
    v_sgk: Tensor,
    plan: &'a AttentionPlan,
    scale: f32,
    heads: Heads,
}

#[derive(Clone, Copy)]
struct Heads {
    g: usize,
    r: usize,
    width: usize,
}

impl Heads {
    /// Queries, or what is shaped like them: head `r` of each group, of some tokens.
    fn of_queries<'v>(
        self,
        values: &CudaView<'v, f32>,
        tokens: &Range<usize>,
        head: usize,
    ) -> Factor<'v, f32> {
        let row = self.g * self.r * self.width;
        let values = values.slice(tokens.start * row + head * self.width..tokens.end * row);
        Factor::strided(values, row, self.r * self.width)
    }

    /// Keys or values of some rows.
    fn of_keys<'v>(self, values: &CudaView<'v, f32>, rows: &Range<usize>) -> Factor<'v, f32> {
        let row = self.g * self.width;
        Factor::strided(values.slice(rows.start * row..rows.end * row), row, self.width)
    }

    /// Scores `[g, r, n, s]`: those of head `r` of each group.
    fn of_scores(
        self,
        scores: &CudaSlice<f32>,
        (n, s): (usize, usize),
        head: usize,
    ) -> Factor<'_, f32> {
        Factor::strided(scores.slice(head * n * s..), s, self.r * n * s)
    }
}

impl<'a> Whole<'a> {
    fn new([q, k, v]: [&Tensor; 3], plan: &'a AttentionPlan, scale: f64) -> Result<Self> {
        let ((_, h, width), (s, g, key_width)) = (q.dims3()?, k.dims3()?);
        if k.dims() != v.dims() || key_width != width || g == 0 || !h.is_multiple_of(g) {
            bail!("attention: q {:?}, k {:?}, v {:?}", q.dims(), k.dims(), v.dims())
        }
        if plan.queries() > q.dim(0)? || plan.keys() > s {
            bail!("attention: plan of {} queries and {} keys", plan.queries(), plan.keys())
        }
        let plain = |x: &Tensor| x.detach().contiguous();
        let heads = Heads { g, r: h / g, width };
        let (device, scale) = (device_of(q)?, scale as f32);
        Ok(Self {
            device,
            q_thk: plain(q)?,
            k_sgk: plain(k)?,
            v_sgk: plain(v)?,
            plan,
            scale,
            heads,
        })
    }

    fn blocks(&self) -> Result<Arc<Vec<Block>>> {
        let Heads { g, r, .. } = self.heads;
        blocks(self.plan, (self.q_thk.dim(0)?, g * r), self.q_thk.device())
    }

    /// `out[g, r, n, s] = a bᵀ` for queries (or their gradients) and keys (or values).
    fn scores(
        &self,
        (a, b): (&CudaView<'_, f32>, &CudaView<'_, f32>),
        block: &Block,
    ) -> Result<CudaSlice<f32>> {
        let (n, s) = (block.queries.len(), block.keys.len());
        let Heads { g, r, width } = self.heads;
        let mut out = room(&self.device, g * r * n * s)?;
        let sizes = Sizes { batch: g, m: n, k: width, n: s };
        for head in 0..r {
            let queries = self.heads.of_queries(a, &block.queries, head);
            let keys = self.heads.of_keys(b, &block.keys).t();
            let values = out.slice_mut(head * n * s..);
            let target = Output { batch_stride: r * n * s, ..Output::rows(values, s) };
            multiply(&self.device, sizes, &queries, &keys, target)?;
        }
        count_flops(g * r * n, width, s);
        Ok(out)
    }

    /// Probabilities `[g, r, n, s]`.
    fn probabilities(
        &self,
        (q, k): (&CudaView<'_, f32>, &CudaView<'_, f32>),
        block: &Block,
    ) -> Result<CudaSlice<f32>> {
        let mut scores = self.scores((q, k), block)?;
        let (mask, live) = (Input::of(&block.mask_ns)?, Input::of(&block.live_n1)?);
        let (n, s) = (block.queries.len() as u32, block.keys.len() as u32);
        let func = kernel(&self.device, "masked_softmax")?;
        let (mask, live) = (mask.f32()?, live.f32()?);
        let args = arguments!(func, &mut scores, &mask, &live, &n, &s, &self.scale);
        let rows = self.heads.g * self.heads.r * block.queries.len();
        // SAFETY: a row of `s` scores for each head and query; the mask has `n` such rows.
        unsafe { launch(args, by_row(rows, block.keys.len())) }?;
        Ok(scores)
    }

    fn forward(&self) -> Result<Tensor> {
        let inputs = [Input::of(&self.q_thk)?, Input::of(&self.k_sgk)?, Input::of(&self.v_sgk)?];
        let [q, k, v] = [inputs[0].f32()?, inputs[1].f32()?, inputs[2].f32()?];
        let mut out = room(&self.device, self.q_thk.elem_count())?;
        for block in self.blocks()?.iter() {
            let p = self.probabilities((&q, &k), block)?;
            self.onto_queries(&p, &v, block, &mut out)?;
        }
        Ok(tensor(&self.device, out, self.q_thk.shape()))
    }

    /// With `p` the probabilities and `o` the gradient of the result: `dv = pᵀ o`,
    /// `ds = p (o vᵀ - rowsum(p o vᵀ))`, `dq = scale ds k`, `dk = scale dsᵀ q`.
    fn backward(&self, grad_thk: &Tensor) -> Result<[Tensor; 3]> {
        let inputs = [Input::of(&self.q_thk)?, Input::of(&self.k_sgk)?, Input::of(&self.v_sgk)?];
        let [q, k, v] = [inputs[0].f32()?, inputs[1].f32()?, inputs[2].f32()?];
        let grad_input = Input::of(grad_thk)?;
        let grad = grad_input.f32()?;
        let mut dq = room(&self.device, self.q_thk.elem_count())?;
        let mut dk = self.device.alloc_zeros(self.k_sgk.elem_count())?;
        let mut dv = self.device.alloc_zeros(self.v_sgk.elem_count())?;
        for block in self.blocks()?.iter() {
            let p = self.probabilities((&q, &k), block)?;
            self.onto_keys(&p, &grad, block, &mut dv)?;
            let mut ds = self.scores((&grad, &v), block)?;
            self.softmax_back(&p, &mut ds, block)?;
            self.onto_queries(&ds, &k, block, &mut dq)?;
            self.onto_keys(&ds, &q, block, &mut dk)?;
        }
        Ok([
            tensor(&self.device, dq, self.q_thk.shape()),
            tensor(&self.device, dk, self.k_sgk.shape()),
            tensor(&self.device, dv, self.v_sgk.shape()),
        ])
    }

    fn softmax_back(
        &self,
        p: &CudaSlice<f32>,
        dp: &mut CudaSlice<f32>,
        block: &Block,
    ) -> Result<()> {
        let (rows, s) = (self.heads.g * self.heads.r * block.queries.len(), block.keys.len());
        let wide = s as u32;
        let func = kernel(&self.device, "softmax_back")?;
        let args = arguments!(func, p, dp, &wide, &self.scale);
        // SAFETY: both are `rows` rows of `s` values.
        unsafe { launch(args, by_row(rows, s)) }
    }

    /// For each query of a block `out = p b`, with `p` over the keys (or values) `b`.
    fn onto_queries(
        &self,
        p: &CudaSlice<f32>,
        b: &CudaView<'_, f32>,
        block: &Block,
        out: &mut CudaSlice<f32>,
    ) -> Result<()> {
        let (n, s, Heads { g, r, width }) = (block.queries.len(), block.keys.len(), self.heads);
        let (row, sizes) = (g * r * width, Sizes { batch: g, m: n, k: s, n: width });
        let keys = self.heads.of_keys(b, &block.keys);
        for head in 0..r {
            let values = out.slice_mut(block.queries.start * row + head * width..);
            let target = Output { batch_stride: r * width, ..Output::rows(values, row) };
            let weights = self.heads.of_scores(p, (n, s), head);
            multiply(&self.device, sizes, &weights, &keys, target)?;
        }
        count_flops(g * r * n, s, width);
        Ok(())
    }

    /// For each key of a block `out += pᵀ a`, with `a` shaped like queries.
    fn onto_keys(
        &self,
        p: &CudaSlice<f32>,
        a: &CudaView<'_, f32>,
        block: &Block,
        out: &mut CudaSlice<f32>,
    ) -> Result<()> {
        let (n, s, Heads { g, r, width }) = (block.queries.len(), block.keys.len(), self.heads);
        let (row, sizes) = (g * width, Sizes { batch: g, m: s, k: n, n: width });
        for head in 0..r {
            let values = out.slice_mut(block.keys.start * row..);
            let target = Output { batch_stride: width, ..Output::added(values, row, 1.0) };
            let weights = self.heads.of_scores(p, (n, s), head).t();
            let queries = self.heads.of_queries(a, &block.queries, head);
            multiply(&self.device, sizes, &weights, &queries, target)?;
        }
        count_flops(g * r * n, s, width);
        Ok(())
    }
}
