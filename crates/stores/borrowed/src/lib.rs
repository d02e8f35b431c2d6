//! An outbox for a homeserver that keeps the truth itself: nothing is written to a disk.
//!
//! Synapse knows from its own database what each destination has not been sent, and catches up from there. Writing it
//! down a second time would cost a sync for each message and give two truths. So an item is accepted as soon as it is in
//! memory, within bounds; what a destination does not take in time is *given back* by whoever drives the bus
//! ([`southbridge_bus::owed`](../southbridge_bus/owed/index.html)), and what is lost with the process the homeserver finds
//! again.
//!
//! # Units
//! Bytes of items, each counted once however many destinations it is for, with what it takes to hold it.
//!
//! # Source
//! F16 ("a homeserver's own database that is asked for what is missing"), F21 (b); decision 0016.

use std::collections::{BTreeMap, VecDeque};

use rustc_hash::FxHashMap;
use southbridge_words::{
    Append, Appended, Item, Mark, Outbox, OutboxError, Page, Partitions, Recovered, Seq, ServerName, Upkeep,
    WallTime,
};

/// What an outbox of a homeserver that keeps the truth holds: the items that somebody still waits for.
#[derive(Debug)]
pub struct BorrowedOutbox {
    items: BTreeMap<Seq, Kept>,
    lines: FxHashMap<ServerName, VecDeque<Seq>>,
    last: Seq,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Kept {
    item: Item,
    /// Destinations that have not passed it.
    left: usize,
}

impl BorrowedOutbox {
    /// An outbox that holds at most `bytes_max` bytes of items. What is beyond that is refused, and stays with the
    /// homeserver.
    pub fn new(bytes_max: usize) -> Self {
        Self { items: BTreeMap::new(), lines: FxHashMap::default(), last: Seq::START, bytes: 0, bytes_max }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many items are held.
    pub fn items(&self) -> usize {
        self.items.len()
    }

    fn append(&mut self, append: &Append) -> Appended {
        let Append { kind, bytes, destinations, accepted_at, .. } = append;
        self.last = Seq(self.last.0 + 1);
        let seq = self.last;
        self.bytes += held_bytes(append);
        let item = Item { seq, kind: *kind, bytes: bytes.clone(), accepted_at: *accepted_at };
        self.items.insert(seq, Kept { item, left: destinations.len() });
        for destination in destinations.iter() {
            match self.lines.get_mut(destination) {
                Some(line) => line.push_back(seq),
                None => {
                    self.lines.insert(destination.clone(), VecDeque::from([seq]));
                }
            }
        }
        Appended::New(seq)
    }

    /// Lets go of what `destination` has, or will not get from here.
    fn pass(&mut self, destination: &ServerName, upto: Seq) {
        let Some(line) = self.lines.get_mut(destination) else { return };
        let passed = line.partition_point(|seq| *seq <= upto);
        for seq in line.drain(..passed) {
            let Some(kept) = self.items.get_mut(&seq) else { continue };
            kept.left -= 1;
            if kept.left == 0 {
                self.bytes -= kept.item.bytes.len() + OVERHEAD_BYTES;
                self.items.remove(&seq);
            }
        }
        if line.is_empty() {
            self.lines.remove(destination);
        }
    }
}

impl Outbox for BorrowedOutbox {
    /// Nothing: what an earlier process left undone, the homeserver knows.
    fn recover(&mut self) -> Result<Recovered, OutboxError> {
        Ok(Recovered { backlogs: Vec::new(), owned: Partitions::ALL })
    }

    /// Keys mean nothing here: whoever hands in keeps the truth, and knows what it has handed in.
    fn write(&mut self, appends: &[Append], marks: &[Mark]) -> Result<Vec<Appended>, OutboxError> {
        let more: usize = appends.iter().map(held_bytes).sum();
        if more > 0 && self.bytes.saturating_add(more) > self.bytes_max {
            let (held, bytes_max) = (self.bytes, self.bytes_max);
            let reason =
                format!("{held} bytes are under way, and with {more} more it would be over {bytes_max}");
            return Err(OutboxError::Full { reason });
        }
        let appended = appends.iter().map(|append| self.append(append)).collect();
        for mark in marks {
            if let Mark::Delivered { destination, upto } | Mark::Dropped { destination, upto } = mark {
                self.pass(destination, *upto);
            }
        }
        Ok(appended)
    }

