//! Examples with worse documents, at graded strengths: how fast does an answer suffer?
//!
//! Everything is a pure function of the examples, the strength and the seed: each document and each
//! question draws from a stream of its own. At strength 0 nothing changes. Questions and gold stay,
//! so that what is lost shows in the figures.

mod edit;
mod picture;
mod words;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use mmrag_core::{Content, Document, Example, ImageSource, Modality};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::atlas::draw::{Draw, digest};

pub use edit::{Counterfactuals, Edited, replacing};

/// What is done to documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DegradeKind {
    /// Pictures lose sharpness: a Gaussian of 10 % of the longer side at strength 1.
    Blur,
    /// Gaussian noise on pixels: a deviation of 128 of 255 at strength 1.
    Noise,
    /// JPEG at quality 100 less the strength's percent, 1 at least.
    Jpeg,
    /// Pictures are made smaller and large again: by 32 each way at strength 1.
    Downscale,
    /// A grey rectangle covers this share of the picture.
    Occlude,
    /// This share of the pictures loses its caption.
    CaptionRemoved,
    /// This share of the pictures gets the caption of another picture of the question.
    CaptionSwapped,
    /// This share of the letters and digits of texts and cells is misread as a scanner would:
    /// three in ten at strength 1.
    Ocr,
    /// This share of a table's cells changes places within its column.
    Cells,
    /// This share of the gold documents gives way to a document of its kind from another question.
    GoldReplaced,
    /// This share of the questions gets a copy of a gold text or table that tells another answer.
    Contradict,
    /// This share of the texts is gone.
    TextsRemoved,
    /// This share of the tables is gone.
    TablesRemoved,
    /// This share of the pictures is gone.
    ImagesRemoved,
}

impl DegradeKind {
    /// All.
    pub const ALL: [Self; 14] = [
        Self::Blur,
        Self::Noise,
        Self::Jpeg,
        Self::Downscale,
        Self::Occlude,
        Self::CaptionRemoved,
        Self::CaptionSwapped,
        Self::Ocr,
        Self::Cells,
        Self::GoldReplaced,
        Self::Contradict,
        Self::TextsRemoved,
        Self::TablesRemoved,
        Self::ImagesRemoved,
    ];

    /// Its name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blur => "blur",
            Self::Noise => "noise",
            Self::Jpeg => "jpeg",
            Self::Downscale => "downscale",
            Self::Occlude => "occlude",
            Self::CaptionRemoved => "caption_removed",
            Self::CaptionSwapped => "caption_swapped",
            Self::Ocr => "ocr",
            Self::Cells => "cells",
            Self::GoldReplaced => "gold_replaced",
            Self::Contradict => "contradict",
            Self::TextsRemoved => "texts_removed",
            Self::TablesRemoved => "tables_removed",
            Self::ImagesRemoved => "images_removed",
        }
    }

    /// The kind of documents that it takes away, if it takes any away.
    fn removed(self) -> Option<Modality> {
        match self {
            Self::TextsRemoved => Some(Modality::Text),
            Self::TablesRemoved => Some(Modality::Table),
            Self::ImagesRemoved => Some(Modality::Image),
            _ => None,
        }
    }
}

impl fmt::Display for DegradeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DegradeKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| format!("there is no {name:?}; there are {}", known()))
    }
}

/// What is done to documents, and how much; written `blur=0.5`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Degrade {
    /// What.
    pub kind: DegradeKind,
    /// How much, from 0, nothing, to 1.
    pub strength: f64,
}

impl fmt::Display for Degrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, self.strength)
    }
}

impl From<Degrade> for String {
    fn from(degrade: Degrade) -> Self {
        degrade.to_string()
    }
}

impl TryFrom<String> for Degrade {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Degrade {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, strength) = text
            .split_once('=')
            .ok_or_else(|| format!("it is KIND=STRENGTH, such as blur=0.5, not {text:?}"))?;
        let kind = kind.parse()?;
        let strength: f64 =
            strength.parse().map_err(|_| format!("the strength {strength:?} is no number"))?;
        if !(0.0..=1.0).contains(&strength) {
            return Err(format!("the strength {strength} is not between 0 and 1"));
        }
        Ok(Self { kind, strength })
    }
}

impl Degrade {
    /// The examples with their documents made worse. Other questions' documents and answers, where
    /// some are needed, are taken from `pool`.
    pub fn of(self, examples: &[Example], pool: &[Example], seed: u64) -> Vec<Example> {
        if self.strength <= 0.0 {
            return examples.to_vec();
        }
        let counterfactuals = Counterfactuals::new(pool, seed);
        examples
            .par_iter()
            .map(|example| match self.kind {
                DegradeKind::CaptionSwapped => self.swapped(example, seed),
                DegradeKind::GoldReplaced => self.replaced(example, pool, seed),
                DegradeKind::Contradict => self.contradicted(example, &counterfactuals, seed),
                _ => self.one_by_one(example, seed),
            })
            .collect()
    }

