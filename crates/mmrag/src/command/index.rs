//! `mmrag index`: a folder's files into a collection.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};
use mmrag_data::Pool;
use mmrag_rag::{Approximate, Collection, Lane, LaneInfo, LaneSearch, Retriever as _};
use mmrag_read::{Bounds, Options, pdfium_name};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use super::Ended;
use crate::dataset::{DatasetName, SplitName};
use crate::embedding::{Loaded, list_vectors};
use crate::ingest::{DatasetSource, Ingest, Summary};
use crate::{output, stop};

/// Where a collection lies if nothing is said.
pub(crate) const PLACE: &str = "mmrag-index";
/// After a change the folder is left alone for so long, because changes come in groups.
const SETTLE: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "Examples:
  mmrag index notes
  mmrag index notes --index notes.index --watch
  mmrag index --dataset webqa --data webqa --split dev --index webqa.index
  mmrag ask \"What is Olm known for?\" --index notes.index --explain

Pictures (PNG, JPEG, WebP, GIF), Markdown, HTML, text, CSV, XLSX, XLS, ODS, JSON Lines, JSON and PDF
are read, each in a process that may take so much time and memory and no more. Only what has changed
is read again, and what is gone is deleted. Rows of JSON are documents: title or name; text, body,
content, caption or description; id; path or image for a picture beside the file.";

/// Reads the files of a folder into an index, or brings the index up to date.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct IndexCommand {
    /// The folder, or one file
    #[arg(value_name = "DIR", required_unless_present = "data", conflicts_with = "data")]
    folder: Option<PathBuf>,
    #[command(flatten)]
    dataset: DatasetSourceArgs,
    /// Where the index lies; several folders may go into one
    #[arg(long, value_name = "PLACE", default_value = PLACE)]
    index: PathBuf,
    /// Make vectors of what documents say by this encoder: a folder, or ORG/NAME on the Hugging
    /// Face hub, of the BERT family; kept for later runs. Without it the index is searched by words
    #[arg(long, value_name = "MODEL")]
    embedder: Option<PathBuf>,
    /// Make vectors of what pictures show by this encoder, of the type clip or siglip
    #[arg(long, value_name = "MODEL")]
    image_embedder: Option<PathBuf>,
    /// Put vectors into lists, of which a search looks through a part: if there are 100,000 or more,
    /// from 1000 on, or never. It is kept for later runs; auto if nothing was ever said
    #[arg(long, value_enum, value_name = "WHEN")]
    ann: Option<Ann>,
    /// Stay, and read what changes
    #[arg(long, conflicts_with = "data")]
    watch: bool,
    /// Fail if a file cannot be read
    #[arg(long)]
    strict: bool,
    /// Print what became of the files as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reading: ReadingArgs,
}

/// The documents of a data set in the place of a folder's files.
#[derive(Args, Clone, Debug)]
struct DatasetSourceArgs {
    /// The form of a data set whose documents are indexed
    #[arg(long, value_enum, requires = "data")]
    dataset: Option<DatasetName>,
    /// The folder of its files
    #[arg(long, value_name = "DIR", requires = "dataset")]
    data: Option<PathBuf>,
    /// The part of it; again for more. The index then holds what these parts have
    #[arg(long, value_enum, value_name = "PART", default_value = "dev", requires = "data")]
    split: Vec<SplitName>,
    /// Leave out documents that come with no question of these parts
    #[arg(long, requires = "data")]
    asked_only: bool,
}

/// What is brought into an index.
enum Source<'a> {
    Files(Ingest, &'a Path),
    Dataset(DatasetSource),
}

/// What is done, again and again with --watch.
struct Work<'a> {
    source: Source<'a>,
    collection: Collection,
    embedders: Vec<Loaded>,
    stop: Arc<AtomicBool>,
}

impl Source<'_> {
    fn run(&self, collection: &Collection) -> anyhow::Result<Summary> {
        match self {
            Self::Files(ingest, folder) => ingest.run(collection, folder),
            Self::Dataset(dataset) => dataset.run(collection),
        }
    }
}

/// When vectors are searched approximately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Ann {
    Auto,
    On,
    Off,
}

impl From<Ann> for Approximate {
    fn from(ann: Ann) -> Self {
        match ann {
            Ann::Auto => Self::Auto,
            Ann::On => Self::On,
            Ann::Off => Self::Off,
        }
    }
}

