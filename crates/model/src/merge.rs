//! An adapter folded into the checkpoint it was made for: a new folder that needs no adapter.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use mmrag_map::FileMap;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, View};

use crate::adapter_folder::{AdapterFile, LoraPair};
use crate::error::ModelError;
use crate::weights::{canonical_name, checkpoint_files, write_atomically};

/// Writes the checkpoint of `model` with the changes of `adapter` added to its weights to `out`, a
/// new or empty folder. Files, names and number types stay those of the checkpoint; sums are made in
/// f32 and rounded once. One tensor at a time is held in memory.
///
/// # Errors
///
/// When a file is missing or damaged, the adapter changes a module that the checkpoint has not or of
/// another shape, `out` holds something, or cannot be written.
pub fn merge(
    model: impl AsRef<Path>,
    adapter: impl AsRef<Path>,
    out: impl AsRef<Path>,
) -> Result<(), ModelError> {
    let (model, folder, out) = (model.as_ref(), adapter.as_ref(), out.as_ref());
    let written = |source| ModelError::Write { path: out.to_owned(), source };
    if fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(written(std::io::Error::other("the folder is not empty")));
    }
    let adapter = AdapterFile::load(folder)?;
    let files = checkpoint_files(model)?;
    let maps = files.iter().map(FileMap::open).collect::<Result<Vec<_>, _>>()?;
    let mut left: BTreeSet<&str> = adapter.layers.keys().map(String::as_str).collect();
    let mut merged = vec![];
    for (path, map) in files.iter().zip(&maps) {
        let tensors = tensors_of(path, map, (folder, &adapter))?;
        for module in tensors.iter().filter_map(|(_, tensor)| tensor.change.as_ref()) {
            left.remove(module.module);
        }
        merged.push(tensors);
    }
    if let Some(module) = left.first() {
        return Err(adapter.misfit(folder, &format!("the checkpoint has no module {module}")));
    }
    fs::create_dir_all(out).map_err(written)?;
    for (path, tensors) in files.iter().zip(merged) {
        let metadata = [("format".to_owned(), "pt".to_owned())].into();
        let name = path.file_name().unwrap_or_default();
        write_atomically(&out.join(name), |temporary| {
            safetensors::serialize_to_file(tensors, Some(metadata), temporary)
                .map_err(std::io::Error::other)
        })?;
    }
    copy_rest(model, out)
}

/// The files beside the weights: configuration, tokenizer, templates, the index of the shards.
fn copy_rest(model: &Path, out: &Path) -> Result<(), ModelError> {
    let read = |source| ModelError::Read { path: model.to_owned(), source };
    for entry in fs::read_dir(model).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let is_weights = path.extension().is_some_and(|kind| kind == "safetensors");
        let Some(name) = path.file_name().filter(|_| path.is_file() && !is_weights) else {
            continue;
        };
        fs::copy(&path, out.join(name))
            .map_err(|source| ModelError::Write { path: out.join(name), source })?;
    }
    Ok(())
}

/// The tensors of a file in the order of its header, each with its change if it has one.
fn tensors_of<'a>(
    path: &Path,
    map: &'a FileMap,
    (folder, adapter): (&Path, &'a AdapterFile),
) -> Result<Vec<(String, Merged<'a>)>, ModelError> {
    let damaged = |reason: String| ModelError::Safetensors { path: path.to_owned(), reason };
    let file = SafeTensors::deserialize(map).map_err(|error| {
        damaged(format!("the file is truncated or damaged ({error}); copy or download it again"))
    })?;
    let mut tensors = vec![];
    for (name, view) in file.tensors() {
        let canonical = canonical_name(&name);
        let layer = canonical
            .strip_suffix(".weight")
            .and_then(|module| adapter.layers.get_key_value(module));
        let change = layer.map(|(module, pair)| Change { module, pair });
        let tensor = Merged {
            dtype: view.dtype(),
            shape: view.shape().to_vec(),
            bytes: view.data(),
            change,
        };
        tensor.check(path, &name, |what| adapter.misfit(folder, what))?;
        tensors.push((name, tensor));
    }
    Ok(tensors)
}

/// A tensor of the checkpoint, changed when it is written.
struct Merged<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: &'a [u8],
    change: Option<Change<'a>>,
}

struct Change<'a> {
    module: &'a str,
    pair: &'a LoraPair,
}

impl Merged<'_> {
    /// Fails if the change cannot be added.
    fn check(
        &self,
        path: &Path,
        name: &str,
        misfit: impl Fn(&str) -> ModelError,
    ) -> Result<(), ModelError> {
        let Some(Change { module, pair }) = &self.change else { return Ok(()) };
        let change = [pair.b.dim(0)?, pair.a.dim(1)?];
        if self.shape != change {
            return Err(misfit(&format!(
                "{module} has shape {:?} in the checkpoint, but {change:?} in the adapter",
                self.shape
            )));
        }
        if matches!(self.dtype, Dtype::F32 | Dtype::BF16 | Dtype::F16) {
            return Ok(());
        }
        Err(ModelError::MisshapenTensor {
            path: path.to_owned(),
            name: name.to_owned(),
            expected: "F32, BF16 or F16".into(),
            found: format!("{:?}", self.dtype),
        })
    }

    fn changed(&self, change: &Change<'_>) -> candle_core::Result<Vec<u8>> {
        let LoraPair { a, b, scale } = change.pair;
        let sum: Vec<f32> = (b.matmul(a)? * *scale)?.flatten_all()?.to_vec1()?;
        Ok(match self.dtype {
            Dtype::BF16 => added(
                self.bytes,
                &sum,
                |bytes| half::bf16::from_le_bytes(bytes).to_f32(),
                |value| half::bf16::from_f32(value).to_le_bytes(),
            ),
            Dtype::F16 => added(
                self.bytes,
                &sum,
                |bytes| half::f16::from_le_bytes(bytes).to_f32(),
                |value| half::f16::from_f32(value).to_le_bytes(),
            ),
            _ => added(self.bytes, &sum, f32::from_le_bytes, f32::to_le_bytes),
        })
    }
}

fn added<const N: usize>(
    bytes: &[u8],
    change: &[f32],
    read: impl Fn([u8; N]) -> f32,
    write: impl Fn(f32) -> [u8; N],
) -> Vec<u8> {
    let (values, _) = bytes.as_chunks::<N>();
    values.iter().zip(change).flat_map(|(value, change)| write(read(*value) + change)).collect()
}

impl View for Merged<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match &self.change {
            None => Cow::Borrowed(self.bytes),
            Some(change) => {
                Cow::Owned(self.changed(change).expect("the shapes were checked before"))
            }
        }
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
