//! Checkpoint tensors: files in, files out.
//!
//! Tensors are read out of file maps one at a time, so that loading never holds two copies.
//! Names are given in one layout, `model.visual.*`, `model.language_model.*`, `lm_head.weight`,
//! whatever layout the files have. What a tensor means is for others to know.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, DType, Device, Storage, Tensor, Var};
use half::{bf16, f16};
use mmrag_map::FileMap;
use rayon::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, View};

use crate::error::ModelError;

/// Bytes of a file that are read at a time; a multiple of every number's size.
const PIECE: usize = 16 << 20;

/// How a checkpoint's matrices are kept in memory. Norms and biases are always kept in f32, and
/// sums are always made in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As the file has them: bf16 and f16 take half the memory. They cannot be trained themselves.
    Stored,
    /// In f32, for training of the whole model.
    F32,
}

/// Where a checkpoint's weights are put, and how.
#[derive(Clone, Debug)]
pub struct Placement {
    /// How matrices are kept.
    pub precision: Precision,
    /// Where they lie; passes run there.
    pub device: Device,
}

impl Placement {
    /// In main memory.
    pub fn cpu(precision: Precision) -> Self {
        Self { precision, device: Device::Cpu }
    }
}

/// The tensors of a checkpoint folder, or of one safetensors file, not yet read.
pub struct Weights {
    path: PathBuf,
    files: Vec<(PathBuf, FileMap)>,
    entries: BTreeMap<String, Entry>,
    taken: Mutex<BTreeSet<String>>,
}

/// Where a tensor is.
struct Entry {
    /// Its name in the file, whose layout may be another than ours.
    own_name: String,
    file_idx: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    start: usize,
    end: usize,
}

