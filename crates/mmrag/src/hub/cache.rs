//! The model's place in the cache, laid out as the Python library does: `blobs` by content,
//! `snapshots` of a commit that link to them, `refs` from a branch to its commit, and `.no_exist`
//! for files that a commit is known not to hold.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use super::files::{INDEX, Kind, shards};
use super::name::HubName;
use super::refusal::Refusal;
use super::repository::{Listing, Repository, Trouble};
use super::transfer::Source;

/// A model's or an adapter's place in the cache.
pub(super) struct Store<'a> {
    cache: Cache,
    kind: Kind,
    name: &'a HubName,
}

/// What the cache holds of a model.
pub(super) enum Held {
    /// Nothing, as far as it can be told.
    Nothing,
    /// Not all: these files are missing.
    Lacking(Vec<String>),
    /// Config and weights. Whether more belongs to it is not known.
    Usable(PathBuf),
    /// All of it.
    Whole(PathBuf),
}

impl<'a> Store<'a> {
    /// The place of a model in a cache.
    pub(super) fn new(cache: &Path, kind: Kind, name: &'a HubName) -> Self {
        Self { cache: Cache::new(cache.to_path_buf()), kind, name }
    }

    /// The folder of all that is of this model.
    pub(super) fn place(&self) -> PathBuf {
        self.cache.path().join(self.repo(&self.name.revision).folder_name())
    }

    /// Looks what is there.
    pub(super) fn held(&self) -> Held {
        let Some(snapshot) = self.snapshot() else { return Held::Nothing };
        let lacking = lacking(self.kind, &snapshot);
        if !lacking.is_empty() {
            return Held::Lacking(lacking);
        }
        let absent = self.absent(snapshot.file_name().unwrap_or_default().as_ref());
        let is_known = |file| snapshot.join(file).exists() || absent.join(file).exists();
        if self.kind.companions().all(is_known) {
            Held::Whole(snapshot)
        } else {
            Held::Usable(snapshot)
        }
    }

    /// Downloads what a model needs and is not there yet. The branch leads to the new snapshot
    /// when that is whole.
    ///
    /// # Errors
    ///
    /// When a file does not come or cannot be written.
    pub(super) fn download(
        &self,
        repository: &Repository<'_>,
        listing: &Listing,
        weights: &str,
        refusal: &Refusal<'_>,
    ) -> anyhow::Result<PathBuf> {
        let commit = listing.commit.as_str();
        let snapshot = self.at(commit).pointer_path(commit);
        let is_listed = |file: &&str| listing.files.contains(*file);
        let (present, absent): (Vec<&str>, Vec<&str>) =
            self.kind.companions().partition(|file| is_listed(file));
        let first = [&[self.kind.config()], &present[..], &[weights]].concat();
        if !first.iter().all(|file| snapshot.join(file).exists()) {
            eprintln!("downloading {} into {}", self.name, snapshot.display());
        }
        let get = |file: &str| {
            self.get(repository, commit, file, &snapshot)
                .map_err(|trouble| refusal.because(Some(file), &trouble))
        };
        first.into_iter().try_for_each(get)?;
        if weights == INDEX {
            for shard in shards(&snapshot.join(INDEX))? {
                if !is_listed(&shard.as_str()) {
                    let reason = format!("its {INDEX} names {shard}, which it does not hold");
                    return Err(refusal.unfit(&reason));
                }
                get(&shard)?;
            }
        }
        self.note(commit, &absent);
        Ok(snapshot)
    }

    /// Notes what a whole snapshot does not hold, and that its branch leads to it. Without the
    /// notes the hub is asked again the next time, so that a cache of others, which cannot be
    /// written, does as well.
    fn note(&self, commit: &str, absent: &[&str]) {
        let marks = absent.iter().map(|file| (self.absent(commit.as_ref()).join(file), ""));
        let branch = self.place().join("refs").join(&self.name.revision);
        let branch = (self.name.revision != commit).then_some((branch, commit));
        let has =
            |file: &Path, text: &str| std::fs::read_to_string(file).ok().as_deref() == Some(text);
        for (file, text) in marks.chain(branch) {
            // Another download of the same model may write the same at the same time.
            if !has(&file, text)
                && let Err(error) = crate::output::file(&file, text)
                && !has(&file, text)
            {
                eprintln!("{error:#}");
                return;
            }
        }
    }

    fn get(
        &self,
        repository: &Repository<'_>,
        commit: &str,
        file: &str,
        snapshot: &Path,
    ) -> Result<(), Trouble> {
        let pointer = snapshot.join(file);
        if pointer.exists() {
            return Ok(());
        }
        let place = self.place();
        let folder_name = place.file_name().unwrap_or_default();
        let locks = self.cache.path().join(".locks").join(folder_name);
        let source = Source { file, commit, blobs: &place.join("blobs"), locks: &locks };
        let blob = source.fetch(repository)?;
        let depth = Path::new(file).components().count();
        link(&blob, &pointer, depth)
            .with_context(|| format!("failed to write {}", pointer.display()))?;
        Ok(())
    }

    /// The snapshot of the revision: where its branch leads, or the commit that it is.
    fn snapshot(&self) -> Option<PathBuf> {
        let branch = self.at(&self.name.revision);
        let config = self.kind.config();
        let of_commit = branch.pointer_path(&self.name.revision).join(config);
        let config = branch.get(config).or_else(|| of_commit.exists().then_some(of_commit))?;
        config.parent().map(Path::to_path_buf)
    }

    /// Where the files are named that a commit does not hold.
    fn absent(&self, commit: &Path) -> PathBuf {
        self.place().join(".no_exist").join(commit)
    }

    fn at(&self, revision: &str) -> CacheRepo {
        self.cache.repo(self.repo(revision))
    }

    fn repo(&self, revision: &str) -> Repo {
        Repo::with_revision(self.name.repository.clone(), RepoType::Model, revision.to_owned())
    }
}

/// The weights that a snapshot lacks.
fn lacking(kind: Kind, snapshot: &Path) -> Vec<String> {
    if snapshot.join(kind.single()).exists() {
        return Vec::new();
    }
    let index = snapshot.join(INDEX);
    if kind == Kind::Adapter || !index.exists() {
        return vec![kind.single().to_owned()];
    }
    match shards(&index) {
        Ok(shards) => shards.into_iter().filter(|shard| !snapshot.join(shard).exists()).collect(),
        Err(_) => vec![INDEX.to_owned()],
    }
}

/// Lets a file of a snapshot be a content of the cache: `snapshots/COMMIT/FILE` beside `blobs`, with
/// so many parts in the file's name.
fn link(blob: &Path, pointer: &Path, depth: usize) -> io::Result<()> {
    let folder = pointer.parent().unwrap_or(Path::new(""));
    std::fs::create_dir_all(folder)?;
    match join(blob, pointer, depth) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !pointer.exists() => {
            // A link whose content was deleted.
            std::fs::remove_file(pointer)?;
            join(blob, pointer, depth)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        joined => joined,
    }
}

#[cfg(unix)]
fn join(blob: &Path, pointer: &Path, depth: usize) -> io::Result<()> {
    let name = blob.file_name().unwrap_or_default();
    let place = Path::new(&"../".repeat(depth + 1)).join("blobs").join(name);
    std::os::unix::fs::symlink(place, pointer)
}

#[cfg(not(unix))]
fn join(blob: &Path, pointer: &Path, _depth: usize) -> io::Result<()> {
    std::fs::hard_link(blob, pointer)
}
