//! A model with its tokenizer, chat template and image processor.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use candle_core::{DType, Device, Var};
use mmrag_core::{ImageSource, Part, Prompt};
use mmrag_ops::side_by_side;

use crate::actor::Actor;
use crate::adapter::Adapter;
use crate::config::VlmConfig;
use crate::encoded::{Encoded, EncodedImage};
use crate::error::ModelError;
use crate::feature_store::FeatureStore;
use crate::processor::{ImageHash, ImageProcessor};
use crate::tokenizer::ChatTokenizer;
use crate::vlm::{Forward, Grad, Picture, VisionFeatures, Vlm, image_positions, text_positions};
use crate::weights::{Placement, Precision, Weights, save_safetensors};

/// Files of a checkpoint's folder that go along unchanged when it is saved elsewhere.
pub const COMPANIONS: [&str; 13] = [
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "added_tokens.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
];

/// Bytes of picture features that are kept in memory at most.
pub(crate) const CACHED_BYTES: usize = 1 << 30;

/// Pictures that are looked at at a time: in one pass of the vision tower on a GPU, by one thread on
/// the CPU.
const PICTURES_AT_ONCE: usize = 32;

/// How deep a model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Layers of the text decoder.
    pub layers: usize,
    /// Blocks of the vision tower.
    pub blocks: usize,
}

/// A model with everything needed to use it.
pub struct Policy {
    vlm: Vlm,
    tokenizer: ChatTokenizer,
    processor: ImageProcessor,
    dir: PathBuf,
    seen: Mutex<Seen>,
    store: Option<FeatureStore>,
    /// The tokens that end a reply.
    ends: Vec<u32>,
}

/// Features of pictures under the current weights.
#[derive(Default)]
struct Seen {
    features: HashMap<ImageHash, Arc<VisionFeatures>>,
    bytes: usize,
}

