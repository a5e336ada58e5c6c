//! The parts of a data set.

use serde::{Deserialize, Serialize};

/// A part of a data set.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// To learn from.
    Train,
    /// To choose by; what WebQA and VQA call `val`.
    #[default]
    Dev,
    /// To report. The originals' test files carry no answers; the atlas's do.
    Test,
}

impl Split {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Train, Self::Dev, Self::Test];

    /// The split's name in file names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Dev => "dev",
            Self::Test => "test",
        }
    }

    /// The split of a name; `val` is another name of dev.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "val" => Some(Self::Dev),
            _ => Self::ALL.into_iter().find(|split| split.as_str() == name),
        }
    }
}
