//! Vectors of an index's documents, and of questions by the same embedder.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use mmrag_core::Embed;
use mmrag_model::{PictureEmbedder, TextEmbedder};
use mmrag_rag::{Approximate, Collection, Embedder, Fused, Lane, LaneInfo, Snapshot};

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
    /// What was loaded.
    pub(crate) fn info(&self) -> &LaneInfo {
        &self.info
    }

    /// What embeds.
    pub(crate) fn engine(&self) -> &dyn Embed {
        &*self.engine
    }

    /// What makes the vectors of a collection.
    pub(crate) fn embedder(&self) -> Embedder<'_> {
        let LaneInfo { lane, version, source } = &self.info;
        Embedder { lane: *lane, version, source, engine: self.engine() }
    }

    /// An engine of a test.
    #[cfg(test)]
    pub(crate) fn of(info: LaneInfo, engine: Box<dyn Embed>) -> Self {
        Self { info, engine }
    }

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
        let embedder = self.embedder();
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

/// The embedders that are named, of what documents say and of what pictures show.
///
/// # Errors
///
/// When one cannot be loaded.
pub(crate) fn named(text: Option<&Path>, image: Option<&Path>) -> anyhow::Result<Vec<Loaded>> {
    let lanes = [(Lane::Text, text), (Lane::Image, image)];
    lanes.iter().filter_map(|(lane, named)| Some(Loaded::new(*lane, (*named)?))).collect()
}

/// Puts the vectors of an index into lists where there are enough of them; `approximate`, if it is
/// said, is kept for later runs. Says how many vectors were put into lists.
///
/// # Errors
///
/// When the index cannot be written.
pub(crate) fn list_vectors(
    collection: &Collection,
    approximate: Option<Approximate>,
    stopped: impl Fn() -> bool,
) -> anyhow::Result<usize> {
    let mut writer = collection.writer().context("failed to write to the index")?;
    let is_new = approximate.is_some_and(|approximate| writer.set_approximate(approximate));
    let meter = Meter::new("lists", 100);
    let goes_on = |share: f64| {
        meter.at((100.0 * share) as usize, "vectors are put into lists");
        !stopped()
    };
    let listed = writer.list_vectors(&goes_on).context("failed to put vectors into lists")?;
    drop(meter);
    if is_new || listed > 0 {
        writer.commit().context("failed to write the index")?;
    }
    writer.finish().context("failed to write the index")?;
    Ok(listed)
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
