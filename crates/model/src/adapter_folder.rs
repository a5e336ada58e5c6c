//! LoRA adapters as PEFT keeps them: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Only plain LoRA on linear layers is built; a folder that asks for more is refused with the key
//! that asks. What an adapter does in the forward pass is not this room's business.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use fancy_regex::Regex;
use serde_json::{Map, Value, json};

use crate::error::ModelError;
use crate::weights::{Weights, canonical_name, read_json, save_safetensors, write_json};

const CONFIG: &str = "adapter_config.json";
const TENSORS: &str = "adapter_model.safetensors";
/// What PEFT puts before a module's path.
const PREFIX: &str = "base_model.model.";
const SUFFIX_A: &str = ".lora_A.weight";
const SUFFIX_B: &str = ".lora_B.weight";

/// A LoRA adapter outside of a model.
#[derive(Clone, Debug)]
pub struct AdapterFile {
    /// Rank of the layers that have none of their own.
    pub r: usize,
    /// Scaling numerator of the layers that have none of their own: they are scaled by `alpha/r`.
    pub alpha: f64,
    /// Which modules it was made for.
    pub targets: TargetModules,
    /// The matrices by the module's path, such as
    /// `model.language_model.layers.0.self_attn.q_proj`.
    pub layers: BTreeMap<String, LoraPair>,
    /// The name or path of the model it was made for; may be empty.
    pub base: String,
}

/// The two matrices of one module, which adds `scale * b * a * x` to what it gives for `x`.
#[derive(Clone, Debug)]
pub struct LoraPair {
    /// f32, shape `[rank, in]`.
    pub a: Tensor,
    /// f32, shape `[out, rank]`.
    pub b: Tensor,
    /// The factor.
    pub scale: f64,
}

/// Which modules an adapter is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetModules {
    /// Those whose path is or ends in one of these names.
    Names(Vec<String>),
    /// Those whose whole path this regular expression matches.
    Pattern(String),
    /// Every linear map but the head: PEFT's `all-linear`.
    AllLinear,
}

/// PEFT's word for [`TargetModules::AllLinear`].
const ALL_LINEAR: &str = "all-linear";

impl TargetModules {
    /// Those of `modules`, the paths of linear maps, that are meant, in their order.
    ///
    /// # Errors
    ///
    /// When the pattern is no regular expression.
    pub fn select<'m>(
        &self,
        modules: impl IntoIterator<Item = &'m str>,
    ) -> Result<Vec<&'m str>, ModelError> {
        let modules = modules.into_iter();
        match self {
            Self::Names(names) => {
                Ok(modules.filter(|path| names.iter().any(|name| ends_in(path, name))).collect())
            }
            Self::Pattern(pattern) => {
                let regex = whole_match(Path::new(CONFIG), pattern)?;
                Ok(modules.filter(|path| regex.is_match(path).unwrap_or(false)).collect())
            }
            Self::AllLinear => Ok(modules.filter(|path| !ends_in(path, "lm_head")).collect()),
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Names(names) => names.as_slice().into(),
            Self::Pattern(pattern) => pattern.as_str().into(),
            Self::AllLinear => ALL_LINEAR.into(),
        }
    }
}

