//! The atlas: a fictional world of people, towns, towers and beetles, with questions over its
//! texts, tables and pictures.
//!
//! Everything is a pure function of a seed, a [`NameSplit`] and an index: the world's facts are
//! hashes of the seed and a name, so that two questions never contradict each other, and a name
//! belongs to its split by a hash of the name alone. What a picture question asks stands in no
//! text. Documents and questions use different words for the same relation.

pub mod baselines;
mod composed;
mod documents;
mod draw;
mod freeze;
mod kinds;
mod lists;
mod names;
mod picture;
mod relations;
mod scene;
mod single;
mod world;
mod write;

use std::ops::RangeInclusive;
use std::sync::Arc;

use mmrag_core::{Document, Example};

use draw::Draw;
use names::{Name, Sort};
use scene::{Draft, Scene};
use single::Author;
use world::World;

pub use freeze::{FROZEN, FROZEN_SEED, frozen_hash};
pub use kinds::Kind;
pub use names::{NameSplit, SYLLABLES};
pub use picture::SIDE;
pub use world::{COLOURS, GOODS, HOMES, SHAPES, STOCKS, WALLS};
pub use write::{Counts, Summary, write};

/// How examples are made.
#[derive(Clone, Debug, PartialEq)]
pub struct AtlasOptions {
    /// How many candidates a question has. Supporting documents and their look-alikes are always
    /// among them, at most eight.
    pub candidates: RangeInclusive<usize>,
    /// The kinds of question, each with its share; all if absent.
    pub kinds: Option<Vec<Kind>>,
}

impl Default for AtlasOptions {
    fn default() -> Self {
        Self { candidates: 10..=15, kinds: None }
    }
}

/// The question at an index, with its candidates; pictures are PNG files in memory.
///
/// ```
/// use mmrag_data::atlas::{AtlasOptions, NameSplit, example};
/// let one = example(1, NameSplit::Dev, 7, &AtlasOptions::default());
/// assert_eq!(one, example(1, NameSplit::Dev, 7, &AtlasOptions::default()));
/// assert!((10..=15).contains(&one.candidates.len()));
/// ```
///
/// # Panics
///
/// When `options.kinds` is an empty list or `options.candidates` an empty range.
pub fn example(seed: u64, split: NameSplit, index: u64, options: &AtlasOptions) -> Example {
    scene(seed, split, index, options).example()
}

/// A single-document lesson: one simple question, and the one document that answers it.
pub fn reading(seed: u64, split: NameSplit, index: u64) -> Example {
    const LESSONS: [Kind; 8] = [
        Kind::TextQ,
        Kind::ImageColour,
        Kind::ImageNumber,
        Kind::TableQ,
        Kind::ImageShape,
        Kind::ImageChart,
        Kind::ImageYesNo,
        Kind::ImageChoose,
    ];
    let place = [seed, split as u64, index];
    let mut draw = Draw::new("atlas-reading", &place);
    let world = World { seed };
    let kind = LESSONS[(index % LESSONS.len() as u64) as usize];
    let draft = draft(&mut Author { world, split, draw: &mut draw }, kind);
    Scene::alone(world, kind, draft).numbered(&[seed, split as u64, index, 1]).example()
}

/// A picture and one short sentence that tells all that can be asked of it.
pub fn description(seed: u64, split: NameSplit, index: u64) -> (Arc<Document>, String) {
    let (world, key, mut draw) = described(seed, split, index);
    (key.document(world), key.description(world, &mut draw))
}

/// Texts to train a tokenizer on: of `n` questions over [`NameSplit::Sft`] names the question,
/// its documents, steps and answers, and a description of a picture, each a text of its own.
pub fn vocabulary_texts(n: usize) -> impl Iterator<Item = String> {
    let options = AtlasOptions::default();
    (0..n as u64).flat_map(move |index| {
        let scene = scene(0, NameSplit::Sft, index, &options);
        let mut texts = vec![scene.draft.text.clone()];
        for key in &scene.candidates {
            texts.push(key.title());
            texts.extend(words(&key.words(scene.world)));
        }
        texts.extend(scene.draft.gold.iter().map(|(_, step)| step.clone()));
        texts.push(scene.draft.answers.join("; "));
        let (world, key, mut draw) = described(0, NameSplit::Sft, index);
        texts.push(key.description(world, &mut draw));
        texts.retain(|text| !text.is_empty());
        texts
    })
}

fn words(content: &mmrag_core::Content) -> Vec<String> {
    match content {
        mmrag_core::Content::Text(text) => vec![text.clone()],
        mmrag_core::Content::Table(table) => {
            std::iter::once(&table.header).chain(&table.rows).map(|row| row.join(" | ")).collect()
        }
        mmrag_core::Content::Image(_) => Vec::new(),
    }
}

fn described(seed: u64, split: NameSplit, index: u64) -> (World, documents::Key, Draw) {
    let world = World { seed };
    let mut draw = Draw::new("atlas-description", &[seed, split as u64, index]);
    let town = Name::any(split, Sort::Town, &mut draw);
    let tower = Name::any(split, Sort::Tower, &mut draw);
    let beetle = Name::any(split, Sort::Beetle, &mut draw);
    let key = match index % 4 {
        0 => documents::Key::Flag(town),
        1 => documents::Key::Tower { tower, town },
        2 => documents::Key::Beetle(beetle),
        _ => documents::Key::Chart(town),
    };
    (world, key, draw)
}

fn scene(seed: u64, split: NameSplit, index: u64, options: &AtlasOptions) -> Scene {
    let place = [seed, split as u64, index];
    let mut draw = Draw::new("atlas-example", &place);
    let world = World { seed };
    let kinds = options.kinds.as_deref().unwrap_or(&Kind::ALL);
    let kind = Kind::at(kinds, [seed, split as u64], index);
    let n = draw.between(*options.candidates.start() as i32, *options.candidates.end() as i32);
    let draft = draft(&mut Author { world, split, draw: &mut draw }, kind);
    Scene::new(world, kind, draft, n as usize, &mut draw).numbered(&place)
}

fn draft(author: &mut Author<'_>, kind: Kind) -> Draft {
    match kind {
        Kind::TextQ => author.text_question(),
        Kind::TableQ => author.table_question(),
        Kind::ImageColour => author.colour_question(),
        Kind::ImageShape => author.shape_question(),
        Kind::ImageNumber => author.number_question(),
        Kind::ImageChart => author.chart_question(),
        Kind::ImageYesNo => author.yes_no_question(),
        Kind::ImageChoose => author.choose_question(),
        Kind::ImageListQ => author.image_list_question(),
        Kind::ComposeTextText => author.text_text_question(),
        Kind::ComposeImageText => author.image_text_question(),
        Kind::ComposeTextImage => author.text_image_question(),
        Kind::ComposeImageTable => author.image_table_question(),
        Kind::ComposeTableImage => author.table_image_question(),
        Kind::ComposeTextTable => author.text_table_question(),
        Kind::CompareText => author.compare_text_question(),
        Kind::CompareImage => author.compare_image_question(),
        Kind::IntersectImageTable => author.intersect_question(),
        Kind::Unanswerable => {
            let taken = author.draw.pick(&[
                Kind::TextQ,
                Kind::TableQ,
                Kind::ImageColour,
                Kind::ImageNumber,
                Kind::ComposeTextText,
                Kind::ComposeImageText,
            ]);
            draft(author, taken).unanswerable()
        }
    }
}
