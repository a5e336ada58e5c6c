//! Ids of what was read: the file, and what stands in it. The same content in the same file has
//! the same id, wherever in the file it moves and wherever the folder lies.

use std::collections::HashMap;

use anyhow::Context as _;
use mmrag_core::{Content, Document, DocumentId, ImageSource, Origin};
use mmrag_rag::{Record, contents_version};
use mmrag_read::{Piece, Reading, Root};

use super::files::Found;

/// What a file is called in ids: by its folder's name and its place within.
pub(super) fn place(file: &Found, root: &Root) -> String {
    let folder = root.path().file_name().map(|name| name.to_string_lossy().into_owned());
    let within = file.path.strip_prefix(root.path()).unwrap_or(&file.path);
    format!("{}/{}", folder.unwrap_or_default(), within.display())
}

/// The documents of a file that is called `place`, in its order.
///
/// # Errors
///
/// When a picture that was just there cannot be read.
pub(super) fn records(place: &str, reading: Reading) -> anyhow::Result<Vec<Record>> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let record = |piece: Piece| -> anyhow::Result<Record> {
        let name = match &piece.name {
            Some(name) => name.clone(),
            None => content_name(&piece)?,
        };
        let times = seen.entry(name.clone()).or_default();
        *times += 1;
        let id = match *times {
            1 => format!("{place}#{name}"),
            n => format!("{place}#{name}.{n}"),
        };
        let Piece { title, content, origin, .. } = piece;
        let document = Document { id: DocumentId::new(id), title, content };
        let origin = Origin { source: place.to_owned(), ..origin };
        Ok(Record { document, origin: Some(origin) })
    };
    reading.pieces.into_iter().map(record).collect()
}

/// A name made from what a piece says or shows.
fn content_name(piece: &Piece) -> anyhow::Result<String> {
    let mut content = piece.content.clone();
    if let Content::Image(source) = &mut content
        && let ImageSource::Path(path) = source
    {
        let bytes =
            std::fs::read(&*path).with_context(|| format!("failed to read {}", path.display()))?;
        *source = ImageSource::Bytes(bytes.into());
    }
    let document = Document { id: DocumentId::new(""), title: piece.title.clone(), content };
    Ok(contents_version(&[document])[..12].to_owned())
}
