//! Prompts as tokens with positions and pictures.

use std::ops::Range;
use std::sync::Arc;

use crate::processor::ImageHash;
use crate::vlm::{Picture, Segment};

/// A prompt ready for the model.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// Token ids; a picture's placeholder stands once for each of its tokens.
    pub tokens: Vec<u32>,
    /// Time, height and width of each token.
    pub positions: Vec<[u32; 3]>,
    /// The pictures, in order.
    pub images: Vec<EncodedImage>,
    /// The position of the token that would come next.
    pub next_position: u32,
    /// Whether the chat template has opened `<think>` already.
    pub opens_think: bool,
}

/// A picture within a prompt.
#[derive(Clone, Debug)]
pub struct EncodedImage {
    /// What the picture is known by.
    pub hash: ImageHash,
    /// Its patches.
    pub picture: Arc<Picture>,
    /// The tokens that stand for it.
    pub tokens: Range<usize>,
}

impl Encoded {
    /// Tokens of the prompt.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// How many tokens, from the first on, this prompt and another have in common, pictures
    /// included.
    pub(crate) fn common_prefix(&self, other: &Self) -> usize {
        let tokens = self.tokens.iter().zip(&other.tokens).take_while(|(a, b)| a == b).count();
        let images = self.images.iter().zip(&other.images);
        let differing = images.into_iter().find(|(a, b)| a.hash != b.hash || a.tokens != b.tokens);
        match differing {
            Some((a, b)) => tokens.min(a.tokens.start).min(b.tokens.start),
            None => tokens,
        }
    }

    /// The tokens of a range as a segment. `index` gives a picture's index in the batch's features.
    pub(crate) fn segment(
        &self,
        range: Range<usize>,
        index: &mut impl FnMut(&EncodedImage) -> usize,
    ) -> Segment {
        let mut image_rows = vec![];
        for image in &self.images {
            let (start, end) =
                (image.tokens.start.max(range.start), image.tokens.end.min(range.end));
            if start < end {
                let picture = index(image);
                let rows = start..end;
                image_rows
                    .extend(rows.map(|at| (at - range.start, picture, at - image.tokens.start)));
            }
        }
        Segment {
            tokens: self.tokens[range.clone()].to_vec(),
            positions: self.positions[range].to_vec(),
            image_rows,
        }
    }
}

/// Reply tokens that follow a prompt, from its `start`-th token on.
pub(crate) fn reply_segment(tokens: &[u32], next_position: u32) -> Segment {
    let positions = (next_position..).take(tokens.len()).map(|at| [at; 3]).collect();
    Segment { tokens: tokens.to_vec(), positions, image_rows: vec![] }
}

/// Prompts in a row that share their first tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cluster {
    /// Tokens that all members share; each member has at least one more.
    pub(crate) trunk: usize,
    /// Which prompts.
    pub(crate) members: Range<usize>,
}

/// A trunk of fewer tokens is not worth a segment of its own.
const SHORTEST_TRUNK: usize = 12;

/// Groups neighbouring prompts that begin alike.
pub(crate) fn clusters(prompts: &[&Encoded]) -> Vec<Cluster> {
    let mut clusters: Vec<Cluster> = vec![];
    for (index, prompt) in prompts.iter().enumerate() {
        let longest = prompt.len().saturating_sub(1);
        if let Some(last) = clusters.last_mut() {
            let first = prompts[last.members.start];
            let common = first.common_prefix(prompt).min(longest).min(last.trunk);
            let alone = last.members.len() == 1;
            if common >= SHORTEST_TRUNK && (alone || common * 4 >= last.trunk * 3) {
                (last.trunk, last.members.end) = (common, index + 1);
                continue;
            }
        }
        clusters.push(Cluster { trunk: longest, members: index..index + 1 });
    }
    for cluster in &mut clusters {
        if cluster.members.len() == 1 {
            cluster.trunk = 0;
        }
    }
    clusters
}