    fn read(
        &mut self,
        destination: &ServerName,
        after: Seq,
        items_max: usize,
        bytes_max: usize,
    ) -> Result<Page, OutboxError> {
        let mut page = Page::default();
        let Some(line) = self.lines.get(destination) else { return Ok(page) };
        let mut bytes = 0;
        for seq in line.range(line.partition_point(|seq| *seq <= after)..) {
            let Some(kept) = self.items.get(seq) else { continue };
            bytes += kept.item.bytes.len();
            if page.items.len() == items_max || (bytes > bytes_max && !page.items.is_empty()) {
                page.more = true;
                break;
            }
            page.items.push(kept.item.clone());
        }
        Ok(page)
    }

    /// What takes too long is given back by order, and not from here.
    fn upkeep(&mut self, _now: WallTime) -> Result<Upkeep, OutboxError> {
        Ok(Upkeep::default())
    }
}

fn held_bytes(append: &Append) -> usize {
    append.bytes.len() + OVERHEAD_BYTES
}

// The item without its body, its place in the map, and what the allocator adds.
const OVERHEAD_BYTES: usize = 160;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use southbridge_words::ItemKind;

    use super::*;

    fn name(text: &str) -> ServerName {
        ServerName::parse(text).unwrap()
    }

    fn append(text: &'static str, to: &[&str]) -> Append {
        Append {
            kind: ItemKind::Pdu,
            bytes: Bytes::from_static(text.as_bytes()),
            destinations: to.iter().map(|it| name(it)).collect(),
            accepted_at: WallTime::default(),
            key: None,
        }
    }

    fn delivered(to: &str, upto: u64) -> Mark {
        Mark::Delivered { destination: name(to), upto: Seq(upto) }
    }

    fn bodies(page: &Page) -> Vec<&[u8]> {
        page.items.iter().map(|item| &item.bytes[..]).collect()
    }

    /// One message to two homeservers is held once, for as long as one of them has not taken it.
    #[test]
    fn an_item_is_held_until_the_last_has_it() {
        let mut outbox = BorrowedOutbox::new(10_000);
        let appended = outbox.write(&[append("one", &["a.test", "b.test"])], &[]).unwrap();
        assert_eq!(appended, [Appended::New(Seq(1))]);
        outbox.write(&[], &[delivered("a.test", 1)]).unwrap();
        assert_eq!((outbox.items(), outbox.bytes()), (1, 3 + OVERHEAD_BYTES));
        let dropped = Mark::Dropped { destination: name("b.test"), upto: Seq(1) };
        outbox.write(&[], &[dropped]).unwrap();
        assert_eq!((outbox.items(), outbox.bytes()), (0, 0));
        assert!(outbox.lines.is_empty());
    }

    /// Each destination reads its own, in order, page by page.
    #[test]
    fn a_destination_reads_what_is_for_it() {
        let mut outbox = BorrowedOutbox::new(10_000);
        let to_both = append("one", &["a.test", "b.test"]);
        outbox.write(&[to_both, append("two", &["b.test"]), append("three", &["a.test"])], &[]).unwrap();
        let page = outbox.read(&name("a.test"), Seq::START, 1, 100).unwrap();
        assert_eq!((bodies(&page), page.more), (vec![&b"one"[..]], true));
        let page = outbox.read(&name("a.test"), Seq(1), 9, 1).unwrap();
        assert_eq!((bodies(&page), page.more), (vec![&b"three"[..]], false));
        assert_eq!(outbox.read(&name("c.test"), Seq::START, 9, 9).unwrap(), Page::default());
    }

    /// What there is no room for is refused whole, and room comes back with what is delivered.
    #[test]
    fn beyond_its_bound_nothing_is_accepted() {
        let mut outbox = BorrowedOutbox::new(2 * OVERHEAD_BYTES + 6);
        outbox.write(&[append("one", &["a.test"]), append("two", &["a.test"])], &[]).unwrap();
        let full = outbox.write(&[append("x", &["a.test"])], &[]);
        assert!(matches!(full, Err(OutboxError::Full { .. })));
        assert_eq!(outbox.items(), 2);
        outbox.write(&[], &[delivered("a.test", 1)]).unwrap();
        outbox.write(&[append("x", &["a.test"])], &[]).unwrap();
        assert_eq!(outbox.items(), 2);
    }
}
