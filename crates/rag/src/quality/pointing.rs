//! Does an attribution point where it should? Of pictures of which it is known where the asked-for
//! thing stands, against looking nowhere in particular, at the middle, and as a model with random
//! weights does.
//!
//! The pointing game (Zhang et al. 2016, arXiv 1608.00507) asks whether the strongest place lies in
//! the region. Here the places are patches, often larger than the region's detail, so a hit is the
//! share of the strongest patch that lies in the region: the probability that a point drawn from the
//! patch does. So drawing a patch by chance hits as often as the region is large, and the same number
//! is what an even attribution has inside. An attribution should lose what it finds when the model's
//! weights are drawn anew (Adebayo et al. 2018, arXiv 1810.03292).

use std::collections::BTreeMap;

use mmrag_core::{DocumentId, QuestionId};
use serde::{Deserialize, Serialize};

use super::Measure;
use crate::explanation::{Attribution, Told};
use crate::report::Named;
use crate::statistics::{Resamples, Scores};

/// A cited picture of which it is known where the asked-for thing stands, and what was found of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PointingRow {
    /// The question.
    pub question: QuestionId,
    /// Its type.
    pub kind: String,
    /// Answer F1.
    pub f1: f64,
    /// The picture and what stands where in it.
    pub picture: Picture,
    /// What was found by asking about each part of the reply.
    pub found: Vec<Pointed>,
}

/// A picture with the region that holds what is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    /// Its document.
    pub document: DocumentId,
    /// What stands in the region.
    pub part: String,
    /// Left, top, right and bottom edge of the region, as shares of width and height.
    pub region: [f32; 4],
}

/// An attribution against a region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pointed {
    /// The model's attribution.
    pub attribution: Attribution,
    /// Share of the strongest patch that lies in the region; 0 if no patch adds anything.
    pub hit: f64,
    /// Share of what the patches add that lies in the region, each patch's spread over it evenly.
    pub mass: f64,
    /// Share of the picture that is the region: both of an even attribution.
    pub uniform: f64,
    /// Both of one that lies on the patches nearest to the middle.
    pub centre: f64,
    /// The most that any attribution can have.
    pub best: f64,
    /// `hit` and `mass` of a model with random weights, told the same reply.
    pub random: Option<[f64; 2]>,
}

impl Pointed {
    /// Holds an attribution, and that of a model with random weights, against a region.
    pub fn new(attribution: &Attribution, random: Option<&Attribution>, region: [f32; 4]) -> Self {
        let cover = coverage(attribution, region);
        let middle = nearest_to_middle(attribution);
        let centre = middle.iter().map(|&patch| cover[patch]).sum::<f64>() / middle.len() as f64;
        Self {
            attribution: attribution.clone(),
            hit: hit(attribution, &cover),
            mass: mass(attribution, &cover),
            uniform: cover.iter().sum::<f64>() / cover.len() as f64,
            centre,
            best: cover.iter().copied().fold(0.0, f64::max),
            random: random.map(|random| [hit(random, &cover), mass(random, &cover)]),
        }
    }
}

fn hit(attribution: &Attribution, cover: &[f64]) -> f64 {
    attribution.peak().map_or(0.0, |patch| cover[patch])
}

fn mass(attribution: &Attribution, cover: &[f64]) -> f64 {
    attribution.support().iter().zip(cover).map(|(value, cover)| value * cover).sum()
}

/// For each patch, the share of it that lies in a region.
fn coverage(attribution: &Attribution, region: [f32; 4]) -> Vec<f64> {
    let of_patch = |patch: usize| {
        let area = attribution.area(patch).map(f64::from);
        let region = region.map(f64::from);
        let along = |low: usize, high: usize| {
            let both = area[high].min(region[high]) - area[low].max(region[low]);
            both.max(0.0) / (area[high] - area[low])
        };
        along(0, 2) * along(1, 3)
    };
    (0..attribution.values.len()).map(of_patch).collect()
}

