//! Which patches of a prompt's pictures a reply rests on: gradient × input of the features that
//! enter the text decoder (Shrikumar et al. 2016, arXiv 1605.01713).
//!
//! For a patch with the features `x` (those that stand in its token's place, and those that are
//! added after the first layers) and `L` the logarithm of the probability of the tokens asked about,
//! the patch's share is `x · ∂L/∂x`: to first order, what `L` loses when `x` fades to 0. The
//! vision tower is not looked into: a patch's features also tell of patches around it.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Tensor, Var};
use mmrag_core::{Attribute, Completion, EngineError, PatchShares, Prompt};
use mmrag_ops::{backward, logprob_head};

use crate::actor::{Actor, Album, logit_chunk};
use crate::encoded::{Encoded, reply_segment};
use crate::error::ModelError;
use crate::tokenizer::THINK;
use crate::vlm::{Forward, Grad, Packed, VisionFeatures};

/// A prompt with the reply to it as one pass, and the tokens of the reply that are asked about.
struct Teaching {
    pack: Packed,
    album: Album,
    /// Rows of the pack from which the tokens are told.
    rows: Vec<u32>,
    targets: Vec<u32>,
}

impl Actor<'_> {
    /// For each picture of a prompt, in order, what each of its patches adds to the log-probability
    /// of the tokens of a reply that stand in `asked`, the reply being given.
    ///
    /// # Errors
    ///
    /// When no token is asked about, one is unknown, or memory is out.
    pub fn attribution(
        &self,
        prompt: &Encoded,
        reply: &[u32],
        asked: &[Range<usize>],
    ) -> Result<Vec<PatchShares>, ModelError> {
        let teaching = Teaching::new(prompt, reply, asked)?;
        let bare = Forward::untracked(self.adapter());
        let features = self.policy().features(&bare, &teaching.album.images)?;
        let inputs = features.iter().map(Inputs::of);
        let inputs = inputs.collect::<Result<Vec<_>, ModelError>>()?;
        let features: Vec<VisionFeatures> = inputs.iter().map(Inputs::features).collect();
        let said = self.said(&teaching, &features)?;
        let gradients = backward(&said)?;
        let shares = |inputs: &Inputs| -> Result<Vec<f32>, ModelError> {
            let mut total: Option<Tensor> = None;
            for var in &inputs.levels {
                let Some(slope) = gradients.get(var) else { continue };
                let part = (slope * var.as_detached_tensor())?.sum(1)?;
                total = Some(match total {
                    Some(total) => (total + part)?,
                    None => part,
                });
            }
            let patches = inputs.levels[0].dim(0)?;
            total.map_or_else(|| Ok(vec![0.0; patches]), |total| Ok(total.to_vec1()?))
        };
        let merge = self.policy().processor().merge_size;
        let of_picture = |image: &crate::encoded::EncodedImage| {
            let [_, height, width] = image.picture.grid;
            let place = teaching.album.images.iter().position(|other| other.hash == image.hash);
            let values = shares(&inputs[place.expect("the album holds every picture")])?;
            Ok(PatchShares { rows: height / merge, columns: width / merge, values })
        };
        prompt.images.iter().map(of_picture).collect()
    }

    /// The sum of the log-probabilities that are asked about, as it follows from features.
    fn said(&self, teaching: &Teaching, features: &[VisionFeatures]) -> Result<Tensor, ModelError> {
        // Checkpointed: a prompt is long, and what is asked of it is seldom asked.
        let pass = Forward { grad: Grad::Inputs, adapter: self.adapter(), checkpointing: true };
        let features: Vec<&VisionFeatures> = features.iter().collect();
        let vlm = self.policy().vlm();
        let hidden_td = vlm.hidden(&pass, &teaching.pack, &features, None)?;
        let rows = Tensor::new(teaching.rows.as_slice(), hidden_td.device())?;
        let told_td = hidden_td.index_select(&rows, 0)?;
        let chunk = logit_chunk(teaching.targets.len());
        let scores = logprob_head(&told_td, &vlm.head(&pass), &teaching.targets, 1.0, chunk)?;
        Ok(scores.logprobs_t.sum_all()?)
    }

    /// For each token of a completion, where its text stands in the completion's, in bytes.
    fn token_places(&self, prompt: &Encoded, completion: &Completion) -> Vec<Range<usize>> {
        let opened = if prompt.opens_think { THINK.len() } else { 0 };
        let end = |n: usize| opened + self.policy().decode(&completion.tokens[..n]).len();
        let mut start = opened;
        let mut places = Vec::with_capacity(completion.tokens.len());
        for n in 1..=completion.tokens.len() {
            let end = end(n).max(start);
            places.push(start..end);
            start = end;
        }
        places
    }
}

