//! Files of a folder into a collection: what is new or changed is read, what is gone is deleted.

mod dataset;
mod files;
mod given;
mod ids;
mod readers;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mmrag_rag::{Collection, Lane, LaneSearch, SourceFile, Writer};
use mmrag_read::{Bounds, Kind, Options, Root, page_reader};
use serde::Serialize;

use crate::progress::Meter;
use files::Found;
use readers::{Outcome, Task};

pub(crate) use dataset::DatasetSource;
pub(crate) use given::read_given;
pub(crate) use readers::{WORKER, serve_worker};

/// What was read is made lasting this often.
const BETWEEN_COMMITS: Duration = Duration::from_secs(10);

/// How a folder is read.
#[derive(Clone, Debug)]
pub(crate) struct Ingest {
    /// How files are read.
    pub(crate) options: Options,
    /// What reading one may take.
    pub(crate) bounds: Bounds,
    /// How many are read at once.
    pub(crate) at_once: usize,
    /// Turns true when the user wants to stop.
    pub(crate) stop: Arc<AtomicBool>,
}

/// What became of a folder.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Summary {
    /// Files that were read.
    pub(crate) read: usize,
    /// Files that were as they had been.
    pub(crate) unchanged: usize,
    /// What reads pages of PDF.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pages_by: Option<String>,
    /// Files that are gone.
    pub(crate) deleted: usize,
    /// Documents that are new, changed or deleted.
    pub(crate) changed_documents: usize,
    /// Bytes that were read.
    pub(crate) bytes: u64,
    /// Seconds that it took.
    pub(crate) seconds: f64,
    /// Files that could not be read, or not whole, and why.
    pub(crate) failures: Vec<Failure>,
    /// Files of kinds that are not read.
    pub(crate) other_files: usize,
    /// Documents of the whole collection.
    pub(crate) documents: usize,
    /// The version of the whole collection.
    pub(crate) version: String,
    /// How the vectors of the whole collection are looked through.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) vectors: BTreeMap<Lane, LaneSearch>,
    /// Whether the user stopped it.
    pub(crate) stopped: bool,
}

/// A file that could not be read, or not whole.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Failure {
    /// The file.
    pub(crate) file: String,
    /// Why.
    pub(crate) why: String,
}

impl Ingest {
    /// Brings a collection up to the state of a folder, or of one file.
    ///
    /// # Errors
    ///
    /// When the folder cannot be listed, the collection cannot be written, or somebody else writes
    /// to it. A file that cannot be read is told in the summary.
    pub(crate) fn run(&self, collection: &Collection, place: &Path) -> anyhow::Result<Summary> {
        let began = Instant::now();
        let folder = if place.is_dir() { place } else { place.parent().unwrap_or(place) };
        let root = Root::new(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
            .with_context(|| format!("failed to find {}", place.display()))?;
        let found = files::find(place, &root)
            .with_context(|| format!("failed to list {}", place.display()))?;
        let mut work = Work {
            ingest: self,
            known: known(collection, &root, place)?,
            writer: collection.writer().context("failed to write to the index")?,
            root,
            summary: Summary {
                other_files: found.other_files,
                pages_by: Some(page_reader(&self.options)),
                ..Summary::default()
            },
            used: BTreeSet::new(),
            committed: Instant::now(),
        };
        let (pictures, pages): (Vec<Found>, Vec<Found>) =
            found.files.into_iter().partition(|file| file.kind == Kind::Picture);
        work.read_all("files", pages)?;
        let alone = pictures.into_iter().filter(|file| !work.used.contains(&file.path)).collect();
        work.read_all("pictures", alone)?;
        let mut summary = work.finish()?;
        summary.documents = collection.snapshot()?.len();
        summary.seconds = began.elapsed().as_secs_f64();
        Ok(summary)
    }
}

/// The files under a place that were read before.
fn known(
    collection: &Collection,
    root: &Root,
    place: &Path,
) -> anyhow::Result<HashMap<String, SourceFile>> {
    let under = if place.is_dir() { root.path().to_path_buf() } else { place.canonicalize()? };
    let sources = collection.snapshot()?.sources().context("failed to read the index")?;
    let sources = sources.into_iter().filter(|source| Path::new(&source.name).starts_with(&under));
    Ok(sources.map(|source| (source.name.clone(), source)).collect())
}

struct Work<'a> {
    ingest: &'a Ingest,
    root: Root,
    writer: Writer,
    /// Files that were read before and have not been met yet.
    known: HashMap<String, SourceFile>,
    /// Pictures that stand in other files' documents.
    used: BTreeSet<PathBuf>,
    summary: Summary,
    committed: Instant,
}

