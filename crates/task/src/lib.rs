//! Stages, prompts, grammar, rewards and metrics: what the two stages ask and how a reply is judged.
//!
//! A [`Stage`] is one value that knows how to ask ([`Stage::prompt`]), how to read a reply
//! ([`Stage::parse`]) and how to judge it ([`Stage::score`]). Training, answering and evaluation
//! use the same one. A [`Case`] is what a stage is asked about; it holds no gold, so that gold
//! cannot leak into a prompt.
//!
//! This crate holds no tensors and opens no files. Where it draws (the shuffle of labels) the seed
//! is an argument.

mod answer;
pub mod calibration;
mod case;
pub mod curriculum;
mod grammar;
mod guide;
mod hack;
mod label;
pub mod metrics;
pub mod negatives;
mod reply;
mod reward;
mod rubric;
mod stage;
mod template;

pub use answer::{AnswerScore, score_answer};
pub use case::Case;
pub use grammar::{Grammar, GrammarError, OrderNotation};
pub use guide::ReplyGuide;
pub use hack::HackFlag;
pub use label::{labels_in, without_labels};
pub use reply::{NO, NONE, Reply, YES, answer_items};
pub use reward::{Reward, RewardPart};
pub use rubric::{Overlong, RankRule, Rubric, Weights};
pub use stage::{FilterMode, Stage, StageName};
pub use template::{PromptStyle, Template, TemplateError, named_cells, neutral};
