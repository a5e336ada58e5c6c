//! HTML. Nothing in it is run or fetched.

use std::path::Path;

use ego_tree::iter::Edge;
use scraper::{ElementRef, Html, Node, Selector};

use crate::chunk::Block;
use crate::local::Root;
use crate::markdown::{Grid, Named, Page};
use crate::piece::{Options, ReadError, Reading};
use crate::text::decoded;

/// What is no content.
const SKIPPED: [&str; 10] =
    ["script", "style", "noscript", "template", "svg", "nav", "head", "iframe", "object", "select"];
/// What a paragraph ends at.
const BLOCKS: [&str; 22] = [
    "p",
    "div",
    "li",
    "ul",
    "ol",
    "pre",
    "blockquote",
    "section",
    "article",
    "main",
    "aside",
    "header",
    "footer",
    "dt",
    "dd",
    "dl",
    "br",
    "hr",
    "figure",
    "figcaption",
    "body",
    "details",
];
/// A cell that claims to span more is taken to span so many.
const MOST_SPAN: usize = 100;

pub(crate) fn read(path: &Path, root: &Root, options: &Options) -> Result<Reading, ReadError> {
    let text = decoded(std::fs::read(path)?)?;
    let document = Html::parse_document(&text);
    let mut page = Page::default();
    page.title = title(&document);
    let mut open = String::new();
    let mut skipped: Option<ego_tree::NodeId> = None;
    for edge in document.tree.root().traverse() {
        match edge {
            Edge::Open(node) if skipped.is_none() => match node.value() {
                Node::Text(text) => open.push_str(text),
                Node::Element(element) => {
                    let element_ref = ElementRef::wrap(node).expect("the node is an element");
                    let name = element.name();
                    if SKIPPED.contains(&name) {
                        skipped = Some(node.id());
                    } else if name == "table" || heading(name).is_some() {
                        close(&mut page, &mut open);
                        whole(&mut page, element_ref);
                        skipped = Some(node.id());
                    } else if name == "img" {
                        picture(&mut page, element_ref);
                    } else if BLOCKS.contains(&name) {
                        close(&mut page, &mut open);
                    }
                }
                _ => {}
            },
            Edge::Close(node) => {
                if skipped == Some(node.id()) {
                    skipped = None;
                } else if skipped.is_none()
                    && node.value().as_element().is_some_and(|e| BLOCKS.contains(&e.name()))
                {
                    close(&mut page, &mut open);
                }
            }
            Edge::Open(_) => {}
        }
    }
    close(&mut page, &mut open);
    Ok(page.reading(path, root, options))
}

fn title(document: &Html) -> Option<String> {
    let selector = Selector::parse("title").expect("the selector is well-formed");
    let title = document.select(&selector).next().map(words)?;
    (!title.is_empty()).then_some(title)
}

fn heading(name: &str) -> Option<usize> {
    let level = name.strip_prefix('h')?.parse().ok()?;
    (1..=6).contains(&level).then_some(level)
}

fn close(page: &mut Page, open: &mut String) {
    let text = one_line(&std::mem::take(open));
    if !text.is_empty() {
        page.blocks.push(Block { text, section: page.headings(), line: None });
    }
}

/// A heading or a table: what is in it belongs together.
fn whole(page: &mut Page, element: ElementRef) {
    if let Some(level) = heading(element.value().name()) {
        page.heading(level, words(element));
        return;
    }
    let caption = Selector::parse("caption").expect("the selector is well-formed");
    let name = element.select(&caption).next().map(words).unwrap_or_default();
    page.grids.push(Grid { cells: cells(element), section: page.headings(), name });
}

fn picture(page: &mut Page, element: ElementRef) {
    let attribute = |name| element.value().attr(name).unwrap_or_default().trim().to_owned();
    let figure = element.ancestors().filter_map(ElementRef::wrap).take(3);
    let caption = Selector::parse("figcaption").expect("the selector is well-formed");
    let caption = figure
        .filter(|parent| parent.value().name() == "figure")
        .find_map(|figure| figure.select(&caption).next().map(words));
    let parts = [caption.unwrap_or_default(), attribute("alt")];
    let caption =
        parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(" – ");
    page.pictures.push(Named { file: attribute("src"), caption, section: page.headings() });
}

/// The rows of a table. A cell that spans several says its text in each.
fn cells(table: ElementRef) -> Vec<Vec<String>> {
    let row_selector = Selector::parse("tr").expect("the selector is well-formed");
    let cell_selector = Selector::parse("td, th").expect("the selector is well-formed");
    let mut rows: Vec<Vec<String>> = Vec::new();
    // For each column: the text that comes from above, and for how many rows still.
    let mut above: Vec<(String, usize)> = Vec::new();
    for row in table.select(&row_selector) {
        let mut cells = Vec::new();
        for cell in row.select(&cell_selector) {
            from_above(&mut above, &mut cells);
            let span = |name| {
                let span = cell.value().attr(name).and_then(|span| span.parse::<usize>().ok());
                span.unwrap_or(1).clamp(1, MOST_SPAN)
            };
            let (text, width, height) = (words(cell), span("colspan"), span("rowspan"));
            for _ in 0..width {
                if above.len() <= cells.len() {
                    above.resize(cells.len() + 1, (String::new(), 0));
                }
                above[cells.len()] = (text.clone(), height - 1);
                cells.push(text.clone());
            }
        }
        from_above(&mut above, &mut cells);
        rows.push(cells);
    }
    rows
}

fn from_above(above: &mut [(String, usize)], cells: &mut Vec<String>) {
    while let Some((text, left)) = above.get_mut(cells.len()).filter(|(_, left)| *left > 0) {
        *left -= 1;
        cells.push(text.clone());
    }
}

fn words(element: ElementRef) -> String {
    one_line(&element.text().collect::<Vec<_>>().join(" "))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use mmrag_core::Content;

    use super::*;

    fn read_text(text: &str) -> Reading {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.html");
        std::fs::write(&path, text).unwrap();
        read(&path, &Root::new(folder.path()).unwrap(), &Options::default()).unwrap()
    }

    #[test]
    fn what_a_reader_sees_is_read() {
        let reading = read_text(
            "<title>Olm</title><nav>Menu</nav><h1>Town</h1><p>Old <b>town</b>.<script>x()</script>\
             <ul><li>one<li>two</ul><h2>Data</h2><table><caption>Names</caption><tr><th>a<th>b\
             <tr><td rowspan=2>x<td>1<tr><td>2</table>",
        );
        let text = |i: usize| (&reading.pieces[i].title, &reading.pieces[i].content);
        let town = Content::Text("Old town .\n\none\n\ntwo".replace("n .", "n."));
        assert_eq!(text(0), (&"Olm: Town".to_owned(), &town));
        let Content::Table(table) = text(1).1 else { panic!("tables stay tables") };
        assert_eq!(table.name, "Names");
        assert_eq!(table.rows, [["x", "1"], ["x", "2"]]);
    }

    #[test]
    fn deep_nesting_and_huge_spans_are_borne() {
        let deep = "<div>".repeat(20_000) + "x";
        assert_eq!(read_text(&deep).pieces.len(), 1);
        let wide = "<table><tr><td colspan=999999999 rowspan=999999999>x</table>";
        assert_eq!(read_text(wide).pieces.len(), 1);
    }
}
