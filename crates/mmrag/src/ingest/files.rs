//! The files of a folder that are read.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use mmrag_rag::Collection;
use mmrag_read::{Kind, Root};

/// A file that is read.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Where it is, with links followed.
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    pub(super) bytes: u64,
    pub(super) modified_ns: u64,
}

impl Found {
    /// What the collection calls it.
    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// What a folder holds.
#[derive(Default)]
pub(super) struct Listing {
    /// In the order of their names.
    pub(super) files: Vec<Found>,
    /// Files of kinds that are not read.
    pub(super) other_files: usize,
}

/// The files under a place. Hidden ones, links that lead out of the root and collections are left
/// out.
pub(super) fn find(place: &Path, root: &Root) -> std::io::Result<Listing> {
    let mut listing = Listing::default();
    let place = place.canonicalize()?;
    if place.is_dir() {
        walk(&place, root, &mut listing)?;
    } else {
        add(&place, root, &mut listing)?;
    }
    listing.files.sort_by(|a, b| a.path.cmp(&b.path));
    listing.files.dedup_by(|a, b| a.path == b.path);
    Ok(listing)
}

fn walk(folder: &Path, root: &Root, listing: &mut Listing) -> std::io::Result<()> {
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        if Collection::is_at(&folder) {
            continue;
        }
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            // Links to folders are not followed, so that no walk is without end.
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                add(&entry.path(), root, listing)?;
            }
        }
    }
    Ok(())
}

fn add(path: &Path, root: &Root, listing: &mut Listing) -> std::io::Result<()> {
    let Some(kind) = Kind::of(path) else {
        listing.other_files += 1;
        return Ok(());
    };
    // A link to nothing, or a file that went meanwhile, is not there.
    let Ok(path) = path.canonicalize() else { return Ok(()) };
    if !path.starts_with(root.path()) || !path.is_file() {
        listing.other_files += 1;
        return Ok(());
    }
    let about = std::fs::metadata(&path)?;
    let modified = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let modified_ns = modified.as_nanos() as u64;
    listing.files.push(Found { path, kind, bytes: about.len(), modified_ns });
    Ok(())
}
