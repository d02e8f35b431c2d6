//! A set of destinations as a short row of bytes.
//!
//! Ids ascending, each as its distance from the one before, as LEB128: rooms are full of neighbours, so most
//! take one byte.

/// Writes `ids`, which ascend.
pub(super) fn encode(ids: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ids.len() + ids.len() / 4);
    let mut before = 0;
    for id in ids {
        let mut step = id - before;
        before = *id;
        while step >= 0x80 {
            bytes.push(step as u8 | 0x80);
            step >>= 7;
        }
        bytes.push(step as u8);
    }
    bytes
}

/// Reads ids; none when `bytes` are not what [`encode`] wrote.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<u32>> {
    let mut ids = Vec::with_capacity(bytes.len());
    let mut before = 0_u32;
    let (mut step, mut shift) = (0_u64, 0);
    for byte in bytes {
        step |= u64::from(byte & 0x7f).checked_shl(shift)?;
        shift += 7;
        if byte & 0x80 == 0 {
            let id = before.checked_add(u32::try_from(step).ok()?)?;
            if id == before && !ids.is_empty() {
                return None;
            }
            ids.push(id);
            (before, step, shift) = (id, 0, 0);
        } else if shift > 28 {
            return None;
        }
    }
    (shift == 0).then_some(ids)
}

/// A hash of `bytes`, the same for ever: FNV-1a of 64 bits. What has the same hash is compared.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What was written is read again.
        #[test]
        fn a_set_comes_back_as_it_was(ids in proptest::collection::btree_set(any::<u32>(), 0..200)) {
            let ids: Vec<_> = ids.into_iter().collect();
            prop_assert_eq!(decode(&encode(&ids)), Some(ids));
        }

        /// Garbage from a disk is refused or is some set, and never a panic.
        #[test]
        fn any_bytes_are_some_set_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(ids) = decode(&bytes) {
                prop_assert!(ids.is_sorted_by(|a, b| a < b));
            }
        }
    }

    /// Ten thousand servers of a large room, known one after the other.
    #[test]
    fn neighbours_take_a_byte_each() {
        let ids: Vec<_> = (5..10_005).collect();
        assert_eq!(encode(&ids).len(), 10_000);
    }
}
