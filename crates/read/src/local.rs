//! Files that a file names.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The folder that a file may name others in. Nothing outside is ever opened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Root(PathBuf);

impl Root {
    /// The folder, with links followed.
    ///
    /// # Errors
    ///
    /// When it cannot be found.
    pub fn new(folder: &Path) -> std::io::Result<Self> {
        folder.canonicalize().map(Self)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The file that `named` names beside `from`, if it lies within the root, links followed.
    pub(crate) fn find(&self, from: &Path, named: &str) -> Option<PathBuf> {
        let named = named.split(['?', '#']).next().unwrap_or_default();
        let relative = Path::new(named);
        let is_relative = !named.is_empty()
            && !named.contains("://")
            && relative.components().all(|part| {
                matches!(part, Component::Normal(_) | Component::CurDir | Component::ParentDir)
            });
        if !is_relative {
            return None;
        }
        let found = from.parent()?.join(relative).canonicalize().ok()?;
        (found.starts_with(&self.0) && found.is_file()).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_the_root_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(root.join("in.png"), "x").unwrap();
        std::fs::write(folder.path().join("out.png"), "x").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(folder.path().join("out.png"), root.join("link.png")).unwrap();
        let from = root.join("sub/page.md");
        let root = Root::new(&root).unwrap();
        assert!(root.find(&from, "../in.png").is_some());
        for named in ["../../out.png", "../link.png", "/etc/passwd", "file:///etc/passwd", "", "x"]
        {
            assert_eq!(root.find(&from, named), None, "{named}");
        }
    }
}