impl Work<'_> {
    fn read_all(&mut self, title: &str, files: Vec<Found>) -> anyhow::Result<()> {
        let options = &self.ingest.options;
        let tasks: Vec<Task> = files
            .into_iter()
            .map(|file| {
                let before = self.known.remove(&file.name());
                Task { file, before, options: options.clone(), root: self.root.clone() }
            })
            .collect();
        if tasks.is_empty() || self.is_stopped() {
            return Ok(());
        }
        let meter = Meter::new(title, tasks.len());
        let began = Instant::now();
        let mut done = 0;
        readers::read_each(self.ingest, &tasks, |task, outcome| {
            self.take(task, outcome)?;
            done += 1;
            meter.at(done, &self.pace(began));
            Ok(())
        })
    }

    fn pace(&self, began: Instant) -> String {
        let rate = self.summary.bytes as f64 / 1e6 / began.elapsed().as_secs_f64().max(1e-3);
        let Summary { changed_documents, failures, .. } = &self.summary;
        format!("{changed_documents} documents, {rate:.1} MB/s, {} failed", failures.len())
    }

    fn is_stopped(&self) -> bool {
        self.ingest.stop.load(Ordering::SeqCst)
    }

    fn take(&mut self, task: &Task, outcome: Outcome) -> anyhow::Result<()> {
        let name = task.file.name();
        let fingerprint = match outcome {
            Outcome::Unchanged => {
                self.summary.unchanged += 1;
                let before = task.before.as_ref().expect("what is unchanged was there before");
                self.used.extend(before.uses.iter().map(PathBuf::from));
                // A failure that was told once is told again: the file is still not there.
                self.told(&name, before.failure.clone());
                return Ok(());
            }
            Outcome::Touched(fingerprint) => {
                self.summary.unchanged += 1;
                let before = task.before.clone().expect("what is touched was there before");
                self.used.extend(before.uses.iter().map(PathBuf::from));
                self.told(&name, before.failure.clone());
                self.writer.touch_source(SourceFile { fingerprint, ..before })?;
                return Ok(());
            }
            Outcome::Read(fingerprint, reading) => {
                self.summary.read += 1;
                self.summary.bytes += fingerprint.bytes;
                self.used.extend(reading.uses.iter().cloned());
                let uses = reading.uses.iter().map(|path| path.display().to_string()).collect();
                let failure = (!reading.notes.is_empty()).then(|| reading.notes.join("; "));
                self.told(&name, failure.clone());
                let source = SourceFile {
                    name: name.clone(),
                    fingerprint,
                    documents: Vec::new(),
                    uses,
                    failure,
                };
                let records = ids::records(&ids::place(&task.file, &self.root), reading)?;
                self.summary.changed_documents += self.writer.put_source(source, records)?;
                return self.commit_when_due();
            }
            Outcome::Failed(fingerprint, why) => {
                self.summary.bytes += fingerprint.bytes;
                self.told(&name, Some(why.clone()));
                (fingerprint, why)
            }
        };
        let (fingerprint, why) = fingerprint;
        let (documents, uses) = (Vec::new(), Vec::new());
        let source = SourceFile { name, fingerprint, documents, uses, failure: Some(why) };
        self.summary.changed_documents += self.writer.put_source(source, Vec::new())?;
        self.commit_when_due()
    }

    fn told(&mut self, name: &str, why: Option<String>) {
        let Some(why) = why else { return };
        let file = Path::new(name).strip_prefix(self.root.path()).unwrap_or(Path::new(name));
        self.summary.failures.push(Failure { file: file.display().to_string(), why });
    }

    fn commit_when_due(&mut self) -> anyhow::Result<()> {
        if self.committed.elapsed() >= BETWEEN_COMMITS {
            self.writer.commit().context("failed to write the index")?;
            self.committed = Instant::now();
        }
        Ok(())
    }

    /// Deletes what is gone, unless the user stopped before all was looked at.
    fn finish(mut self) -> anyhow::Result<Summary> {
        self.summary.stopped = self.is_stopped();
        if !self.summary.stopped {
            for name in self.known.keys() {
                self.summary.deleted += 1;
                self.summary.changed_documents += self.writer.delete_source(name)?;
            }
        }
        self.summary.version = self.writer.commit().context("failed to write the index")?;
        self.writer.finish().context("failed to write the index")?;
        Ok(self.summary)
    }
}
