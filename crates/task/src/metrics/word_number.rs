//! Number words read the way the Python package word2number 1.1 reads them, oddities included:
//! the official MultimodalQA metric normalises with it.

/// The value of the number words in a text without hyphens, in lower case; nothing where the
/// package refuses. Words that are no number words are passed over.
///
/// Where the package would crash (a multiplier is missing: "and million thousand") this gives
/// nothing too.
pub(super) fn parse(text: &str) -> Option<f64> {
    let mut words: Vec<&str> =
        text.split(super::python_float::is_space).filter(|word| value(word).is_some()).collect();
    if words.is_empty() || [POINT, THOUSAND, MILLION, BILLION].iter().any(|w| repeats(&words, w)) {
        return None;
    }
    let mut fraction = Vec::new();
    if let Some(at) = position(&words, POINT) {
        fraction = words.split_off(at).split_off(1);
    }
    Some(whole(&words)? + decimals(&fraction))
}

const POINT: &str = "point";
const THOUSAND: &str = "thousand";
const MILLION: &str = "million";
const BILLION: &str = "billion";

fn whole(words: &[&str]) -> Option<f64> {
    let billion = position(words, BILLION);
    let million = position(words, MILLION);
    let thousand = position(words, THOUSAND);
    let precedes = |a: Option<usize>, b: Option<usize>| a.is_some() && a < b;
    if precedes(thousand, million) || precedes(thousand, billion) || precedes(million, billion) {
        return None;
    }
    if words.len() < 2 {
        return Some(words.first().and_then(|word| value(word)).unwrap_or(0.0));
    }
    let mut total = 0.0;
    let mut start = 0;
    for (at, unit) in [(billion, 1e9), (million, 1e6), (thousand, 1e3)] {
        if let Some(at) = at {
            total += group(&words[start..at])? * unit;
            start = at + 1;
        }
    }
    if start == 0 {
        return group(words);
    }
    // Where "thousand" ends the words the package adds the words after "million" once more.
    let is_inside = |at: &usize| at + 1 < words.len();
    let last_inside = [thousand, million, billion].into_iter().flatten().find(is_inside);
    let rest = last_inside.map_or(Some(0.0), |at| group(&words[at + 1..]));
    Some(total + rest?)
}

/// What up to four words below a thousand make together. Of more than four the first counts.
fn group(words: &[&str]) -> Option<f64> {
    let values: Vec<f64> = words.iter().filter_map(|word| value(word)).collect();
    match *values.as_slice() {
        [] => None,
        [a, b, c, d] => Some(a * b + c + d),
        [a, b, c] => Some(a * b + c),
        [a, b] if a == 100.0 || b == 100.0 => Some(a * b),
        [a, b] => Some(a + b),
        [first, ..] => Some(first),
    }
}

/// The fraction that the digits after "point" make; 0 if one of them is no digit.
fn decimals(words: &[&str]) -> f64 {
    let digits: Option<String> = words
        .iter()
        .map(|word| DIGITS.iter().position(|d| d == word)?.to_string().into())
        .collect();
    match digits {
        Some(digits) if !digits.is_empty() => {
            format!("0.{digits}").parse().expect("these are digits")
        }
        _ => 0.0,
    }
}

fn position(words: &[&str], word: &str) -> Option<usize> {
    words.iter().position(|other| *other == word)
}

fn repeats(words: &[&str], word: &str) -> bool {
    words.iter().filter(|other| **other == word).count() > 1
}

fn value(word: &str) -> Option<f64> {
    let at = |words: &[&str]| words.iter().position(|other| *other == word);
    if let Some(number) = at(&DIGITS) {
        return Some(number as f64);
    }
    if let Some(number) = at(&TEENS) {
        return Some((number + 10) as f64);
    }
    if let Some(number) = at(&TENS) {
        return Some((number * 10 + 20) as f64);
    }
    match word {
        "hundred" => Some(1e2),
        THOUSAND => Some(1e3),
        MILLION => Some(1e6),
        BILLION => Some(1e9),
        POINT => Some(0.0),
        _ => None,
    }
}

const DIGITS: [&str; 10] =
    ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

const TEENS: [&str; 10] = [
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];

const TENS: [&str; 8] =
    ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_words_read_as_the_package_reads_them() {
        let check = |text: &str, expected: Option<f64>| assert_eq!(parse(text), expected, "{text}");
        check("seven", Some(7.0));
        check("twenty five", Some(25.0));
        check("two dogs", Some(2.0));
        check("hundred", Some(100.0));
        check("two hundred and five", Some(205.0));
        check("two hundred forty five", Some(245.0));
        check("one million two hundred thousand and six", Some(1_200_006.0));
        check("two billion one", Some(2_000_000_001.0));
        check("two million", Some(2_000_000.0));
        check("two million one thousand", Some(2_002_001.0));
        check("two point five one", Some(2.51));
        check("point", Some(0.0));
        check("point twenty", Some(0.0));
        check("one two three four five", Some(1.0));
        check("thousand million", None);
        check("one thousand one thousand", None);
        check("million thousand", None);
        check("dogs", None);
        check("", None);
    }
}