    fn one_by_one(self, example: &Example, seed: u64) -> Example {
        let worse = |document: &Arc<Document>| {
            if Some(document.modality()) == self.kind.removed() {
                let mut draw = self.draw(document.id.as_str(), seed);
                return (!draw.chance(self.strength)).then(|| Arc::clone(document));
            }
            let worse = self.document(document, seed);
            Some(worse.map_or_else(|| Arc::clone(document), Arc::new))
        };
        let candidates = example.candidates.iter().filter_map(worse).collect();
        Example { candidates, ..example.clone() }
    }

    /// A document made worse; none if nothing of it changes.
    fn document(self, document: &Document, seed: u64) -> Option<Document> {
        let mut draw = self.draw(document.id.as_str(), seed);
        let strength = self.strength;
        let (title, content) = match (self.kind, &document.content) {
            (DegradeKind::CaptionRemoved, Content::Image(_)) => {
                return draw
                    .chance(strength)
                    .then(|| Document { title: String::new(), ..document.clone() });
            }
            (kind, Content::Image(source)) => {
                let worse = picture::worse(kind, strength, source, &mut draw)?;
                (document.title.clone(), Content::Image(ImageSource::Bytes(worse.into())))
            }
            (DegradeKind::Ocr, Content::Text(text)) => {
                (document.title.clone(), Content::Text(words::misread(text, strength, &mut draw)))
            }
            (DegradeKind::Ocr, Content::Table(table)) => {
                let table = words::misread_cells(table, strength, &mut draw);
                (document.title.clone(), Content::Table(table))
            }
            (DegradeKind::Cells, Content::Table(table)) => {
                let table = words::shuffled(table, strength, &mut draw);
                (document.title.clone(), Content::Table(table))
            }
            _ => return None,
        };
        Some(Document { id: document.id.clone(), title, content })
    }

    /// The chosen pictures hand their captions on, each to the next.
    fn swapped(self, example: &Example, seed: u64) -> Example {
        let mut draw = self.draw(example.question.id.as_str(), seed);
        let is_picture = |d: &Document| matches!(d.content, Content::Image(_));
        let mut chosen: Vec<usize> = (0..example.candidates.len())
            .filter(|&place| is_picture(&example.candidates[place]))
            .filter(|_| draw.chance(self.strength))
            .collect();
        draw.shuffle(&mut chosen);
        let mut candidates = example.candidates.clone();
        for (nth, &place) in chosen.iter().enumerate() {
            let next = &example.candidates[chosen[(nth + 1) % chosen.len()]];
            let document = Document { title: next.title.clone(), ..(*candidates[place]).clone() };
            candidates[place] = Arc::new(document);
        }
        Example { candidates, ..example.clone() }
    }

    fn replaced(self, example: &Example, all: &[Example], seed: u64) -> Example {
        let mut draw = self.draw(example.question.id.as_str(), seed);
        let mut candidates = example.candidates.clone();
        for place in 0..candidates.len() {
            let document = Arc::clone(&candidates[place]);
            if !example.gold.documents.contains(&document.id) || !draw.chance(self.strength) {
                continue;
            }
            let is_new = |other: &Arc<Document>| {
                other.modality() == document.modality()
                    && candidates.iter().all(|candidate| candidate.id != other.id)
            };
            let start = draw.below(all.len());
            let donors = all.iter().cycle().skip(start).take(all.len());
            if let Some(donor) = donors.flat_map(|e| &e.candidates).find(|d| is_new(d)) {
                candidates[place] = Arc::clone(donor);
            }
        }
        Example { candidates, ..example.clone() }
    }

    /// A copy that tells another answer stands somewhere among the candidates.
    fn contradicted(self, example: &Example, others: &Counterfactuals, seed: u64) -> Example {
        let mut draw = self.draw(example.question.id.as_str(), seed);
        let mut example = example.clone();
        if draw.chance(self.strength)
            && let Some(edited) = others.words_of(&example)
        {
            let id = mmrag_core::DocumentId::new(format!("{}~contradicting", edited.document.id));
            let copy = Document { id, ..edited.document };
            let place = draw.below(example.candidates.len() + 1);
            example.candidates.insert(place, Arc::new(copy));
        }
        example
    }

