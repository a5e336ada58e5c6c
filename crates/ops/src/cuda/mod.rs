//! The operations on NVIDIA GPUs: cuBLAS for products, kernels of our own for what lies between.
//!
//! Results are held to the composite reference by property tests that run where there is a GPU
//! (`tests/cuda.rs`). What is not here runs in the form of [`mod@crate::portable`].

pub(crate) mod adamw;
mod attention;
mod launch;
mod linear;
pub(crate) mod memory;
mod pointwise;
mod product;
mod rows;

pub(crate) use attention::attention;
pub(crate) use linear::{lora_linear, project, pull};
pub(crate) use pointwise::{rms_norm, rope, swiglu};
pub(crate) use rows::launch_write;
