//! Vectors of an index's documents, and of questions by the same embedder.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use mmrag_core::Embed;
use mmrag_model::{PictureEmbedder, TextEmbedder};
use mmrag_rag::{Collection, Embedder, Fused, Lane, LaneInfo, Snapshot};

use crate::progress::Meter;
use crate::{hub, weights};

/// Documents that are embedded together.
const TOGETHER: usize = 64;

/// An embedder that was loaded.
pub(crate) struct Loaded {
    info: LaneInfo,
    engine: Box<dyn Embed>,
}

impl Loaded {
    /// Loads the embedder of a lane from a folder, or of this name on the hub.
    ///
    /// # Errors
    ///
    /// When there is none, or one that is not built.
    pub(crate) fn new(lane: Lane, named: &Path) -> anyhow::Result<Self> {
        let folder = hub::folder(named)?;
        let context = || format!("failed to load the embedder {}", named.display());
        let version = weights::version(&folder).with_context(context)?;
        let engine: Box<dyn Embed> = match lane {
            Lane::Text => Box::new(TextEmbedder::load(&folder).with_context(context)?),
            Lane::Image => Box::new(PictureEmbedder::load(&folder).with_context(context)?),
        };
        let is_folder = named.is_dir();
        let source = if is_folder { std::path::absolute(named)? } else { named.to_path_buf() };
        let source = source.display().to_string();
        Ok(Self { info: LaneInfo { lane, version, source }, engine })
    }

    /// Embeds every document that has no vector yet. Says how many they were.
    ///
    /// # Errors
    ///
    /// When the index cannot be written, or a document cannot be embedded.
    pub(crate) fn embed_missing(
        &self,
        collection: &Collection,
        stopped: impl Fn() -> bool,
    ) -> anyhow::Result<usize> {
        let LaneInfo { lane, version, source } = &self.info;
        let snapshot = collection.snapshot()?;
        let total = snapshot.without_vectors(*lane, version, usize::MAX)?.len();
        if total == 0 {
            return Ok(0);
        }
        let engine = &*self.engine;
        let embedder = Embedder { lane: *lane, version, source, engine };
        let meter = Meter::new("vectors", total);
        let mut writer = collection.writer().context("failed to write to the index")?;
        let mut done = 0;
        while done < total && !stopped() {
            let embedded =
                writer.embed(&embedder, TOGETHER).context("failed to embed documents")?;
            for (document, why) in &embedded.failures {
                meter.say(&format!("not embedded: {document}: {why}"));
            }
            done += embedded.documents;
            // What is committed is what is looked for.
            writer.commit().context("failed to write the index")?;
            meter.at(done, source);
        }
        writer.finish().context("failed to write the index")?;
        Ok(done)
    }
}

/// What finds documents of an index: by words, and by vectors where there are any.
pub(crate) struct Finder {
    pub(crate) snapshot: Arc<Snapshot>,
    loaded: Vec<Loaded>,
}

impl Finder {
    /// Loads the embedders that an index was embedded by. One that cannot be loaded is told on
    /// stderr, and documents are found without it.
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Self {
        let mut loaded = Vec::new();
        for info in snapshot.lanes() {
            match Loaded::new(info.lane, Path::new(&info.source)) {
                Ok(found) if found.info.version == info.version => loaded.push(found),
                Ok(_) => eprintln!(
                    "(searched without vectors: {} has other weights than then)",
                    info.source
                ),
                Err(error) => eprintln!("(searched without vectors: {error:#})"),
            }
        }
        if snapshot.lanes().is_empty() {
            eprintln!("(searched by words alone: the index holds no vectors)");
        }
        Self { snapshot, loaded }
    }

    /// What finds documents.
    pub(crate) fn fused(&self) -> Fused<'_> {
        let engines = self.loaded.iter().map(|loaded| (loaded.info.lane, &*loaded.engine));
        let engines = engines.collect();
        Fused { snapshot: Arc::clone(&self.snapshot), engines }
    }
}