impl Teaching {
    fn new(prompt: &Encoded, reply: &[u32], asked: &[Range<usize>]) -> Result<Self, ModelError> {
        let told: Vec<usize> =
            (0..reply.len()).filter(|at| asked.iter().any(|range| range.contains(at))).collect();
        let Some(last) = told.last() else {
            return Err(ModelError::Prompt {
                reason: "no token of the reply is asked about".into(),
            });
        };
        let (mut pack, mut album) = (Packed::default(), Album::default());
        let whole = prompt.segment(0..prompt.len(), &mut |image| album.index(image));
        let shown = pack.push(&whole, vec![]);
        // Row of the token before each token of the reply.
        let mut before = vec![shown.end as u32 - 1];
        if *last > 0 {
            let fed = reply_segment(&reply[..*last], prompt.next_position);
            before.extend(pack.push(&fed, vec![shown]).map(|row| row as u32));
        }
        let rows = told.iter().map(|&at| before[at]).collect();
        let targets = told.iter().map(|&at| reply[at]).collect();
        Ok(Self { pack, album, rows, targets })
    }
}

/// The features of a picture as variables.
struct Inputs {
    /// What stands in the place of its tokens, and what is added after the first layers.
    levels: Vec<Var>,
}

impl Inputs {
    fn of(features: &Arc<VisionFeatures>) -> Result<Self, ModelError> {
        let levels = std::iter::once(&features.embeds_md).chain(&features.deepstack);
        let levels = levels.map(|level| Var::from_tensor(&level.detach()));
        Ok(Self { levels: levels.collect::<candle_core::Result<_>>()? })
    }

    fn features(&self) -> VisionFeatures {
        let mut levels = self.levels.iter().map(|var| var.as_tensor().clone());
        let embeds_md = levels.next().expect("the first level is always there");
        VisionFeatures { embeds_md, deepstack: levels.collect() }
    }
}

