//! Prompts: what a policy is shown.

use serde::{Deserialize, Serialize};

use crate::ImageSource;

/// A chat that ends where the policy is to go on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    /// The turns, in order.
    pub messages: Vec<Message>,
    /// Text the reply is forced to begin with; it is not part of the completion. Usually empty.
    pub reply_prefix: String,
    /// Whether the reply may begin with reasoning. If not, a `<think>` that the chat template opens
    /// by itself is closed again before the reply.
    pub reasons: bool,
}

/// One turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said and shown, in order.
    pub parts: Vec<Part>,
}

/// Who speaks in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The frame of the conversation.
    System,
    /// The one who asks.
    User,
    /// The policy.
    Assistant,
}

impl Role {
    /// The role's name in chat templates.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// A piece of a turn.
///
/// No part is ever tokenised into special tokens: those come from the chat template alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Text.
    Text(String),
    /// A picture.
    Image(ImageSource),
}
