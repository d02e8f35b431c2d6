//! Chance that can be replayed.

#[allow(clippy::disallowed_types, reason = "given our own hash; nothing shows its order")]
use std::collections::HashMap;
use std::hash::{BuildHasher, DefaultHasher, Hasher};

/// A small generator of pseudo-random numbers (SplitMix64): for jitter and weighted choice, never for secrets.
#[derive(Clone, Debug)]
pub struct Seeded(u64);

impl Seeded {
    /// The sequence that `seed` names.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; zero when `bound` is zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias of the remainder is below one in four thousand millions for every bound used here.
        self.next_u64().checked_rem(bound).unwrap_or(0)
    }

    /// A factor in `low..high`.
    pub fn factor(&mut self, low: f64, high: f64) -> f64 {
        let unit = (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        low + unit * (high - low)
    }
}

/// A map whose keys come from the network. For lookups only: its order is nobody's business.
#[allow(clippy::disallowed_types, reason = "given our own hash; nothing shows its order")]
pub type SeededMap<K, V> = HashMap<K, V, SeededState>;

/// Hashing for maps whose keys come from the network: who does not know the seed cannot make keys collide.
///
/// The standard library's own state asks the system for a key, which a machine must not.
#[derive(Clone, Copy, Debug)]
pub struct SeededState(u64);

impl SeededState {
    /// The hash function that `seed` names.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl BuildHasher for SeededState {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_tells_one_story() {
        let tell = || {
            let mut seeded = Seeded::new(7);
            [seeded.next_u64(), seeded.below(10), seeded.below(0)]
        };
        assert_eq!(tell(), tell());
        assert!((1..1000).all(|seed| (0.8..1.4).contains(&Seeded::new(seed).factor(0.8, 1.4))));
    }
}
