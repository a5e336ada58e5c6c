//! The forms that data sets come in, by name.

use std::path::Path;

use mmrag_core::ImageSource;

use crate::{
    DataError, Loaded, Place, Pool, Problem, Split, folder, jsonl, multimodalqa, vqa, webqa,
};

/// The form of a data set's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// [`multimodalqa`].
    MultimodalQa,
    /// [`webqa`].
    WebQa,
    /// VQA v2, of [`vqa`].
    Vqa2,
    /// TextVQA, of [`vqa`].
    TextVqa,
    /// The canonical form, [`jsonl`].
    JsonLines,
    /// Documents without questions, [`folder`].
    Folder,
}

/// What tells the questions of a data set apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinds {
    /// Types, which say how a question is put together.
    Types,
    /// Categories, which say what is asked for.
    Categories,
}

/// A picture and where it is named.
#[derive(Clone, Debug)]
pub(crate) struct NamedPicture {
    pub(crate) source: ImageSource,
    pub(crate) place: Place,
}

impl Format {
    /// What the `kind` of an [`Example`](mmrag_core::Example) is.
    pub fn kinds(self) -> Kinds {
        match self {
            Self::WebQa => Kinds::Categories,
            _ => Kinds::Types,
        }
    }

    /// Pictures that the files hold whether a question has them or not.
    pub(crate) fn named_pictures(
        self,
        dir: &Path,
        problems: &mut Vec<Problem>,
    ) -> Result<Vec<NamedPicture>, DataError> {
        if self != Self::WebQa || !webqa::Images::are_in(dir) {
            return Ok(Vec::new());
        }
        let mut pictures = Vec::new();
        for webqa::NamedRow { place, found } in webqa::Images::open(dir, problems)?.rows() {
            match found {
                Ok((_, packed)) => {
                    pictures.push(NamedPicture { source: ImageSource::Packed(packed), place });
                }
                Err(what) => problems.push(place.problem(what)),
            }
        }
        Ok(pictures)
    }

    /// The splits whose files a folder holds.
    pub fn splits(self, dir: &Path) -> Vec<Split> {
        match self {
            Self::MultimodalQa => multimodalqa::splits(dir),
            Self::WebQa => webqa::splits(dir),
            Self::Vqa2 => vqa::vqa2_splits(dir),
            Self::TextVqa => vqa::textvqa_splits(dir),
            Self::JsonLines => jsonl::splits(dir),
            Self::Folder => Vec::new(),
        }
    }

    /// Reads a split's questions and the pool. A plain folder has no questions, whatever the split.
    /// Of VQA the whole pool is the split's.
    ///
    /// # Errors
    ///
    /// When a file is missing or cannot be read to its end.
    pub fn load(self, dir: &Path, split: Split, pool: Pool) -> Result<Loaded, DataError> {
        let whole = match self {
            Self::WebQa => return webqa::load(dir, split, pool),
            Self::MultimodalQa => multimodalqa::load(dir, split)?,
            Self::Vqa2 => vqa::load_vqa2(dir, split)?,
            Self::TextVqa => vqa::load_textvqa(dir, split)?,
            Self::JsonLines => jsonl::load(dir, split)?,
            Self::Folder => return folder::load(dir),
        };
        Ok(match pool {
            Pool::Whole => whole,
            Pool::Split => whole.with_candidates_only(),
        })
    }
}
