//! The documents of a data set into a collection.
//!
//! They are read by the data set's loader, here as everywhere else in the command, and not by
//! bounded workers: who indexes a data set chose it. An id is the data set's form, its folder's name
//! and what its files call the document, so it stays when the folder moves, when other documents
//! change, and in whatever part a document is. A run leaves the index with the documents that the
//! parts that it names have; a document that is the same as before keeps its vectors.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use mmrag_core::{DatasetOrigin, Document, DocumentId, Origin};
use mmrag_data::{Loaded, Pool, Split};
use mmrag_rag::{Collection, Fingerprint, Record, Retriever as _, SourceFile};
use mmrag_read::{Options, Piece, Reading};
use sha2::{Digest as _, Sha256};

use super::readers::RECENT_NS;
use super::{BETWEEN_COMMITS, Failure, Summary};
use crate::dataset::{DatasetName, SplitName};
use crate::hexadecimal::hexadecimal;
use crate::progress::Meter;

/// Rises when documents are made in another way of the same files.
const VERSION: u32 = 1;

/// Which documents of a data set go into an index.
#[derive(Clone, Debug)]
pub(crate) struct DatasetSource {
    /// The data set's form.
    pub(crate) dataset: DatasetName,
    /// The folder of its files.
    pub(crate) data: PathBuf,
    /// The parts of it.
    pub(crate) splits: Vec<SplitName>,
    /// All documents, or those that come with questions.
    pub(crate) pool: Pool,
    /// A regular expression: what it matches is taken out of titles, texts and cells.
    pub(crate) leave_out: Option<String>,
    /// Turns true when the user wants to stop.
    pub(crate) stop: Arc<AtomicBool>,
}

/// What was loaded, each document once.
#[derive(Default)]
struct Documents {
    records: Vec<Record>,
    failures: Vec<Failure>,
    files: usize,
}

impl DatasetSource {
    /// Brings a collection up to the state of the data set's files. Nothing is read if they are as
    /// they were.
    ///
    /// # Errors
    ///
    /// When the files cannot be read or the collection cannot be written. A row that cannot be read
    /// is told in the summary.
    pub(crate) fn run(&self, collection: &Collection) -> anyhow::Result<Summary> {
        let began = Instant::now();
        let folder = self.data.canonicalize();
        let folder = folder.with_context(|| format!("failed to find {}", self.data.display()))?;
        let files =
            Files::look(&folder).with_context(|| format!("failed to list {}", folder.display()))?;
        let (name, fingerprint) = (self.name(&folder), self.fingerprint(&files)?);
        let before = collection.snapshot()?.source(&name).context("failed to read the index")?;
        let mut summary = Summary::default();
        let is_same =
            |before: &SourceFile| !fingerprint.hash.is_empty() && before.fingerprint == fingerprint;
        if let Some(before) = before.filter(is_same) {
            summary.unchanged = files.number;
            let failure = before.failure.map(|why| Failure { file: name, why });
            summary.failures.extend(failure);
            summary.version = collection.snapshot()?.version();
        } else {
            summary.bytes = files.bytes;
            let documents = self.documents(&folder)?;
            self.put(collection, &folder, documents, (name, fingerprint), &mut summary)?;
        }
        summary.documents = collection.snapshot()?.len();
        summary.seconds = began.elapsed().as_secs_f64();
        Ok(summary)
    }

    /// What the collection calls the data set. No file is called so.
    fn name(&self, folder: &Path) -> String {
        format!("dataset:{}:{}", self.dataset.as_str(), folder.display())
    }

    /// What all ids of the data set's documents begin with.
    fn place(&self, folder: &Path) -> String {
        let folder = folder.file_name().map(|name| name.to_string_lossy().into_owned());
        format!("{}/{}", self.dataset.as_str(), folder.unwrap_or_default())
    }

    fn fingerprint(&self, files: &Files) -> anyhow::Result<Fingerprint> {
        let mut splits: Vec<&str> =
            self.splits.iter().map(|split| Split::from(*split).as_str()).collect();
        splits.sort_unstable();
        splits.dedup();
        let options = serde_json::to_string(&(splits, self.pool == Pool::Whole, &self.leave_out))?;
        let reader = format!("dataset-{VERSION}-{options}");
        let (bytes, hash) = (files.bytes, files.stamp.clone());
        Ok(Fingerprint { bytes, modified_ns: 0, hash, reader })
    }

    fn documents(&self, folder: &Path) -> anyhow::Result<Documents> {
        let mut places: HashMap<DocumentId, usize> = HashMap::new();
        let (mut documents, mut files) = (Documents::default(), HashSet::new());
        let mut told = HashSet::new();
        let place = self.place(folder);
        for split in &self.splits {
            let split = Split::from(*split);
            let loaded = self.dataset.format().load(folder, split, self.pool);
            let loaded = loaded.context("failed to read the data set")?;
            for problem in &loaded.problems {
                if told.insert(problem.clone()) {
                    let file = within(&problem.file, folder);
                    let why = format!("line {}: {}", problem.line, problem.what);
                    documents.failures.push(Failure { file, why });
                }
            }
            let asked = asked_about(&loaded);
            for (document, named) in loaded.documents.iter().zip(&loaded.places) {
                files.insert(Arc::clone(&named.file));
                let at = *places.entry(document.id.clone()).or_insert_with(|| {
                    let source = format!("{place}/{}", within(&named.file, folder));
                    documents.records.push(self.record(&place, source, document));
                    documents.records.len() - 1
                });
                if asked.contains(&document.id) {
                    let origin = documents.records[at].origin.as_mut();
                    let origin = origin.and_then(|origin| origin.dataset.as_mut());
                    let name = split.as_str();
                    if let Some(of) = origin.filter(|of| of.splits.iter().all(|it| it != name)) {
                        of.splits.push(name.to_owned());
                    }
                }
            }
        }
        documents.files = files.len();
        self.leave_out(&mut documents.records)?;
        Ok(documents)
    }

