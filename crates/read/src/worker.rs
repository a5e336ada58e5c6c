//! The process that reads files that are not to be trusted.
//!
//! It takes a job a line on stdin and gives a result a line on stdout. It bounds its own memory and
//! time first, so that whatever a file makes a reader do, it ends in this process.

use std::io::{self, BufRead as _, Write as _};
use std::path::{Path, PathBuf};

use mmrag_core::{Content, ImageSource};
use serde::{Deserialize, Serialize};

use crate::local::Root;
use crate::piece::{Options, Reading};
use crate::{Kind, read};

/// A file to read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The file.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// What it may name others in.
    pub root: Root,
    /// How to read it.
    pub options: Options,
    /// Where pictures go that are made while reading, such as those of pages.
    pub scratch: PathBuf,
}

/// What became of a job: what was read, or why nothing was.
pub(crate) type Told = Result<Reading, String>;

/// Reads files until there are no more jobs. What `main` of a worker's process calls, with the
/// memory that it may take in MB.
///
/// # Errors
///
/// When the bounds cannot be set, or stdin or stdout are closed.
pub fn serve(memory_mb: u64) -> io::Result<()> {
    bound_memory(memory_mb)?;
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let job: Job = serde_json::from_str(&line?)?;
        let told: Told = work(&job).map_err(|error| error.to_string());
        serde_json::to_writer(&mut out, &told)?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(())
}

fn work(job: &Job) -> Result<Reading, crate::ReadError> {
    let mut reading = read(&job.path, job.kind, &job.root, &job.options)?;
    for (i, piece) in reading.pieces.iter_mut().enumerate() {
        if let Content::Image(source) = &mut piece.content
            && let ImageSource::Bytes(bytes) = source
        {
            let path = job.scratch.join(i.to_string());
            std::fs::write(&path, bytes)?;
            *source = ImageSource::Path(path);
        }
    }
    Ok(reading)
}

/// Takes the pictures that a worker made into memory and removes their files.
pub(crate) fn collect(mut reading: Reading, scratch: &Path) -> io::Result<Reading> {
    for piece in &mut reading.pieces {
        if let Content::Image(source) = &mut piece.content
            && let ImageSource::Path(path) = source
            && path.parent() == Some(scratch)
        {
            let bytes = std::fs::read(&*path)?;
            std::fs::remove_file(&*path)?;
            *source = ImageSource::Bytes(bytes.into());
        }
    }
    Ok(reading)
}

#[cfg(unix)]
fn bound_memory(memory_mb: u64) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let most = Some(memory_mb << 20);
    setrlimit(Resource::As, Rlimit { current: most, maximum: most })?;
    // No memory dump of a stranger's file, and no file larger than what a page's picture may be.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}

#[cfg(not(unix))]
fn bound_memory(_memory_mb: u64) -> io::Result<()> {
    Ok(())
}
