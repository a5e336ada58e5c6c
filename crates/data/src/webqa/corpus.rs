//! The facts of all questions as documents, each once.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use mmrag_core::{Content, Document, DocumentId, ImageSource, Packed};
use rayon::prelude::*;

use super::images::Images;
use super::records::{Body, Fact};
use crate::pictures::check_header;
use crate::{Place, Problem};

/// As much of a picture as usually holds its header, in bytes of base64.
const HEADER: u64 = 4096;

/// The facts so far, before pictures were looked for.
#[derive(Default)]
pub(super) struct Corpus {
    entries: Vec<Entry>,
    places: HashMap<DocumentId, usize>,
}

enum Entry {
    Text(Document, Place),
    Image(ImageFact),
}

/// A document and where it is named.
pub(super) struct Placed {
    pub(super) document: Arc<Document>,
    pub(super) place: Place,
}

struct ImageFact {
    id: u64,
    title: String,
    /// Whether a question of the split has it as a candidate.
    is_shown: bool,
    /// Where it is named first.
    place: Place,
}

impl Corpus {
    /// Puts a fact among the documents, and gives its place there. Of a fact that stands there
    /// already the first one stays; what contradicts it is told.
    pub(super) fn add(
        &mut self,
        fact: Fact,
        is_shown: bool,
        file: &Arc<PathBuf>,
        report: &mut impl FnMut(usize, String),
    ) -> usize {
        let id = fact.id();
        if let Some(&place) = self.places.get(&id) {
            if self.entries[place].meets(fact.body, is_shown) {
                let what = format!("document {id} says something else than where it stood before");
                report(fact.line, what);
            }
            return place;
        }
        let named = Place { file: file.clone(), line: fact.line };
        self.places.insert(id, self.entries.len());
        self.entries.push(match fact.body {
            Body::Text(document) => Entry::Text(document, named),
            Body::Image { id, title } => {
                Entry::Image(ImageFact { id, title, is_shown, place: named })
            }
        });
        self.entries.len() - 1
    }

    /// Whether there is a picture.
    pub(super) fn has_images(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry, Entry::Image(_)))
    }

    /// The documents by their places; none where a picture cannot be used, which is told.
    pub(super) fn documents(
        self,
        images: Option<&Images>,
        problems: &mut Vec<Problem>,
    ) -> Vec<Option<Placed>> {
        let index_file = images.map(|images| Arc::new(images.index_file().to_owned()));
        let document = |entry: Entry| match entry {
            Entry::Text(document, place) => Ok(Placed { document: Arc::new(document), place }),
            Entry::Image(fact) => fact.document(images, index_file.as_ref()),
        };
        let documents: Vec<_> = self.entries.into_par_iter().map(document).collect();
        let told = |document: Result<_, Problem>| match document {
            Ok(document) => Some(document),
            Err(problem) => {
                problems.push(problem);
                None
            }
        };
        documents.into_iter().map(told).collect()
    }
}

impl Entry {
    /// Takes note of the same fact once more; says whether it contradicts this one.
    fn meets(&mut self, other: Body, is_shown: bool) -> bool {
        match (self, other) {
            (Self::Text(document, _), Body::Text(other)) => *document != other,
            (Self::Image(fact), Body::Image { title, .. }) => {
                fact.is_shown |= is_shown;
                if fact.title.is_empty() {
                    fact.title = title;
                    return false;
                }
                !title.is_empty() && fact.title != title
            }
            _ => true,
        }
    }
}

impl ImageFact {
    fn document(
        self,
        images: Option<&Images>,
        index_file: Option<&Arc<PathBuf>>,
    ) -> Result<Placed, Problem> {
        let (Some(images), Some(index_file)) = (images, index_file) else {
            return Err(self.place.problem("there are no pictures"));
        };
        let place = match images.line(self.id) {
            Some(line) => Place { file: index_file.clone(), line },
            None => self.place,
        };
        let packed = images.find(self.id).map_err(|what| place.problem(what))?;
        if self.is_shown {
            check(images, &packed)
                .map_err(|what| place.problem(format!("picture {} is broken: {what}", self.id)))?;
        }
        let content = Content::Image(ImageSource::Packed(packed));
        let id = DocumentId::new(self.id.to_string());
        Ok(Placed { document: Arc::new(Document { id, title: self.title, content }), place })
    }
}

/// Reads the header of a picture.
fn check(images: &Images, packed: &Packed) -> Result<(), String> {
    let beginning = images.beginning(packed, HEADER)?;
    match check_header(&beginning) {
        Ok(()) => Ok(()),
        Err(_) => check_header(&images.unpack(packed)?),
    }
}
