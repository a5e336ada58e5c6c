//! Letters into words and lines, in the order in which they are drawn.

use mmrag_core::WordBox;

use super::glyphs::Letter;

/// A gap of this share of a letter's height parts two words.
const WORD_GAP: f64 = 0.18;
/// A letter that stands this share of a letter's height off the line begins another one.
const LINE_SHIFT: f64 = 0.5;
/// Lines farther apart than so many heights part paragraphs.
const PARAGRAPH_GAP: f64 = 1.6;

/// A line of a page.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) words: Vec<WordBox>,
    pub(super) area: [f32; 4],
    /// Whether it begins a paragraph.
    pub(super) opens: bool,
}

pub(super) fn assemble(letters: Vec<Letter>) -> Vec<Line> {
    let mut lines: Vec<Vec<Letter>> = Vec::new();
    for letter in letters {
        let goes_on = lines.last().and_then(|line| line.last()).is_some_and(|last| {
            let height = last.area[3] - last.area[1];
            let on_line = (letter.baseline - last.baseline).abs() < LINE_SHIFT * height;
            on_line && letter.area[0] > last.area[0] - height
        });
        match lines.last_mut() {
            Some(line) if goes_on => line.push(letter),
            _ => lines.push(vec![letter]),
        }
    }
    let mut assembled: Vec<Line> = Vec::new();
    let mut before: Option<(f64, f64)> = None;
    for letters in &lines {
        let mut line = line(letters);
        if line.text.is_empty() {
            continue;
        }
        let (baseline, height) = (letters[0].baseline, letters[0].area[3] - letters[0].area[1]);
        line.opens = before.is_none_or(|(above, tall)| {
            let gap = baseline - above;
            gap < 0.0 || gap > PARAGRAPH_GAP * tall.max(height)
        });
        before = Some((baseline, height));
        assembled.push(line);
    }
    assembled
}

/// The words of a line: what blanks and gaps part.
fn line(letters: &[Letter]) -> Line {
    let mut line =
        Line { text: String::new(), words: Vec::new(), area: [1.0, 1.0, 0.0, 0.0], opens: false };
    let (mut at, mut open, mut right) = (0, false, f64::NEG_INFINITY);
    for letter in letters {
        if letter.text.trim().is_empty() {
            open = false;
            continue;
        }
        let height = letter.area[3] - letter.area[1];
        if open && letter.area[0] - right > WORD_GAP * height {
            open = false;
        }
        right = letter.area[2];
        let area = letter.area.map(|edge| edge as f32);
        let n_chars = letter.text.chars().count();
        if open && let Some(word) = line.words.last_mut() {
            word.span[1] += n_chars;
            widen(&mut word.area, &area);
        } else {
            if !line.text.is_empty() {
                line.text.push(' ');
                at += 1;
            }
            line.words.push(WordBox { span: [at, at + n_chars], area });
        }
        open = true;
        line.text.push_str(&letter.text);
        at += n_chars;
        widen(&mut line.area, &area);
    }
    line
}

fn widen(area: &mut [f32; 4], by: &[f32; 4]) {
    *area = [area[0].min(by[0]), area[1].min(by[1]), area[2].max(by[2]), area[3].max(by[3])];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(text: &str, x: f64, baseline: f64) -> Vec<Letter> {
        let letter = |(i, c): (usize, char)| {
            let left = x + 0.01 * i as f64;
            let area = [left, baseline - 0.015, left + 0.01, baseline + 0.005];
            Letter { text: c.to_string(), area, baseline }
        };
        text.chars().enumerate().map(letter).collect()
    }

    #[test]
    fn gaps_part_words_lines_and_paragraphs() {
        let mut drawn = letters("Old", 0.1, 0.1);
        drawn.extend(letters("town", 0.135, 0.1));
        drawn.extend(letters("of Olm", 0.1, 0.12));
        drawn.extend(letters("Next", 0.1, 0.2));
        let lines = assemble(drawn);
        let told: Vec<_> = lines.iter().map(|line| (line.text.as_str(), line.opens)).collect();
        assert_eq!(told, [("Old town", true), ("of Olm", false), ("Next", true)]);
        assert_eq!(lines[0].words[1].span, [4, 8]);
        assert!((lines[0].words[1].area[0] - 0.135).abs() < 1e-6);
    }
}
