//! Exact match and F1 of list answers by MultimodalQA's official rules, to the last corner.
//!
//! One thing is left open: where Python's and Rust's notions of a word character differ (marks
//! that are alphabetic without being letters, right beside an article) articles may be kept.

use std::collections::HashSet;

use super::{assignment, python_float, word_number};

/// The normal form of a span: split at blanks and hyphens; each piece in lower case, without ASCII
/// punctuation (unless it is a number), as a number where it is one, without articles.
///
/// ```
/// use mmrag_task::metrics::multimodalqa::normalize;
/// assert_eq!(normalize("The Outside-Man!"), "outside man");
/// assert_eq!(normalize("five"), "5.0");
/// assert_eq!(normalize("1,234.5"), "12345.0");
/// ```
pub fn normalize(span: &str) -> String {
    let pieces = span.split([' ', '-']).map(normalize_piece);
    pieces.filter(|piece| !piece.is_empty()).collect::<Vec<_>>().join(" ")
}

/// 1 if the predicted spans are the gold ones in any order, else 0.
///
/// As in the official code the spans are compared as sets of normal forms of equal count, so that
/// `[x, x, y]` matches `[x, y, y]`.
pub fn exact_match(predicted: &[impl AsRef<str>], gold: &[impl AsRef<str>]) -> f64 {
    let set = |spans: &[String]| spans.iter().cloned().collect::<HashSet<_>>();
    let (predicted, gold) = (normal_forms(predicted), normal_forms(gold));
    let is_match = predicted.len() == gold.len() && set(&predicted) == set(&gold);
    f64::from(u8::from(is_match))
}

/// F1 of the words of predicted and gold spans in their best one-to-one match, over the longer
/// list, rounded to two decimals (half to even).
///
/// A pair scores 0 if the gold span holds numbers and the predicted one none of them. Two empty
/// lists score 1: the official code divides by zero there.
pub fn f1(predicted: &[impl AsRef<str>], gold: &[impl AsRef<str>]) -> f64 {
    let (predicted, gold) = (bags(&normal_forms(predicted)), bags(&normal_forms(gold)));
    if predicted.is_empty() && gold.is_empty() {
        return 1.0;
    }
    let scores: Vec<Vec<f64>> =
        gold.iter().map(|gold| predicted.iter().map(|p| pair_f1(p, gold)).collect()).collect();
    let mut matched = vec![0.0; predicted.len().max(gold.len())];
    for (row, column) in assignment::best(&scores).into_iter().enumerate() {
        if let Some(column) = column {
            matched[row] = scores[row][column];
        }
    }
    let mean = pairwise_sum(&matched) / matched.len() as f64;
    (mean * 100.0).round_ties_even() / 100.0
}

type Bag = HashSet<String>;

fn normal_forms(spans: &[impl AsRef<str>]) -> Vec<String> {
    spans.iter().map(|span| normalize(span.as_ref())).collect()
}

fn bags(normal_forms: &[String]) -> Vec<Bag> {
    let words = |span: &String| {
        let words = span.split(python_float::is_space).filter(|word| !word.is_empty());
        words.map(String::from).collect()
    };
    normal_forms.iter().map(words).collect()
}

fn pair_f1(predicted: &Bag, gold: &Bag) -> f64 {
    let numbers: Vec<&String> = gold.iter().filter(|word| is_number(word)).collect();
    if !numbers.is_empty() && !numbers.iter().any(|number| predicted.contains(*number)) {
        return 0.0;
    }
    let shared = predicted.intersection(gold).count() as f64;
    let share_of = |bag: &Bag| if bag.is_empty() { 1.0 } else { shared / bag.len() as f64 };
    let (precision, recall) = (share_of(predicted), share_of(gold));
    if precision == 0.0 && recall == 0.0 {
        return 0.0;
    }
    2.0 * precision * recall / (precision + recall)
}

/// Whether a word counts as a number for the metric.
pub(crate) fn is_number(word: &str) -> bool {
    python_float::parse(word).is_some()
}

fn normalize_piece(piece: &str) -> String {
    let lower = piece.to_lowercase();
    let bare: String = if is_number(&lower) {
        lower
    } else {
        lower.chars().filter(|c| !c.is_ascii_punctuation()).collect()
    };
    let number = python_float::parse(&bare).or_else(|| word_number::parse(&bare));
    let text = number.map_or(bare, python_float::repr);
    let text = without_articles(&text);
    let words = text.split(python_float::is_space).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// The text with each whole word `a`, `an` or `the` replaced by a blank.
pub(super) fn without_articles(text: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| is_word(c) != is_word(first)).unwrap_or(rest.len());
        let run = &rest[..end];
        kept.push_str(if matches!(run, "a" | "an" | "the") { " " } else { run });
        rest = &rest[end..];
    }
    kept
}

/// The sum in the order numpy adds in, so that means round alike: up to 128 numbers in eight
/// running sums, more in two halves.
fn pairwise_sum(numbers: &[f64]) -> f64 {
    let n = numbers.len();
    if n < 8 {
        return numbers.iter().sum();
    }
    if n > 128 {
        let half = n / 2 - (n / 2) % 8;
        return pairwise_sum(&numbers[..half]) + pairwise_sum(&numbers[half..]);
    }
    let mut sums = [0.0; 8];
    let eights = numbers.chunks_exact(8);
    let rest = eights.remainder();
    for eight in eights {
        for (sum, number) in sums.iter_mut().zip(eight) {
            *sum += number;
        }
    }
    let [a, b, c, d, e, f, g, h] = sums;
    let total = ((a + b) + (c + d)) + ((e + f) + (g + h));
    rest.iter().fold(total, |total, number| total + number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_forms_follow_the_official_code() {
        let check = |span: &str, expected: &str| assert_eq!(normalize(span), expected, "{span}");
        check("-5", "5.0");
        check("$5", "5.0");
        check("007", "7.0");
        check("twenty-five", "20.0 5.0");
        check("10:30", "1030.0");
        check("1e-5", "1e 5.0");
        check("0.00001", "1e-05");
        check("Stone Point", "stone 0.0");
        check("Infinity War", "inf war");
        check("two\u{a0}dogs", "2.0");
        check("A", "");
        check("the.cat", "thecat");
        check("2013\u{2013}14", "2013\u{2013}14");
    }

    #[test]
    fn list_scores_follow_the_official_code() {
        let check = |predicted: &[&str], gold: &[&str], em: f64, score: f64| {
            assert_eq!(exact_match(predicted, gold), em, "{predicted:?}");
            assert_eq!(f1(predicted, gold), score, "{predicted:?}");
        };
        check(&["x", "x", "y"], &["x", "y", "y"], 1.0, 0.67);
        check(&["January 5, 2010"], &["5 January 2010"], 0.0, 1.0);
        check(&["January 2011"], &["January 2010"], 0.0, 0.0);
        check(&["Mask", "Nightwing"], &["Mask"], 0.0, 0.5);
        check(&["red car", "blue car"], &["car", "red car", "blue bike"], 0.0, 0.56);
        check(&[], &["Mask"], 0.0, 0.0);
        check(&[], &[], 1.0, 1.0);
    }
}
