//! Where a data set's pictures are: in a folder of files, or in a zip archive.

use std::path::{Component, Path, PathBuf};

use mmrag_core::ImageSource;

use crate::DataError;
use crate::archive::Archive;
use crate::pictures::{check_header, picture_bytes};

/// The pictures that a data set's rows name by their paths.
#[derive(Debug)]
pub(crate) enum PictureFiles {
    /// Files in a folder.
    Folder(PathBuf),
    /// Files in an archive.
    Archive(Archive),
}

impl PictureFiles {
    /// The pictures of a data set's folder: those of the folder `name` in it, or else of
    /// `NAME.zip` or `images.zip`.
    pub(crate) fn open(dir: &Path, name: &str) -> Result<Self, DataError> {
        let folder = dir.join(name);
        if folder.is_dir() {
            return Ok(Self::Folder(folder));
        }
        let archives = [format!("{name}.zip"), "images.zip".to_owned()].map(|name| dir.join(name));
        match archives.iter().find(|path| path.is_file()) {
            Some(path) => Ok(Self::Archive(Archive::open(path)?)),
            // Every picture will be told to be missing there.
            None => Ok(Self::Folder(folder)),
        }
    }

    /// The picture of a path within the folder or archive; if it is to be opened, one whose header
    /// can be read.
    ///
    /// # Errors
    ///
    /// When there is none; in words.
    pub(crate) fn find(&self, path: &str, open: bool) -> Result<ImageSource, String> {
        let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        if !inside || path.is_empty() {
            return Err(format!("picture path {path:?} leads out of the folder"));
        }
        match self {
            Self::Folder(folder) => file(folder.join(path), open),
            Self::Archive(archive) => {
                let source = ImageSource::Packed(archive.find(path)?);
                if open {
                    picture_bytes(&source)
                        .and_then(|bytes| check_header(&bytes))
                        .map_err(|what| format!("picture {path} is broken: {what}"))?;
                }
                Ok(source)
            }
        }
    }
}

fn file(path: PathBuf, open: bool) -> Result<ImageSource, String> {
    if !path.is_file() {
        return Err(format!("picture {} is missing", path.display()));
    }
    if open {
        image::ImageReader::open(&path)
            .and_then(image::ImageReader::with_guessed_format)
            .map_err(|error| format!("picture {} cannot be opened: {error}", path.display()))?
            .into_dimensions()
            .map_err(|error| format!("picture {} is broken: {error}", path.display()))?;
    }
    Ok(ImageSource::Path(path))
}
