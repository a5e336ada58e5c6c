//! Markdown.

use std::path::{Path, PathBuf};

use mmrag_core::Origin;
use pulldown_cmark::{Event, Options as Syntax, Parser, Tag, TagEnd};

use crate::chunk::{self, Block, titled};
use crate::local::Root;
use crate::piece::{Options, Piece, ReadError, Reading, title_of};
use crate::text::decoded;
use crate::{picture, table};

pub(crate) fn read(path: &Path, root: &Root, options: &Options) -> Result<Reading, ReadError> {
    let text = decoded(std::fs::read(path)?)?;
    let syntax = Syntax::ENABLE_TABLES
        | Syntax::ENABLE_STRIKETHROUGH
        | Syntax::ENABLE_YAML_STYLE_METADATA_BLOCKS;
    let mut page = Page::default();
    let mut line = Lines { text: &text, at: 0, line: 1 };
    for (event, range) in Parser::new_ext(&text, syntax).into_offset_iter() {
        page.take(event, line.of(range.start));
    }
    Ok(page.reading(path, root, options))
}

/// What a page of text with headings, tables and pictures is made of.
#[derive(Default)]
pub(crate) struct Page {
    pub(crate) title: Option<String>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) grids: Vec<Grid>,
    pub(crate) pictures: Vec<Named>,
    pub(crate) section: Vec<(usize, String)>,
    text: String,
    begins: Option<usize>,
    inside: Inside,
    row: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// A table, and where it stood.
pub(crate) struct Grid {
    pub(crate) cells: Vec<Vec<String>>,
    pub(crate) section: Vec<String>,
    pub(crate) name: String,
}

/// A picture that is named.
pub(crate) struct Named {
    pub(crate) file: String,
    pub(crate) caption: String,
    pub(crate) section: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
enum Inside {
    #[default]
    Block,
    Heading(usize),
    Table,
    Skipped,
}

impl Page {
    fn take(&mut self, event: Event, line: usize) {
        match event {
            Event::Start(tag) => self.start(tag, line),
            Event::End(tag) => self.end(tag),
            Event::Text(text) | Event::Code(text) => self.add(&text, line),
            Event::SoftBreak | Event::HardBreak => self.add(" ", line),
            _ => {}
        }
    }

    fn start(&mut self, tag: Tag, line: usize) {
        match tag {
            Tag::Heading { level, .. } => {
                self.close();
                self.inside = Inside::Heading(level as usize);
            }
            Tag::Table(_) => {
                self.close();
                self.inside = Inside::Table;
                self.begins = Some(line);
            }
            Tag::MetadataBlock(_) => self.inside = Inside::Skipped,
            Tag::Image { dest_url, .. } => self.pictures.push(Named {
                file: dest_url.to_string(),
                caption: String::new(),
                section: self.headings(),
            }),
            Tag::Paragraph | Tag::Item | Tag::CodeBlock(_) | Tag::BlockQuote(_) => self.close(),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(_) => {
                let text = std::mem::take(&mut self.text).trim().to_owned();
                if let Inside::Heading(level) = std::mem::take(&mut self.inside) {
                    self.heading(level, text);
                }
                self.begins = None;
            }
            TagEnd::TableCell => {
                self.row.push(std::mem::take(&mut self.text).trim().to_owned());
            }
            TagEnd::TableRow | TagEnd::TableHead => self.rows.push(std::mem::take(&mut self.row)),
            TagEnd::Table => {
                let cells = std::mem::take(&mut self.rows);
                let (section, name) = (self.headings(), String::new());
                self.grids.push(Grid { cells, section, name });
                (self.inside, self.begins) = (Inside::Block, None);
            }
            TagEnd::MetadataBlock(_) => self.inside = Inside::Block,
            TagEnd::Paragraph | TagEnd::Item | TagEnd::CodeBlock | TagEnd::BlockQuote(_) => {
                self.close();
            }
            _ => {}
        }
    }

    fn add(&mut self, text: &str, line: usize) {
        if self.inside == Inside::Skipped {
            return;
        }
        self.begins.get_or_insert(line);
        self.text.push_str(text);
    }

