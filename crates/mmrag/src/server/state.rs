//! What all handlers share.

use std::path::PathBuf;
use std::sync::Arc;

use super::access::Guard;
use super::collections::Collections;
use super::feedback::Feedback;
use super::history::History;
use super::limits::Limits;
use super::metrics::Metrics;
use super::turns::Turns;
use super::worker::Worker;

/// Everything a request may need.
pub(crate) struct App {
    /// Who answers.
    pub(crate) worker: Worker,
    /// What is answered from.
    pub(crate) collections: Collections,
    /// Who may ask.
    pub(crate) guard: Guard,
    /// Within which bounds.
    pub(crate) limits: Limits,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// What was asked.
    pub(crate) history: History,
    /// What people said of answers.
    pub(crate) feedback: Feedback,
    /// Whose turn it is to embed texts.
    pub(crate) turns: Turns,
    /// Whose turn it is to have a file read.
    pub(crate) reading: Turns,
    /// The folder of training runs and reports that the page opens, if there is one.
    pub(crate) runs: Option<PathBuf>,
}

/// The same for all requests.
pub(crate) type Shared = Arc<App>;