impl AdapterFile {
    /// Reads an adapter's folder.
    ///
    /// # Errors
    ///
    /// When a file is missing or damaged, the folder asks for more than plain LoRA, or its
    /// matrices contradict each other or the ranks in the configuration.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self, ModelError> {
        let dir = dir.as_ref();
        let path = dir.join(CONFIG);
        let value = read_json(&path)?;
        let config = Config { path: &path, value: &value };
        config.refuse_what_is_not_built()?;
        let (r, alpha) = (config.rank()?, config.alpha()?);
        let scales = Scales {
            r,
            alpha,
            ranks: config.patterns("rank_pattern")?,
            alphas: config.patterns("alpha_pattern")?,
            by_root: value.get("use_rslora") == Some(&Value::Bool(true)),
        };
        Ok(Self {
            r,
            alpha,
            targets: config.targets()?,
            layers: read_layers(&dir.join(TENSORS), &scales)?,
            base: value
                .get("base_model_name_or_path")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
        })
    }

    /// Writes the adapter's folder beside its place and then puts it there: nobody sees half an
    /// adapter. A folder that was there is replaced.
    ///
    /// # Errors
    ///
    /// When something cannot be written.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<(), ModelError> {
        let dir = dir.as_ref();
        let failed = |source| ModelError::Write { path: dir.to_owned(), source };
        let fresh = beside(dir, "new");
        remove_folder(&fresh).and_then(|()| fs::create_dir_all(&fresh)).map_err(failed)?;
        let mut tensors = Vec::with_capacity(2 * self.layers.len());
        for (module, pair) in &self.layers {
            tensors.push((format!("{PREFIX}{module}{SUFFIX_A}"), pair.a.clone()));
            tensors.push((format!("{PREFIX}{module}{SUFFIX_B}"), pair.b.clone()));
        }
        save_safetensors(fresh.join(TENSORS), &tensors)?;
        write_json(&fresh.join(CONFIG), &self.config_json()?)?;
        replace_folder(&fresh, dir).map_err(failed)
    }

    /// The error of an adapter that does not fit the model it is to be put on.
    pub(crate) fn misfit(&self, folder: &Path, what: &str) -> ModelError {
        let base = match self.base.as_str() {
            "" => "another base".to_owned(),
            base => format!("`{base}`"),
        };
        let reason = format!(
            "{what}: it was made for {base}; give the checkpoint that it was made for as the model"
        );
        ModelError::Adapter { path: folder.to_owned(), reason }
    }

    fn config_json(&self) -> Result<Value, ModelError> {
        let (mut ranks, mut alphas) = (Map::new(), Map::new());
        for (module, pair) in &self.layers {
            let (rank, _) = pair.a.dims2()?;
            let alpha = pair.scale * rank as f64;
            if rank != self.r {
                ranks.insert(module.clone(), rank.into());
            }
            if (alpha - self.alpha).abs() > 1e-9 * self.alpha.abs() {
                alphas.insert(module.clone(), whole_if_can_be(alpha));
            }
        }
        Ok(json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": self.base,
            "r": self.r,
            "lora_alpha": whole_if_can_be(self.alpha),
            "lora_dropout": 0.0,
            "target_modules": self.targets.to_json(),
            "rank_pattern": ranks,
            "alpha_pattern": alphas,
            "use_rslora": false,
            "use_dora": false,
            "bias": "none",
            "fan_in_fan_out": false,
            "init_lora_weights": true,
            "modules_to_save": null,
            "inference_mode": true,
        }))
    }
}

/// How strongly each module's matrices count.
struct Scales {
    r: usize,
    alpha: f64,
    ranks: Vec<(Regex, f64)>,
    alphas: Vec<(Regex, f64)>,
    by_root: bool,
}

impl Scales {
    fn rank(&self, module: &str) -> usize {
        first_match(&self.ranks, module).map_or(self.r, |rank| rank as usize)
    }

    fn scale(&self, module: &str) -> f64 {
        let alpha = first_match(&self.alphas, module).unwrap_or(self.alpha);
        let rank = self.rank(module) as f64;
        alpha / if self.by_root { rank.sqrt() } else { rank }
    }
}

fn first_match(patterns: &[(Regex, f64)], module: &str) -> Option<f64> {
    let is_match = |(regex, _): &&(Regex, f64)| regex.is_match(module).unwrap_or(false);
    patterns.iter().find(is_match).map(|(_, value)| *value)
}

fn read_layers(path: &Path, scales: &Scales) -> Result<BTreeMap<String, LoraPair>, ModelError> {
    let failed = |reason: String| ModelError::Adapter { path: path.to_owned(), reason };
    let weights = Weights::open_file(path)?;
    let mut layers = BTreeMap::new();
    for name in weights.names().filter(|name| name.ends_with(SUFFIX_A)) {
        let module = name
            .strip_prefix(PREFIX)
            .and_then(|name| name.strip_suffix(SUFFIX_A))
            .ok_or_else(|| failed(format!("the tensor `{name}` does not begin with {PREFIX}")))?;
        let name_b = format!("{PREFIX}{module}{SUFFIX_B}");
        let rank = scales.rank(module);
        let width = |name: &str, side: usize| match weights.shape(name) {
            Some([rows, columns]) => Ok([*rows, *columns][side]),
            Some(_) => Err(failed(format!("the tensor `{name}` is no matrix"))),
            None => Err(failed(format!("the tensor `{name}` is missing"))),
        };
        let pair = LoraPair {
            a: weights.f32(name, &[rank, width(name, 1)?])?,
            b: weights.f32(&name_b, &[width(&name_b, 0)?, rank])?,
            scale: scales.scale(module),
        };
        // Adapters of older tools have the older layout's paths.
        layers.insert(canonical_name(module), pair);
    }
    weights.finish()?;
    if layers.is_empty() {
        return Err(failed("it holds no LoRA matrices".into()));
    }
    Ok(layers)
}

/// `adapter_config.json`, and where it is, for errors.
struct Config<'a> {
    path: &'a Path,
    value: &'a Value,
}

/// Keys by which PEFT asks for something beyond plain LoRA when they hold anything.
const NOT_BUILT: [&str; 18] = [
    "modules_to_save",
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "fan_in_fan_out",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
    "alora_invocation_tokens",
    "arrow_config",
    "megatron_config",
    "loftq_config",
    "corda_config",
    "kasa_config",
    "velora_config",
    "lora_ga_config",
    "monteclora_config",
];

