//! Names of the fictional world, and to which split and sort of thing each belongs.
//!
//! Both are a hash of the name alone, so that no seed can move a name from test into training.

use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use super::draw::Draw;

/// The syllables names are made of; a tokenizer trained on the atlas knows each.
pub const SYLLABLES: [&str; 40] = [
    "ba", "be", "bo", "da", "de", "du", "fa", "fi", "ga", "go", "ha", "he", "jo", "ju", "ka", "ki",
    "ko", "la", "le", "lu", "ma", "mi", "mo", "na", "ne", "no", "pa", "pi", "ra", "ri", "ru", "sa",
    "se", "so", "ta", "ti", "tu", "va", "vo", "zu",
];

const N: u32 = SYLLABLES.len() as u32;
const SHORT: u32 = N * N;
const ALL: u32 = SHORT + N * N * N;

/// Who may see an entity: the base model learns from `Sft` names only, reinforcement from `Train`
/// names, thresholds and checkpoints are chosen on `Dev`, and figures come from `Test`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NameSplit {
    /// 40 % of the names: supervised learning of the built-in model.
    Sft,
    /// 30 %: reinforcement.
    Train,
    /// 10 %: choices.
    Dev,
    /// 20 %: figures.
    Test,
}

impl NameSplit {
    /// The split of a name, by its hash alone.
    ///
    /// ```
    /// use mmrag_data::atlas::NameSplit;
    /// assert_eq!(NameSplit::of("Miraku"), NameSplit::of("Miraku"));
    /// ```
    pub fn of(name: &str) -> Self {
        classify(name).0
    }
}

/// What sort of thing a name names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Sort {
    Person,
    Town,
    Tower,
    Beetle,
}

/// A name, as the number of its syllables' combination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name(u32);

impl Name {
    /// The number of the name.
    pub(crate) fn code(self) -> u64 {
        u64::from(self.0)
    }

    /// The name as written.
    pub(crate) fn text(self) -> String {
        let mut text: String = self.syllables().iter().map(|&s| SYLLABLES[s as usize]).collect();
        text[..1].make_ascii_uppercase();
        text
    }

    /// The split the name belongs to.
    pub(crate) fn split(self) -> NameSplit {
        pools().classes[self.0 as usize].0
    }

    /// The sort of thing the name names.
    pub(crate) fn sort(self) -> Sort {
        pools().classes[self.0 as usize].1
    }

    /// Any name of a split and sort.
    pub(crate) fn any(split: NameSplit, sort: Sort, draw: &mut Draw) -> Self {
        let pool = pool(split, sort);
        Self(pool[draw.below(pool.len())])
    }

    /// The name of a split and sort that a large number points to.
    pub(crate) fn nth(split: NameSplit, sort: Sort, number: u64) -> Self {
        let pool = pool(split, sort);
        Self(pool[(number % pool.len() as u64) as usize])
    }

    /// Another name of the same split and sort that differs in one syllable; any other one where
    /// none is found.
    pub(crate) fn similar(self, draw: &mut Draw) -> Self {
        for _ in 0..80 {
            let mut syllables = self.syllables();
            let at = draw.below(syllables.len());
            syllables[at] = draw.below(N as usize) as u32;
            let other = Self::from_syllables(&syllables);
            if other != self && other.split() == self.split() && other.sort() == self.sort() {
                return other;
            }
        }
        loop {
            let other = Self::any(self.split(), self.sort(), draw);
            if other != self {
                return other;
            }
        }
    }

    fn syllables(self) -> Vec<u32> {
        if self.0 < SHORT {
            return vec![self.0 / N, self.0 % N];
        }
        let code = self.0 - SHORT;
        vec![code / SHORT, code / N % N, code % N]
    }

    fn from_syllables(syllables: &[u32]) -> Self {
        let code = syllables.iter().fold(0, |code, syllable| code * N + syllable);
        Self(if syllables.len() == 2 { code } else { SHORT + code })
    }
}

struct Pools {
    classes: Vec<(NameSplit, Sort)>,
    names: Vec<Vec<u32>>,
}

fn pool(split: NameSplit, sort: Sort) -> &'static [u32] {
    &pools().names[split as usize * 4 + sort as usize]
}

fn pools() -> &'static Pools {
    static POOLS: OnceLock<Pools> = OnceLock::new();
    POOLS.get_or_init(|| {
        let mut pools = Pools { classes: Vec::new(), names: vec![Vec::new(); 16] };
        for code in 0..ALL {
            let (split, sort) = classify(&Name(code).text());
            pools.classes.push((split, sort));
            pools.names[split as usize * 4 + sort as usize].push(code);
        }
        pools
    })
}

fn classify(name: &str) -> (NameSplit, Sort) {
    let digest = Sha256::digest(name.as_bytes());
    let number = |i: usize| u32::from(u16::from_le_bytes([digest[i], digest[i + 1]]));
    let split = match number(0) % 10 {
        0..=3 => NameSplit::Sft,
        4..=6 => NameSplit::Train,
        7 => NameSplit::Dev,
        _ => NameSplit::Test,
    };
    let sort = match number(2) % 10 {
        0..=2 => Sort::Person,
        3..=4 => Sort::Town,
        5..=6 => Sort::Tower,
        _ => Sort::Beetle,
    };
    (split, sort)
}
