//! Models and adapters by name: what `--model ORG/NAME[@REV]` means where there is no such folder.
//!
//! The cache is the one that huggingface_hub and everything upon it uses, so that what is there
//! is not downloaded again. What the cache holds whole is used without a question to the hub: who
//! wants the newest state of a branch names its revision.
//!
//! The crate hf-hub lays out the cache, names repositories and asks what they hold. The bytes of
//! a file come by our own [`transfer`]: hf-hub 0.5 appends whole answers to half files, never
//! looks at the size of what came, names files by whatever the server says and gives the token to
//! any host that it is sent on to; hf-hub 1.0 does not resume.

mod cache;
mod files;
mod name;
mod refusal;
mod repository;
mod transfer;
mod variables;

use std::path::{Path, PathBuf};

use anyhow::bail;

use cache::{Held, Store};
use files::Kind;
use name::HubName;
use refusal::Refusal;
use repository::Repository;
use variables::Variables;

/// The folder of a model: the folder of this name, else the model of this name on the hub, which
/// is downloaded into the cache unless it is there.
///
/// # Errors
///
/// When there is neither, the hub does not give it, or it cannot be written.
pub(crate) fn folder(named: &Path) -> anyhow::Result<PathBuf> {
    folder_of(Kind::Model, named)
}

/// The folder of an adapter, as [`folder`].
///
/// # Errors
///
/// As [`folder`].
pub(crate) fn adapter_folder(named: &Path) -> anyhow::Result<PathBuf> {
    folder_of(Kind::Adapter, named)
}

fn folder_of(kind: Kind, named: &Path) -> anyhow::Result<PathBuf> {
    if named.is_dir() {
        return Ok(named.to_path_buf());
    }
    let (what, config) = (kind.what(), kind.config());
    match named.to_str().and_then(HubName::parse) {
        Some(name) if !named.exists() => snapshot(kind, &name),
        _ if named.exists() => bail!(
            "failed to open the {what} {}: it is a file; give the folder that holds {config} and \
             *.safetensors",
            named.display()
        ),
        _ => bail!(
            "failed to find the {what} {}: there is no such folder, and it is no name on the hub, \
             as ORG/NAME or ORG/NAME@REV would be",
            named.display()
        ),
    }
}

/// The folder of the cache that holds it.
fn snapshot(kind: Kind, name: &HubName) -> anyhow::Result<PathBuf> {
    let variables = Variables::read()?;
    let store = Store::new(&variables.cache, kind, name);
    let held = store.held();
    if let Held::Whole(folder) = held {
        return Ok(folder);
    }
    let refusal = Refusal { kind, name, variables: &variables, place: store.place(), held: &held };
    if variables.offline {
        return usable(&held).ok_or_else(|| refusal.offline());
    }
    let repository = Repository::new(&variables, name)?;
    let listing = match (repository.listing(), usable(&held)) {
        (Ok(listing), _) => listing,
        (Err(trouble), Some(folder)) => {
            eprintln!("{name} is used as the cache has it: {trouble}");
            return Ok(folder);
        }
        (Err(trouble), None) => return Err(refusal.because(None, &trouble)),
    };
    let weights =
        files::weights_file(kind, &listing.files).map_err(|reason| refusal.unfit(&reason))?;
    store.download(&repository, &listing, weights, &refusal)
}

/// A snapshot that can be tried though the hub cannot be asked whether anything belongs to it
/// besides.
fn usable(held: &Held) -> Option<PathBuf> {
    match held {
        Held::Whole(folder) | Held::Usable(folder) => Some(folder.clone()),
        Held::Nothing | Held::Lacking(_) => None,
    }
}