impl Weights {
    /// Opens `model.safetensors` of the folder, or the shards that
    /// `model.safetensors.index.json` names.
    ///
    /// # Errors
    ///
    /// When there is neither, a shard is missing, or a file is truncated or damaged.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, ModelError> {
        let dir = dir.as_ref();
        Self::read(dir, &checkpoint_files(dir)?)
    }

    /// Opens one safetensors file.
    ///
    /// # Errors
    ///
    /// When the file is missing, truncated or damaged.
    pub fn open_file(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        let path = path.as_ref();
        Self::read(path, &[path.to_owned()])
    }

    fn read(origin: &Path, paths: &[PathBuf]) -> Result<Self, ModelError> {
        let mut weights = Self {
            path: origin.to_owned(),
            files: Vec::new(),
            entries: BTreeMap::new(),
            taken: Mutex::default(),
        };
        for path in paths {
            weights.add_file(path)?;
        }
        Ok(weights)
    }

    fn add_file(&mut self, path: &Path) -> Result<(), ModelError> {
        let damaged = |reason: String| ModelError::Safetensors { path: path.to_owned(), reason };
        let map = FileMap::open(path)?;
        let (header_len, metadata) = SafeTensors::read_metadata(&map).map_err(|error| {
            damaged(format!(
                "the file is truncated or damaged ({error}); copy or download it again"
            ))
        })?;
        let data_start = header_len + size_of::<u64>();
        for (name, info) in metadata.tensors() {
            let entry = Entry {
                file_idx: self.files.len(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                start: data_start + info.data_offsets.0,
                end: data_start + info.data_offsets.1,
                own_name: name.clone(),
            };
            let name = canonical_name(&name);
            if self.entries.insert(name.clone(), entry).is_some() {
                return Err(damaged(format!("the tensor `{name}` is there twice")));
            }
        }
        self.files.push((path.to_owned(), map));
        Ok(())
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The shape of a tensor, if there is one of this name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// Bytes that a value of this tensor takes in memory.
    ///
    /// # Errors
    ///
    /// When there is no tensor of this name.
    pub fn bytes_per_value(&self, name: &str, precision: Precision) -> Result<usize, ModelError> {
        let is_narrow = matches!(self.entry(name)?.dtype, Dtype::BF16 | Dtype::F16);
        Ok(if is_narrow && precision == Precision::Stored { 2 } else { 4 })
    }

    /// Takes a tensor as f32 on the CPU; bf16 and f16 are converted.
    ///
    /// # Errors
    ///
    /// When it is missing, or has another shape or type, with its name.
    pub fn f32(&self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let storage = self.take(name, shape, widened)?;
        Ok(Tensor::from_storage(Storage::Cpu(storage), shape, BackpropOp::none(), false))
    }

    /// Takes a tensor as a variable on the CPU, in a given precision; no second copy is made.
    ///
    /// # Errors
    ///
    /// When it is missing, or has another shape or type, with its name.
    pub fn var(
        &self,
        name: &str,
        shape: &[usize],
        precision: Precision,
    ) -> Result<Var, ModelError> {
        let storage = match precision {
            Precision::Stored => self.take(name, shape, as_stored)?,
            Precision::F32 => self.take(name, shape, widened)?,
        };
        let tensor = Tensor::from_storage(Storage::Cpu(storage), shape, BackpropOp::none(), true);
        Ok(Var::from_tensor(&tensor)?)
    }

    fn take(
        &self,
        name: &str,
        shape: &[usize],
        convert: impl FnOnce(Dtype, Pieces<'_>) -> CpuStorage,
    ) -> Result<CpuStorage, ModelError> {
        let entry = self.number_entry(name, shape)?;
        let map = &self.files[entry.file_idx].1;
        let pieces = Pieces { map, range: entry.start..entry.end };
        let storage = convert(entry.dtype, pieces);
        self.taken().insert(name.to_owned());
        Ok(storage)
    }

    /// Takes a tensor of whole numbers (I64, I32, U32 or U8) as i64, flat.
    ///
    /// # Errors
    ///
    /// When it is missing or has another type, with its name.
    pub fn i64(&self, name: &str) -> Result<Vec<i64>, ModelError> {
        let entry = self.entry(name)?;
        let bytes = &self.files[entry.file_idx].1[entry.start..entry.end];
        let values = match entry.dtype {
            Dtype::I64 => converted(bytes, i64::from_le_bytes),
            Dtype::I32 => converted(bytes, |b| i64::from(i32::from_le_bytes(b))),
            Dtype::U32 => converted(bytes, |b| i64::from(u32::from_le_bytes(b))),
            Dtype::U8 | Dtype::BOOL => converted(bytes, |[b]: [u8; 1]| i64::from(b)),
            other => {
                return Err(self.misshapen(entry, "whole numbers".into(), format!("{other:?}")));
            }
        };
        self.taken().insert(name.to_owned());
        Ok(values)
    }

    /// Checks from the file's header that [`Self::f32`] will give this tensor, and counts it as
    /// taken.
    ///
    /// # Errors
    ///
    /// As [`Self::f32`].
    pub(crate) fn foresee(&self, name: &str, shape: &[usize]) -> Result<(), ModelError> {
        self.number_entry(name, shape)?;
        self.skip(name);
        Ok(())
    }

    /// Counts a tensor as taken without reading it, such as the head of a checkpoint whose
    /// embeddings are tied.
    pub fn skip(&self, name: &str) {
        self.taken().insert(name.to_owned());
    }

    /// Names of the tensors that nobody took, sorted.
    pub fn leftover(&self) -> Vec<String> {
        let taken = self.taken();
        self.entries.keys().filter(|name| !taken.contains(*name)).cloned().collect()
    }

    /// Checks that every tensor was taken.
    ///
    /// # Errors
    ///
    /// When tensors are left over, with their names.
    pub fn finish(&self) -> Result<(), ModelError> {
        let names = self.leftover();
        if names.is_empty() {
            return Ok(());
        }
        let names = names.iter().map(|name| self.entries[name].own_name.clone()).collect();
        Err(ModelError::ExtraTensors { path: self.path.clone(), names })
    }

    fn entry(&self, name: &str) -> Result<&Entry, ModelError> {
        self.entries.get(name).ok_or_else(|| ModelError::MissingTensor {
            path: self.path.clone(),
            name: if self.is_published_layout() { published_name(name) } else { name.to_owned() },
        })
    }

    /// The entry of a tensor of this shape and of a type that becomes f32.
    fn number_entry(&self, name: &str, shape: &[usize]) -> Result<&Entry, ModelError> {
        let entry = self.entry(name)?;
        if entry.shape != shape {
            let found = format!("{:?}", entry.shape);
            return Err(self.misshapen(entry, format!("{shape:?}"), found));
        }
        if matches!(entry.dtype, Dtype::F32 | Dtype::BF16 | Dtype::F16) {
            return Ok(entry);
        }
        Err(self.misshapen(entry, "F32, BF16 or F16".into(), format!("{:?}", entry.dtype)))
    }

    fn misshapen(&self, entry: &Entry, expected: String, found: String) -> ModelError {
        ModelError::MisshapenTensor {
            path: self.files[entry.file_idx].0.clone(),
            name: entry.own_name.clone(),
            expected,
            found,
        }
    }

    /// Whether the files have the names of Qwen2.5-VL as published.
    fn is_published_layout(&self) -> bool {
        self.entries.iter().any(|(name, entry)| *name != entry.own_name)
    }

    fn taken(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes tensors to one safetensors file, in place by a rename: a reader sees the old file or the
/// whole new one. The same tensors give the same bytes.
///
/// # Errors
///
/// When the file cannot be written, or a tensor has a type that safetensors files do not hold.
pub fn save_safetensors(
    path: impl AsRef<Path>,
    tensors: &[(String, Tensor)],
) -> Result<(), ModelError> {
    let path = path.as_ref();
    let views = tensors
        .iter()
        .map(|(name, tensor)| Ok((name.as_str(), SavedTensor::new(tensor)?)))
        .collect::<Result<Vec<_>, ModelError>>()?;
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    write_atomically(path, |temporary| {
        safetensors::serialize_to_file(views, Some(metadata), temporary)
            .map_err(std::io::Error::other)
    })
}

/// Lets `write` fill a temporary file beside `path`, then renames it into place.
pub(crate) fn write_atomically(
    path: &Path,
    write: impl FnOnce(&Path) -> std::io::Result<()>,
) -> Result<(), ModelError> {
    let failed = |source| ModelError::Write { path: path.to_owned(), source };
    let mut name = path.file_name().map_or_else(Default::default, ToOwned::to_owned);
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    // Whom the user lets read files may read these too: safetensors' own are for the owner alone.
    let usual = || Ok(fs::File::create(&temporary)?.metadata()?.permissions());
    let written = usual()
        .and_then(|usual| write(&temporary).and_then(|()| fs::set_permissions(&temporary, usual)))
        .and_then(|()| fs::File::open(&temporary)?.sync_all())
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // What could not be finished is not to lie around; that it may not exist is fine.
        drop(fs::remove_file(&temporary));
    }
    written.map_err(failed)
}

/// The layout of names that the rest of the crate speaks: Qwen2.5-VL as published says
/// `visual.*` and `model.layers.*`.
pub(crate) fn canonical_name(name: &str) -> String {
    if name.starts_with("visual.") {
        return format!("model.{name}");
    }
    match name.strip_prefix("model.") {
        Some(rest) if !rest.starts_with("visual.") && !rest.starts_with("language_model.") => {
            format!("model.language_model.{rest}")
        }
        _ => name.to_owned(),
    }
}

/// What [`canonical_name`] makes a name of ours from in the layout of Qwen2.5-VL as published.
fn published_name(name: &str) -> String {
    match (name.strip_prefix("model.language_model."), name.strip_prefix("model.")) {
        (Some(rest), _) => format!("model.{rest}"),
        (None, Some(rest)) => rest.to_owned(),
        (None, None) => name.to_owned(),
    }
}

/// The files that hold a checkpoint's tensors: `model.safetensors`, or the shards.
pub(crate) fn checkpoint_files(dir: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let index = dir.join("model.safetensors.index.json");
    let single = dir.join("model.safetensors");
    if single.is_file() || !index.is_file() { Ok(vec![single]) } else { shards_of(dir, &index) }
}

/// The shard files that an index names, each once.
fn shards_of(dir: &Path, index: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let value = read_json(index)?;
    let damaged = |reason: String| ModelError::Safetensors { path: index.to_owned(), reason };
    let map = value
        .get("weight_map")
        .and_then(serde_json::Value::as_object)
        .ok_or_else(|| damaged("it has no object `weight_map`".into()))?;
    let mut names = BTreeSet::new();
    for name in map.values() {
        let name = name.as_str().filter(|name| !name.contains(['/', '\\']) && *name != "..");
        names.insert(name.ok_or_else(|| damaged("a shard is no plain file name".into()))?);
    }
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}

pub(crate) fn read_json(path: &Path) -> Result<serde_json::Value, ModelError> {
    let bytes =
        fs::read(path).map_err(|source| ModelError::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&bytes)
        .map_err(|source| ModelError::Json { path: path.to_owned(), source })
}

pub(crate) fn write_json(path: &Path, value: &serde_json::Value) -> Result<(), ModelError> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|source| ModelError::Json { path: path.to_owned(), source })?;
    text.push('\n');
    write_atomically(path, |temporary| fs::write(temporary, text))
}

fn as_stored(dtype: Dtype, pieces: Pieces<'_>) -> CpuStorage {
    match dtype {
        Dtype::F32 => CpuStorage::F32(pieces.converted(f32::from_le_bytes)),
        Dtype::BF16 => CpuStorage::BF16(pieces.converted(bf16::from_le_bytes)),
        _ => CpuStorage::F16(pieces.converted(f16::from_le_bytes)),
    }
}

fn widened(dtype: Dtype, pieces: Pieces<'_>) -> CpuStorage {
    CpuStorage::F32(match dtype {
        Dtype::F32 => pieces.converted(f32::from_le_bytes),
        Dtype::BF16 => pieces.converted(|b| bf16::from_le_bytes(b).to_f32()),
        _ => pieces.converted(|b| f16::from_le_bytes(b).to_f32()),
    })
}

/// The bytes of one tensor in a file.
struct Pieces<'a> {
    map: &'a FileMap,
    range: Range<usize>,
}

