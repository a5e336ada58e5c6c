//! Small pictures in a terminal that can show them.
//!
//! The ways are few and short, and the known library for them brings a part under the LGPL. Sixel is
//! left out: terminals that have it alone show blocks where they know colours.

use std::fmt::Write as _;
use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat, ImageReader, Limits};
use mmrag_core::ImageSource;
use mmrag_rag::picture_bytes;

/// Columns that a picture takes at most.
const COLUMNS: u32 = 32;
/// Lines that it takes at most. A cell is about twice as high as wide.
const LINES: u32 = 12;
/// Pixels of a cell's width where a terminal draws pixels.
const CELL: u32 = 10;
/// What decoding a picture may take.
const DECODED_BYTES: u64 = 256 << 20;
/// Characters of base64 that kitty takes at once.
const CHUNK: usize = 4096;

/// How a terminal shows pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Kitty's graphics protocol.
    Kitty,
    /// iTerm2's inline pictures.
    Iterm,
    /// Half blocks in two colours each.
    Blocks,
}

impl Way {
    /// The way of the terminal that the environment tells of; none if it has none. Nothing is asked
    /// of the terminal itself.
    pub(crate) fn of(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let is = |name: &str, known: &[&str]| {
            variable(name).is_some_and(|value| known.contains(&value.as_str()))
        };
        if is("TERM", &["dumb"]) || variable("NO_COLOR").is_some_and(|value| !value.is_empty()) {
            return None;
        }
        // A multiplexer passes colours on, and pictures not.
        let is_within = variable("TMUX").is_some() || variable("STY").is_some();
        if !is_within {
            let is_kitty = is("TERM", &["xterm-kitty", "xterm-ghostty"])
                || variable("KITTY_WINDOW_ID").is_some()
                || is("TERM_PROGRAM", &["ghostty"]);
            if is_kitty {
                return Some(Self::Kitty);
            }
            if is("TERM_PROGRAM", &["iTerm.app", "WezTerm"]) {
                return Some(Self::Iterm);
            }
        }
        is("COLORTERM", &["truecolor", "24bit"]).then_some(Self::Blocks)
    }

    /// A picture as what the terminal is to be sent, without a line end; none if it cannot be read.
    pub(crate) fn show(self, source: &ImageSource) -> Option<String> {
        let bytes = picture_bytes(source)?;
        let mut reader = ImageReader::new(Cursor::new(&*bytes)).with_guessed_format().ok()?;
        let mut limits = Limits::default();
        limits.max_alloc = Some(DECODED_BYTES);
        reader.limits(limits);
        let picture = reader.decode().ok()?;
        match self {
            Self::Kitty => kitty(&picture),
            Self::Iterm => iterm(&picture),
            Self::Blocks => Some(blocks(&picture)),
        }
    }
}

/// Columns and lines that a picture takes.
fn cells(picture: &DynamicImage) -> (u32, u32) {
    let (width, height) = (picture.width().max(1) as f32, picture.height().max(1) as f32);
    let scale = (COLUMNS as f32 / width).min(2.0 * LINES as f32 / height);
    let cells = |length: f32| (length.round() as u32).max(1);
    (cells(width * scale), cells(height * scale / 2.0))
}

/// A small copy as a PNG in base64.
fn encoded(picture: &DynamicImage) -> Option<String> {
    let (columns, lines) = cells(picture);
    let small = picture.thumbnail(columns * CELL, lines * 2 * CELL);
    let mut png = Cursor::new(Vec::new());
    small.to_rgba8().write_to(&mut png, ImageFormat::Png).ok()?;
    Some(STANDARD.encode(png.into_inner()))
}

fn kitty(picture: &DynamicImage) -> Option<String> {
    let (columns, lines) = cells(picture);
    let encoded = encoded(picture)?;
    let chunks: Vec<&str> = encoded
        .as_bytes()
        .chunks(CHUNK)
        .map(|chunk| std::str::from_utf8(chunk).expect("base64 is ASCII"))
        .collect();
    let mut text = String::new();
    for (nth, chunk) in chunks.iter().enumerate() {
        let more = u8::from(nth + 1 < chunks.len());
        let first = format!("a=T,f=100,q=2,c={columns},r={lines},");
        let keys = if nth == 0 { first.as_str() } else { "" };
        let _ = write!(text, "\u{1b}_G{keys}m={more};{chunk}\u{1b}\\");
    }
    Some(text)
}

