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
