//! How much of what waits goes into the next transaction.

use southbridge_words::{Item, ItemKind};

use super::body::FRAME_BYTES;
use super::{EDUS_MAX, PDUS_MAX};

/// How much a transaction may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionLimits {
    /// PDUs; at most [`PDUS_MAX`].
    pub pdus_max: usize,
    /// EDUs; at most [`EDUS_MAX`].
    pub edus_max: usize,
    /// Durable items of both kinds.
    pub items_max: usize,
    /// Bytes of the body. A single item that is larger goes alone: it cannot be cut.
    pub bytes_max: usize,
}

/// The durable items that go into one transaction: the first `items` of those that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    /// How many items.
    pub items: usize,
    /// How many of them are PDUs.
    pub pdus: usize,
    /// How many of them are EDUs.
    pub edus: usize,
    /// How many bytes the body has with them, and without any more EDUs.
    pub bytes: usize,
}

impl Prefix {
    /// The longest prefix of `items` that keeps the `limits`; never none while there is an item.
    ///
    /// It ends before the first item that does not fit, whatever follows: items are never overtaken (F7).
    pub fn of<'a>(items: impl IntoIterator<Item = &'a Item>, limits: &TransactionLimits) -> Self {
        let mut prefix = Self { bytes: FRAME_BYTES, ..Self::default() };
        for item in items {
            let longer = prefix.with(item);
            let fits = longer.pdus <= limits.pdus_max.min(PDUS_MAX)
                && longer.edus <= limits.edus_max.min(EDUS_MAX)
                && longer.items <= limits.items_max
                && longer.bytes <= limits.bytes_max;
            if !fits && prefix.items > 0 {
                break;
            }
            prefix = longer;
            if !fits {
                break;
            }
        }
        prefix
    }

    /// The same, of a destination that has more waiting, ended where a block of positions ends. `items` are those that it
    /// is a prefix of.
    ///
    /// Destinations that are behind by different lengths so come to send the same transactions, and share their bytes.
    /// Only what is full of PDUs is shortened, and by half at most.
    #[must_use]
    pub fn to_end_of_block<'a>(
        self,
        items: impl Iterator<Item = &'a Item> + Clone,
        limits: &TransactionLimits,
    ) -> Self {
        if self.pdus < PDUS_MAX || limits.items_max < PDUS_MAX {
            return self;
        }
        let seqs = items.clone().take(self.items + 1).map(|item| item.seq.0);
        let mut blocks: Vec<u64> = seqs.clone().map(block).collect();
        if blocks.len() == self.items {
            // What comes next is not known, but that it stands behind the last.
            blocks.extend(seqs.last().map(|last| block(last + 1)));
        }
        let is_end = |count: &usize| blocks[count - 1] != blocks[*count];
        match (self.items.div_ceil(2)..=self.items).rev().find(is_end) {
            Some(count) => items.take(count).fold(Self { bytes: FRAME_BYTES, ..Self::default() }, Self::with),
            None => self,
        }
    }

    /// How many volatile EDUs may still go along, and in how many bytes.
    pub fn room(&self, limits: &TransactionLimits) -> (usize, usize) {
        let edus = limits.edus_max.min(EDUS_MAX).saturating_sub(self.edus);
        (edus, limits.bytes_max.saturating_sub(self.bytes))
    }

    fn with(self, item: &Item) -> Self {
        let is_pdu = item.kind == ItemKind::Pdu;
        Self {
            items: self.items + 1,
            pdus: self.pdus + usize::from(is_pdu),
            edus: self.edus + usize::from(!is_pdu),
            bytes: self.bytes + item.bytes.len() + 1,
        }
    }
}

