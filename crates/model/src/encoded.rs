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
    /// Whether the reply goes on inside a `<think>` that the chat template has opened.
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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Stands for a piece of a picture.
    const PAD: u32 = 99;

    /// A prompt of these tokens; each run of `PAD` is the next of these pictures.
    fn prompt(tokens: &[u32], names: &[u8]) -> Encoded {
        let picture = Arc::new(Picture { values: vec![], grid: [1, 2, 2] });
        let is_pad = |at: usize| tokens.get(at) == Some(&PAD);
        let starts = (0..tokens.len()).filter(|&at| is_pad(at) && !is_pad(at.wrapping_sub(1)));
        let images = starts.zip(names).map(|(start, name)| EncodedImage {
            hash: ImageHash([*name; 32]),
            picture: Arc::clone(&picture),
            tokens: start..(start..=tokens.len()).find(|&at| !is_pad(at)).unwrap(),
        });
        Encoded {
            tokens: tokens.to_vec(),
            positions: (0..tokens.len() as u32).map(|at| [at; 3]).collect(),
            images: images.collect(),
            next_position: tokens.len() as u32,
            opens_think: false,
        }
    }

    /// Prompts that often begin alike, with a picture or two near their beginnings.
    fn any_prompts() -> impl Strategy<Value = Vec<Encoded>> {
        let beginning = [1, 2, PAD, PAD, 3, 4, 5, PAD, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17];
        // A picture is never cut: its file says how many tokens it has.
        let kept = (0..=beginning.len()).prop_filter("not within the first picture", |&k| k != 3);
        let one = (kept, vec(1u32..4, 0..6), vec(0u8..2, 2));
        let one = one.prop_map(move |(kept, rest, names)| {
            let tokens = [&beginning[..kept], &rest].concat();
            prompt(&tokens, &names)
        });
        vec(one.prop_filter("a prompt has a token", |prompt| !prompt.is_empty()), 0..8)
    }

    /// What the tokens of a range mean to the model, whatever the pictures' indices in a batch.
    fn seen(prompt: &Encoded, range: Range<usize>) -> (Vec<u32>, Vec<(usize, ImageHash, usize)>) {
        let mut hashes = vec![];
        let segment = prompt.segment(range, &mut |image| {
            hashes.push(image.hash);
            hashes.len() - 1
        });
        let rows = segment.image_rows.iter();
        (segment.tokens, rows.map(|&(at, picture, row)| (at, hashes[picture], row)).collect())
    }

    proptest! {
        #[test]
        fn clusters_hold_every_prompt_once_and_share_their_trunks(prompts in any_prompts()) {
            let prompts: Vec<&Encoded> = prompts.iter().collect();
            let clusters = clusters(&prompts);
            let members: Vec<usize> = clusters.iter().flat_map(|c| c.members.clone()).collect();
            prop_assert_eq!(members, (0..prompts.len()).collect::<Vec<_>>());
            for cluster in clusters {
                let first = prompts[cluster.members.start];
                match cluster.members.len() {
                    1 => prop_assert_eq!(cluster.trunk, 0),
                    _ => prop_assert!(cluster.trunk >= SHORTEST_TRUNK),
                }
                for member in &prompts[cluster.members] {
                    prop_assert!(cluster.trunk < member.len());
                    let trunk = 0..cluster.trunk;
                    prop_assert_eq!(seen(member, trunk.clone()), seen(first, trunk));
                }
            }
        }

        #[test]
        fn a_common_prefix_is_all_that_two_prompts_share(prompts in any_prompts()) {
            for (a, b) in prompts.iter().zip(prompts.iter().skip(1)) {
                let common = a.common_prefix(b);
                prop_assert_eq!(common, b.common_prefix(a));
                prop_assert_eq!(seen(a, 0..common), seen(b, 0..common));
                if common < a.len().min(b.len()) {
                    prop_assert_ne!(seen(a, 0..common + 1), seen(b, 0..common + 1));
                }
            }
        }

        #[test]
        fn two_segments_make_the_whole(prompts in any_prompts(), at in 0usize..20) {
            for prompt in &prompts {
                let at = at.min(prompt.len());
                let (mut tokens, mut rows) = seen(prompt, 0..at);
                let (more_tokens, more_rows) = seen(prompt, at..prompt.len());
                tokens.extend(more_tokens);
                rows.extend(more_rows.iter().map(|&(row, hash, part)| (row + at, hash, part)));
                prop_assert_eq!((tokens, rows), seen(prompt, 0..prompt.len()));
            }
        }
    }

    fn check_clusters(prompts: &[Encoded], expected: &[(usize, Range<usize>)]) {
        let prompts: Vec<&Encoded> = prompts.iter().collect();
        let found: Vec<_> = clusters(&prompts).into_iter().map(|c| (c.trunk, c.members)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn prompts_that_begin_alike_share_a_trunk() {
        let long: Vec<u32> = (0..40).collect();
        let after = |kept: usize, rest: &[u32]| prompt(&[&long[..kept], rest].concat(), &[]);
        check_clusters(&[], &[]);
        check_clusters(&[after(40, &[])], &[(0, 0..1)]);
        // The same prompt twice keeps a token each.
        check_clusters(&[after(40, &[]), after(40, &[])], &[(39, 0..2)]);
        check_clusters(&[after(30, &[90]), after(30, &[91])], &[(30, 0..2)]);
        // Eleven tokens are not worth it; twelve are.
        check_clusters(&[after(11, &[90]), after(11, &[91])], &[(0, 0..1), (0, 1..2)]);
        check_clusters(&[after(12, &[90]), after(12, &[91])], &[(12, 0..2)]);
        // A third may shorten the trunk by a quarter, not by more.
        let two = || [after(32, &[90]), after(32, &[91])];
        let [a, b] = two();
        check_clusters(&[a, b, after(24, &[92])], &[(24, 0..3)]);
        let [a, b] = two();
        check_clusters(&[a, b, after(23, &[92])], &[(32, 0..2), (0, 2..3)]);
    }

    #[test]
    fn another_picture_ends_what_is_shared() {
        let mut tokens: Vec<u32> = (0..30).collect();
        tokens[20..24].fill(PAD);
        let (a, b) = (prompt(&tokens, &[1]), prompt(&tokens, &[2]));
        assert_eq!(a.common_prefix(&b), 20);
        check_clusters(&[a, b], &[(20, 0..2)]);
    }
}