    /// The stream of draws of one thing. It does not depend on the strength: what is chosen at a
    /// low strength is chosen at every higher one.
    fn draw(self, name: &str, seed: u64) -> Draw {
        let name = digest(name, &[]);
        let number = u64::from_le_bytes([
            name[0], name[1], name[2], name[3], name[4], name[5], name[6], name[7],
        ]);
        Draw::new("degrade", &[seed, self.kind as u64, number])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atlas::{AtlasOptions, NameSplit, example};

    fn examples() -> Vec<Example> {
        let options = AtlasOptions::default();
        (0..24).map(|index| example(3, NameSplit::Dev, index, &options)).collect()
    }

    #[test]
    fn nothing_changes_at_strength_0_and_the_seed_decides() {
        let examples = examples();
        for kind in DegradeKind::ALL {
            let of = |strength, seed| Degrade { kind, strength }.of(&examples, &examples, seed);
            assert_eq!(of(0.0, 1), examples, "{kind}");
            let worse = of(0.8, 1);
            assert_eq!(worse, of(0.8, 1), "{kind}");
            assert_ne!(worse, examples, "{kind}");
            for (before, after) in examples.iter().zip(&worse) {
                assert_eq!((&before.question, &before.gold), (&after.question, &after.gold));
            }
        }
    }

    #[test]
    fn each_kind_touches_what_it_is_about() {
        let examples = examples();
        for kind in DegradeKind::ALL {
            let worse = Degrade { kind, strength: 0.9 }.of(&examples, &examples, 2);
            for (before, after) in examples.iter().zip(&worse) {
                for document in &after.candidates {
                    let was = before.candidates.iter().find(|d| d.id == document.id);
                    let Some(was) = was else {
                        let is_new = [DegradeKind::GoldReplaced, DegradeKind::Contradict];
                        assert!(is_new.contains(&kind), "{kind}");
                        continue;
                    };
                    let is_caption =
                        matches!(kind, DegradeKind::CaptionRemoved | DegradeKind::CaptionSwapped);
                    assert!(was.title == document.title || is_caption, "{kind}");
                    let is_same = was.content == document.content;
                    let about = match (&was.content, kind) {
                        (Content::Image(_), k) => k <= DegradeKind::Occlude,
                        (Content::Text(_), k) => k == DegradeKind::Ocr,
                        (Content::Table(_), k) => k == DegradeKind::Ocr || k == DegradeKind::Cells,
                    };
                    assert!(is_same || about, "{kind} changed {:?}", was.id);
                }
            }
        }
    }

    #[test]
    fn documents_of_one_kind_go_and_the_others_stay() {
        let examples = examples();
        let kinds = [
            (DegradeKind::TextsRemoved, Modality::Text),
            (DegradeKind::TablesRemoved, Modality::Table),
            (DegradeKind::ImagesRemoved, Modality::Image),
        ];
        for (kind, modality) in kinds {
            let left = |strength: f64| -> usize {
                let worse = Degrade { kind, strength }.of(&examples, &examples, 1);
                let of_kind = |example: &Example| {
                    example.candidates.iter().filter(|d| d.modality() == modality).count()
                };
                for (before, after) in examples.iter().zip(&worse) {
                    let others = |e: &Example| e.candidates.len() - of_kind(e);
                    assert_eq!(others(before), others(after), "{kind}");
                }
                worse.iter().map(of_kind).sum()
            };
            let (all, half) = (left(0.0), left(0.5));
            assert!(half * 10 > all * 3 && half * 10 < all * 7, "{kind}: {half} of {all}");
            assert_eq!(left(1.0), 0, "{kind}");
        }
    }

    #[test]
    fn gold_gives_way_and_contradictions_are_added() {
        let examples = examples();
        let gone =
            Degrade { kind: DegradeKind::GoldReplaced, strength: 1.0 }.of(&examples, &examples, 1);
        for (before, after) in examples.iter().zip(&gone) {
            assert_eq!(before.candidates.len(), after.candidates.len());
            let gold = &before.gold.documents;
            assert!(after.candidates.iter().all(|document| !gold.contains(&document.id)));
        }
        let more =
            Degrade { kind: DegradeKind::Contradict, strength: 1.0 }.of(&examples, &examples, 1);
        let added = more
            .iter()
            .zip(&examples)
            .filter(|(after, before)| after.candidates.len() == before.candidates.len() + 1);
        assert!(added.count() >= 4);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let error = |text: &str| text.parse::<Degrade>().unwrap_err();
        assert!(error("blur").contains("KIND=STRENGTH"));
        assert!(error("blurr=0.5").contains("there are blur, noise"));
        assert!(error("blur=2").contains("not between 0 and 1"));
        assert!(error("blur=x").contains("no number"));
        assert_eq!("jpeg=0.25".parse::<Degrade>().unwrap().to_string(), "jpeg=0.25");
    }
}
