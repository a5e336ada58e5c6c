//! Putting the vectors of a collection into lists, so that a search looks at a part of them.
//!
//! Lists are made of one file of vectors each and lie in it, so that a commit swaps them with it: what
//! was killed while they were made is made again, a document that is new lies in another file that is
//! searched whole until lists are made of that one, and one that is deleted is left out of what is
//! found, as always.

use super::payload::{Approximate, LaneFiles};
use super::{VECTORS, Writer};
use crate::error::RagError;
use crate::vectors::{Flat, Listed, VectorIndex as _, gather};

/// A file of at least so many vectors is put into lists, if nothing else is said: looking at all of
/// fewer takes a few milliseconds.
const AUTO_FROM: usize = 100_000;
/// The same where lists are wanted.
const ON_FROM: usize = 1000;

impl Writer {
    /// Says when vectors are put into lists, and whether those that there are, are used. Gives
    /// whether that is new.
    pub fn set_approximate(&mut self, approximate: Approximate) -> bool {
        std::mem::replace(&mut self.payload.approximate, approximate) != approximate
    }

    /// Puts the vectors of files that are large enough into lists; they are used after the next
    /// commit. Says how many vectors they are. `goes_on` is told the share of a file that is done,
    /// and stops it.
    ///
    /// # Errors
    ///
    /// When the files cannot be read or written.
    pub fn list_vectors(&mut self, goes_on: &dyn Fn(f64) -> bool) -> Result<usize, RagError> {
        let from = match self.payload.approximate {
            Approximate::Off => return Ok(0),
            Approximate::Auto => AUTO_FROM,
            Approximate::On => ON_FROM,
        };
        let place = self.collection.place().to_path_buf();
        let mut listed = 0;
        let all = |lane: &LaneFiles| {
            (0..lane.files.len()).map(|i| (lane.lane, lane.files[i].clone())).collect::<Vec<_>>()
        };
        let all: Vec<_> = self.payload.lanes.iter().flat_map(all).collect();
        for (lane, old) in all {
            let flat = Flat::open(&place.join(&old))?;
            let Err(flat) = Listed::of(flat) else { continue };
            if flat.len() < from {
                continue;
            }
            let new = self.next_vector_file(lane);
            if !gather(&flat, &place.join(&new), goes_on)? {
                break;
            }
            let files = self.payload.lanes.iter_mut().flat_map(|lane| &mut lane.files);
            files.filter(|name| **name == old).for_each(|name| name.clone_from(&new));
            self.leftovers.push(old);
            listed += flat.len();
        }
        Ok(listed)
    }

    /// Removes files of vectors that belong to no commit: a writer that was killed left them.
    pub(super) fn remove_strays(&self) {
        let lanes = self.payload.lanes.iter().flat_map(|lane| &lane.files);
        let kept: Vec<&String> = lanes.chain(&self.payload.leftovers).collect();
        let Ok(entries) = std::fs::read_dir(self.collection.place().join(VECTORS)) else { return };
        for entry in entries.flatten() {
            let name = format!("{VECTORS}/{}", entry.file_name().display());
            if !kept.contains(&&name) {
                // What cannot be removed does no harm where it is.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}
