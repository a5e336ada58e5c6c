//! JSON with an object for each document: a line each, or in an array.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use mmrag_core::Origin;
use serde_json::{Map, Value};

use crate::chunk::{self, Block};
use crate::local::Root;
use crate::piece::{Options, Piece, ReadError, Reading, title_of};
use crate::{Kind, picture};

/// A longer line is no row.
const LONGEST_LINE: u64 = 4 << 20;
/// A larger array is refused: it is held whole.
const LARGEST_ARRAY: u64 = 64 << 20;
/// Lines that are told one by one; the rest is counted.
const TOLD: usize = 5;

const TITLES: [&str; 3] = ["title", "name", "heading"];
const TEXTS: [&str; 8] =
    ["text", "body", "content", "contents", "passage", "abstract", "caption", "description"];
const PICTURES: [&str; 5] = ["path", "image", "image_path", "file", "file_name"];

pub(crate) fn read_lines(
    path: &Path,
    root: &Root,
    options: &Options,
) -> Result<Reading, ReadError> {
    let mut file = BufReader::new(std::fs::File::open(path)?);
    let mut rows = Rows::new(path, root, options);
    let mut line = Vec::new();
    for n in 1.. {
        line.clear();
        let length = file.by_ref().take(LONGEST_LINE + 1).read_until(b'\n', &mut line)?;
        if length == 0 {
            break;
        }
        if length as u64 > LONGEST_LINE {
            return Err(ReadError::new(format!(
                "line {n} is longer than {} MB",
                LONGEST_LINE >> 20
            )));
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match serde_json::from_slice::<Map<String, Value>>(&line) {
            Ok(row) => rows.take(&row, n)?,
            Err(error) => rows.fault(format!("line {n}: {error}")),
        }
    }
    rows.finish()
}

pub(crate) fn read_array(
    path: &Path,
    root: &Root,
    options: &Options,
) -> Result<Reading, ReadError> {
    if std::fs::metadata(path)?.len() > LARGEST_ARRAY {
        let most = LARGEST_ARRAY >> 20;
        return Err(ReadError::new(format!(
            "an array of JSON may have {most} MB; JSON Lines may have any size"
        )));
    }
    let array: Vec<Value> = serde_json::from_slice(&std::fs::read(path)?)
        .map_err(|error| ReadError::new(format!("it is no array of objects: {error}")))?;
    let mut rows = Rows::new(path, root, options);
    for (i, value) in array.iter().enumerate() {
        match value {
            Value::Object(row) => rows.take(row, i + 1)?,
            _ => rows.fault(format!("entry {}: it is no object", i + 1)),
        }
    }
    rows.finish()
}

struct Rows<'a> {
    path: &'a Path,
    root: &'a Root,
    options: &'a Options,
    reading: Reading,
    faults: usize,
}

impl<'a> Rows<'a> {
    fn new(path: &'a Path, root: &'a Root, options: &'a Options) -> Self {
        Self { path, root, options, reading: Reading::default(), faults: 0 }
    }

