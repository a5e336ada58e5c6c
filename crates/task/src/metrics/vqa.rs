//! VQA accuracy: how many of ten people gave the answer, by the rules of VQA v2 and of TextVQA.

use super::{decimal_digit, python_float};

/// VQA v2's accuracy of an answer, in 0..=1: over the sets that lack one person's answer each, the
/// mean of a third of the matches, at most 1.
///
/// Answers take their normal form only where people differ; where all gave the same answer, the
/// prediction has to equal it to the letter. 0 if there are no answers.
///
/// ```
/// use mmrag_task::metrics::vqa;
/// let people = ["red", "red", "red", "blue", "blue", "blue", "blue", "blue", "blue", "blue"];
/// assert!((vqa::accuracy("Red!", &people) - 0.9).abs() < 1e-12);
/// assert_eq!(vqa::accuracy("Yes", &["yes"; 10]), 0.0);
/// ```
pub fn accuracy(predicted: &str, answers: &[impl AsRef<str>]) -> f64 {
    let predicted = plain_blanks(predicted);
    let answers: Vec<String> = answers.iter().map(|text| plain_blanks(text.as_ref())).collect();
    if answers.windows(2).all(|pair| pair[0] == pair[1]) {
        return leave_one_out(&predicted, &answers);
    }
    let answers: Vec<String> = answers.iter().map(|text| normalize(text)).collect();
    leave_one_out(&normalize(&predicted), &answers)
}

/// TextVQA's accuracy of an answer, in 0..=1: as [`accuracy`], but answers always take their
/// normal form, in which commas and question marks go first and `'s` is a word of its own.
///
/// ```
/// use mmrag_task::metrics::vqa;
/// assert_eq!(vqa::text_accuracy("Yes", &["yes"; 10]), 1.0);
/// ```
pub fn text_accuracy(predicted: &str, answers: &[impl AsRef<str>]) -> f64 {
    let form = |text: &str| {
        let lower = text.to_lowercase().replace([',', '?'], "").replace("'s", " 's");
        normalize(&plain_blanks(&lower))
    };
    let answers: Vec<String> = answers.iter().map(|text| form(text.as_ref())).collect();
    leave_one_out(&form(predicted), &answers)
}

fn leave_one_out(predicted: &str, answers: &[String]) -> f64 {
    if answers.is_empty() {
        return 0.0;
    }
    let n_matches = answers.iter().filter(|answer| *answer == predicted).count();
    let accuracy_without = |answer: &String| {
        let n_others = n_matches - usize::from(answer == predicted);
        (n_others as f64 / 3.0).min(1.0)
    };
    answers.iter().map(accuracy_without).sum::<f64>() / answers.len() as f64
}

fn plain_blanks(text: &str) -> String {
    text.replace(['\n', '\t'], " ").trim_matches(python_float::is_space).to_owned()
}

/// In lower case, without punctuation and articles, number words to ten as digits, contractions
/// with all their apostrophes.
fn normalize(text: &str) -> String {
    let bare = without_punctuation(text).to_lowercase();
    let words = bare.split(python_float::is_space).filter(|word| !word.is_empty());
    let words = words.map(small_number).filter(|word| !matches!(*word, "a" | "an" | "the"));
    words.map(contraction).collect::<Vec<_>>().join(" ")
}

/// A mark goes where it stands beside a blank anywhere in the text, or the text has a comma within
/// a number; else each such mark becomes a blank.
fn without_punctuation(text: &str) -> String {
    let has_number_comma = has_number_comma(text);
    let mut bare = text.to_owned();
    for mark in [
        ';', '/', '[', ']', '"', '{', '}', '(', ')', '=', '+', '\\', '_', '-', '>', '<', '@', '`',
        ',', '?', '!',
    ] {
        let is_loose = text.contains(&format!("{mark} ")) || text.contains(&format!(" {mark}"));
        bare = bare.replace(mark, if is_loose || has_number_comma { "" } else { " " });
    }
    without_points(&bare)
}

fn has_number_comma(text: &str) -> bool {
    let characters: Vec<char> = text.chars().collect();
    let is_digit = |c: char| decimal_digit(c).is_some();
    characters.windows(3).any(|three| is_digit(three[0]) && three[1] == ',' && is_digit(three[2]))
}

/// The text without points that no digit follows: only the first 32 of them, for the official code
/// hands a flag to the substitution where its count belongs.
fn without_points(text: &str) -> String {
    const MOST: usize = 32;
    let mut n_removed = 0;
    let mut bare = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        let is_before_digit = characters.peek().is_some_and(|next| decimal_digit(*next).is_some());
        if c == '.' && !is_before_digit && n_removed < MOST {
            n_removed += 1;
        } else {
            bare.push(c);
        }
    }
    bare
}

fn small_number(word: &str) -> &str {
    match word {
        "none" | "zero" => "0",
        "one" => "1",
        "two" => "2",
        "three" => "3",
        "four" => "4",
        "five" => "5",
        "six" => "6",
        "seven" => "7",
        "eight" => "8",
        "nine" => "9",
        "ten" => "10",
        word => word,
    }
}

/// The contraction of which the word is the spelling that lacks one apostrophe, else the word. In
/// the official table one entry goes the other way.
fn contraction(word: &str) -> &str {
    if word == "somebody'd" {
        return "somebodyd";
    }
    let full = CONTRACTIONS.split_ascii_whitespace().find(|full| {
        full.len() == word.len() + 1
            && full
                .match_indices('\'')
                .any(|(at, _)| word.starts_with(&full[..at]) && word.ends_with(&full[at + 1..]))
    });
    full.unwrap_or(word)
}

/// What the official code mends. That it lacks such as "she'd" or "we'll", and those with a
/// capital, which no word in lower case equals, is its own way.
const CONTRACTIONS: &str = "\
    ain't aren't can't couldn't didn't doesn't don't hadn't hasn't haven't isn't mightn't mustn't \
    needn't oughtn't shan't shouldn't wasn't weren't won't wouldn't \
    could've might've must've not've should've they've we've what've where've who've would've \
    you've \
    he'd how'd it'd someone'd something'd there'd they'd where'd who'd you'd \
    how'll it'll somebody'll someone'll something'll they'll what'll who'll why'll you'll \
    he's how's somebody's someone's that's there's what's when's where's who's why's \
    there're they're what're why're you're \
    couldn't've hadn't've mightn't've shouldn't've wouldn't've \
    he'd've it'd've she'd've somebody'd've someone'd've something'd've there'd've they'd've \
    we'd've who'd've you'd've \
    ma'am o'clock 'twas 'ow's'at y'all y'all'll y'all'd've";