/// The block that a position stands in: as many as a transaction has PDUs. The first position is 1.
const fn block(seq: u64) -> u64 {
    seq.saturating_sub(1) / PDUS_MAX as u64
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use southbridge_words::{Seq, WallTime};

    use super::*;

    const LIMITS: TransactionLimits = TransactionLimits {
        pdus_max: PDUS_MAX,
        edus_max: EDUS_MAX,
        items_max: usize::MAX,
        bytes_max: 10_000,
    };

    fn item(seq: u64, kind: ItemKind, bytes: usize) -> Item {
        let bytes = Bytes::from(format!("\"{}\"", "x".repeat(bytes.saturating_sub(2))));
        Item { seq: Seq(seq), kind, bytes, accepted_at: WallTime::from_unix_millis(seq) }
    }

    /// Sixty PDUs wait, and to-device messages behind them: fifty go, and nothing overtakes the other ten.
    #[test]
    fn the_fifty_first_pdu_ends_a_transaction() {
        let mut items: Vec<Item> = (0..60).map(|n| item(n, ItemKind::Pdu, 10)).collect();
        items.extend((60..70).map(|n| item(n, ItemKind::Edu, 10)));
        let prefix = Prefix::of(&items, &LIMITS);
        assert_eq!((prefix.items, prefix.pdus, prefix.edus), (50, 50, 0));
        assert_eq!(prefix.room(&LIMITS), (100, 10_000 - FRAME_BYTES - 50 * 11));
    }

    /// An item that is larger than a transaction should be cannot be cut, so it goes, and alone.
    #[test]
    fn an_item_that_is_too_large_goes_alone() {
        let items = [item(1, ItemKind::Edu, 20_000), item(2, ItemKind::Pdu, 10)];
        assert_eq!(Prefix::of(&items, &LIMITS).items, 1);
        assert_eq!(Prefix::of(&items[1..], &LIMITS).items, 1);
        assert_eq!(Prefix::of(&[], &LIMITS).items, 0);
        let reversed = [items[1].clone(), items[0].clone()];
        assert_eq!(Prefix::of(&reversed, &LIMITS).items, 1);
    }

    /// Two destinations are behind by different lengths: after their next transaction both send the same.
    #[test]
    fn who_is_behind_ends_where_others_end() {
        let from =
            |first: u64| -> Vec<Item> { (first..first + 60).map(|n| item(n, ItemKind::Pdu, 10)).collect() };
        let ended = |items: &[Item]| Prefix::of(items, &LIMITS).to_end_of_block(items.iter(), &LIMITS);
        let last = |items: &[Item]| items[ended(items).items - 1].seq.0;
        assert_eq!((last(&from(113)), last(&from(120)), last(&from(101))), (150, 150, 150));
        assert_eq!(ended(&from(113)), Prefix::of(&from(113)[..38], &LIMITS));
        assert_eq!(ended(&from(131)).items, 50, "it would be less than half");
        let page = &from(101)[..50];
        assert_eq!(ended(page).items, 50);
        let few = &from(120)[..40];
        assert_eq!(ended(few).items, 40);
        let searching = TransactionLimits { items_max: 8, ..LIMITS };
        let items = from(145);
        assert_eq!(Prefix::of(&items, &searching).to_end_of_block(items.iter(), &searching).items, 8);
    }

    proptest! {
        /// Whatever waits: the limits are kept by all but a single item, and one more would not have fitted.
        #[test]
        fn a_prefix_is_the_longest_that_fits(
            sizes in prop::collection::vec((any::<bool>(), 2_usize..3000), 0..200),
            edus_max in 1_usize..120,
            items_max in 1_usize..80,
        ) {
            let kind = |is_pdu| if is_pdu { ItemKind::Pdu } else { ItemKind::Edu };
            let items: Vec<Item> =
                sizes.iter().zip(1..).map(|(&(is_pdu, size), seq)| item(seq, kind(is_pdu), size)).collect();
            let limits = TransactionLimits { edus_max, items_max, ..LIMITS };
            let prefix = Prefix::of(&items, &limits);
            let fits = |prefix: Prefix| {
                prefix.pdus <= PDUS_MAX
                    && prefix.edus <= edus_max.min(EDUS_MAX)
                    && prefix.items <= items_max
                    && prefix.bytes <= limits.bytes_max
            };
            prop_assert!(prefix.items > 0 || items.is_empty());
            prop_assert!(fits(prefix) || prefix.items == 1);
            if let Some(next) = items.get(prefix.items) {
                prop_assert!(!fits(prefix.with(next)));
            }
        }
    }
}