/// The patches whose middles are nearest to the picture's.
fn nearest_to_middle(attribution: &Attribution) -> Vec<usize> {
    let distance = |patch: usize| {
        let [left, top, right, bottom] = attribution.area(patch);
        (left + right - 1.0).powi(2) + (top + bottom - 1.0).powi(2)
    };
    let patches = 0..attribution.values.len();
    let least = patches.clone().map(distance).fold(f32::INFINITY, f32::min);
    patches.filter(|&patch| distance(patch) <= least + 1e-6).collect()
}

/// The figures of attributions that asked about one part of the reply.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PointingMeasures {
    /// What was asked about.
    pub told: Told,
    /// How many pictures there are.
    pub pictures: usize,
    /// Of how many questions.
    pub questions: usize,
    /// The figures by name.
    pub all: Named<Measure>,
    /// Hit and mass by what stands in the region.
    pub by_part: Named<Named<Measure>>,
    /// The same by whether the answer is right.
    pub by_answer: Named<Named<Measure>>,
}

type Value = fn(&Pointed) -> Option<f64>;

/// Name, title, value, and whether it is told of each part too.
const DEFINED: [(&str, &str, Value, bool); 13] = [
    ("hit", "Strongest patch in the region", |p| Some(p.hit), true),
    ("mass", "Attribution in the region", |p| Some(p.mass), true),
    ("uniform", "… both, of an even attribution", |p| Some(p.uniform), true),
    ("centre", "… both, at the middle", |p| Some(p.centre), true),
    ("best", "… both, at most", |p| Some(p.best), false),
    ("hit_random", "Strongest patch, random weights", |p| Some(p.random?[0]), false),
    ("mass_random", "Attribution, random weights", |p| Some(p.random?[1]), false),
    ("hit_over_uniform", "Strongest patch less even", |p| Some(p.hit - p.uniform), true),
    ("mass_over_uniform", "Attribution less even", |p| Some(p.mass - p.uniform), true),
    ("hit_over_centre", "Strongest patch less middle", |p| Some(p.hit - p.centre), false),
    ("mass_over_centre", "Attribution less middle", |p| Some(p.mass - p.centre), false),
    (
        "hit_random_over_uniform",
        "Random weights: strongest patch less even",
        |p| Some(p.random?[0] - p.uniform),
        false,
    ),
    (
        "mass_random_over_uniform",
        "Random weights: attribution less even",
        |p| Some(p.random?[1] - p.uniform),
        false,
    ),
];

/// The figures of rows by what was asked about, with `resamples` bootstrap draws of questions from
/// `seed`. A question with several pictures counts once, with their mean.
pub fn pointing_measures(
    rows: &[PointingRow],
    resamples: usize,
    seed: u64,
) -> Vec<PointingMeasures> {
    let of_told = |told: Told| {
        let found: Vec<(&PointingRow, &Pointed)> = rows
            .iter()
            .flat_map(|row| row.found.iter().map(move |pointed| (row, pointed)))
            .filter(|(_, pointed)| pointed.attribution.told == told)
            .collect();
        let sliced = |slice: fn(&PointingRow) -> &str| -> Named<Named<Measure>> {
            let mut names: Vec<&str> = found.iter().map(|(row, _)| slice(row)).collect();
            names.sort_unstable();
            names.dedup();
            let of_slice = |name: &str| {
                let members: Vec<_> =
                    found.iter().filter(|(row, _)| slice(row) == name).copied().collect();
                (name.to_owned(), figures(&members, true, resamples, seed))
            };
            names.into_iter().map(of_slice).collect()
        };
        PointingMeasures {
            told,
            pictures: found.len(),
            questions: by_question(&found, |_| Some(0.0)).len(),
            all: figures(&found, false, resamples, seed),
            by_part: sliced(|row| &row.picture.part),
            by_answer: sliced(|row| if row.f1 >= 1.0 { "right" } else { "wrong" }),
        }
    };
    let all = [Told::Answer, Told::Reasoning].map(of_told);
    all.into_iter().filter(|measures| measures.pictures > 0).collect()
}

