//! What embeds the questions and the new documents of collections that are served.

use std::path::Path;
use std::sync::{Arc, Mutex};

use mmrag_rag::{LaneInfo, Snapshot};

use crate::embedding::Loaded;

/// The embedders of all collections. One that several were embedded by is loaded once.
#[derive(Default)]
pub(crate) struct Embedders {
    /// For collections that have no vectors yet.
    named: Vec<Arc<Loaded>>,
    /// What collections were embedded by, as far as it was looked for; none where it cannot be had.
    looked_for: Mutex<Vec<(LaneInfo, Option<Arc<Loaded>>)>>,
}

impl Embedders {
    /// With embedders for collections that have no vectors yet, at most one a lane.
    pub(crate) fn new(named: Vec<Arc<Loaded>>) -> Self {
        Self { named, looked_for: Mutex::default() }
    }

    /// Those that a collection was embedded by. One that cannot be loaded, or has other weights
    /// now, is told in the log, once; documents are found without it.
    pub(crate) fn of(&self, snapshot: &Snapshot) -> Vec<Arc<Loaded>> {
        snapshot.lanes().into_iter().filter_map(|info| self.get(info)).collect()
    }

    /// Those that new documents of a collection are embedded by: what it was embedded by, and what
    /// was named for lanes that it has no vectors of.
    pub(crate) fn for_new(&self, snapshot: &Snapshot) -> Vec<Arc<Loaded>> {
        let lanes = snapshot.lanes();
        let is_free =
            |loaded: &&Arc<Loaded>| lanes.iter().all(|info| info.lane != loaded.info().lane);
        let named = self.named.iter().filter(is_free).cloned();
        self.of(snapshot).into_iter().chain(named).collect()
    }

    fn get(&self, info: LaneInfo) -> Option<Arc<Loaded>> {
        let is_same = |loaded: &&Arc<Loaded>| {
            let named = loaded.info();
            named.lane == info.lane && named.version == info.version
        };
        if let Some(named) = self.named.iter().find(is_same) {
            return Some(Arc::clone(named));
        }
        let mut looked_for = self.looked_for.lock().expect("no holder of the lock panics");
        if let Some((_, found)) = looked_for.iter().find(|(known, _)| *known == info) {
            return found.clone();
        }
        let found = load(&info).map(Arc::new);
        looked_for.push((info, found.clone()));
        found
    }
}

fn load(info: &LaneInfo) -> Option<Loaded> {
    let why = match Loaded::new(info.lane, Path::new(&info.source)) {
        Ok(loaded) if loaded.info().version == info.version => return Some(loaded),
        Ok(_) => "it has other weights than then".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    tracing::warn!(embedder = info.source, why, "a collection is searched without its vectors");
    None
}
