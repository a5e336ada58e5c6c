//! One file that came as bytes, read as the files of a folder are: by a worker process with bounds.

use std::path::Path;

use anyhow::{Context as _, bail};
use mmrag_core::{Content, ImageSource};
use mmrag_rag::Record;
use mmrag_read::worker::Job;
use mmrag_read::{Bounds, Kind, Options, Pool, Root};

use super::ids;
use super::readers::worker_command;

/// The documents of a file, and what was left out of it.
pub(crate) struct Given {
    /// The documents; their pictures are bytes.
    pub(crate) records: Vec<Record>,
    /// What was left out, and why.
    pub(crate) notes: Vec<String>,
}

/// Reads a file that is called `name` by whoever gave it. The name's end says what it is.
///
/// # Errors
///
/// When it is of a kind that is not read, or cannot be read within the bounds.
pub(crate) fn read_given(name: &str, bytes: &[u8], bounds: Bounds) -> anyhow::Result<Given> {
    let Some(kind) = Kind::of(Path::new(name)) else {
        bail!("it is of a kind that is not read: its name should end as .pdf or .md does");
    };
    let folder = tempfile::tempdir().context("failed to make a folder for the file")?;
    let (files, scratch) = (folder.path().join("files"), folder.path().join("scratch"));
    for made in [&files, &scratch] {
        std::fs::create_dir(made).context("failed to make a folder for the file")?;
    }
    // Titles may be made from names, so it keeps its own; it is checked to be one.
    let path = files.join(name);
    if path.file_name().is_none_or(|last| last != name) {
        bail!("{name} is no name of a file");
    }
    std::fs::write(&path, bytes).context("failed to write the file")?;
    let mut pool = Pool::new(worker_command(bounds)?, bounds, scratch);
    let root = Root::new(&files).context("failed to find the file")?;
    let job = Job { path, kind, root, options: Options::default(), scratch: pool.scratch() };
    let mut reading = pool.read(&job)?;
    for piece in &mut reading.pieces {
        if let Content::Image(source) = &mut piece.content
            && let ImageSource::Path(path) = source
        {
            let picture = std::fs::read(&*path).context("failed to read a picture of the file")?;
            *source = ImageSource::Bytes(picture.into());
        }
    }
    let notes = std::mem::take(&mut reading.notes);
    Ok(Given { records: ids::records(name, reading)?, notes })
}