impl Pieces<'_> {
    /// Converts piece after piece, and lets each go when it is read: of a large tensor the file's
    /// pages and the copy are never both in memory.
    fn converted<const N: usize, T: Send>(self, convert: impl Fn([u8; N]) -> T + Sync) -> Vec<T> {
        let mut values = Vec::with_capacity(self.range.len() / N);
        for start in self.range.clone().step_by(PIECE) {
            let piece = start..(start + PIECE).min(self.range.end);
            let (bytes, _) = self.map[piece.clone()].as_chunks::<N>();
            values.par_extend(bytes.par_iter().with_min_len(1 << 16).map(|value| convert(*value)));
            self.map.release(piece);
        }
        values
    }
}

fn converted<const N: usize, T>(bytes: &[u8], convert: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|value| convert(*value)).collect()
}

/// A tensor as the safetensors crate wants to see it.
struct SavedTensor {
    flat: Tensor,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl SavedTensor {
    fn new(tensor: &Tensor) -> Result<Self, ModelError> {
        let dtype = match tensor.dtype() {
            DType::F32 => Dtype::F32,
            DType::BF16 => Dtype::BF16,
            DType::F16 => Dtype::F16,
            DType::I64 => Dtype::I64,
            DType::U32 => Dtype::U32,
            DType::U8 => Dtype::U8,
            other => {
                let reason = format!("tensors of type {other:?} are not saved");
                return Err(candle_core::Error::Msg(reason).into());
            }
        };
        let flat = tensor.to_device(&Device::Cpu)?.flatten_all()?;
        Ok(Self { flat, dtype, shape: tensor.dims().to_vec() })
    }

    fn bytes(&self) -> candle_core::Result<Vec<u8>> {
        let flat = &self.flat;
        Ok(match self.dtype {
            Dtype::F32 => to_bytes(flat.to_vec1()?, f32::to_le_bytes),
            Dtype::BF16 => to_bytes(flat.to_vec1()?, bf16::to_le_bytes),
            Dtype::F16 => to_bytes(flat.to_vec1()?, f16::to_le_bytes),
            Dtype::I64 => to_bytes(flat.to_vec1()?, i64::to_le_bytes),
            Dtype::U32 => to_bytes(flat.to_vec1()?, u32::to_le_bytes),
            _ => flat.to_vec1::<u8>()?,
        })
    }
}

/// The values of a tensor as a safetensors file would hold them.
pub(crate) fn tensor_bytes(tensor: &Tensor) -> Result<Vec<u8>, ModelError> {
    Ok(SavedTensor::new(tensor)?.bytes()?)
}

impl View for SavedTensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.bytes().expect("a flat CPU tensor of the type it was asked for"))
    }

    fn data_len(&self) -> usize {
        self.flat.elem_count() * self.flat.dtype().size_in_bytes()
    }
}

fn to_bytes<const N: usize, T>(values: Vec<T>, convert: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.into_iter().flat_map(convert).collect()
}
