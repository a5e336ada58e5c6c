//! The tensors of a BART by name, from safetensors or from a state dict that `torch.save` wrote.

use std::path::{Path, PathBuf};

use candle_core::pickle::PthTensors;
use candle_core::{DType, Tensor};

use crate::error::ModelError;
use crate::weights::{Weights, canonical_name, checkpoint_files};

/// Where BART's files say `model.`.
const PREFIX: &str = "model.";
/// The first bytes of a zip archive, which `torch.save` writes since PyTorch 1.6.
const ZIP: &[u8] = b"PK\x03\x04";

pub(super) struct Tensors {
    path: PathBuf,
    source: Source,
}

enum Source {
    Safetensors(Weights),
    Pickle(PthTensors),
}

impl Tensors {
    /// Opens the weights of a folder.
    pub(super) fn open(dir: &Path) -> Result<Self, ModelError> {
        let pickle = dir.join("pytorch_model.bin");
        let has_safetensors = checkpoint_files(dir)?.iter().any(|file| file.is_file());
        if pickle.is_file() && !has_safetensors {
            return Self::open_file(&pickle);
        }
        Ok(Self { path: dir.to_owned(), source: Source::Safetensors(Weights::open(dir)?) })
    }

    /// Opens a file: safetensors if its name says so, else a state dict.
    pub(super) fn open_file(path: &Path) -> Result<Self, ModelError> {
        let source = if path.extension().is_some_and(|extension| extension == "safetensors") {
            Source::Safetensors(Weights::open_file(path)?)
        } else {
            Source::Pickle(open_pickle(path)?)
        };
        Ok(Self { path: path.to_owned(), source })
    }

    /// A tensor of `model.*` in f32.
    ///
    /// # Errors
    ///
    /// When it is missing or has another shape, with its name.
    pub(super) fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let name = format!("{PREFIX}{name}");
        let found = self.maybe(&name, shape)?;
        found.ok_or_else(|| ModelError::MissingTensor { path: self.path.clone(), name })
    }

    /// The embeddings, which encoder, decoder and head share: files hold them under one of these
    /// names or under several.
    pub(super) fn embeddings(&self, shape: &[usize]) -> Result<Tensor, ModelError> {
        for name in ["shared", "encoder.embed_tokens", "decoder.embed_tokens"] {
            if let Some(found) = self.maybe(&format!("{PREFIX}{name}.weight"), shape)? {
                return Ok(found);
            }
        }
        self.get("shared.weight", shape)
    }

    /// A tensor by its whole name, if it is there.
    pub(super) fn maybe(&self, name: &str, shape: &[usize]) -> Result<Option<Tensor>, ModelError> {
        match &self.source {
            Source::Safetensors(weights) => {
                let name = canonical_name(name);
                weights.contains(&name).then(|| weights.f32(&name, shape)).transpose()
            }
            Source::Pickle(pickle) => {
                let Some(info) = pickle.tensor_infos().get(name) else { return Ok(None) };
                if info.layout.dims() != shape {
                    return Err(ModelError::MisshapenTensor {
                        path: self.path.clone(),
                        name: name.to_owned(),
                        expected: format!("{shape:?}"),
                        found: format!("{:?}", info.layout.dims()),
                    });
                }
                let read = |tensor: Option<Tensor>| match tensor {
                    Some(tensor) => Ok(Some(tensor.to_dtype(DType::F32)?.contiguous()?)),
                    None => Ok(None),
                };
                pickle.get(name).and_then(read).map_err(|error| ModelError::Safetensors {
                    path: self.path.clone(),
                    reason: format!("the tensor `{name}` cannot be read ({error})"),
                })
            }
        }
    }
}

fn open_pickle(path: &Path) -> Result<PthTensors, ModelError> {
    let bad = |reason: String| ModelError::Safetensors { path: path.to_owned(), reason };
    let failed = |source| ModelError::Read { path: path.to_owned(), source };
    let mut begin = [0; 4];
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let is_zip = std::io::Read::read_exact(&mut file, &mut begin).is_ok() && begin == ZIP;
    if !is_zip {
        return Err(bad(
            "it is no state dict as torch.save writes it since PyTorch 1.6; load it in \
                        PyTorch and save it again, or save it as safetensors"
                .into(),
        ));
    }
    let pickle = PthTensors::new(path, None)
        .map_err(|error| bad(format!("it is no state dict, or it is damaged ({error})")))?;
    if pickle.tensor_infos().is_empty() {
        return Err(bad("it holds no tensors; save the model's state dict alone".into()));
    }
    Ok(pickle)
}