    fn take(&mut self, row: &Map<String, Value>, n: usize) -> Result<(), ReadError> {
        if row.get("question").is_some_and(Value::is_string) {
            return Err(ReadError::new("it holds questions, not documents"));
        }
        let string = |key: &&str| row.get(*key).and_then(Value::as_str).map(str::trim);
        let title = TITLES.iter().find_map(string).unwrap_or_default().to_owned();
        let texts: Vec<&str> = TEXTS.iter().filter_map(string).filter(|t| !t.is_empty()).collect();
        let name = match row.get("id").or_else(|| row.get("_id")) {
            Some(Value::String(id)) => Some(id.clone()),
            Some(Value::Number(id)) => Some(id.to_string()),
            _ => None,
        };
        let origin = Origin { rows: Some([n, n]), ..Origin::default() };
        if let Some(named) = PICTURES.iter().find_map(string) {
            match self.picture(named) {
                Ok(file) => {
                    let alt = string(&"alt").filter(|alt| !alt.is_empty());
                    let caption: Vec<&str> = std::iter::once(title.as_str())
                        .chain(texts)
                        .chain(alt)
                        .filter(|part| !part.is_empty())
                        .collect();
                    let caption = joined(&caption);
                    let piece = Piece { name, origin, ..picture::piece(&file, caption) };
                    self.reading.pieces.push(piece);
                    self.reading.uses.push(file);
                }
                Err(why) => self.fault(format!("line {n}: {named}: {why}")),
            }
            return Ok(());
        }
        if texts.is_empty() {
            self.fault(format!("line {n}: it has none of the keys {}", TEXTS.join(", ")));
            return Ok(());
        }
        let section = Vec::new();
        let block =
            |text: &&str| Block { text: (*text).to_owned(), section: section.clone(), line: None };
        let blocks: Vec<Block> = texts.iter().map(block).collect();
        let title = if title.is_empty() { title_of(self.path) } else { title };
        let pieces = chunk::pieces(&title, &blocks, self.options);
        self.reading.pieces.extend(pieces.into_iter().map(|piece| Piece {
            name: name.clone(),
            origin: origin.clone(),
            ..piece
        }));
        Ok(())
    }

    fn picture(&self, named: &str) -> Result<PathBuf, String> {
        let found = self.root.find(self.path, named);
        let file = found.ok_or_else(|| "there is no such file in the folder".to_owned())?;
        if Kind::of(&file) != Some(Kind::Picture) {
            return Err("it is no picture".to_owned());
        }
        picture::check(&file, self.options).map_err(|error| error.to_string())?;
        Ok(file)
    }

    fn fault(&mut self, what: String) {
        self.faults += 1;
        if self.faults <= TOLD {
            self.reading.notes.push(what);
        }
    }

    fn finish(mut self) -> Result<Reading, ReadError> {
        if self.faults > TOLD {
            self.reading.notes.push(format!("{} more lines", self.faults - TOLD));
        }
        if self.reading.pieces.is_empty() && self.faults > 0 {
            return Err(ReadError::new(self.reading.notes.join("; ")));
        }
        Ok(self.reading)
    }
}

/// Parts as sentences after each other.
fn joined(parts: &[&str]) -> String {
    let mut text = String::new();
    for part in parts {
        if !text.is_empty() {
            text.push_str(if text.ends_with(['.', '!', '?', ':']) { " " } else { ". " });
        }
        text.push_str(part);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Reading, ReadError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        std::fs::write(&path, text).unwrap();
        read_lines(&path, &Root::new(folder.path()).unwrap(), &Options::default())
    }

    #[test]
    fn rows_are_documents_and_bad_ones_are_told() {
        let reading = read_text(
            "{\"id\": 7, \"title\": \"T\", \"text\": \"Olm.\"}\n\nnot json\n{\"id\": \"x\"}\n\
             {\"path\": \"../../etc/passwd\"}\n",
        )
        .unwrap();
        assert_eq!(reading.pieces.len(), 1);
        assert_eq!(reading.pieces[0].name.as_deref(), Some("7"));
        assert_eq!(reading.pieces[0].origin.rows, Some([1, 1]));
        assert_eq!(reading.notes.len(), 3);
        assert!(reading.notes[0].starts_with("line 3: "), "{:?}", reading.notes);
        assert!(reading.notes[2].contains("no such file in the folder"), "{:?}", reading.notes);
    }

    #[test]
    fn questions_are_no_documents() {
        let error = read_text("{\"question\": \"Why?\", \"text\": \"x\"}").unwrap_err();
        assert!(error.to_string().contains("questions"), "{error}");
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let long = format!("{{\"text\": \"{}\"}}", "x".repeat(5 << 20));
        assert!(read_text(&long).unwrap_err().to_string().contains("longer than"));
    }
}
