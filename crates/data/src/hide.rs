//! Examples with something hidden: what can a model do that does not see it?

use std::sync::{Arc, LazyLock};

use image::{ImageFormat, Rgb, RgbImage};
use mmrag_core::{Content, Document, Example, ImageSource};
use serde::{Deserialize, Serialize};

use crate::atlas::SIDE;

/// What of the documents is hidden. Ids, order and gold stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hide {
    /// Everything: the question alone is left.
    Documents,
    /// Everything but the titles, which of pictures are the captions.
    Contents,
    /// Pictures are grey; texts and tables stay.
    Pictures,
}

/// A grey picture of the atlas's size.
static GREY: LazyLock<Arc<[u8]>> = LazyLock::new(|| {
    let picture = RgbImage::from_pixel(SIDE as u32, SIDE as u32, Rgb([128; 3]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).expect("a small picture fits into memory");
    bytes.into_inner().into()
});

impl Hide {
    /// The example without what is hidden.
    pub fn of(self, example: &Example) -> Example {
        let candidates = example.candidates.iter().map(|d| Arc::new(self.document(d))).collect();
        Example { candidates, ..example.clone() }
    }

    fn document(self, document: &Document) -> Document {
        let (title, content) = match (self, &document.content) {
            (Self::Documents, _) => (String::new(), Content::Text(String::new())),
            (Self::Contents, _) => (document.title.clone(), Content::Text(String::new())),
            (Self::Pictures, Content::Image(_)) => {
                (document.title.clone(), Content::Image(ImageSource::Bytes(GREY.clone())))
            }
            (Self::Pictures, content) => (document.title.clone(), content.clone()),
        };
        Document { id: document.id.clone(), title, content }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atlas::{AtlasOptions, NameSplit, example};

    #[test]
    fn what_is_hidden_is_gone_and_the_rest_stays() {
        let whole = example(1, NameSplit::Dev, 2, &AtlasOptions::default());
        for hide in [Hide::Documents, Hide::Contents, Hide::Pictures] {
            let hidden = hide.of(&whole);
            assert_eq!((&hidden.question, &hidden.gold), (&whole.question, &whole.gold));
            assert_eq!(hidden.candidates.len(), whole.candidates.len());
            for (before, after) in whole.candidates.iter().zip(&hidden.candidates) {
                assert_eq!(before.id, after.id);
                assert_eq!(after.title.is_empty(), hide == Hide::Documents);
                match (&before.content, &after.content) {
                    (Content::Image(before), Content::Image(after)) => assert_ne!(before, after),
                    (before, after) if hide == Hide::Pictures => assert_eq!(before, after),
                    (_, after) => assert_eq!(after, &Content::Text(String::new())),
                }
            }
        }
    }
}
