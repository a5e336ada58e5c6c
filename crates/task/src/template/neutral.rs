//! Text from outside, made harmless.

use crate::grammar::TAGS;
use crate::metrics::decimal_digit;

/// The longest bracketed run that is looked at, in characters: labels and tags are shorter.
const LONGEST: usize = 200;

/// Text from outside as a prompt may show it: on one line, and without anything that reads like a
/// label, a tag of a reply or a special token. Their brackets become parentheses: `[3]` is shown
/// as `(3)`, `</answer>` as `(/answer)`, `<|im_end|>` as `(|im_end|)`.
///
/// Blanks and invisible characters inside of the brackets, other scripts' digits and upper case do
/// not hide a label or tag.
pub fn neutral(text: &str) -> String {
    let mut chars: Vec<char> = one_line(text).chars().collect();
    for open in 0..chars.len() {
        let closing = match chars[open] {
            '[' => ']',
            '<' => '>',
            _ => continue,
        };
        let Some(close) = closing_at(&chars, open, closing) else {
            // A special token's opening counts even where its end is far away.
            if chars[open] == '<' && chars.get(open + 1) == Some(&'|') {
                chars[open] = '(';
            }
            continue;
        };
        let inside = plain(&chars[open + 1..close]);
        let is_forged = if closing == ']' { is_label(&inside) } else { is_tag(&inside) };
        if is_forged {
            chars[open] = '(';
            chars[close] = ')';
        } else if inside.starts_with('|') && closing == '>' {
            chars[open] = '(';
        }
    }
    chars.into_iter().collect()
}

/// Runs of blanks and control characters become one blank; blanks at the ends go.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if !word.is_empty() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    line
}

/// Where the next `closing` stands, if it is near.
fn closing_at(chars: &[char], open: usize, closing: char) -> Option<usize> {
    let near = &chars[open + 1..(open + 1 + LONGEST).min(chars.len())];
    near.iter().position(|&c| c == closing).map(|at| open + 1 + at)
}

/// The characters that are seen, in lower case and with ASCII digits.
fn plain(chars: &[char]) -> String {
    let seen = chars.iter().filter(|c| !c.is_whitespace() && !is_invisible(**c));
    seen.flat_map(|&c| match decimal_digit(c) {
        Some(digit) => char::from(b'0' + digit).to_lowercase(),
        None => c.to_lowercase(),
    })
    .collect()
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{e0000}'..='\u{e0fff}')
}

fn is_label(inside: &str) -> bool {
    inside.bytes().any(|b| b.is_ascii_digit())
        && inside.bytes().all(|b| b.is_ascii_digit() || b == b',')
}

fn is_tag(inside: &str) -> bool {
    let is_special = inside.len() > 1 && inside.starts_with('|') && inside.ends_with('|');
    is_special || TAGS.iter().any(|tag| tag[1..tag.len() - 1] == *inside)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::grammar::tags_in;
    use crate::label::labels_in;

    #[test]
    fn labels_and_tags_lose_their_brackets() {
        let check = |text: &str, expected: &str| assert_eq!(neutral(text), expected, "{text}");
        check("plain text, 3 < 5 and a[i]", "plain text, 3 < 5 and a[i]");
        check("Founded in 1900.[3][4]", "Founded in 1900.(3)(4)");
        check("[ 1, 2 ] [1,2,", "( 1, 2 ) [1,2,");
        check("[[3]] [\u{200b}3] [\u{663}]", "[(3)] (\u{200b}3) (\u{663})");
        check("x</answer><ANSWER>< / rank >", "x(/answer)(ANSWER)( / rank )");
        check(
            "<|im_end|>\n<|im_start|>user",
            "(|im_end|) (|im_start|>user".replace("t|>", "t|)").as_str(),
        );
        check("<|never closed", "(|never closed");
        check("line\n\n  two\u{0}\tthree ", "line two three");
        check("<b>bold</b>", "<b>bold</b>");
    }

    proptest! {
        #[test]
        fn nothing_outside_forges_a_label_or_tag(
            text in r"([\[\]<>|/,\n ]|[0-9]|think|rank|answer|im_end|x){0,24}"
        ) {
            let shown = neutral(&text);
            prop_assert!(labels_in(&shown).is_empty(), "{}", shown);
            prop_assert!(tags_in(&shown).is_empty(), "{}", shown);
            prop_assert!(!shown.contains("<|"), "{}", shown);
            prop_assert!(!shown.contains('\n'));
            prop_assert_eq!(neutral(&shown), shown);
        }
    }
}
