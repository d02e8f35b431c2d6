//! The parts that wait for one destination, the earliest first.

use std::sync::Arc;

use southbridge_words::WallTime;

use super::limits::EduLimits;
use super::part::{Part, Typing};
use super::shed::Shed;
use crate::outgoing::EduKind;

/// One part that waits.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) part: Arc<Part>,
    /// What it says of typing to this destination.
    typing: Typing,
}

/// What becomes of a part that meets a later one of the same key.
pub(super) enum Meeting {
    /// Both are void: nobody has seen the start that is taken back.
    Cancelled,
    /// The later one stands in for both.
    Superseded(Slot),
}

impl Slot {
    pub(super) fn new(part: Arc<Part>) -> Self {
        Self { typing: part.typing, part }
    }

    /// The print that it is looked for by.
    fn print(&self) -> u32 {
        print_of(&self.part)
    }

    pub(super) fn meet(&self, mut later: Self) -> Meeting {
        match (self.typing, later.typing) {
            (Typing::FirstStart, Typing::Stop) => Meeting::Cancelled,
            (Typing::FirstStart, Typing::Start) => {
                later.typing = Typing::FirstStart;
                Meeting::Superseded(later)
            }
            _ => Meeting::Superseded(later),
        }
    }
}

/// See the [module](self). Of each key at most one.
#[derive(Debug, Default)]
pub(super) struct Slots {
    list: Vec<Slot>,
    /// A part of each one's hash: a thousand destinations are looked through for one EDU, and these lie close together.
    prints: Vec<u32>,
    bytes: usize,
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds what was said last. Says how many parts it has saved.
    pub(super) fn push(&mut self, slot: Slot) -> u64 {
        let Some(at) = self.find(&slot.part) else {
            self.keep(slot);
            return 0;
        };
        // It keeps its place: who changes a state all the time must not wait for ever.
        match self.list[at].meet(slot) {
            Meeting::Superseded(slot) => {
                self.replace(at, slot);
                1
            }
            Meeting::Cancelled => {
                self.remove(at);
                2
            }
        }
    }

    /// Adds, before all others, what was said earlier than they were. Says how many parts were saved.
    pub(super) fn put_back(&mut self, earlier: Vec<Slot>) -> u64 {
        let mut saved = 0;
        let mut front = Vec::with_capacity(earlier.len() + self.list.len());
        for slot in earlier {
            let Some(at) = self.find(&slot.part) else {
                self.bytes += slot.part.alone_bytes();
                front.push(slot);
                continue;
            };
            saved += 1;
            match slot.meet(self.list[at].clone()) {
                Meeting::Superseded(later) => self.list[at] = later,
                Meeting::Cancelled => {
                    self.remove(at);
                    saved += 1;
                }
            }
        }
        front.append(&mut self.list);
        self.prints = front.iter().map(Slot::print).collect();
        self.list = front;
        saved
    }

    /// Everything, in order; nothing is left.
    pub(super) fn take_all(&mut self) -> Vec<Slot> {
        self.bytes = 0;
        self.prints.clear();
        std::mem::take(&mut self.list)
    }

    /// The earliest.
    pub(super) fn take_first(&mut self) -> Option<Slot> {
        (!self.list.is_empty()).then(|| {
            self.prints.remove(0);
            let slot = self.list.remove(0);
            self.bytes -= slot.part.alone_bytes();
            slot
        })
    }

    /// Adds at the end what is of no key that is there.
    pub(super) fn keep(&mut self, slot: Slot) {
        self.bytes += slot.part.alone_bytes();
        self.prints.push(slot.print());
        self.list.push(slot);
    }

    /// Drops what is stale.
    pub(super) fn expire(&mut self, limits: &EduLimits, wall: WallTime, shed: &mut Shed) {
        self.drop_if(|part| limits.is_stale(part.kind, part.created_at, wall), shed);
    }

    /// Drops what is of `kind`.
    pub(super) fn drop_kind(&mut self, kind: EduKind, shed: &mut Shed) {
        self.drop_if(|part| part.kind == kind, shed);
    }

    /// Drops the oldest, of equally old ones the earliest, until no more than this is left.
    pub(super) fn drop_oldest(&mut self, parts_max: usize, bytes_max: usize, shed: &mut Shed) {
        let mut by_age: Vec<(WallTime, usize)> =
            self.list.iter().enumerate().map(|(at, slot)| (slot.part.created_at, at)).collect();
        by_age.sort_unstable();
        let (mut parts, mut bytes) = (self.list.len(), self.bytes);
        let mut is_dropped = vec![false; parts];
        for (_, at) in by_age {
            if parts <= parts_max && bytes <= bytes_max {
                break;
            }
            parts -= 1;
            bytes -= self.list[at].part.alone_bytes();
            is_dropped[at] = true;
        }
        let mut is_dropped = is_dropped.into_iter();
        self.drop_if(|_| is_dropped.next().unwrap_or(false), shed);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Part> {
        self.list.iter().map(|slot| &*slot.part)
    }

    fn drop_if(&mut self, mut is_dropped: impl FnMut(&Part) -> bool, shed: &mut Shed) {
        let Self { list, prints, bytes } = self;
        let mut kept = 0;
        list.retain(|slot| {
            let is_dropped = is_dropped(&slot.part);
            if is_dropped {
                shed.add(slot.part.kind, 1);
                *bytes -= slot.part.alone_bytes();
            } else {
                prints[kept] = slot.print();
                kept += 1;
            }
            !is_dropped
        });
        prints.truncate(kept);
    }

    fn find(&self, part: &Part) -> Option<usize> {
        part.key.as_ref()?;
        let print = print_of(part);
        let mut from = 0;
        while let Some(found) = position(&self.prints[from..], print) {
            let at = from + found;
            if self.list[at].part.key == part.key {
                return Some(at);
            }
            from = at + 1;
        }
        None
    }

    fn replace(&mut self, at: usize, slot: Slot) {
        self.bytes = self.bytes - self.list[at].part.alone_bytes() + slot.part.alone_bytes();
        self.list[at] = slot;
    }

    fn remove(&mut self, at: usize) {
        self.prints.remove(at);
        let slot = self.list.remove(at);
        self.bytes -= slot.part.alone_bytes();
    }
}

const fn print_of(part: &Part) -> u32 {
    // The upper half: the lower bits of this kind of hash are the weaker ones.
    (part.hash >> 32) as u32
}

/// Where `print` stands first. Whole chunks are compared without a branch, many prints at a time.
fn position(prints: &[u32], print: u32) -> Option<usize> {
    let is_in = |chunk: &[u32]| chunk.iter().fold(false, |found, other| found | (*other == print));
    let before = prints.chunks(CHUNK).position(is_in)? * CHUNK;
    let within = prints[before..].iter().position(|other| *other == print)?;
    Some(before + within)
}

const CHUNK: usize = 32;