impl Attribute for Actor<'_> {
    fn attribute(
        &self,
        prompt: &Prompt,
        completion: &Completion,
        spans: &[Range<usize>],
    ) -> Result<Vec<PatchShares>, EngineError> {
        let failed = |error: ModelError| EngineError::caused_by(error.to_string(), error);
        let encoded = self.policy().encode(prompt).map_err(failed)?;
        let stands = |place: &Range<usize>| {
            spans.iter().any(|span| place.start < span.end && place.end > span.start)
        };
        let places = self.token_places(&encoded, completion);
        let tokens = places.iter().enumerate().filter(|(_, place)| stands(place));
        let asked: Vec<Range<usize>> = tokens.map(|(at, _)| at..at + 1).collect();
        self.attribution(&encoded, &completion.tokens, &asked).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use mmrag_core::ImageSource;

    use super::*;
    use crate::adapter::{ALL_TARGETS, Adapter, LoraSpec};
    use crate::policy::Policy;
    use crate::weights::{Placement, Precision};

    const REPLY: [u32; 4] = [11, 12, 13, 14];

    fn policy(family: &str) -> Policy {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(family);
        Policy::load_for_measurement(dir, &Placement::cpu(Precision::F32)).unwrap()
    }

    fn picture(shade: u8) -> ImageSource {
        let image = image::RgbImage::from_fn(40, 56, |x, y| {
            image::Rgb([shade, (x * 6) as u8, (y * 4) as u8])
        });
        let mut bytes = std::io::Cursor::new(vec![]);
        image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        ImageSource::Bytes(bytes.into_inner().into())
    }

    fn prompt(policy: &Policy, shades: &[u8]) -> Encoded {
        let image = policy.tokenizer().image_token();
        let tokens: Vec<u32> = shades.iter().flat_map(|_| [5, image, 7]).chain([9]).collect();
        let pictures: Vec<ImageSource> = shades.iter().map(|shade| picture(*shade)).collect();
        policy.encode_tokens(&tokens, &pictures).unwrap()
    }

    /// An adapter that changes what is said.
    fn adapter(policy: &Policy) -> Adapter {
        let spec = LoraSpec { r: 2, alpha: 4.0, targets: ALL_TARGETS.map(str::to_owned).to_vec() };
        let adapter = Adapter::new(policy.vlm(), &spec, 1).unwrap();
        for (_, var) in adapter.vars() {
            let count = var.elem_count();
            let values: Vec<f32> = (0..count).map(|at| (at % 7) as f32 * 0.02 - 0.05).collect();
            var.set(&Tensor::from_vec(values, var.dims(), var.device()).unwrap()).unwrap();
        }
        adapter
    }

    /// The features with one patch scaled.
    fn scaled(features: &VisionFeatures, patch: usize, factor: f32) -> VisionFeatures {
        let scale = |level: &Tensor| {
            let m = level.dim(0).unwrap();
            let factors: Vec<f32> =
                (0..m).map(|at| if at == patch { factor } else { 1.0 }).collect();
            let factors = Tensor::from_vec(factors, (m, 1), level.device()).unwrap();
            level.broadcast_mul(&factors).unwrap()
        };
        let deepstack = features.deepstack.iter().map(scale).collect();
        VisionFeatures { embeds_md: scale(&features.embeds_md), deepstack }
    }

    /// `x · ∂L/∂x` of a patch is the derivative of `L` by a factor before its features, at 1.
    #[test]
    fn a_patchs_share_is_what_scaling_its_features_changes() {
        const STEP: f32 = 0.02;
        for (family, is_adapted) in
            [("qwen3_vl_tiny", false), ("qwen3_vl_tiny", true), ("qwen2_5_vl_tiny", false)]
        {
            let policy = policy(family);
            let adapter = is_adapted.then(|| adapter(&policy));
            let (actor, prompt) = (policy.with(adapter.as_ref()), prompt(&policy, &[10, 200]));
            let asked = [1..2, 3..4];
            let found = actor.attribution(&prompt, &REPLY, &asked).unwrap();
            let teaching = Teaching::new(&prompt, &REPLY, &asked).unwrap();
            let bare = Forward::untracked(None);
            let features = policy.features(&bare, &teaching.album.images).unwrap();
            let features: Vec<VisionFeatures> = features.iter().map(|f| (**f).clone()).collect();
            let said = |picture: usize, patch: usize, factor: f32| -> f32 {
                let mut changed = features.clone();
                changed[picture] = scaled(&changed[picture], patch, factor);
                actor.said(&teaching, &changed).unwrap().to_scalar().unwrap()
            };
            let largest = found.iter().flat_map(|f| &f.values).fold(0f32, |m, v| m.max(v.abs()));
            assert!(largest > 1e-3, "{family}: {found:?}");
            for (picture, found) in found.iter().enumerate() {
                assert_eq!(found.values.len(), found.rows * found.columns);
                for (patch, share) in found.values.iter().enumerate() {
                    let rise = said(picture, patch, 1.0 + STEP) - said(picture, patch, 1.0 - STEP);
                    let slope = rise / (2.0 * STEP);
                    assert!(
                        (slope - share).abs() <= 0.02 * largest,
                        "{family}, picture {picture}, patch {patch}: {slope} and {share}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_picture_shown_twice_has_the_shares_of_both_places() {
        let policy = policy("qwen3_vl_tiny");
        let twice = prompt(&policy, &[10, 10]);
        let found = policy.with(None).attribution(&twice, &REPLY, &[0..2, 2..4]).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], found[1]);
    }

    #[test]
    fn what_is_not_in_the_reply_cannot_be_asked_about() {
        let policy = policy("qwen3_vl_tiny");
        let prompt = prompt(&policy, &[10]);
        let error = policy.with(None).attribution(&prompt, &REPLY, &[4..6, 7..9]).unwrap_err();
        assert!(error.to_string().contains("no token of the reply"), "{error}");
    }
}
