//! WebQA's accuracy of answers by keywords, and F1 of retrieved sources, by the official rules.
//!
//! One thing is left out: the official accuracy takes lemmas from a spaCy model. Here lemmas are
//! the caller's choice, [`Lemmas`], and a figure is to be reported with that choice.
//!
//! Two other accuracy rules are in use, both against whole reference answers: [`approximate`] and
//! [`ragvl`]. Their figures cannot be compared with the official ones or with each other, and are
//! never to stand in one table.

use std::collections::{BTreeSet, HashMap};

use super::multimodalqa::without_articles;
use super::{decimal_digit, python_float, word_number};

/// What the official code adds to denominators.
const EPSILON: f64 = 1e-5;

/// What an answer is about, which settles the words that count (`Qcate` in the files).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Category {
    /// `YesNo`: only "yes" and "no" count.
    YesNo,
    /// `number`: only whole numbers count.
    Number,
    /// `color`: only the words of the official list count.
    Color,
    /// `shape`: only the words of the official list count.
    Shape,
    /// `choose`: every word counts.
    Choose,
    /// `Others`: every word counts.
    Others,
    /// `text`: every word counts.
    Text,
}

impl Category {
    /// Every category.
    pub const ALL: [Self; 7] = [
        Self::YesNo,
        Self::Number,
        Self::Color,
        Self::Shape,
        Self::Choose,
        Self::Others,
        Self::Text,
    ];

    /// The name in the official files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::YesNo => "YesNo",
            Self::Number => "number",
            Self::Color => "color",
            Self::Shape => "shape",
            Self::Choose => "choose",
            Self::Others => "Others",
            Self::Text => "text",
        }
    }

    /// The category of a name in the official files.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|category| category.as_str() == name)
    }

    /// Whether precision counts too, and not recall alone.
    fn is_closed(self) -> bool {
        matches!(self, Self::YesNo | Self::Number | Self::Color | Self::Shape)
    }
}

/// Where the lemmas of words come from.
#[derive(Clone, Copy, Debug)]
pub enum Lemmas<'a> {
    /// Words stay as they are.
    None,
    /// Words between blanks are looked up; those that the table lacks stay.
    Lookup(&'a HashMap<String, String>),
}

impl Lemmas<'static> {
    /// Words are looked up in the English table of this crate,
    /// [`ENGLISH_LEMMAS`](super::ENGLISH_LEMMAS).
    pub fn english() -> Self {
        Self::Lookup(super::english_lemmas())
    }
}

/// How an answer matches keywords.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KeywordScore {
    /// QA-Acc: [`f1`](Self::f1) for yes/no, numbers, colors and shapes, else
    /// [`recall`](Self::recall).
    pub accuracy: f64,
    /// F1 with 1e-5 in the denominator, so that a full match has 0.999995.
    pub f1: f64,
    /// The share of the answer's words that are keywords.
    pub precision: f64,
    /// The share of the keywords that the answer has.
    pub recall: f64,
}

/// Scores an answer against keywords. All is 0 where no word that counts is shared, thus also
/// where the keywords hold none that counts.
///
/// ```
/// use mmrag_task::metrics::webqa::{Category, Lemmas, score};
/// let found = score(Category::Others, "A man with an umbrella.", "umbrella", Lemmas::None);
/// assert_eq!(found.accuracy, 1.0);
/// let both = score(Category::YesNo, "Yes and no", "Yes", Lemmas::None);
/// assert!((both.accuracy - 0.666_662).abs() < 1e-6);
/// assert_eq!(score(Category::Color, "crimson", "red", Lemmas::None).accuracy, 0.0);
/// ```
pub fn score(category: Category, answer: &str, keywords: &str, lemmas: Lemmas<'_>) -> KeywordScore {
    let answer = bag(category, answer, lemmas);
    let keywords = bag(category, keywords, lemmas);
    let n_keywords = keywords.len();
    let shared = n_shared(&answer, keywords);
    if shared == 0 {
        return KeywordScore::default();
    }
    let precision = shared as f64 / answer.len() as f64;
    let recall = shared as f64 / n_keywords as f64;
    let f1 = softened_f1(precision, recall);
    KeywordScore { accuracy: if category.is_closed() { f1 } else { recall }, f1, precision, recall }
}

