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
pub(crate) mod draw;
mod freeze;
mod kinds;
mod lists;
mod names;
mod picture;
mod regions;
mod relations;
mod scene;
mod single;
mod survey;
mod world;
mod write;

use std::ops::RangeInclusive;
use std::sync::Arc;

use mmrag_core::{Document, DocumentId, Example, Step};

use draw::Draw;
use names::{Name, Sort};
use scene::{Draft, Scene};
use single::Author;
use world::World;

pub use freeze::{FROZEN, FROZEN_HASH, FROZEN_SEED, frozen_hash};
pub use kinds::Kind;
pub use names::{NameSplit, SYLLABLES};
pub use picture::SIDE;
pub use regions::{regions, write_regions};
pub use world::{COLOURS, GOODS, HOMES, SHAPES, STOCKS, WALLS};
pub use write::{Counts, Summary, write};

/// How examples are made.
#[derive(Clone, Debug, PartialEq)]
pub struct AtlasOptions {
    /// How many candidates a question has. The supporting documents, at most three, are always
    /// among them; from 8 on also the look-alikes without which the answer could be guessed.
    /// Shorter lists are lessons.
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

/// How one finds what the question at an index describes instead of naming, when its documents are
/// read in the order `shown`: every step of the search, those in vain too. Nothing where the
/// question names what it asks about. The question's own steps are the short way: of the documents
/// that support the answer alone.
///
/// # Panics
///
/// As [`example`].
pub fn survey(
    seed: u64,
    split: NameSplit,
    index: u64,
    options: &AtlasOptions,
    shown: &[DocumentId],
) -> Option<Vec<Step>> {
    survey::survey(&scene(seed, split, index, options), shown)
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::documents::Key;
    use super::names::Sort;
    use super::*;

    fn scenes(n: u64) -> impl Iterator<Item = Scene> {
        let options = AtlasOptions::default();
        (0..n).map(move |index| scene(2, NameSplit::Dev, index, &options))
    }

    #[test]
    fn every_scene_fills_its_candidates() {
        for scene in scenes(1000) {
            assert!((10..=15).contains(&scene.candidates.len()), "{}", scene.draft.text);
        }
    }

    #[test]
    fn short_lists_are_lessons_that_keep_their_gold() {
        let options = AtlasOptions { candidates: 1..=4, kinds: None };
        for index in 0..100 {
            let scene = scene(2, NameSplit::Sft, index, &options);
            assert!((1..=4).contains(&scene.candidates.len()));
            assert!(scene.draft.gold.iter().all(|(key, _)| scene.candidates.contains(key)));
        }
    }

    /// What the question does not name can be told from the right document by its kind only of a
    /// few others.
    #[test]
    fn second_hops_have_few_look_alikes() {
        for scene in scenes(300).filter(|scene| scene.draft.gold.len() == 2) {
            let (second, _) = scene.draft.gold[1];
            if !matches!(scene.kind, Kind::ComposeTextText | Kind::ComposeTextTable) {
                continue;
            }
            let Key::Text(_, relation) = second else { panic!("the second hop is a text") };
            let like = |key: &&Key| matches!(key, Key::Text(_, other) if *other == relation);
            let n_like = scene.candidates.iter().filter(like).count() - 1;
            assert!((1..=4).contains(&n_like), "{n_like}: {}", scene.draft.text);
        }
    }

    /// Of the towers shown in a town asked about, none but the answers fits the question.
    #[test]
    fn lists_are_whole() {
        let world = World { seed: 2 };
        let is_list =
            |scene: &Scene| matches!(scene.kind, Kind::ImageListQ | Kind::IntersectImageTable);
        for scene in scenes(300).filter(is_list) {
            let pictures = scene.draft.gold.iter().filter_map(|(key, _)| match key {
                Key::Tower { tower, town } => Some((*tower, *town)),
                _ => None,
            });
            let gold: Vec<(Name, Name)> = pictures.collect();
            assert_eq!(gold.len(), scene.draft.answers.len());
            assert!((1..=3).contains(&gold.len()));
            let (first, asked) = gold[0];
            for key in &scene.candidates {
                let Key::Tower { tower, town } = key else { continue };
                let fits = *town == asked && world.tower(*tower).roof == world.tower(first).roof;
                let is_answer = gold.iter().any(|(name, _)| name == tower);
                if scene.kind == Kind::ImageListQ {
                    assert_eq!(fits, is_answer, "{}", scene.draft.text);
                } else {
                    assert!(fits || !is_answer, "{}", scene.draft.text);
                }
            }
        }
    }

    #[test]
    fn towns_are_made_for_every_kind() {
        let mut draw = Draw::new("test", &[]);
        for _ in 0..50 {
            let town = Name::any(NameSplit::Test, Sort::Town, &mut draw);
            let world = World { seed: 5 };
            let group = world.town(town);
            let looks = group.towers.map(|tower| world.tower(tower));
            let mut roofs: HashMap<usize, usize> = HashMap::new();
            for look in looks {
                *roofs.entry(look.roof).or_default() += 1;
            }
            assert!(looks[..4].iter().any(|look| roofs[&look.roof] == 1));
            let like = |look: &&world::Tower| look.roof == looks[0].roof;
            let n_both =
                looks[..4].iter().filter(like).filter(|look| look.wall == looks[0].wall).count();
            assert!(n_both < looks[..4].iter().filter(like).count());
            let mut homes = group.beetles.map(|beetle| world.beetle(beetle).home).to_vec();
            homes.sort_unstable();
            assert_eq!(homes, [0, 1, 2, 3]);
        }
    }
}
