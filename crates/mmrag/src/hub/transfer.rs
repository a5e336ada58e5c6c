//! The bytes of one file, from the hub to the disk: gone on with where they stopped, and looked
//! at before they bear the name of a whole file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use sha2::{Digest as _, Sha256};

use super::name::is_part;
use super::repository::{Reply, Repository, Trouble};
use crate::hexadecimal::hexadecimal;
use crate::progress::ByteMeter;

/// How often a file is asked for whose bytes stop coming before its end.
const ATTEMPTS: usize = 5;

const BUFFER: usize = 1 << 18;

/// A file of a repository and its place in the cache.
pub(super) struct Source<'a> {
    /// Its name in the repository.
    pub(super) file: &'a str,
    /// The commit that it is of.
    pub(super) commit: &'a str,
    /// The folder where the cache keeps contents by their names.
    pub(super) blobs: &'a Path,
    /// The folder where the cache keeps its locks.
    pub(super) locks: &'a Path,
}

impl Source<'_> {
    /// Downloads the file unless its content is there, and says where it lies.
    ///
    /// # Errors
    ///
    /// When the hub does not give it whole, or the disk does not take it. What came stays for the
    /// next time.
    pub(super) fn fetch(&self, repository: &Repository<'_>) -> Result<PathBuf, Trouble> {
        let reply = repository.open(self.commit, self.file, 0)?;
        let content = Content::of(&reply, self);
        let _lock = content.lock(self.locks)?;
        if content.blob.is_file() {
            return Ok(content.blob);
        }
        let have = length(&content.part);
        if have > 0 && reply.size == Some(have) && content.look_at(have, reply.size).is_ok() {
            return content.finish();
        }
        let mut reply = (have == 0).then_some(reply);
        let meter = ByteMeter::new(self.file);
        let mut attempt = 1;
        loop {
            let next = match reply.take() {
                Some(reply) => reply,
                None => self.reopen(repository, &content.part)?,
            };
            match content.receive(next, &meter) {
                Err(Trouble::Broken(_)) if attempt < ATTEMPTS => attempt += 1,
                Err(trouble) => return Err(trouble),
                Ok(()) => return content.finish(),
            }
        }
    }

    /// Asks for what a part lacks; for all if the part is not the beginning of what there is.
    fn reopen(&self, repository: &Repository<'_>, part: &Path) -> Result<Reply, Trouble> {
        let start = length(part);
        match repository.open(self.commit, self.file, start) {
            Err(Trouble::Refused { status: 416, .. }) if start > 0 => {
                repository.open(self.commit, self.file, 0)
            }
            reply => reply,
        }
    }
}

/// What is to come, and where it goes.
struct Content {
    file: String,
    blob: PathBuf,
    part: PathBuf,
    sha256: Option<String>,
}

impl Content {
    /// The cache names contents by their ETag. One that is no plain name, or that something of
    /// another size bears, is not used.
    fn of(reply: &Reply, source: &Source<'_>) -> Self {
        let etag = reply.etag.as_deref().filter(|etag| is_part(etag) && etag.len() <= 128);
        let sha256 = etag.filter(|etag| etag.len() == 64 && is_hexadecimal(etag));
        let is_free = |etag: &&str| {
            let blob = source.blobs.join(etag);
            !blob.exists() || reply.size.is_none_or(|size| size == length(&blob))
        };
        let fallback = || format!("{}-{}", source.commit, source.file.replace('/', "-"));
        let name = etag.filter(is_free).map_or_else(fallback, str::to_owned);
        Self {
            file: source.file.to_owned(),
            blob: source.blobs.join(&name),
            part: source.blobs.join(format!("{name}.incomplete")),
            sha256: sha256.map(str::to_ascii_lowercase),
        }
    }

    /// Waits until nobody else downloads the same.
    fn lock(&self, locks: &Path) -> anyhow::Result<File> {
        let mut name = self.blob.file_name().unwrap_or_default().to_owned();
        name.push(".lock");
        let path = locks.join(name);
        let lock = || -> io::Result<File> {
            std::fs::create_dir_all(locks)?;
            std::fs::create_dir_all(self.blob.parent().unwrap_or(Path::new("")))?;
            let file = File::create(&path)?;
            if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
                eprintln!("waiting for another download of {}", self.file);
                file.lock()?;
            }
            // A disk that knows no locks is used without: contents get their names when whole.
            Ok(file)
        };
        lock().with_context(|| format!("failed to lock {}", path.display()))
    }

    /// Writes what comes behind the part, or from the front if all of it comes, and looks at it.
    fn receive(&self, mut reply: Reply, meter: &ByteMeter) -> Result<(), Trouble> {
        let part = || written(&self.part);
        let have = length(&self.part);
        let start = if have > 0 && reply.start == have { have } else { 0 };
        if reply.start != start {
            return Err(Trouble::Other(anyhow!("the hub sends another part than was asked for")));
        }
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(start == 0)
            .append(start > 0)
            .open(&self.part)
            .with_context(part)?;
        meter.begin(start, reply.size);
        let ended = copy(&mut *reply.body, &mut file, meter).with_context(part)?;
        file.sync_all().with_context(part)?;
        let have = length(&self.part);
        let is_short = reply.size.is_some_and(|size| have < size);
        if ended.is_err() || is_short {
            let of = reply.size.map_or_else(String::new, |size| format!(" of {size}"));
            let why = ended.err().map_or_else(String::new, |error| format!(": {error}"));
            return Err(Trouble::Broken(format!("it broke off after {have}{of} bytes{why}")));
        }
        self.look_at(start, reply.size)
    }

    /// Gives the part, which is whole, its name.
    fn finish(self) -> Result<PathBuf, Trouble> {
        std::fs::rename(&self.part, &self.blob).with_context(|| written(&self.blob))?;
        Ok(self.blob)
    }

    /// Whether the part, of which the first bytes are from an earlier time, is what it should be.
    /// If not it is removed.
    fn look_at(&self, earlier: u64, size: Option<u64>) -> Result<(), Trouble> {
        let is_longer = size.is_some_and(|size| length(&self.part) > size);
        let is_other = match &self.sha256 {
            Some(expected) => sha256(&self.part).with_context(|| written(&self.part))? != *expected,
            None => false,
        };
        if !is_longer && !is_other {
            return Ok(());
        }
        std::fs::remove_file(&self.part).with_context(|| written(&self.part))?;
        let reason = if is_longer { "is longer" } else { "has another SHA-256" };
        let told = format!("what came as {} {reason} than the hub says", self.file);
        // What lay there may have been at fault. What all came now would come so again.
        Err(if earlier > 0 { Trouble::Broken(told) } else { Trouble::Other(anyhow!(told)) })
    }
}

/// Copies to the end. What could not be read is told inside: what could not be written, outside.
fn copy(from: &mut dyn Read, to: &mut File, meter: &ByteMeter) -> io::Result<io::Result<()>> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(Ok(())),
            Ok(n) => {
                to.write_all(&buffer[..n])?;
                meter.add(n);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Ok(Err(error)),
        }
    }
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut file = File::open(path)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
    }
    Ok(hexadecimal(&hash.finalize()))
}

/// How much of a file there is.
fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

fn written(path: &Path) -> String {
    format!("failed to write {}", path.display())
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
