//! What lies on the disk: one line of items for each destination, and how far it has come.

use std::collections::{BTreeMap, VecDeque};
use std::hash::Hasher;
use std::sync::Arc;

use bytes::Bytes;
use rustc_hash::FxHasher;
use southbridge_words::{Append, Appended, Backlog, Item, Mark, OpenTransaction, Seq, ServerName};

#[derive(Debug, Default)]
pub(super) struct Lines {
    items: BTreeMap<Seq, Kept>,
    lines: BTreeMap<ServerName, Line>,
    keys: BTreeMap<Arc<str>, Seq>,
    last: Seq,
}

#[derive(Debug)]
struct Kept {
    item: Item,
    /// Destinations that have not passed it.
    left: usize,
    checksum: u64,
}

#[derive(Debug, Default)]
struct Line {
    delivered: Seq,
    open: Option<OpenTransaction>,
    waiting: VecDeque<Seq>,
}

impl Lines {
    pub(super) fn items(&self) -> usize {
        self.items.len()
    }

    pub(super) fn append(&mut self, append: &Append) -> Appended {
        if let Some(known) = append.key.as_ref().and_then(|key| self.keys.get(key)) {
            return Appended::Known(*known);
        }
        self.last = Seq(self.last.0 + 1);
        let seq = self.last;
        let Append { kind, bytes, destinations, accepted_at, key } = append;
        let item = Item { seq, kind: *kind, bytes: bytes.clone(), accepted_at: *accepted_at };
        let checksum = checksum(seq, bytes);
        self.items.insert(seq, Kept { item, left: destinations.len(), checksum });
        for destination in destinations.iter() {
            self.lines.entry(destination.clone()).or_default().waiting.push_back(seq);
        }
        if let Some(key) = key {
            self.keys.insert(Arc::clone(key), seq);
        }
        Appended::New(seq)
    }

    pub(super) fn mark(&mut self, mark: &Mark) {
        let last = self.last;
        let line = self.lines.entry(mark.destination().clone()).or_default();
        match mark {
            Mark::Begun { transaction, .. } => {
                line.open = (transaction.upto > line.delivered).then(|| transaction.clone());
            }
            Mark::Withdrawn { .. } => line.open = None,
            Mark::Delivered { upto, .. } | Mark::Dropped { upto, .. } => {
                line.open = None;
                // What nobody wrote yet cannot have been delivered.
                line.delivered = line.delivered.max(last.min(*upto));
                let passed = line.waiting.partition_point(|seq| *seq <= line.delivered);
                for seq in line.waiting.drain(..passed) {
                    release(&mut self.items, seq);
                }
            }
        }
    }

    /// What waits for `destination` after `after`, in order.
    pub(super) fn after(&self, destination: &ServerName, after: Seq) -> impl Iterator<Item = &Item> {
        let waiting = self.lines.get(destination).map(|line| &line.waiting);
        let seqs = waiting.into_iter().flatten().filter(move |seq| **seq > after);
        seqs.map(|seq| &self.items.get(seq).expect("an item stays while somebody waits for it").item)
    }

    /// The block that holds the item at `seq`, or, of a disk that errs, the next one, or one with a bit turned over.
    pub(super) fn block(&self, seq: Seq, is_misdirected: bool) -> Option<Bytes> {
        let own = &self.items.get(&seq)?.item.bytes;
        if !is_misdirected {
            return Some(own.clone());
        }
        let next = self.items.range(Seq(seq.0 + 1)..).next().map(|(_, kept)| kept.item.bytes.clone());
        next.or_else(|| {
            let mut turned = own.to_vec();
            *turned.first_mut()? ^= 1;
            Some(turned.into())
        })
    }

    /// Whether `bytes` are what was written for `seq`.
    pub(super) fn is_sound(&self, seq: Seq, bytes: &[u8]) -> bool {
        self.items.get(&seq).is_some_and(|kept| kept.checksum == checksum(seq, bytes))
    }

    pub(super) fn backlogs(&self) -> Vec<Backlog> {
        let lagging = self.lines.iter().filter_map(|(name, line)| Some((name, line, *line.waiting.back()?)));
        lagging
            .map(|(destination, line, last)| Backlog {
                destination: destination.clone(),
                delivered: line.delivered,
                last,
                open: line.open.clone(),
            })
            .collect()
    }
}

/// Over the place as well as the bytes: a good block in the wrong place is no good.
fn checksum(seq: Seq, bytes: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write_u64(seq.0);
    hasher.write(bytes);
    hasher.finish()
}

fn release(items: &mut BTreeMap<Seq, Kept>, seq: Seq) {
    let kept = items.get_mut(&seq).expect("an item stays while somebody waits for it");
    kept.left -= 1;
    if kept.left == 0 {
        items.remove(&seq);
    }
}
