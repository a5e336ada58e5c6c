//! The frozen atlas: the size and seed that figures are reported on, and a hash over it.

use mmrag_core::{Content, ImageSource};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::draw::hex;
use super::scene::Scene;
use super::write::{self, Counts};
use super::{AtlasOptions, scene};

/// Seed of the frozen atlas.
pub const FROZEN_SEED: u64 = 20_251_217;

/// Size of the frozen atlas.
pub const FROZEN: Counts = Counts { train: 4000, dev: 1000, test: 1000 };

/// [`frozen_hash`] of the frozen atlas, by which it is recognised.
pub const FROZEN_HASH: &str = "d27320f9ec017bb020049788e5462aada8c5dfa1091eb9c256a1b12ca8af8b69";

/// SHA-256, in hexadecimal, over the questions with their reasoning steps, documents and pixels of an atlas, in order; how
/// pictures are compressed does not matter. A prefix of the frozen atlas is `counts` with smaller
/// numbers: kinds and questions do not depend on how many there are.
pub fn frozen_hash(counts: Counts, seed: u64) -> String {
    let mut hasher = Sha256::new();
    let options = AtlasOptions::default();
    for (_, names, n) in counts.splits() {
        let hashes: Vec<[u8; 32]> = (0..n as u64)
            .into_par_iter()
            .map(|index| hash(&scene(seed, names, index, &options)))
            .collect();
        hasher.update(hashes.concat());
    }
    hex(&hasher.finalize(), 32)
}

fn hash(scene: &Scene) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(write::question(scene).to_string());
    for document in scene.documents() {
        hasher.update(write::row(&document).to_string());
        if let Content::Image(ImageSource::Bytes(bytes)) = &document.content {
            let picture = image::load_from_memory(bytes)
                .expect("a picture that was encoded just now decodes");
            hasher.update(picture.to_rgb8().as_raw());
        }
    }
    hasher.finalize().into()
}