/// How files are read.
#[derive(Args, Clone, Debug)]
struct ReadingArgs {
    /// Cut texts into pieces of about so many characters
    #[arg(long, value_name = "N", default_value_t = 1200)]
    chunk_chars: usize,
    /// Let pieces of one text share about so many characters
    #[arg(long, value_name = "N", default_value_t = 150)]
    overlap_chars: usize,
    /// Take what matches this regular expression out of titles, texts and cells
    #[arg(long, value_name = "REGEX")]
    leave_out: Option<String>,
    /// Read pages of PDF by a PDFium library: this file, or the one in this folder, or without a
    /// path the one that the system finds. Otherwise they are read by hayro, which is built in
    #[arg(
        long,
        value_name = "LIBRARY",
        num_args = 0..=1,
        default_missing_value = FOUND,
        require_equals = true
    )]
    pdfium: Option<PathBuf>,
    /// Seconds that reading one file may take
    #[arg(long, value_name = "S", default_value_t = 120)]
    max_seconds: u64,
    /// MB of memory that reading one file may take
    #[arg(long, value_name = "MB", default_value_t = 2048)]
    max_memory_mb: u64,
    /// Read so many files at once; if absent, as many as there are processors
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
}

/// What stands for a library that the system finds.
const FOUND: &str = "found";

impl ReadingArgs {
    /// The library that reads PDF, if one is to.
    fn library(&self) -> anyhow::Result<Option<PathBuf>> {
        let Some(named) = &self.pdfium else { return Ok(None) };
        if named.as_os_str() == FOUND {
            return Ok(Some(pdfium_name().into()));
        }
        let path = if named.is_dir() { named.join(pdfium_name()) } else { named.clone() };
        ensure!(path.is_file(), "there is no PDFium library {}", path.display());
        Ok(Some(std::path::absolute(path)?))
    }
}

impl IndexCommand {
    /// Reads the folder, or the data set.
    ///
    /// # Errors
    ///
    /// When the folder or the index cannot be used; with --strict, when a file cannot be read.
    pub(crate) fn run(&self) -> anyhow::Result<Ended> {
        let stop = stop::on_interrupt()?;
        let source = self.source(&stop)?;
        let collection =
            Collection::open_or_create(&self.index).context("failed to open the index")?;
        let embedders = self.embedders(&collection)?;
        let work = Work { source, collection, embedders, stop };
        let summary = self.bring_up(&work)?;
        self.tell(&summary)?;
        if self.watch && !summary.stopped {
            self.stay(&work)?;
            return Ok(Ended::Done);
        }
        if self.strict && !summary.failures.is_empty() {
            bail!("{} files or rows could not be read whole", summary.failures.len());
        }
        Ok(if summary.stopped { Ended::Stopped } else { Ended::Done })
    }

