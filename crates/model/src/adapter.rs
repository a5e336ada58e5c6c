//! A low-rank adapter of the model: the variables that reinforcement fine-tuning trains.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use candle_core::{DType, Tensor, Var};
use rand::RngExt;

use crate::adapter_folder::{AdapterFile, LoraPair, TargetModules};
use crate::error::ModelError;
use crate::vlm::{Vlm, stream};
use crate::weights::Weights;

/// The maps of the text decoder that an adapter changes by default: all of them.
pub const ALL_TARGETS: [&str; 7] =
    ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// Stands in the path of every map of the text decoder that an adapter can change.
const TEXT_LAYERS: &str = "language_model.layers.";

/// What a new adapter is like.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraSpec {
    /// Rank.
    pub r: usize,
    /// The change is scaled by `alpha / r`.
    pub alpha: f64,
    /// Last parts of the module names in the text decoder that are changed, such as `q_proj`.
    pub targets: Vec<String>,
}

/// The change of one linear map: `scale b a`.
#[derive(Clone, Debug)]
pub struct LoraLayer {
    /// `[r, inner]`.
    pub a: Var,
    /// `[outer, r]`.
    pub b: Var,
    /// Multiplies the change.
    pub scale: f64,
}

/// Low-rank changes of some of the model's linear maps (LoRA), by module path.
#[derive(Clone, Debug, Default)]
pub struct Adapter {
    layers: BTreeMap<String, LoraLayer>,
}

impl Adapter {
    /// An adapter that changes nothing yet: `a` is uniform in `±1/sqrt(inner)`, as PEFT draws it,
    /// and `b` is zero. The same seed gives the same adapter.
    ///
    /// # Errors
    ///
    /// When no module of the text decoder ends in one of the targets.
    pub fn new(model: &Vlm, spec: &LoraSpec, seed: u64) -> Result<Self, ModelError> {
        let mut layers = BTreeMap::new();
        for param in model.params() {
            let Some(module) = target_module(param.name(), &spec.targets) else { continue };
            let (outer, inner) = param.var().dims2()?;
            let bound = 1.0 / (inner as f32).sqrt();
            let mut rng = stream("adapter", seed, module);
            let a: Vec<f32> =
                (0..spec.r * inner).map(|_| rng.random_range(-bound..bound)).collect();
            let a = Tensor::from_vec(a, (spec.r, inner), model.device())?;
            let b = Tensor::zeros((outer, spec.r), DType::F32, model.device())?;
            let scale = spec.alpha / spec.r as f64;
            let layer = LoraLayer { a: Var::from_tensor(&a)?, b: Var::from_tensor(&b)?, scale };
            layers.insert(module.to_owned(), layer);
        }
        if layers.is_empty() {
            return Err(ModelError::Prompt {
                reason: format!("no module of the model ends in {}", spec.targets.join(" or ")),
            });
        }
        Ok(Self { layers })
    }

    /// Reads a PEFT folder made for this model.
    ///
    /// # Errors
    ///
    /// When a file is missing or damaged, or a matrix does not fit the model's module.
    pub fn load(dir: impl AsRef<Path>, model: &Vlm) -> Result<Self, ModelError> {
        let dir = dir.as_ref();
        let file = AdapterFile::load(dir)?;
        let params = model.params();
        let shape_of = |name: &str| {
            let param = params.iter().find(|param| param.name() == name)?;
            Some(param.var().dims().to_vec())
        };
        check_fit(&file, dir, shape_of)?;
        let mut layers = BTreeMap::new();
        for (module, pair) in &file.layers {
            let on_device = |x: &Tensor| Var::from_tensor(&x.to_device(model.device())?);
            let (a, b) = (on_device(&pair.a)?, on_device(&pair.b)?);
            layers.insert(module.clone(), LoraLayer { a, b, scale: pair.scale });
        }
        Ok(Self { layers })
    }

    /// Checks that [`Self::load`] will read a PEFT folder onto the model in another folder, from
    /// the headers of the model's weights: before those are read.
    ///
    /// # Errors
    ///
    /// As [`Self::load`], and when the model's weights cannot be opened.
    pub fn foresee(dir: impl AsRef<Path>, model: impl AsRef<Path>) -> Result<(), ModelError> {
        let (dir, weights) = (dir.as_ref(), Weights::open(model)?);
        let shape_of = |name: &str| weights.shape(name).map(<[usize]>::to_vec);
        check_fit(&AdapterFile::load(dir)?, dir, shape_of)
    }

