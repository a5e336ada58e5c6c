//! Where in its pictures stands what a question asks for, as the pictures are drawn.
//!
//! No file of the atlas tells it: it is told on request, for those who look into where a model
//! looked.

use std::path::Path;

use rayon::prelude::*;

use super::documents::Key;
use super::kinds::Kind;
use super::picture::{Part, SIDE};
use super::scene::Scene;
use super::write::Counts;
use super::{AtlasOptions, NameSplit, scene};
use crate::DataError;
use crate::regions::{REGIONS_FILE, Region, write};

/// For each picture that supports the answer of the question at an index, where in it stands what
/// the question asks for.
///
/// # Panics
///
/// As [`example`](super::example).
pub fn regions(seed: u64, split: NameSplit, index: u64, options: &AtlasOptions) -> Vec<Region> {
    let scene = scene(seed, split, index, options);
    let gold = scene.draft.gold.iter();
    gold.filter_map(|(key, _)| region(&scene, *key)).collect()
}

/// Writes the regions of all questions of an atlas beside its files.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write_regions(dir: &Path, questions: Counts, seed: u64) -> Result<(), DataError> {
    let options = AtlasOptions::default();
    let of_split = |(_, names, n): (_, NameSplit, usize)| {
        let of_index = |index| regions(seed, names, index, &options);
        (0..n as u64).into_par_iter().map(of_index).collect::<Vec<_>>().concat()
    };
    let all: Vec<Region> = questions.splits().into_iter().flat_map(of_split).collect();
    write(&dir.join(REGIONS_FILE), &all)
}

fn region(scene: &Scene, key: Key) -> Option<Region> {
    let part = asked(scene.kind, key)?;
    let area = key.canvas(scene.world)?.area(part)?;
    Some(Region {
        question: scene.id.clone(),
        document: key.id(scene.world),
        part: name(part).to_owned(),
        area: area.map(|edge| edge as u32),
        size: [SIDE as u32; 2],
    })
}

/// The part of a picture that a kind of question is about.
fn asked(kind: Kind, key: Key) -> Option<Part> {
    Some(match (kind, key) {
        (Kind::ImageChart, Key::Chart(_)) => Part::Tallest,
        (Kind::ImageYesNo, Key::Flag(_)) => Part::Field,
        (Kind::ImageColour | Kind::ImageShape | Kind::ComposeImageText, Key::Flag(_)) => Part::Sign,
        (Kind::ImageChoose, Key::Tower { .. }) => Part::Tree,
        (Kind::ImageNumber, Key::Tower { .. }) => Part::Windows,
        (
            Kind::ImageColour
            | Kind::ImageYesNo
            | Kind::ImageListQ
            | Kind::ComposeTextImage
            | Kind::IntersectImageTable,
            Key::Tower { .. },
        ) => Part::Roof,
        (Kind::ImageColour | Kind::ImageYesNo | Kind::ComposeImageText, Key::Beetle(_)) => {
            Part::Shell
        }
        (
            Kind::ImageNumber
            | Kind::ComposeImageTable
            | Kind::ComposeTableImage
            | Kind::CompareImage,
            Key::Beetle(_),
        ) => Part::Spots,
        _ => return None,
    })
}

fn name(part: Part) -> &'static str {
    match part {
        Part::Field => "field",
        Part::Sign => "sign",
        Part::Roof => "roof",
        Part::Windows => "windows",
        Part::Tree => "tree",
        Part::Shell => "shell",
        Part::Spots => "spots",
        Part::Tallest => "tallest bar",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::world::COLOURS;
    use super::*;

    fn scenes(n: u64) -> impl Iterator<Item = Scene> {
        (0..n).map(|index| scene(2, NameSplit::Dev, index, &AtlasOptions::default()))
    }

    #[test]
    fn every_picture_that_supports_an_answer_has_a_region_within_it() {
        let mut parts: BTreeMap<String, usize> = BTreeMap::new();
        for scene in scenes(300) {
            for (key, _) in &scene.draft.gold {
                let region = region(&scene, *key);
                assert_eq!(region.is_some(), key.is_picture(), "{}", scene.draft.text);
                let Some(Region { part, area: [left, top, right, bottom], .. }) = region else {
                    continue;
                };
                assert!(
                    left < right && right <= SIDE as u32 && top < bottom && bottom <= SIDE as u32
                );
                *parts.entry(part).or_default() += 1;
            }
        }
        assert_eq!(parts.len(), 8, "{parts:?}");
    }

    /// The colour that is asked for is found where the region says, and fills most of its middle.
    #[test]
    fn the_colour_asked_for_stands_in_the_region() {
        let is_colour = |scene: &Scene| matches!(scene.kind, Kind::ImageColour | Kind::ImageChart);
        let mut seen = 0;
        for scene in scenes(300).filter(is_colour) {
            let (key, _) = scene.draft.gold[0];
            let region = region(&scene, key).unwrap();
            let document = key.document(scene.world);
            let mmrag_core::Content::Image(mmrag_core::ImageSource::Bytes(bytes)) =
                &document.content
            else {
                panic!("the document is a picture")
            };
            let picture = image::load_from_memory(bytes).unwrap().to_rgb8();
            let colour = COLOURS.iter().position(|name| *name == scene.draft.answers[0]).unwrap();
            let paint = super::super::picture::PAINTS[colour];
            let inside = |x: u32, y: u32| {
                let [left, top, right, bottom] = region.area;
                x >= left && x < right && y >= top && y < bottom
            };
            let painted = picture.enumerate_pixels().filter(|(_, _, pixel)| pixel.0 == paint);
            let (within, outside): (Vec<_>, Vec<_>) = painted.partition(|(x, y, _)| inside(*x, *y));
            assert!(within.len() > 60, "{}: {}", scene.draft.text, within.len());
            assert!(outside.is_empty(), "{}: {}", scene.draft.text, outside.len());
            seen += 1;
        }
        assert!(seen > 20);
    }
}
