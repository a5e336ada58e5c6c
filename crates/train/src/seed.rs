//! Seeds and streams: every draw of a training comes from (purpose, run seed, step, question, …).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// One part of what a draw depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Key<'a> {
    Number(u64),
    Name(&'a str),
}

impl From<u64> for Key<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<usize> for Key<'_> {
    fn from(number: usize) -> Self {
        Self::Number(number as u64)
    }
}

impl<'a> From<&'a str> for Key<'a> {
    fn from(name: &'a str) -> Self {
        Self::Name(name)
    }
}

/// A stream of its own for each purpose and keys.
pub(crate) fn stream(purpose: &str, run_seed: u64, keys: &[Key<'_>]) -> ChaCha8Rng {
    ChaCha8Rng::from_seed(digest(purpose, run_seed, keys))
}

/// A seed of its own for each purpose and keys.
pub(crate) fn seed(purpose: &str, run_seed: u64, keys: &[Key<'_>]) -> u64 {
    let digest = digest(purpose, run_seed, keys);
    u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
}

/// A number below `n`, which must not be 0.
pub(crate) fn below(stream: &mut ChaCha8Rng, n: usize) -> usize {
    ((u128::from(stream.next_u64()) * n as u128) >> 64) as usize
}

/// Puts the items in a random order.
pub(crate) fn shuffle<T>(stream: &mut ChaCha8Rng, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(stream, last + 1));
    }
}

/// The indexes of one pass over `len` items, in the order of pass number `epoch`.
pub(crate) fn order(run_seed: u64, epoch: usize, len: usize) -> Vec<usize> {
    let mut indexes: Vec<usize> = (0..len).collect();
    shuffle(&mut stream("order", run_seed, &[epoch.into()]), &mut indexes);
    indexes
}

fn digest(purpose: &str, run_seed: u64, keys: &[Key<'_>]) -> [u8; 32] {
    let mut hash = Sha256::new();
    // Lengths and kinds go in as well, so that no two lists of keys read the same.
    hash.update((purpose.len() as u64).to_le_bytes());
    hash.update(purpose);
    hash.update(run_seed.to_le_bytes());
    for key in keys {
        match key {
            Key::Number(number) => {
                hash.update([0]);
                hash.update(number.to_le_bytes());
            }
            Key::Name(name) => {
                hash.update([1]);
                hash.update((name.len() as u64).to_le_bytes());
                hash.update(name);
            }
        }
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_purpose_and_key_draws_for_itself() {
        let seeds = [
            seed("a", 1, &[1_u64.into()]),
            seed("b", 1, &[1_u64.into()]),
            seed("a", 2, &[1_u64.into()]),
            seed("a", 1, &[2_u64.into()]),
            seed("a", 1, &["1".into()]),
            seed("a", 1, &[]),
        ];
        let distinct: std::collections::BTreeSet<_> = seeds.iter().collect();
        assert_eq!(distinct.len(), seeds.len());
        assert_eq!(seeds[0], seed("a", 1, &[1_u64.into()]));
    }

    #[test]
    fn an_order_holds_every_index_once() {
        let mut indexes = order(7, 3, 20);
        assert_ne!(indexes, order(7, 4, 20));
        indexes.sort_unstable();
        assert_eq!(indexes, (0..20).collect::<Vec<_>>());
    }
}
