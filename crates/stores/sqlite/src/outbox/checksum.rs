//! Checksums of rows.
//!
//! CRC-32 (IEEE) over everything in a row, its key first, so that a row in the wrong place does not pass.

use crc32fast::Hasher;

/// A checksum in the making.
pub(crate) struct Checksum(Hasher);

impl Checksum {
    /// Begins the checksum of a row of `table`.
    pub(crate) fn of(table: &str) -> Self {
        Self(Hasher::new()).bytes(table.as_bytes())
    }

    /// Adds a number.
    pub(crate) fn number(mut self, number: i64) -> Self {
        self.0.update(&number.to_le_bytes());
        self
    }

    /// Adds bytes, and how many they are.
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Ends it.
    pub(crate) fn finish(self) -> i64 {
        i64::from(self.0.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It is written to disks, and must be the same in every version.
    #[test]
    fn a_checksum_is_the_same_for_ever() {
        assert_eq!(Checksum::of("items").number(7).bytes(b"{}").finish(), 0xdc70_7afc);
    }

    /// What is moved from one column to the next is seen.
    #[test]
    fn columns_do_not_run_into_one_another() {
        let of = |a: &[u8], b: &[u8]| Checksum::of("t").bytes(a).bytes(b).finish();
        assert_ne!(of(b"ab", b"c"), of(b"a", b"bc"));
    }
}
