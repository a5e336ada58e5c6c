//! The types of question, and how many of a hundred are of each.

use serde::{Deserialize, Serialize};

use super::draw::Draw;

/// A type of question. `Compose(B,A)`: the answer is B's, and A finds out whom B is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Kind {
    /// A fact of one text.
    TextQ,
    /// A cell of one table.
    TableQ,
    /// The colour of something in a picture.
    ImageColour,
    /// The figure on a flag.
    ImageShape,
    /// How many there are in a picture, 1 to 6.
    ImageNumber,
    /// The tallest bar of a chart.
    ImageChart,
    /// Yes or no about a picture.
    ImageYesNo,
    /// One of two given places in a picture.
    ImageChoose,
    /// Which of the pictures of a group: one to three names.
    ImageListQ,
    /// A fact about somebody that another text names.
    ComposeTextText,
    /// The colour of something that a text names.
    ComposeImageText,
    /// A fact about something that its picture singles out.
    ComposeTextImage,
    /// A number in the picture of a row of a table.
    ComposeImageTable,
    /// A cell of the row whose picture is described.
    ComposeTableImage,
    /// A fact about a row of a table.
    ComposeTextTable,
    /// Which of two persons is older: yes or no.
    CompareText,
    /// Which of two pictures shows more: yes or no.
    CompareImage,
    /// Rows of a table whose pictures show something.
    IntersectImageTable,
    /// A question whose documents are not among the candidates.
    Unanswerable,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 19] = [
        Self::TextQ,
        Self::TableQ,
        Self::ImageColour,
        Self::ImageShape,
        Self::ImageNumber,
        Self::ImageChart,
        Self::ImageYesNo,
        Self::ImageChoose,
        Self::ImageListQ,
        Self::ComposeTextText,
        Self::ComposeImageText,
        Self::ComposeTextImage,
        Self::ComposeImageTable,
        Self::ComposeTableImage,
        Self::ComposeTextTable,
        Self::CompareText,
        Self::CompareImage,
        Self::IntersectImageTable,
        Self::Unanswerable,
    ];

    /// The name that stands in an example's `kind`, after MultimodalQA's.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TextQ => "TextQ",
            Self::TableQ => "TableQ",
            Self::ImageColour => "ImageQ(colour)",
            Self::ImageShape => "ImageQ(shape)",
            Self::ImageNumber => "ImageQ(number)",
            Self::ImageChart => "ImageQ(chart)",
            Self::ImageYesNo => "ImageQ(yesno)",
            Self::ImageChoose => "ImageQ(choose)",
            Self::ImageListQ => "ImageListQ",
            Self::ComposeTextText => "Compose(TextQ,TextQ)",
            Self::ComposeImageText => "Compose(ImageQ,TextQ)",
            Self::ComposeTextImage => "Compose(TextQ,ImageQ)",
            Self::ComposeImageTable => "Compose(ImageQ,TableQ)",
            Self::ComposeTableImage => "Compose(TableQ,ImageQ)",
            Self::ComposeTextTable => "Compose(TextQ,TableQ)",
            Self::CompareText => "Compare(TextQ,TextQ)",
            Self::CompareImage => "Compare(ImageQ,ImageQ)",
            Self::IntersectImageTable => "Intersect(ImageListQ,TableQ)",
            Self::Unanswerable => "Unanswerable",
        }
    }

    /// Whether a fact that the answer needs stands in pixels alone.
    pub fn needs_picture(self) -> bool {
        !matches!(
            self,
            Self::TextQ
                | Self::TableQ
                | Self::ComposeTextText
                | Self::ComposeTextTable
                | Self::CompareText
                | Self::Unanswerable
        )
    }

    /// Whether the second document is found by what the first one says.
    pub(crate) fn is_two_hop(self) -> bool {
        matches!(
            self,
            Self::ComposeTextText
                | Self::ComposeImageText
                | Self::ComposeTextImage
                | Self::ComposeImageTable
                | Self::ComposeTableImage
                | Self::ComposeTextTable
        )
    }

    /// Of a hundred questions, this many are of the kind.
    pub fn percent(self) -> usize {
        match self {
            Self::TextQ => 10,
            Self::TableQ | Self::ComposeTextText => 8,
            Self::ComposeTextTable => 7,
            Self::ComposeImageText => 6,
            Self::ImageColour
            | Self::ImageNumber
            | Self::ImageListQ
            | Self::CompareText
            | Self::Unanswerable => 5,
            Self::ImageShape
            | Self::ImageChart
            | Self::ComposeTextImage
            | Self::ComposeImageTable
            | Self::ComposeTableImage
            | Self::IntersectImageTable
            | Self::ImageYesNo
            | Self::ImageChoose
            | Self::CompareImage => 4,
        }
    }

    /// The kind of the question at `index`: within each run of as many questions as the kinds'
    /// percents sum to, every kind has exactly its share.
    pub(crate) fn at(kinds: &[Self], purpose: [u64; 2], index: u64) -> Self {
        let mut schedule: Vec<Self> =
            kinds.iter().flat_map(|&kind| std::iter::repeat_n(kind, kind.percent())).collect();
        let length = schedule.len() as u64;
        Draw::new("atlas-kinds", &[purpose[0], purpose[1], index / length]).shuffle(&mut schedule);
        schedule[(index % length) as usize]
    }
}

impl From<Kind> for &'static str {
    fn from(kind: Kind) -> Self {
        kind.as_str()
    }
}

impl TryFrom<String> for Kind {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            format!("no kind of question is called {name:?}; the kinds are {known}")
        })
    }
}
