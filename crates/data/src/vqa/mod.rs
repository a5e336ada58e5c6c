//! VQA v2 and TextVQA: questions about one picture each, answered by ten people.
//!
//! The picture is the one document of its question and is gold, so that the same stages answer as
//! everywhere, and an answer can cite it. [`Gold::answers`](mmrag_core::Gold) holds what most
//! people said, `references` what all of them said. What is wrong with a question is a
//! [`Problem`](crate::Problem) with file and line, and the question is left out.

mod questions;
mod textvqa;
mod vqa2;

pub use textvqa::{load as load_textvqa, splits as textvqa_splits};
pub use vqa2::{load as load_vqa2, splits as vqa2_splits};