impl Policy {
    /// Loads a checkpoint's folder, its weights in the precision in which they are stored.
    ///
    /// # Errors
    ///
    /// When a file is missing or does not fit the others.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self, ModelError> {
        Self::load_as(dir, &Placement::cpu(Precision::Stored))
    }

    /// As [`Self::load`], with the weights in a given precision and place: full training needs f32.
    ///
    /// # Errors
    ///
    /// When a file is missing or does not fit the others.
    pub fn load_as(dir: impl AsRef<Path>, placement: &Placement) -> Result<Self, ModelError> {
        let dir = dir.as_ref();
        // What is small comes first: a folder that will not do is refused before its weights are
        // read.
        let (parts, weights) = (Parts::load(dir)?, Weights::open(dir)?);
        let vlm = Vlm::load(parts.config.clone(), &weights, placement)?;
        Ok(Self::assemble(vlm, parts, dir))
    }

    /// Loads a checkpoint for measurements on tokens that are no text: a folder without a tokenizer
    /// will do, tokens are then written as their numbers.
    ///
    /// # Errors
    ///
    /// When another file is missing or does not fit the others.
    pub fn load_for_measurement(
        dir: impl AsRef<Path>,
        placement: &Placement,
    ) -> Result<Self, ModelError> {
        let dir = dir.as_ref();
        let parts = Parts::for_measurement(dir, VlmConfig::load(dir)?)?;
        let weights = Weights::open(dir)?;
        let vlm = Vlm::load(parts.config.clone(), &weights, placement)?;
        Ok(Self::assemble(vlm, parts, dir))
    }

    /// A model of a checkpoint's widths with other numbers of layers, whose weights are not read but
    /// filled with small numbers of no meaning, in the type they have there: for measurements. A
    /// vision tower of fewer blocks hands what its first blocks say to the decoder's layers.
    ///
    /// # Errors
    ///
    /// When a small file or the header of the weights is missing or does not fit the others.
    pub fn shaped(
        dir: impl AsRef<Path>,
        depth: Depth,
        placement: &Placement,
    ) -> Result<Self, ModelError> {
        let dir = dir.as_ref();
        let (mut config, weights) = (VlmConfig::load(dir)?, Weights::open(dir)?);
        let embeddings = "model.language_model.embed_tokens.weight";
        let is_narrow = weights.bytes_per_value(embeddings, placement.precision)? == 2;
        let dtype = if is_narrow { DType::BF16 } else { DType::F32 };
        config.text.num_layers = depth.layers;
        if depth.blocks < config.vision.depth {
            config.vision.depth = depth.blocks;
            let levels = config.vision.deepstack_indexes.len().min(depth.blocks);
            config.vision.deepstack_indexes = (0..levels).collect();
        }
        let parts = Parts::for_measurement(dir, config)?;
        let vlm = Vlm::filled(parts.config.clone(), dtype, &placement.device)?;
        Ok(Self::assemble(vlm, parts, dir))
    }

    /// Draws random weights for a folder that holds everything but the weights.
    ///
    /// # Errors
    ///
    /// When a file is missing or does not fit the others.
    pub fn random(dir: impl AsRef<Path>, seed: u64) -> Result<Self, ModelError> {
        Self::random_scaled(dir, seed, 0.02)
    }

    /// As [`Self::random`], with another deviation than 0.02 for the matrices.
    ///
    /// # Errors
    ///
    /// When a file is missing or does not fit the others.
    pub fn random_scaled(dir: impl AsRef<Path>, seed: u64, scale: f64) -> Result<Self, ModelError> {
        let dir = dir.as_ref();
        let parts = Parts::load(dir)?;
        Ok(Self::assemble(Vlm::random(parts.config.clone(), seed, scale)?, parts, dir))
    }

    fn assemble(vlm: Vlm, parts: Parts, dir: &Path) -> Self {
        let Parts { tokenizer, processor, config } = parts;
        Self {
            vlm,
            tokenizer,
            processor,
            dir: dir.to_owned(),
            seen: Mutex::default(),
            store: None,
            ends: config.eos,
        }
    }

    /// No token ends a reply: each goes on to the length asked for. Measurements of models that end
    /// theirs at different places can then be compared.
    #[must_use]
    pub fn never_ending(mut self) -> Self {
        self.ends.clear();
        self
    }

    /// The tokens that end a reply.
    pub(crate) fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// Keeps the features of pictures in a folder on disk too, and takes them from there: a picture
    /// is then looked at once by all runs with this vision tower. What the tower says while it is
    /// trained or adapted is not kept.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made.
    pub fn with_features_in(mut self, folder: impl AsRef<Path>) -> Result<Self, ModelError> {
        self.store = Some(FeatureStore::open(folder.as_ref(), &self.vlm, &self.processor)?);
        Ok(self)
    }

    /// Writes the model as a folder like the one it came from, the weights in the precision they have.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<(), ModelError> {
        let dir = dir.as_ref();
        let failed = |path: PathBuf| move |source| ModelError::Write { path, source };
        std::fs::create_dir_all(dir).map_err(failed(dir.to_owned()))?;
        for name in COMPANIONS {
            let (from, to) = (self.dir.join(name), dir.join(name));
            if from.exists() && from != to {
                std::fs::copy(&from, &to).map_err(failed(to))?;
            }
        }
        let named: Vec<_> = self
            .vlm
            .params()
            .iter()
            .map(|param| (param.name().to_owned(), param.var().as_tensor().clone()))
            .collect();
        save_safetensors(dir.join("model.safetensors"), &named)
    }

    /// The folder it was loaded from.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the weights lie and passes run.
    pub fn device(&self) -> &Device {
        self.vlm.device()
    }

    /// The model.
    pub fn vlm(&self) -> &Vlm {
        &self.vlm
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &ChatTokenizer {
        &self.tokenizer
    }

    /// The image processor.
    pub fn processor(&self) -> &ImageProcessor {
        &self.processor
    }

    /// The model's own variables by name, in a fixed order, for full training.
    pub fn vars(&self) -> Vec<(String, Var)> {
        let named = |param: &crate::vlm::Param| (param.name().to_owned(), param.var().clone());
        self.vlm.params().iter().map(named).collect()
    }

    /// The policy with an adapter on, or without one: the reference policy.
    pub fn with<'a>(&'a self, adapter: Option<&'a Adapter>) -> Actor<'a> {
        Actor::new(self, adapter)
    }

    /// A prompt as tokens, positions and patches.
    ///
    /// # Errors
    ///
    /// When a picture does not decode or the chat template refuses the messages.
    pub fn encode(&self, prompt: &Prompt) -> Result<Encoded, ModelError> {
        let pictures = self.pictures(images(prompt))?;
        let counts: Vec<usize> =
            pictures.iter().map(|(_, picture)| self.processor.tokens(picture.grid)).collect();
        let tokens = self.tokenizer.encode_prompt(prompt, &counts)?;
        Ok(self.place(tokens.ids, pictures, tokens.opens_think))
    }

    /// A prompt that is given as tokens, in which the image token stands once for each picture.
    ///
    /// # Errors
    ///
    /// When a picture does not decode, or there are more or fewer of them than image tokens.
    pub fn encode_tokens(
        &self,
        tokens: &[u32],
        images: &[ImageSource],
    ) -> Result<Encoded, ModelError> {
        let image_token = self.tokenizer.image_token();
        let places = tokens.iter().filter(|&&token| token == image_token).count();
        if places != images.len() {
            let reason = format!("it has {places} image tokens for {} images", images.len());
            return Err(ModelError::Prompt { reason });
        }
        let pictures = self.pictures(images.iter())?;
        let mut counts = pictures.iter().map(|(_, picture)| self.processor.tokens(picture.grid));
        let repeated = tokens.iter().flat_map(|&token| {
            let n = if token == image_token { counts.next().unwrap_or(0) } else { 1 };
            std::iter::repeat_n(token, n)
        });
        let tokens = repeated.collect();
        Ok(self.place(tokens, pictures, false))
    }

    /// Pictures as patches.
    fn pictures<'s>(
        &self,
        sources: impl Iterator<Item = &'s ImageSource>,
    ) -> Result<Vec<(ImageHash, Arc<Picture>)>, ModelError> {
        let mut pictures = vec![];
        for source in sources {
            let pixels = self.processor.process(source)?;
            let picture = Picture { values: pixels.values, grid: pixels.grid };
            pictures.push((pixels.hash, Arc::new(picture)));
        }
        Ok(pictures)
    }

    /// The tokens of a reply, with the end of the turn.
    ///
    /// # Errors
    ///
    /// When the tokenizer refuses the text.
    pub fn encode_reply(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let mut tokens = self.tokenizer.encode_reply(text)?;
        tokens.push(self.tokenizer.end_of_turn());
        Ok(tokens)
    }

    /// The text of tokens, special ones left out.
    pub fn decode(&self, tokens: &[u32]) -> String {
        self.tokenizer.decode(tokens)
    }

    /// Gives each token its position, and each picture its tokens.
    fn place(
        &self,
        tokens: Vec<u32>,
        pictures: Vec<(ImageHash, Arc<Picture>)>,
        opens_think: bool,
    ) -> Encoded {
        let merge = self.processor.merge_size;
        let mut positions = Vec::with_capacity(tokens.len());
        let (mut next_position, mut images) = (0, vec![]);
        let mut pictures = pictures.into_iter();
        while positions.len() < tokens.len() {
            let at = positions.len();
            if tokens[at] == self.tokenizer.image_token() {
                let (hash, picture) = pictures.next().expect("encode_prompt counts placeholders");
                let [t, h, w] = picture.grid;
                positions.extend(image_positions(next_position, [t, h / merge, w / merge]));
                next_position += t.max(h / merge).max(w / merge) as u32;
                images.push(EncodedImage { hash, picture, tokens: at..positions.len() });
            } else {
                positions.extend(text_positions(next_position, 1));
                next_position += 1;
            }
        }
        Encoded { tokens, positions, images, next_position, opens_think }
    }

    /// The features of pictures, computed where they are not known yet; with `Grad::Full` or an
    /// adapter that changes the vision tower, always.
    pub(crate) fn features(
        &self,
        pass: &Forward<'_>,
        images: &[EncodedImage],
    ) -> Result<Vec<Arc<VisionFeatures>>, ModelError> {
        let is_adapted = pass.adapter.is_some_and(Adapter::changes_vision);
        if pass.grad == Grad::Full || is_adapted {
            if pass.grad == Grad::Full {
                // The weights are about to change.
                *self.seen() = Seen::default();
            }
            let pictures: Vec<_> = images.iter().map(|image| &*image.picture).collect();
            return Ok(self.vlm.see(pass, &pictures)?.into_iter().map(Arc::new).collect());
        }
        let mut fresh = HashMap::new();
        let mut new: Vec<&EncodedImage> = vec![];
        {
            let seen = self.seen();
            for image in images {
                match seen.features.get(&image.hash) {
                    Some(features) => _ = fresh.insert(image.hash, Arc::clone(features)),
                    None if new.iter().all(|other| other.hash != image.hash) => new.push(image),
                    None => {}
                }
            }
        }
        for (image, features) in new.iter().zip(self.look(&new)?) {
            self.seen().keep(image.hash, Arc::clone(&features));
            fresh.insert(image.hash, features);
        }
        Ok(images.iter().map(|image| Arc::clone(&fresh[&image.hash])).collect())
    }

    /// The features of pictures that are not in memory: from the disk, or as the tower says. The
    /// adapter changes the text decoder alone.
    ///
    /// On the CPU the tower looks at each picture alone. A product of few rows is added up in
    /// another order than one of many, so the last digits of a picture seen among others would say
    /// which others were unknown by then, and a run that goes on would part from one that never
    /// stopped.
    fn look(&self, new: &[&EncodedImage]) -> Result<Vec<Arc<VisionFeatures>>, ModelError> {
        let kept = |image: &EncodedImage| self.store.as_ref()?.load(&image.hash, self.device());
        let mut found: Vec<_> = new.iter().map(|image| kept(image)).collect();
        let missing = new.iter().zip(&found).filter(|(_, found)| found.is_none());
        let pictures: Vec<_> = missing.map(|(image, _)| &*image.picture).collect();
        let bare = Forward::untracked(None);
        let together = pictures.chunks(pictures_together(self.device()));
        let seen = together.map(|pictures| self.vlm.see(&bare, pictures));
        let mut seen = seen.collect::<Result<Vec<_>, _>>()?.into_iter().flatten();
        for (image, features) in new.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
            let told = seen.next().expect("the tower tells of each picture");
            if let Some(store) = &self.store {
                store.save(&image.hash, &told)?;
            }
            *features = Some(told);
        }
        Ok(found.into_iter().flatten().map(Arc::new).collect())
    }

    /// Forgets the features of all pictures that are in memory.
    pub fn forget_pictures(&self) {
        *self.seen() = Seen::default();
    }

    /// Computes the features of the pictures that are not known yet, side by side. Returns how many
    /// these are.
    ///
    /// # Errors
    ///
    /// When memory is out, or the folder that keeps features cannot be written.
    pub fn look_at(&self, prompts: &[&Encoded]) -> Result<usize, ModelError> {
        let mut new: Vec<EncodedImage> = vec![];
        let mut hashes = HashSet::new();
        {
            let seen = self.seen();
            for image in prompts.iter().flat_map(|prompt| &prompt.images) {
                if !seen.features.contains_key(&image.hash) && hashes.insert(image.hash) {
                    new.push(image.clone());
                }
            }
        }
        let bare = Forward::untracked(None);
        let batches: Vec<_> = new.chunks(PICTURES_AT_ONCE).collect();
        side_by_side(&batches, self.device(), |batch| self.features(&bare, batch).map(|_| ()))
            .into_iter()
            .collect::<Result<(), _>>()?;
        Ok(new.len())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no thread panics while it holds the lock")
    }
}