fn iterm(picture: &DynamicImage) -> Option<String> {
    let (columns, lines) = cells(picture);
    let encoded = encoded(picture)?;
    Some(format!(
        "\u{1b}]1337;File=inline=1;width={columns};height={lines};preserveAspectRatio=1:{encoded}\u{7}"
    ))
}

/// Two pixels a cell: the upper one as the colour of the block, the lower one behind it.
fn blocks(picture: &DynamicImage) -> String {
    let (columns, lines) = cells(picture);
    let small = picture.resize_exact(columns, 2 * lines, FilterType::Triangle).to_rgb8();
    let mut text = String::new();
    for line in 0..lines {
        for column in 0..columns {
            let [r, g, b] = small.get_pixel(column, 2 * line).0;
            let [br, bg, bb] = small.get_pixel(column, 2 * line + 1).0;
            let _ = write!(text, "\u{1b}[38;2;{r};{g};{b}m\u{1b}[48;2;{br};{bg};{bb}m▀");
        }
        text.push_str("\u{1b}[0m");
        if line + 1 < lines {
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(variables: &[(&str, &str)]) -> Option<Way> {
        let found = |name: &str| variables.iter().find(|(known, _)| *known == name);
        Way::of(|name| found(name).map(|(_, value)| (*value).to_owned()))
    }

    fn picture(width: u32, height: u32) -> ImageSource {
        let image = image::RgbImage::from_fn(width, height, |_, y| {
            image::Rgb(if y < height / 2 { [250, 0, 0] } else { [0, 0, 250] })
        });
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        ImageSource::Bytes(bytes.into_inner().into())
    }

    #[test]
    fn the_way_is_told_by_the_environment() {
        assert_eq!(way(&[]), None);
        assert_eq!(way(&[("TERM", "xterm-256color")]), None);
        assert_eq!(way(&[("TERM", "xterm-kitty")]), Some(Way::Kitty));
        assert_eq!(way(&[("TERM_PROGRAM", "WezTerm")]), Some(Way::Iterm));
        assert_eq!(way(&[("COLORTERM", "truecolor")]), Some(Way::Blocks));
        let within = [("KITTY_WINDOW_ID", "1"), ("TMUX", "x"), ("COLORTERM", "24bit")];
        assert_eq!(way(&within), Some(Way::Blocks));
        assert_eq!(way(&[("TERM", "dumb"), ("COLORTERM", "truecolor")]), None);
        assert_eq!(way(&[("NO_COLOR", "1"), ("TERM", "xterm-kitty")]), None);
    }

    #[test]
    fn blocks_show_two_pixels_a_cell() {
        let text = Way::Blocks.show(&picture(64, 64)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 12);
        assert_eq!(lines[0].matches('▀').count(), 24);
        assert!(lines[0].starts_with("\u{1b}[38;2;250;0;0m\u{1b}[48;2;250;0;0m▀"), "{}", lines[0]);
        assert!(lines[11].contains("\u{1b}[38;2;0;0;250m"), "{}", lines[11]);
        assert!(lines.iter().all(|line| line.ends_with("\u{1b}[0m")));
    }

    #[test]
    fn a_wide_picture_takes_few_lines() {
        let text = Way::Blocks.show(&picture(640, 64)).unwrap();
        assert_eq!((text.lines().count(), text.matches('▀').count()), (2, 2 * 32));
    }

    #[test]
    fn pixels_are_sent_in_pieces_that_end() {
        let text = Way::Kitty.show(&picture(300, 300)).unwrap();
        assert!(text.starts_with("\u{1b}_Ga=T,f=100,q=2,c=24,r=12,m="), "{text}");
        assert!(text.ends_with("\u{1b}\\") && text.contains("m=0;"));
        let text = Way::Iterm.show(&picture(300, 300)).unwrap();
        assert!(text.starts_with("\u{1b}]1337;File=inline=1;width=24;height=12;"));
        assert!(text.ends_with('\u{7}'));
    }

    #[test]
    fn what_is_no_picture_is_not_shown() {
        assert_eq!(Way::Blocks.show(&ImageSource::Bytes(b"\x1b[2J".as_slice().into())), None);
    }
}
