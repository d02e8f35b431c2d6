//! Items in memory: one body for all the queues that hold it, and one count of them all.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use southbridge_words::Item;

/// Counts the bytes of the items in memory, each item once however many queues hold it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter(Arc<AtomicUsize>);

impl Meter {
    /// Bytes held just now.
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes `item` into memory, for as long as anybody holds it.
    pub(crate) fn hold(&self, item: Item) -> Held {
        self.0.fetch_add(bytes_of(&item), Ordering::Relaxed);
        Held(Arc::new(Metered { item, meter: self.clone() }))
    }
}

/// An item in memory, shared by all the queues that hold it.
#[derive(Clone, Debug)]
pub(crate) struct Held(Arc<Metered>);

#[derive(Debug)]
struct Metered {
    item: Item,
    meter: Meter,
}

impl Deref for Held {
    type Target = Item;

    fn deref(&self) -> &Item {
        &self.0.item
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.meter.0.fetch_sub(bytes_of(&self.item), Ordering::Relaxed);
    }
}

const fn bytes_of(item: &Item) -> usize {
    item.bytes.len() + OVERHEAD_BYTES
}

// The item without its body, two reference counts, and what the allocator adds.
const OVERHEAD_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use southbridge_words::{ItemKind, Seq, WallTime};

    use super::*;

    /// Ten thousand queues hold the same message: it is counted once, and until the last has let go of it.
    #[test]
    fn a_shared_item_is_counted_once() {
        let meter = Meter::default();
        let bytes = Bytes::from_static(b"{}");
        let item = Item { seq: Seq(1), kind: ItemKind::Pdu, bytes, accepted_at: WallTime::default() };
        let held = meter.hold(item);
        let again = held.clone();
        assert_eq!(meter.bytes(), 2 + OVERHEAD_BYTES);
        drop(held);
        assert_eq!(meter.bytes(), 2 + OVERHEAD_BYTES);
        drop(again);
        assert_eq!(meter.bytes(), 0);
    }
}
