//! What a data set's files hold, counted, and what in them is wrong.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use mmrag_core::{Content, DocumentId, Example, ImageSource, Modality};
use rayon::prelude::*;

use crate::format::NamedPicture;
use crate::pictures::{Seen, check_header, look_at, picture_bytes};
use crate::{DataError, Format, Loaded, Place, Pool, Problem, Split};

/// What of the pictures is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// All pixels are decoded.
    Pixels,
    /// Only headers are read.
    Headers,
}

/// What is inspected.
#[derive(Clone, Copy, Debug)]
pub struct InspectOptions<'a> {
    /// The form of the data set's files.
    pub format: Format,
    /// Its folder.
    pub dir: &'a Path,
    /// The splits whose questions are counted.
    pub splits: &'a [Split],
    /// Which documents are counted: those that the splits' questions come with, or all.
    pub pool: Pool,
    /// What of the pictures is read.
    pub look: Look,
}

/// What was counted.
#[derive(Clone, Debug, Default)]
pub struct Inspection {
    /// Questions that can be used.
    pub questions: usize,
    /// Questions without an answer in the files.
    pub unanswerable: usize,
    /// Distinct texts.
    pub texts: usize,
    /// Distinct tables.
    pub tables: usize,
    /// Distinct pictures that decode; under [`Look::Headers`] those whose header can be read.
    pub images: usize,
    /// Pictures among them that are cut off: the rest of them is grey.
    pub cut_images: usize,
    /// Questions by split.
    pub by_split: BTreeMap<Split, usize>,
    /// Questions by the data set's own name of their kind: a type or a category.
    pub by_kind: BTreeMap<String, usize>,
    /// Questions by what their gold documents are, such as `image+table`; `unknown` where the
    /// files do not tell.
    pub by_modality: BTreeMap<String, usize>,
    /// Everything that is wrong, by file and line, each once.
    pub problems: Vec<Problem>,
}

/// Reads splits of a data set and looks at every picture. `progress` is told how many pictures of
/// how many were looked at.
///
/// # Errors
///
/// When a file is missing or cannot be read to its end.
pub fn inspect(
    options: &InspectOptions<'_>,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Inspection, DataError> {
    let InspectOptions { format, dir, splits, pool, look } = *options;
    let mut inspection = Inspection::default();
    let mut documents = HashSet::new();
    let mut pictures: HashMap<ImageSource, NamedPicture> = HashMap::new();
    for split in splits {
        let loaded = format.load(dir, *split, pool)?;
        inspection.count_questions(*split, &loaded.examples);
        inspection.count_documents(&loaded, &mut documents, &mut pictures);
        inspection.problems.extend(loaded.problems);
    }
    if pool == Pool::Whole {
        for picture in format.named_pictures(dir, &mut inspection.problems)? {
            pictures.entry(picture.source.clone()).or_insert(picture);
        }
    }
    let pictures: Vec<NamedPicture> = pictures.into_values().collect();
    inspection.look_at(&pictures, look, progress);
    inspection.problems.sort();
    inspection.problems.dedup();
    Ok(inspection)
}

impl Inspection {
    fn count_questions(&mut self, split: Split, examples: &[Example]) {
        *self.by_split.entry(split).or_default() += examples.len();
        self.questions += examples.len();
        for example in examples {
            self.unanswerable += usize::from(!example.gold.is_answerable());
            *self.by_kind.entry(example.kind.clone()).or_default() += 1;
            *self.by_modality.entry(gold_modalities(example)).or_default() += 1;
        }
    }

    fn count_documents(
        &mut self,
        loaded: &Loaded,
        seen: &mut HashSet<DocumentId>,
        pictures: &mut HashMap<ImageSource, NamedPicture>,
    ) {
        for (document, place) in loaded.documents.iter().zip(&loaded.places) {
            if !seen.insert(document.id.clone()) {
                continue;
            }
            match &document.content {
                Content::Text(_) => self.texts += 1,
                Content::Table(_) => self.tables += 1,
                Content::Image(source) => {
                    let (source, place) = (source.clone(), place.clone());
                    pictures.insert(source.clone(), NamedPicture { source, place });
                }
            }
        }
    }

    fn look_at(
        &mut self,
        pictures: &[NamedPicture],
        look: Look,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) {
        let known: HashSet<(&Path, usize)> =
            self.problems.iter().map(|problem| (&*problem.file, problem.line)).collect();
        let total = pictures.len();
        let (n_done, n_seen, n_cut) =
            (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let found = Mutex::new(Vec::new());
        let tell = |place: &Place, what: String| {
            if !known.contains(&(place.file.as_path(), place.line)) {
                found.lock().expect("nobody panics with it").push(place.problem(what));
            }
        };
        pictures.par_iter().for_each(|NamedPicture { source, place }| {
            let seen = picture_bytes(source).and_then(|bytes| match look {
                Look::Pixels => look_at(&bytes),
                Look::Headers => check_header(&bytes).map(|()| Seen::Whole),
            });
            match seen {
                Ok(seen) => {
                    n_seen.fetch_add(1, Ordering::Relaxed);
                    if seen == Seen::Cut {
                        n_cut.fetch_add(1, Ordering::Relaxed);
                        tell(place, "the picture is cut off; the rest of it is grey".to_owned());
                    }
                }
                Err(what) => tell(place, format!("the picture does not decode: {what}")),
            }
            progress(n_done.fetch_add(1, Ordering::Relaxed) + 1, total);
        });
        self.images = n_seen.into_inner();
        self.cut_images = n_cut.into_inner();
        self.problems.extend(found.into_inner().expect("nobody panicked with it"));
    }
}

/// What the gold documents of a question are, in a fixed order.
fn gold_modalities(example: &Example) -> String {
    let gold = |modality: Modality| {
        let documents = example.candidates.iter().filter(|d| d.modality() == modality);
        documents.into_iter().any(|document| example.gold.documents.contains(&document.id))
    };
    let all = [Modality::Image, Modality::Table, Modality::Text];
    let names: Vec<String> =
        all.into_iter().filter(|m| gold(*m)).map(|modality| modality.to_string()).collect();
    if names.is_empty() { "unknown".to_owned() } else { names.join("+") }
}