    fn record(&self, place: &str, source: String, document: &Document) -> Record {
        let of = DatasetOrigin {
            name: self.dataset.as_str().to_owned(),
            id: document.id.to_string(),
            splits: Vec::new(),
        };
        // The line is left out: where a document stands in its file says nothing of it, and a row
        // before it would change it.
        let origin = Origin { dataset: Some(of), ..Origin::of(source) };
        let id = DocumentId::new(format!("{place}#{}", document.id));
        Record { document: Document { id, ..document.clone() }, origin: Some(origin) }
    }

    fn leave_out(&self, records: &mut [Record]) -> anyhow::Result<()> {
        if self.leave_out.is_none() {
            return Ok(());
        }
        let options = Options { leave_out: self.leave_out.clone(), ..Options::default() };
        let piece = |record: &Record| Piece {
            name: None,
            title: record.document.title.clone(),
            content: record.document.content.clone(),
            origin: Origin::default(),
        };
        let pieces = records.iter().map(piece).collect();
        let mut reading = Reading { pieces, ..Reading::default() };
        reading.leave_out(&options).context("failed to take out what --leave-out matches")?;
        for (record, piece) in records.iter_mut().zip(reading.pieces) {
            (record.document.title, record.document.content) = (piece.title, piece.content);
        }
        Ok(())
    }

    fn put(
        &self,
        collection: &Collection,
        folder: &Path,
        documents: Documents,
        (name, fingerprint): (String, Fingerprint),
        summary: &mut Summary,
    ) -> anyhow::Result<()> {
        let Documents { records, failures, files } = documents;
        let failed = || "failed to write the index";
        let mut writer = collection.writer().context("failed to write to the index")?;
        let meter = Meter::new("documents", records.len());
        let mut gone: HashSet<DocumentId> = collection
            .snapshot()?
            .ids_under(&format!("{}#", self.place(folder)))?
            .into_iter()
            .collect();
        let mut committed = Instant::now();
        for (i, record) in records.into_iter().enumerate() {
            if self.is_stopped() {
                summary.stopped = true;
                break;
            }
            gone.remove(&record.document.id);
            summary.changed_documents += usize::from(writer.put(record).with_context(failed)?);
            if committed.elapsed() >= BETWEEN_COMMITS {
                writer.commit().with_context(failed)?;
                committed = Instant::now();
            }
            meter.at(i + 1, &format!("{} changed", summary.changed_documents));
        }
        if !summary.stopped {
            for id in gone {
                summary.changed_documents += usize::from(writer.delete(&id).with_context(failed)?);
            }
            let failure = failures.first().map(|first| match failures.len() {
                1 => format!("{}, {}", first.file, first.why),
                n => format!("{}, {}, and {} more", first.file, first.why, n - 1),
            });
            let (documents, uses) = (Vec::new(), Vec::new());
            let source = SourceFile { name, fingerprint, documents, uses, failure };
            writer.touch_source(source).with_context(failed)?;
        }
        summary.read = files;
        summary.failures = failures;
        summary.version = writer.commit().with_context(failed)?;
        writer.finish().with_context(failed)?;
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

/// The documents that come with any question.
fn asked_about(loaded: &Loaded) -> HashSet<&DocumentId> {
    let candidates = loaded.examples.iter().flat_map(|example| &example.candidates);
    candidates.map(|document| &document.id).collect()
}

/// A file as it is called within the data set's folder.
fn within(file: &Path, folder: &Path) -> String {
    file.strip_prefix(folder).unwrap_or(file).display().to_string()
}

/// How the files of a folder look.
struct Files {
    number: usize,
    bytes: u64,
    /// A name of their names, sizes and times; empty where one was changed so short a time ago that
    /// it may change again without a trace.
    stamp: String,
}

impl Files {
    fn look(folder: &Path) -> std::io::Result<Self> {
        let (mut all, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                } else if let Ok(about) = std::fs::metadata(entry.path()) {
                    // A link to nothing is not there.
                    all.push((entry.path(), about));
                }
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let now =
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        let (mut hash, mut bytes, mut is_settled) = (Sha256::new(), 0, true);
        for (path, about) in &all {
            let modified = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            let modified_ns = modified.as_nanos() as u64;
            hash.update(within(path, folder).as_bytes());
            hash.update([0]);
            hash.update(about.len().to_le_bytes());
            hash.update(modified_ns.to_le_bytes());
            bytes += about.len();
            is_settled &= now.saturating_sub(modified_ns) > RECENT_NS;
        }
        let stamp = if is_settled { hexadecimal(&hash.finalize()[..16]) } else { String::new() };
        Ok(Self { number: all.len(), bytes, stamp })
    }
}