impl Config<'_> {
    fn refuse_what_is_not_built(&self) -> Result<(), ModelError> {
        let kind = self.value.get("peft_type").and_then(Value::as_str).unwrap_or("nothing");
        if kind != "LORA" {
            return Err(self.failed(format!("`peft_type` is {kind}, and only LORA is built")));
        }
        for key in NOT_BUILT {
            if let Some(value) = self.value.get(key).filter(|value| !is_empty(value)) {
                return Err(self.failed(format!("`{key}: {value}` is not built, only plain LoRA")));
            }
        }
        let bias = self.value.get("bias").and_then(Value::as_str).unwrap_or("none");
        if bias != "none" {
            return Err(self.failed(format!("`bias: {bias}` is not built, only none")));
        }
        // The other initialisations change the base's weights.
        match self.value.get("init_lora_weights").and_then(Value::as_str) {
            None | Some("gaussian" | "orthogonal" | "eva") => Ok(()),
            Some(other) => Err(self.failed(format!("`init_lora_weights: {other}` is not built"))),
        }
    }

    fn rank(&self) -> Result<usize, ModelError> {
        let rank = self.value.get("r").and_then(Value::as_u64).filter(|rank| *rank > 0);
        rank.map(|rank| rank as usize).ok_or_else(|| self.wrong("r", "a whole number above 0"))
    }

    fn alpha(&self) -> Result<f64, ModelError> {
        let alpha = self.value.get("lora_alpha").and_then(Value::as_f64);
        alpha.ok_or_else(|| self.wrong("lora_alpha", "a number"))
    }

    fn targets(&self) -> Result<TargetModules, ModelError> {
        let wrong = || self.wrong("target_modules", "a list of names or a regular expression");
        match self.value.get("target_modules") {
            // In any case, as PEFT reads it.
            Some(Value::String(word)) if word.eq_ignore_ascii_case(ALL_LINEAR) => {
                Ok(TargetModules::AllLinear)
            }
            Some(Value::String(pattern)) => Ok(TargetModules::Pattern(pattern.clone())),
            Some(Value::Array(names)) => {
                let names: Option<Vec<String>> =
                    names.iter().map(|name| Some(name.as_str()?.to_owned())).collect();
                let mut names = names.ok_or_else(wrong)?;
                // PEFT keeps them as a set, in any order.
                names.sort();
                Ok(TargetModules::Names(names))
            }
            _ => Err(wrong()),
        }
    }

    /// The numbers under `key` by the modules they are for.
    fn patterns(&self, key: &str) -> Result<Vec<(Regex, f64)>, ModelError> {
        let entries = match self.value.get(key) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(value) => value.as_object().ok_or_else(|| self.wrong(key, "an object"))?,
        };
        let entry = |(pattern, value): (&String, &Value)| {
            let number = value.as_f64().filter(|number| *number > 0.0);
            let number = number.ok_or_else(|| self.wrong(key, "numbers above 0 by module"))?;
            Ok((whole_match(self.path, &format!(r"(?:.*\.)?(?:{pattern})"))?, number))
        };
        entries.iter().map(entry).collect()
    }

    fn wrong(&self, key: &str, expected: &str) -> ModelError {
        ModelError::BadKey {
            path: self.path.to_owned(),
            key: key.to_owned(),
            expected: expected.to_owned(),
            found: self.value.get(key).map_or_else(|| "nothing".into(), Value::to_string),
        }
    }

    fn failed(&self, reason: String) -> ModelError {
        ModelError::Adapter { path: self.path.to_owned(), reason }
    }
}

fn whole_match(path: &Path, pattern: &str) -> Result<Regex, ModelError> {
    Regex::new(&format!(r"\A(?:{pattern})\z")).map_err(|error| ModelError::Adapter {
        path: path.to_owned(),
        reason: format!("`{pattern}` is no regular expression: {error}"),
    })
}

fn ends_in(path: &str, name: &str) -> bool {
    path.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        _ => false,
    }
}

fn whole_if_can_be(number: f64) -> Value {
    let rounded = number.round();
    if (number - rounded).abs() <= 1e-9 * number.abs() {
        (rounded as i64).into()
    } else {
        number.into()
    }
}

/// A folder's name for the time of the writing.
fn beside(dir: &Path, what: &str) -> PathBuf {
    let mut name = dir.file_name().map_or_else(Default::default, ToOwned::to_owned);
    name.push(format!(".{}.{what}", std::process::id()));
    dir.with_file_name(name)
}

fn remove_folder(dir: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn replace_folder(fresh: &Path, dir: &Path) -> std::io::Result<()> {
    let old = beside(dir, "old");
    remove_folder(&old)?;
    if dir.exists() {
        fs::rename(dir, &old)?;
    }
    fs::rename(fresh, dir)?;
    remove_folder(&old)
}