fn figures(
    found: &[(&PointingRow, &Pointed)],
    of_part: bool,
    resamples: usize,
    seed: u64,
) -> Named<Measure> {
    let draws = Resamples::new(by_question(found, |_| Some(0.0)).len(), resamples, seed);
    let wanted = DEFINED.iter().filter(|(.., told)| *told || !of_part);
    let figure = |(name, title, of, _): &(&str, &str, Value, bool)| {
        let values = by_question(found, of);
        let explanations = values.iter().flatten().count();
        let figure = draws.interval(&Scores { by_seed: vec![values] })?;
        Some(((*name).to_owned(), Measure { title: (*title).to_owned(), explanations, figure }))
    };
    wanted.filter_map(figure).collect()
}

/// For each question, the mean over its pictures.
fn by_question(
    found: &[(&PointingRow, &Pointed)],
    of: impl Fn(&Pointed) -> Option<f64>,
) -> Vec<Option<f64>> {
    let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (row, pointed) in found {
        values.entry(row.question.as_str()).or_default().extend(of(pointed));
    }
    let mean = |values: &Vec<f64>| {
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    values.values().map(mean).collect()
}

#[cfg(test)]
mod tests {
    use mmrag_core::PatchShares;

    use super::*;

    fn attribution(rows: usize, columns: usize, values: &[f32]) -> Attribution {
        let shares = PatchShares { rows, columns, values: values.to_vec() };
        Attribution::of(1, &DocumentId::new("x"), Told::Answer, &shares)
    }

    fn check(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
    }

    /// Four patches; the region is the upper half and a quarter of the lower left patch.
    #[test]
    fn a_hit_is_the_share_of_the_strongest_patch_that_lies_in_the_region() {
        let right = attribution(2, 2, &[0.1, 0.5, 0.3, -0.1]);
        let wrong = attribution(2, 2, &[0.0, 0.0, 0.2, 0.8]);
        let region = [0.0, 0.0, 0.5, 0.75];
        let found = Pointed::new(&wrong, Some(&right), region);
        check(found.hit, 0.0);
        check(found.mass, 0.2 * 0.5);
        check(found.uniform, 0.5 * 0.75);
        check(found.centre, 0.5 * 0.75);
        check(found.best, 1.0);
        let [hit, mass] = found.random.unwrap();
        check(hit, 0.0);
        check(mass, (0.1 + 0.3 * 0.5) / 0.9);
        check(Pointed::new(&right, None, [0.5, 0.0, 1.0, 0.25]).hit, 0.5);
    }

    #[test]
    fn the_middle_is_one_patch_or_those_around_it() {
        let of = |rows: usize, columns: usize| {
            nearest_to_middle(&attribution(rows, columns, &vec![1.0; rows * columns]))
        };
        assert_eq!(of(4, 4), [5, 6, 9, 10]);
        assert_eq!(of(3, 3), [4]);
        assert_eq!(of(1, 2), [0, 1]);
    }

    #[test]
    fn an_attribution_of_nothing_hits_nothing() {
        let found = Pointed::new(&attribution(2, 2, &[0.0; 4]), None, [0.0, 0.0, 1.0, 0.5]);
        assert_eq!((found.hit, found.mass, found.random), (0.0, 0.0, None));
    }

    #[test]
    fn a_question_with_several_pictures_counts_once() {
        let row = |question: &str, values: &[f32]| PointingRow {
            question: QuestionId::new(question),
            kind: "ImageQ".into(),
            f1: 1.0,
            picture: Picture {
                document: DocumentId::new("x"),
                part: "roof".into(),
                region: [0.0, 0.0, 0.5, 1.0],
            },
            found: vec![Pointed::new(&attribution(1, 2, values), None, [0.0, 0.0, 0.5, 1.0])],
        };
        let rows = [row("a", &[1.0, 0.0]), row("a", &[0.0, 1.0]), row("b", &[1.0, 0.0])];
        let found = pointing_measures(&rows, 100, 0);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].pictures, found[0].questions), (3, 2));
        check(found[0].all.get("hit").unwrap().figure.value, 0.75);
        check(found[0].all.get("mass_over_uniform").unwrap().figure.value, 0.25);
        assert!(found[0].all.get("hit_random").is_none());
        assert_eq!(found[0].by_part.get("roof").unwrap().get("hit").unwrap().explanations, 2);
        assert!(found[0].by_answer.get("right").is_some());
        assert!(found[0].by_answer.get("wrong").is_none());
    }
}