/// How many pictures the tower looks at in one pass.
fn pictures_together(device: &Device) -> usize {
    if device.is_cpu() { 1 } else { PICTURES_AT_ONCE }
}

/// What a checkpoint's folder holds beside the weights.
struct Parts {
    config: VlmConfig,
    tokenizer: ChatTokenizer,
    processor: ImageProcessor,
}

impl Parts {
    /// Reads them, and checks that they are of one checkpoint.
    fn load(dir: &Path) -> Result<Self, ModelError> {
        let config = VlmConfig::load(dir)?;
        Self::new(dir, ChatTokenizer::load(dir)?, config)
    }

    /// Reads them where a folder without a tokenizer will do: tokens are then their numbers.
    fn for_measurement(dir: &Path, config: VlmConfig) -> Result<Self, ModelError> {
        let has_tokenizer = dir.join("tokenizer.json").exists();
        let tokenizer = if has_tokenizer {
            ChatTokenizer::load(dir)?
        } else {
            ChatTokenizer::numbered(dir, &config)?
        };
        Self::new(dir, tokenizer, config)
    }

    /// Checks that tokenizer, configuration and image processor are of one checkpoint.
    fn new(dir: &Path, tokenizer: ChatTokenizer, config: VlmConfig) -> Result<Self, ModelError> {
        let (known, rows) = (tokenizer.vocab_size(), config.text.vocab_size);
        if known > rows {
            return Err(ModelError::Tokenizer {
                path: dir.to_owned(),
                reason: format!(
                    "it knows {known} tokens, the model {rows}; take tokenizer.json and \
                     config.json from one checkpoint"
                ),
            });
        }
        let processor = ImageProcessor::load(dir)?;
        processor.check_fits(dir, &config.vision)?;
        Ok(Self { config, tokenizer, processor })
    }
}

impl Seen {
    /// Keeps features; forgets all others when there is no room.
    fn keep(&mut self, hash: ImageHash, features: Arc<VisionFeatures>) {
        let levels = std::iter::once(&features.embeds_md).chain(&features.deepstack);
        let new: usize = levels.map(|x| x.elem_count() * x.dtype().size_in_bytes()).sum();
        if self.bytes + new > CACHED_BYTES {
            *self = Self::default();
        }
        self.bytes += new;
        self.features.insert(hash, features);
    }
}

/// The pictures of a prompt, in order.
fn images(prompt: &Prompt) -> impl Iterator<Item = &ImageSource> {
    prompt.messages.iter().flat_map(|message| &message.parts).filter_map(|part| match part {
        Part::Image(source) => Some(source),
        Part::Text(_) => None,
    })
}
