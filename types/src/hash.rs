//! The seeded key hash. Seeded per process, so that nobody outside can prepare colliding keys.

use rapidhash::v3::{RapidSecrets, rapidhash_v3_micro_inline};

/// The secret that key hashes of one process start from.
#[derive(Clone, Copy)]
pub struct HashSeed(RapidSecrets);

/// The 64-bit hash of a key under the process' [`HashSeed`]. Never stored, never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash(pub u64);

impl HashSeed {
    /// Expands a seed into the secrets of the hash.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(RapidSecrets::seed(seed))
    }

    /// Hashes a key.
    #[inline]
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        KeyHash(rapidhash_v3_micro_inline::<true, false>(key, &self.0))
    }
}

impl std::fmt::Debug for HashSeed {
    /// Prints no secret: who knows the seed can make keys collide.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashSeed(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::HashSeed;

    #[test]
    fn seeds_give_unrelated_hashes() {
        let (a, b) = (HashSeed::new(1), HashSeed::new(2));
        assert_eq!(a.hash(b"key"), a.hash(b"key"));
        assert_ne!(a.hash(b"key"), b.hash(b"key"));
        assert!(!format!("{a:?}").contains('1'));
    }
}
