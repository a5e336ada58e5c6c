//! The rules: which crate may use which, how long files and functions may be, which names and
//! words may not stand in code.
//!
//! Left out on purpose: what rustfmt, rustc and clippy already say.

mod arrows;
mod sources;

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Every broken rule in the workspace, one sentence each.
///
/// # Errors
///
/// When a file of the workspace cannot be read.
pub(crate) fn check_workspace(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    for directory in crate_directories(root)? {
        let manifest = directory.join("Cargo.toml");
        problems.extend(arrows::check(&shown(root, &manifest), &read(&manifest)?)?);
        for file in rust_files(&directory)? {
            problems.extend(sources::check(&shown(root, &file), &read(&file)?));
        }
    }
    Ok(problems)
}

fn crate_directories(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut directories: Vec<PathBuf> = entries(&root.join("crates"))?
        .into_iter()
        .filter(|path| path.join("Cargo.toml").is_file())
        .collect();
    directories.push(root.join("xtask"));
    Ok(directories)
}

fn rust_files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in entries(directory)? {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

fn entries(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let context = || format!("failed to list {}", directory.display());
    let mut paths = std::fs::read_dir(directory)
        .with_context(context)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .with_context(context)?;
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
}

fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
}
