//! A name for the weights in a folder, so that nothing is gone on with over other weights.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::hexadecimal::hexadecimal;

/// How much of a file's beginning and of its end is read: training changes every tensor, and large
/// weights are not read whole for their name.
const READ: u64 = 1 << 20;

/// The names of the weights that a run starts from, to stand in its settings.
///
/// # Errors
///
/// When a file cannot be read.
pub(crate) fn versions(model: &Path, adapters: &[&Path]) -> anyhow::Result<Value> {
    let adapters = adapters.iter().map(|folder| version(folder));
    let adapters = adapters.collect::<anyhow::Result<Vec<_>>>()?;
    Ok(json!({ "model": version(model)?, "adapters": adapters }))
}

/// Sixteen hexadecimal digits of a SHA-256 over the names, the sizes, the first and the last
/// mebibyte of a folder's safetensors files.
///
/// # Errors
///
/// When there are none, or they cannot be read.
pub(crate) fn version(folder: &Path) -> anyhow::Result<String> {
    let context = || format!("failed to read the weights in {}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            files.push(path);
        }
    }
    ensure!(!files.is_empty(), "failed to find weights (*.safetensors) in {}", folder.display());
    files.sort();
    name(&files).with_context(context)
}

/// A name for what a BART's scores depend on: the files of its folder that are read, and the file
/// of weights that is used instead of the folder's, if one is.
///
/// # Errors
///
/// When a file cannot be read.
pub(crate) fn bart_version(folder: &Path, weights: Option<&Path>) -> anyhow::Result<String> {
    let context = || format!("failed to read the BART in {}", folder.display());
    let mut files: Vec<PathBuf> = weights.into_iter().map(Path::to_owned).collect();
    for entry in std::fs::read_dir(folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        let is_weights = path.extension().is_some_and(|e| e == "safetensors" || e == "bin");
        let is_read = ["config.json", "tokenizer.json", "vocab.json", "merges.txt"];
        if is_read.iter().any(|name| path.ends_with(name)) || (is_weights && weights.is_none()) {
            files.push(path);
        }
    }
    files.sort();
    name(&files).with_context(context)
}

/// Sixteen hexadecimal digits of a SHA-256 over names, sizes and ends of files.
fn name(files: &[PathBuf]) -> io::Result<String> {
    let mut hash = Sha256::new();
    for path in files {
        hash.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        add_ends(&mut hash, path)?;
    }
    Ok(hexadecimal(&hash.finalize()[..8]))
}

fn add_ends(hash: &mut Sha256, path: &Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    hash.update(size.to_le_bytes());
    for start in [0, size.saturating_sub(READ)] {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        file.by_ref().take(READ).read_to_end(&mut bytes)?;
        hash.update(&bytes);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{READ, version};

    #[test]
    fn other_weights_have_another_name_and_other_files_do_not_matter() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        };
        write("model.safetensors", b"one");
        let first = version(folder.path()).unwrap();
        write("README.md", b"a card");
        assert_eq!(version(folder.path()).unwrap(), first);
        write("model.safetensors", b"two");
        assert_ne!(version(folder.path()).unwrap(), first);
        let error = version(&folder.path().join("none")).unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
        std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
        let error = version(folder.path()).unwrap_err();
        assert!(error.to_string().contains("safetensors"), "{error}");
    }

    #[test]
    fn of_large_weights_the_ends_and_the_size_tell() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.safetensors");
        let mut bytes = vec![0; 3 * READ as usize];
        let mut name = |at: usize, length: usize| {
            bytes[at] += 1;
            std::fs::write(&file, &bytes[..length]).unwrap();
            version(folder.path()).unwrap()
        };
        let whole = 3 * READ as usize;
        let first = name(0, whole);
        let second = name(whole - 1, whole);
        assert_ne!(second, first);
        assert_ne!(name(0, whole), second);
        let middle = name(whole / 2, whole);
        assert_ne!(name(whole / 2, whole - 1), middle);
    }
}
