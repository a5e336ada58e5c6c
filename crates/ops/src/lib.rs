//! The differentiable operations that models and losses are written in.
//!
//! Each operation is a CPU kernel with its own backward pass, in `f32`, parallel over rows, and
//! gives the same bits on any number of threads. NVIDIA GPUs, under the feature `cuda`, have kernels
//! of their own (`cuda`); what they lack runs in the form of [`mod@portable`], made of candle's
//! operations. The slow composite forms
//! of [`mod@reference`] are the oracles of this crate's property tests.
//!
//! Nothing here knows what a model is.
//!
//! Legend of tensor names: `t` tokens, `d` width, `n` output width, `h` heads, `k` head width,
//! `v` vocabulary, `r` LoRA rank.

mod activation;
mod adamw;
mod attention;
mod checkpoint;
#[cfg(feature = "cuda")]
mod cuda;
mod gemm;
mod given;
mod gpu;
mod head;
mod linear;
mod lora;
mod muon;
mod norm;
mod parallel;
pub mod portable;
mod recycle;
pub mod reference;
mod rope;
mod rows;
mod simd;
mod skinny;
mod slices;
mod threads;
mod weight;

pub use activation::{gelu, gelu_tanh, swiglu};
pub use adamw::{AdamW, AdamWOptions};
pub use attention::{AttentionPlan, Own, QuerySpan, attention};
pub use checkpoint::{backward, checkpoint};
pub use gemm::product_flops;
pub use gpu::{keep_gpu_memory, peak_gpu_bytes};
pub use head::{TokenScores, logprob_head};
pub use linear::linear;
pub use lora::lora_linear;
pub use norm::{layer_norm, rms_norm};
pub use parallel::{at_once, side_by_side};
pub use recycle::Recycle;
pub use rope::rope;
pub use rows::write_rows;
pub use threads::quiet_candle;