    fn source(&self, stop: &Arc<AtomicBool>) -> anyhow::Result<Source<'_>> {
        let DatasetSourceArgs { dataset, data, split, asked_only } = &self.dataset;
        if let (Some(dataset), Some(data)) = (dataset, data) {
            return Ok(Source::Dataset(DatasetSource {
                dataset: *dataset,
                data: data.clone(),
                splits: split.clone(),
                pool: if *asked_only { Pool::Split } else { Pool::Whole },
                leave_out: self.reading.leave_out.clone(),
                stop: Arc::clone(stop),
            }));
        }
        let folder =
            self.folder.as_deref().context("failed to find what to index: name a folder")?;
        if !folder.exists() {
            bail!("failed to find {}", folder.display());
        }
        Ok(Source::Files(self.ingest(stop)?, folder))
    }

    /// For each lane the embedder that is named, else the one that the index was embedded by before.
    fn embedders(&self, collection: &Collection) -> anyhow::Result<Vec<Loaded>> {
        let lanes = collection.snapshot()?.lanes();
        let named = [(Lane::Text, &self.embedder), (Lane::Image, &self.image_embedder)];
        let mut embedders = Vec::new();
        for (lane, named) in named {
            let before = lanes.iter().find(|info| info.lane == lane);
            let before = before.map(|info| PathBuf::from(&info.source));
            if let Some(named) = named.clone().or(before) {
                embedders.push(Loaded::new(lane, &named)?);
            }
        }
        Ok(embedders)
    }

    fn bring_up(&self, work: &Work<'_>) -> anyhow::Result<Summary> {
        let Work { source, collection, embedders, stop } = work;
        let mut summary = source.run(collection)?;
        let stopped = || stop.load(Ordering::SeqCst);
        for embedder in embedders {
            embedder.embed_missing(collection, stopped)?;
        }
        if (!embedders.is_empty() || self.ann.is_some()) && !stopped() {
            list_vectors(collection, self.ann.map(Approximate::from), stopped)?;
        }
        let snapshot = collection.snapshot()?;
        summary.version = snapshot.version();
        summary.stopped |= stopped();
        let searched = |info: LaneInfo| Some((info.lane, snapshot.lane_search(info.lane)?));
        summary.vectors = snapshot.lanes().into_iter().filter_map(searched).collect();
        Ok(summary)
    }

    fn ingest(&self, stop: &Arc<AtomicBool>) -> anyhow::Result<Ingest> {
        let reading = &self.reading;
        Ok(Ingest {
            options: Options {
                chunk_chars: reading.chunk_chars.max(1),
                overlap_chars: reading.overlap_chars.min(reading.chunk_chars / 2),
                leave_out: reading.leave_out.clone(),
                pdfium: reading.library()?,
                ..Options::default()
            },
            bounds: Bounds { seconds: reading.max_seconds, memory_mb: reading.max_memory_mb },
            at_once: reading
                .workers
                .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
            stop: Arc::clone(stop),
        })
    }

    fn tell(&self, summary: &Summary) -> anyhow::Result<()> {
        for failure in &summary.failures {
            eprintln!("not read: {}: {}", failure.file, failure.why);
        }
        if self.json {
            return output::json(summary);
        }
        let Summary { read, unchanged, deleted, changed_documents, seconds, .. } = summary;
        let rate = summary.bytes as f64 / 1e6 / seconds.max(1e-3);
        eprintln!(
            "{read} files read ({rate:.1} MB/s), {unchanged} unchanged, {deleted} gone, {} not read, \
             {} of other kinds; {changed_documents} documents changed in {seconds:.1} s{}",
            summary.failures.len(),
            summary.other_files,
            summary
                .pages_by
                .as_ref()
                .map_or_else(String::new, |by| format!(" (pages of PDF by {by})")),
        );
        for (lane, search) in &summary.vectors {
            let of = if *lane == Lane::Text { "what documents say" } else { "what pictures show" };
            let LaneSearch { vectors, in_lists, lists, probes } = search;
            let how = match in_lists {
                0 => "all are looked at".to_owned(),
                n => format!("{n} in {lists} lists, of which {probes} are looked through"),
            };
            eprintln!("{vectors} vectors of {of}: {how}");
        }
        let Summary { documents, version, .. } = summary;
        let place = self.index.display();
        Ok(output::line(&format!("{place}: {documents} documents, version {version}"))?)
    }

    /// Reads again whenever something changes, until the user stops.
    fn stay(&self, work: &Work<'_>) -> anyhow::Result<()> {
        let Source::Files(_, folder) = &work.source else { return Ok(()) };
        let (_watcher, changes) = watch(folder)?;
        eprintln!("watching {} (Ctrl-C ends it)", folder.display());
        while !work.stop.load(Ordering::SeqCst) {
            if changes.recv_timeout(SETTLE).is_err() {
                continue;
            }
            while changes.recv_timeout(SETTLE).is_ok() {}
            match self.bring_up(work) {
                Ok(summary) if summary.changed_documents > 0 || !summary.failures.is_empty() => {
                    self.tell(&summary)?;
                }
                Ok(_) => {}
                Err(error) => eprintln!("not brought up to date: {error:#}"),
            }
        }
        Ok(())
    }
}

/// Says when something under a folder changes, as long as the watcher is kept.
fn watch(folder: &Path) -> anyhow::Result<(RecommendedWatcher, Receiver<()>)> {
    let (send, receive) = channel();
    let told = move |event: notify::Result<notify::Event>| {
        // Reading a file is no change of it.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = send.send(());
        }
    };
    let mut watcher = notify::recommended_watcher(told).context("failed to watch for changes")?;
    watcher
        .watch(folder, RecursiveMode::Recursive)
        .with_context(|| format!("failed to watch {}", folder.display()))?;
    Ok((watcher, receive))
}

/// Reads files for another process of this program, which bounds what it may take.
#[derive(Args)]
pub(crate) struct ReadFilesCommand {
    /// MB of memory that may be taken
    #[arg(long)]
    memory_mb: u64,
}

impl ReadFilesCommand {
    /// Reads files until there are no more.
    ///
    /// # Errors
    ///
    /// When nobody listens.
    pub(crate) fn run(&self) -> anyhow::Result<Ended> {
        crate::ingest::serve_worker(self.memory_mb)?;
        Ok(Ended::Done)
    }
}
