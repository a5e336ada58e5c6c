//! The frozen atlas: the size and seed that figures are reported on, and a hash over it.

use mmrag_core::{Content, ImageSource};
use sha2::{Digest, Sha256};

use super::draw::hex;
use super::write::{self, Counts};
use super::{AtlasOptions, scene};

/// Seed of the frozen atlas.
pub const FROZEN_SEED: u64 = 20_251_217;

/// Size of the frozen atlas.
pub const FROZEN: Counts = Counts { train: 4000, dev: 1000, test: 1000 };

/// SHA-256, in hexadecimal, over the questions, documents and pixels of an atlas, in order; how
/// pictures are compressed does not matter. A prefix of the frozen atlas is `counts` with smaller
/// numbers: kinds and questions do not depend on how many there are.
pub fn frozen_hash(counts: Counts, seed: u64) -> String {
    let mut hasher = Sha256::new();
    let options = AtlasOptions::default();
    for (_, names, n) in counts.splits() {
        for index in 0..n as u64 {
            let scene = scene(seed, names, index, &options);
            hasher.update(write::question(&scene).to_string());
            for document in scene.documents() {
                hasher.update(write::row(&document).to_string());
                if let Content::Image(ImageSource::Bytes(bytes)) = &document.content {
                    let picture = image::load_from_memory(bytes)
                        .expect("a picture that was encoded just now decodes");
                    hasher.update(picture.to_rgb8().as_raw());
                }
            }
        }
    }
    hex(&hasher.finalize(), 32)
}
