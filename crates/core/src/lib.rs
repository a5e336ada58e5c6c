//! The words of mmrag: what a document, a question, a prompt and a completion are, and the traits
//! through which a policy is used. Every other crate speaks in these words.
//!
//! This crate holds no tensors, opens no files, reads no clock, draws no random numbers and is
//! never asynchronous. An image is named here, by a path, by its bytes or by where it lies
//! in a larger file; who reads and decodes it is somebody else's business.

mod attribute;
mod document;
mod engine;
mod guide;
mod origin;
mod packed;
mod prompt;
mod question;

pub use attribute::{Attribute, PatchShares};
pub use document::{Content, Document, DocumentId, ImageSource, Modality, Table};
pub use engine::{Choose, Completion, Embed, EngineError, Finish, Generate, Sampling, Tell};
pub use guide::Guide;
pub use origin::{DatasetOrigin, Origin, WordBox};
pub use packed::{Packed, Packing, UnpackError};
pub use prompt::{Message, Part, Prompt, Role};
pub use question::{Example, Gold, Question, QuestionId, Step};
