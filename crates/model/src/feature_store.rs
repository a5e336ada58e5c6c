//! Features of pictures on disk: what a vision tower has once said of a picture, it need not be asked
//! again by a later run.
//!
//! A folder holds one folder for each tower and image processor, named by a hash of both, and in it
//! one safetensors file for each picture, named by the picture's content hash. Runs may share it, at
//! the same time too: a file is written under another name and renamed.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use sha2::{Digest, Sha256};

use crate::error::ModelError;
use crate::processor::{ImageHash, ImageProcessor};
use crate::vlm::{VisionFeatures, Vlm};
use crate::weights::{Weights, save_safetensors, tensor_bytes};

/// Name of the tensor that stands in the place of the picture's tokens.
const EMBEDS: &str = "embeds";

/// The features that one tower gives, in its folder.
pub(crate) struct FeatureStore {
    dir: PathBuf,
}

impl FeatureStore {
    /// The store of a model's tower in a folder, which is made if it is not there.
    pub(crate) fn open(
        folder: &Path,
        vlm: &Vlm,
        processor: &ImageProcessor,
    ) -> Result<Self, ModelError> {
        let dir = folder.join(tower_name(vlm, processor)?);
        fs::create_dir_all(&dir)
            .map_err(|source| ModelError::Write { path: dir.clone(), source })?;
        Ok(Self { dir })
    }

    /// What is kept of a picture, on `device`. A file that cannot be read is as good as none: it is
    /// told, and written anew.
    pub(crate) fn load(&self, picture: &ImageHash, device: &Device) -> Option<VisionFeatures> {
        let path = self.path(picture);
        if !path.exists() {
            return None;
        }
        let features = read(&path, device);
        features.inspect_err(|error| tracing::warn!("the picture is looked at again: {error}")).ok()
    }

    /// Keeps the features of a picture.
    pub(crate) fn save(
        &self,
        picture: &ImageHash,
        features: &VisionFeatures,
    ) -> Result<(), ModelError> {
        let levels = features.deepstack.iter().enumerate();
        let deepened = levels.map(|(level, x)| (deepstack_name(level), x.clone()));
        let embeds = (EMBEDS.to_owned(), features.embeds_md.clone());
        let tensors: Vec<_> = std::iter::once(embeds).chain(deepened).collect();
        save_safetensors(self.path(picture), &tensors)
    }

    fn path(&self, picture: &ImageHash) -> PathBuf {
        self.dir.join(format!("{picture}.safetensors"))
    }
}

fn deepstack_name(level: usize) -> String {
    format!("deepstack.{level}")
}

fn read(path: &Path, device: &Device) -> Result<VisionFeatures, ModelError> {
    let weights = Weights::open_file(path)?;
    let take = |name: &str| -> Result<Tensor, ModelError> {
        let shape = weights.shape(name).unwrap_or_default().to_vec();
        Ok(weights.f32(name, &shape)?.to_device(device)?)
    };
    let embeds_md = take(EMBEDS)?;
    let levels = (0..).map(deepstack_name).take_while(|name| weights.contains(name));
    let deepstack = levels.map(|name| take(&name)).collect::<Result<_, _>>()?;
    Ok(VisionFeatures { embeds_md, deepstack })
}

/// Thirty-two hexadecimal digits of a SHA-256 over what features depend on besides the picture: the
/// image processor, the tower's shape and its weights.
fn tower_name(vlm: &Vlm, processor: &ImageProcessor) -> Result<String, ModelError> {
    let mut hash = Sha256::new();
    hash.update(format!("{processor:?} {:?}", vlm.config().vision));
    for param in vlm.params().iter().filter(|param| param.name().contains("visual")) {
        hash.update(param.name());
        hash.update(tensor_bytes(param.var())?);
    }
    let mut name = String::new();
    for byte in &hash.finalize()[..16] {
        let _ = write!(name, "{byte:02x}");
    }
    Ok(name)
}