/// What `eval_webqa.md` of the data set takes for accuracy where there are no keywords: as the
/// official rule, but against the whole `reference` answer, and F1 without 1e-5.
///
/// ```
/// use mmrag_task::metrics::webqa::{Category, Lemmas, approximate};
/// let long = "The border around the square is white.";
/// assert_eq!(approximate(Category::Color, "A white one", long, Lemmas::None), 1.0);
/// assert_eq!(approximate(Category::Color, "A mauve one", "It is mauve.", Lemmas::None), 0.0);
/// ```
pub fn approximate(category: Category, answer: &str, reference: &str, lemmas: Lemmas<'_>) -> f64 {
    let answer = bag(category, answer, lemmas);
    plain_accuracy(category, &answer, bag(category, reference, lemmas))
}

/// The accuracy that RagVL reports: as [`approximate`], but where the reference of a question
/// about colors, shapes or yes and no holds no word of the list, every word counts.
///
/// ```
/// use mmrag_task::metrics::webqa::{Category, Lemmas, ragvl};
/// assert_eq!(ragvl(Category::Color, "A very mauve one", "mauve one", Lemmas::None), 0.8);
/// ```
pub fn ragvl(category: Category, answer: &str, reference: &str, lemmas: Lemmas<'_>) -> f64 {
    let mut counted = category;
    let is_listed = matches!(category, Category::YesNo | Category::Color | Category::Shape);
    if is_listed && bag(category, reference, lemmas).is_empty() {
        counted = Category::Text;
    }
    let answer = bag(counted, answer, lemmas);
    plain_accuracy(category, &answer, bag(counted, reference, lemmas))
}

/// F1 or recall of a bag of words, whichever is the category's, with nothing added.
fn plain_accuracy(category: Category, answer: &[String], reference: Vec<String>) -> f64 {
    let (n_answer, n_reference) = (answer.len() as f64, reference.len() as f64);
    let shared = n_shared(answer, reference) as f64;
    if shared == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (shared / n_answer, shared / n_reference);
    if category.is_closed() { 2.0 * precision * recall / (precision + recall) } else { recall }
}

/// How many words two bags share, each as often as it stands in both.
fn n_shared(answer: &[String], mut open: Vec<String>) -> usize {
    let mut shared = 0;
    for word in answer {
        if let Some(at) = open.iter().position(|other| other == word) {
            open.swap_remove(at);
            shared += 1;
        }
    }
    shared
}

/// The normal form of an answer: in lower case, without punctuation (a point before a digit
/// stays) and articles, number words as digits, words as lemmas. A single word keeps its article,
/// and a single character its punctuation.
///
/// ```
/// use mmrag_task::metrics::webqa::{Lemmas, normalize};
/// assert_eq!(normalize("The U.S. has 1.5 million!", Lemmas::None), "us has 1.5 1000000");
/// assert_eq!(normalize("A", Lemmas::None), "a");
/// ```
pub fn normalize(text: &str, lemmas: Lemmas<'_>) -> String {
    let lower = text.to_lowercase();
    let trimmed = text.trim_matches(python_float::is_space);
    if trimmed.chars().count() == 1 {
        return joined(&lower, number_or_word);
    }
    let mut bare = without_punctuation(&lower);
    if words(trimmed).count() != 1 {
        bare = without_articles(&bare);
    }
    let numbered = joined(&bare, number_or_word);
    match lemmas {
        Lemmas::None => numbered,
        Lemmas::Lookup(table) => {
            joined(&numbered, |word| table.get(word).cloned().unwrap_or_else(|| word.to_owned()))
        }
    }
}

/// How well predicted sources match the gold ones.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SourceScore {
    /// The share of the predicted sources that are gold, with 1e-5 in the denominator.
    pub precision: f64,
    /// The share of the gold sources that were predicted, with 1e-5 in the denominator.
    pub recall: f64,
    /// F1 with 1e-5 in the denominator. Its mean over questions is the official retrieval F1.
    pub f1: f64,
}

/// Scores the sources of one question; a source that stands twice counts once.
pub fn sources<T: Ord>(predicted: &[T], gold: &[T]) -> SourceScore {
    let counts = SourceCounts::of(predicted, gold);
    let precision = counts.shared as f64 / (counts.predicted as f64 + EPSILON);
    let recall = counts.shared as f64 / (counts.gold as f64 + EPSILON);
    SourceScore { precision, recall, f1: softened_f1(precision, recall) }
}

/// Sources counted, over one question or many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceCounts {
    /// Sources that are predicted and gold.
    pub shared: usize,
    /// Predicted sources.
    pub predicted: usize,
    /// Gold sources.
    pub gold: usize,
}