    /// Writes a PEFT folder. `base` names the model it was made for.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub fn save(&self, dir: impl AsRef<Path>, base: &str) -> Result<(), ModelError> {
        let rank = |layer: &LoraLayer| layer.a.dims()[0];
        let first = self.layers.values().next();
        let r = first.map_or(0, rank);
        let alpha = first.map_or(0.0, |layer| layer.scale * rank(layer) as f64);
        let pair = |layer: &LoraLayer| LoraPair {
            a: layer.a.as_detached_tensor(),
            b: layer.b.as_detached_tensor(),
            scale: layer.scale,
        };
        let layers = self.layers.iter().map(|(module, layer)| (module.clone(), pair(layer)));
        let file = AdapterFile {
            r,
            alpha,
            targets: TargetModules::Pattern(self.pattern()),
            layers: layers.collect(),
            base: base.to_owned(),
        };
        file.save(dir)
    }

    /// A regular expression that matches the changed modules of the text decoder.
    fn pattern(&self) -> String {
        let names: BTreeSet<_> =
            self.layers.keys().filter_map(|module| module.rsplit('.').next()).collect();
        let names: Vec<_> = names.into_iter().collect();
        format!(r".*language_model\.layers\.\d+\.(self_attn|mlp)\.({})", names.join("|"))
    }

    /// An adapter of these layers, by module path.
    pub fn from_layers(layers: BTreeMap<String, LoraLayer>) -> Self {
        Self { layers }
    }

    /// Whether it changes what the vision tower says of pictures.
    pub fn changes_vision(&self) -> bool {
        self.layers.keys().any(|module| is_of_vision(module))
    }

    /// The change of a module, if it has one.
    pub fn layer(&self, module: &str) -> Option<&LoraLayer> {
        self.layers.get(module)
    }

    /// All changes by module path.
    pub fn layers(&self) -> &BTreeMap<String, LoraLayer> {
        &self.layers
    }

    /// The variables, named as PEFT names them within the model, in a fixed order.
    pub fn vars(&self) -> Vec<(String, Var)> {
        let both = |(module, layer): (&String, &LoraLayer)| {
            [
                (format!("{module}.lora_A.weight"), layer.a.clone()),
                (format!("{module}.lora_B.weight"), layer.b.clone()),
            ]
        };
        self.layers.iter().flat_map(both).collect()
    }

    /// A copy with variables of its own.
    ///
    /// # Errors
    ///
    /// When memory is out.
    pub fn duplicate(&self) -> Result<Self, ModelError> {
        let copy = |var: &Var| Ok::<_, ModelError>(Var::from_tensor(&var.as_tensor().copy()?)?);
        let mut layers = BTreeMap::new();
        for (module, layer) in &self.layers {
            let layer = LoraLayer { a: copy(&layer.a)?, b: copy(&layer.b)?, scale: layer.scale };
            layers.insert(module.clone(), layer);
        }
        Ok(Self { layers })
    }
}

/// Whether it is the path of a linear map of the vision tower.
fn is_of_vision(module: &str) -> bool {
    module.starts_with("model.visual.") && !module.ends_with("pos_embed")
}

/// Refuses an adapter of which a matrix has no place in the model. `shape_of` gives the shapes of
/// the model's weights.
fn check_fit(
    file: &AdapterFile,
    dir: &Path,
    shape_of: impl Fn(&str) -> Option<Vec<usize>>,
) -> Result<(), ModelError> {
    for (module, pair) in &file.layers {
        let shape = shape_of(&format!("{module}.weight"));
        let Some([outer, inner]) = shape.as_deref() else {
            return Err(file.misfit(dir, &format!("the model has no linear map {module}")));
        };
        if !module.contains(TEXT_LAYERS) && !is_of_vision(module) {
            let reason = format!(
                "it changes {module}, and only maps within the text decoder's layers and the \
                 vision tower can be adapted; fold it into its checkpoint first (mmrag model merge)"
            );
            return Err(ModelError::Adapter { path: dir.to_owned(), reason });
        }
        let (from, to) = (pair.a.dim(1)?, pair.b.dim(0)?);
        if (from, to) != (*inner, *outer) {
            let what = format!(
                "{module} maps {inner} to {outer} values in the model, but {from} to {to} in the \
                 adapter"
            );
            return Err(file.misfit(dir, &what));
        }
    }
    Ok(())
}

/// The module path, if the weight is a matrix of the text decoder that the targets name.
fn target_module<'a>(weight: &'a str, targets: &[String]) -> Option<&'a str> {
    let module = weight.strip_suffix(".weight")?;
    let last = module.rsplit('.').next()?;
    let in_text = module.contains(TEXT_LAYERS);
    (in_text && targets.iter().any(|target| target == last)).then_some(module)
}