    /// A heading begins a section, and ends those as deep or deeper. The first is the title.
    pub(crate) fn heading(&mut self, level: usize, text: String) {
        if text.is_empty() {
            return;
        }
        self.section.retain(|(above, _)| *above < level);
        if self.title.is_none() {
            self.title = Some(text.clone());
        }
        self.section.push((level, text));
    }

    pub(crate) fn headings(&self) -> Vec<String> {
        self.section.iter().map(|(_, text)| text.clone()).collect()
    }

    fn close(&mut self) {
        let text = std::mem::take(&mut self.text);
        let line = self.begins.take();
        if !text.trim().is_empty() && self.inside == Inside::Block {
            let section = self.headings();
            self.blocks.push(Block { text: text.trim().to_owned(), section, line });
        }
    }

    /// The pieces: texts, then tables, then the pictures that are there.
    pub(crate) fn reading(mut self, path: &Path, root: &Root, options: &Options) -> Reading {
        self.close();
        let title = self.title.take().unwrap_or_else(|| title_of(path));
        let mut pieces = chunk::pieces(&title, &self.blocks, options);
        for grid in self.grids {
            let origin = Origin { section: grid.section.clone(), ..Origin::default() };
            let titled = titled(&title, &grid.section);
            let rows = table::pieces(&titled, &grid.name, grid.cells, &origin, options);
            pieces.extend(rows);
        }
        let mut reading = Reading::of(pieces);
        for named in self.pictures {
            reading.add_picture(path, root, &title, named, options);
        }
        reading
    }
}

impl Reading {
    fn add_picture(
        &mut self,
        path: &Path,
        root: &Root,
        title: &str,
        named: Named,
        options: &Options,
    ) {
        let Some(file) = root.find(path, &percent_decoded(&named.file)) else { return };
        if crate::Kind::of(&file) != Some(crate::Kind::Picture) {
            return;
        }
        if let Err(error) = picture::check(&file, options) {
            self.notes.push(format!("{}: {error}", named.file));
            return;
        }
        let caption = named.caption.trim();
        let caption =
            if caption.is_empty() { titled(title, &named.section) } else { caption.into() };
        let origin = Origin { section: named.section, ..Origin::default() };
        self.pieces.push(Piece { origin, ..picture::piece(&file, caption) });
        self.uses.push(PathBuf::from(&file));
    }
}

/// `%20` as a blank, and so on.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = (*first == b'%')
            .then(|| std::str::from_utf8(tail.get(..2)?).ok())
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The line of a place in a text, asked for in order.
struct Lines<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl Lines<'_> {
    fn of(&mut self, at: usize) -> usize {
        if at > self.at {
            self.line += self.text[self.at..at].matches('\n').count();
            self.at = at;
        }
        self.line
    }
}

#[cfg(test)]
mod tests {
    use mmrag_core::Content;

    use super::*;

    fn read_text(text: &str) -> Reading {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a_page.md");
        std::fs::write(&path, text).unwrap();
        read(&path, &Root::new(folder.path()).unwrap(), &Options::default()).unwrap()
    }

    #[test]
    fn text_is_cut_at_headings_and_tables_stay_tables() {
        let reading = read_text(
            "---\nkey: x\n---\n# Towns\nOlm is **old**.\n\n- one\n- two\n\n## Bridges\nA `b`.\n\n\
             | a | b |\n|---|---|\n| 1 | 2 |\n",
        );
        let told: Vec<_> = reading.pieces.iter().map(|p| (p.title.as_str(), &p.content)).collect();
        assert_eq!(told[0], ("Towns", &Content::Text("Olm is old.\n\none\n\ntwo".into())));
        assert_eq!(told[1], ("Towns: Bridges", &Content::Text("A b.".into())));
        let Content::Table(table) = told[2].1 else { panic!("the table stays one") };
        assert_eq!((table.header.as_slice(), table.rows.len()), (&["a".into(), "b".into()][..], 1));
        assert_eq!(reading.pieces[0].origin.rows, Some([5, 8]));
        assert_eq!(reading.pieces[1].origin.section, ["Towns", "Bridges"]);
    }

    #[test]
    fn names_are_decoded() {
        assert_eq!(percent_decoded("a%20b%2"), "a b%2");
        assert_eq!(percent_decoded("%e2%82%ac"), "€");
    }
}