impl SourceCounts {
    /// The counts of one question; a source that stands twice counts once.
    pub fn of<T: Ord>(predicted: &[T], gold: &[T]) -> Self {
        let predicted: BTreeSet<&T> = predicted.iter().collect();
        let gold: BTreeSet<&T> = gold.iter().collect();
        let shared = predicted.intersection(&gold).count();
        Self { shared, predicted: predicted.len(), gold: gold.len() }
    }

    /// Counts another question in.
    pub fn add(&mut self, other: Self) {
        self.shared += other.shared;
        self.predicted += other.predicted;
        self.gold += other.gold;
    }

    /// F1 of all counted sources as one set, as some papers report it: not the official figure.
    /// 0 where nothing is shared.
    pub fn micro_f1(self) -> f64 {
        if self.shared == 0 {
            return 0.0;
        }
        2.0 * self.shared as f64 / (self.predicted + self.gold) as f64
    }
}

fn softened_f1(precision: f64, recall: f64) -> f64 {
    2.0 * precision * recall / (precision + recall + EPSILON)
}

/// The words of an answer that count: a set where the category has a list of them.
fn bag(category: Category, text: &str, lemmas: Lemmas<'_>) -> Vec<String> {
    let normal = normalize(text, lemmas);
    let all = words(&normal);
    let listed = |list: &str| -> Vec<String> {
        let found: BTreeSet<&str> =
            words(&normal).filter(|word| words(list).any(|listed| listed == *word)).collect();
        found.into_iter().map(String::from).collect()
    };
    match category {
        Category::YesNo => listed("yes no"),
        Category::Color => listed(COLORS),
        Category::Shape => listed(SHAPES),
        Category::Number => all.filter_map(whole_number).collect(),
        Category::Choose | Category::Others | Category::Text => all.map(String::from).collect(),
    }
}

/// What Python's `str(int(word))` gives, or nothing where it raises.
fn whole_number(word: &str) -> Option<String> {
    let (is_negative, digits) = match word.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    let mut ascii = String::new();
    let mut is_after_digit = false;
    for c in digits.chars() {
        let digit = decimal_digit(c);
        match digit {
            Some(digit) => ascii.push(char::from(b'0' + digit)),
            None if c == '_' && is_after_digit => {}
            None => return None,
        }
        is_after_digit = digit.is_some();
    }
    if !is_after_digit {
        return None;
    }
    let ascii = ascii.trim_start_matches('0');
    Some(match (ascii, is_negative) {
        ("", _) => "0".into(),
        (ascii, true) => format!("-{ascii}"),
        (ascii, false) => ascii.into(),
    })
}

/// A word as digits if it is a number word or all digits, else as it is; "point" stays.
fn number_or_word(word: &str) -> String {
    if word == "point" {
        return word.into();
    }
    if word.chars().all(|c| decimal_digit(c).is_some()) {
        return whole_number(word).unwrap_or_else(|| word.into());
    }
    // The values of single number words are whole.
    word_number::parse(word).map_or_else(|| word.into(), |number| format!("{number}"))
}

/// The text without ASCII punctuation; of points those before a digit stay.
fn without_punctuation(text: &str) -> String {
    let kept = text.chars().filter(|c| *c == '.' || !c.is_ascii_punctuation());
    let mut kept = kept.peekable();
    let mut bare = String::with_capacity(text.len());
    while let Some(c) = kept.next() {
        if c != '.' || kept.peek().is_some_and(|next| decimal_digit(*next).is_some()) {
            bare.push(c);
        }
    }
    bare
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(python_float::is_space).filter(|word| !word.is_empty())
}

fn joined(text: &str, map: impl Fn(&str) -> String) -> String {
    words(text).map(map).collect::<Vec<_>>().join(" ")
}

/// The colors that count, as the official code lists them, odd ones included.
const COLORS: &str = "aqua beige black blonde blue bluere bluewhite bronze brown chrome gold \
    golden gray green grey ivory maroon orange orangebrown orangepurple pink purple rainbow red \
    redorange rust silver spot tan teal transparent turquoise violet white yellow yes";

/// The shapes that count, as the official code lists them, odd ones included.
const SHAPES: &str = "arch ball bell bellshaped bow circle circular concave cone conical convex \
    corkscrew crescent crest cross crosse cube cuboid curl curve cylinder cylindrical diamond \
    dome domeshape dot flat flower fold fork globe globular h heart hexagon hook hoop keyhole \
    obelisk octagon octagonal octogon oval pentagon point pyramid pyramidal rectangle rectangular \
    ring round rounded semicircle shamrock slope sphere spherical spiral square star step \
    straight teardrop torus triangle triangular tube wavy xs";
