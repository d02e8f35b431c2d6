//! What is to be spread over many destinations, and waits for that.
//!
//! One EDU to ten thousand destinations is ten thousand pushes, and a busy homeserver makes hundreds a second. Those
//! for which there is no time yet wait here, each once: a later one of its key and for the same destinations stands in
//! for it, or takes it back, before anybody has been burdened with either. Whatever may be superseded may also wait.
//!
//! # Order
//! First come, first spread. A part takes an earlier one's place only if that was the last of its key, is for the same
//! destinations, and has reached none of them: so every destination sees the states of a key in the order in which they
//! were said, those that count at least.
//!
//! # Source
//! F8, F19; issue 3, "Storm".

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use southbridge_policy::seeded::{SeededMap, SeededState};
use southbridge_words::ServerName;

use super::limits::EduLimits;
use super::reader::VolatileEdu;
use super::shed::Shed;
use super::slots::{Meeting, Slot};
use super::waiting::Pushed;
use crate::outgoing::EduKind;

/// EDUs that wait to be spread over their destinations, and collapse while they do.
#[derive(Debug)]
pub struct Broadcast {
    /// In the order in which they are spread; none where one was taken back.
    entries: VecDeque<Option<Entry>>,
    /// The number of the first of them.
    first: u64,
    parts: usize,
    bytes: usize,
    /// The last entry of each key, by the hash of that. Of two keys with one hash only the later is found, and the other
    /// is collapsed where it is spread to.
    last: FxHashMap<u64, u64>,
    /// Sets of destinations, each once, and how many entries are for it.
    sets: SeededMap<Arc<[ServerName]>, usize>,
    /// The set that was looked up last, as it was handed in, and as it is kept.
    latest: Option<[Arc<[ServerName]>; 2]>,
}

#[derive(Debug)]
struct Entry {
    slot: Slot,
    destinations: Arc<[ServerName]>,
    /// How many of them have it.
    reached: usize,
}

/// A part, and whom it is to be pushed to now.
#[derive(Clone, Debug)]
pub struct Spread {
    /// The part, as an EDU.
    pub edu: VolatileEdu,
    all: Arc<[ServerName]>,
    range: Range<usize>,
}

impl Spread {
    /// To whom.
    pub fn destinations(&self) -> &[ServerName] {
        &self.all[self.range.clone()]
    }
}

impl Broadcast {
    /// Nothing waits. `seed` keys the hash of sets of destinations.
    pub fn new(seed: u64) -> Self {
        Self {
            entries: VecDeque::new(),
            first: 0,
            parts: 0,
            bytes: 0,
            last: FxHashMap::default(),
            sets: SeededMap::with_hasher(SeededState::new(seed)),
            latest: None,
        }
    }

    /// Whether nothing waits.
    pub const fn is_empty(&self) -> bool {
        self.parts == 0
    }

    /// How many parts wait.
    pub const fn parts(&self) -> usize {
        self.parts
    }

    /// How many parts wait, counted for each destination that lacks them.
    pub fn lacking(&self) -> usize {
        self.entries.iter().flatten().map(|entry| entry.destinations.len() - entry.reached).sum()
    }

    /// About how many bytes wait, the lists of destinations included.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// `edu` is to be spread over `destinations`. What is dropped is counted for each of them.
    pub fn push(
        &mut self,
        edu: &VolatileEdu,
        destinations: &Arc<[ServerName]>,
        limits: &EduLimits,
    ) -> Pushed {
        let mut pushed = Pushed { collapsed: 0, shed: edu.left_out.times(destinations.len() as u64) };
        for slot in &*edu.slots {
            pushed.collapsed += self.push_slot(slot.clone(), destinations);
        }
        self.bound(limits, &mut pushed.shed);
        pushed
    }

    /// The next part, and at most `destinations_max` of those that lack it; none when nothing waits.
    pub fn next(&mut self, destinations_max: usize) -> Option<Spread> {
        loop {
            match self.entries.front_mut()? {
                None => {
                    self.entries.pop_front();
                    self.first += 1;
                }
                Some(entry) => {
                    let (all, from) = (Arc::clone(&entry.destinations), entry.reached);
                    entry.reached = all.len().min(from + destinations_max.max(1));
                    let (edu, range) = (VolatileEdu::of(entry.slot.clone()), from..entry.reached);
                    if entry.reached == all.len() {
                        self.take(self.first);
                    }
                    return Some(Spread { edu, all, range });
                }
            }
        }
    }

    /// Says how many parts were saved.
    fn push_slot(&mut self, slot: Slot, destinations: &Arc<[ServerName]>) -> u64 {
        let set = self.intern(destinations);
        let hash = slot.part.hash;
        if let Some(number) = self.earlier(&slot, &set) {
            let entry = self.entry_mut(number).expect("it was found there");
            return match entry.slot.meet(slot) {
                Meeting::Superseded(slot) => {
                    let before = entry.slot.part.alone_bytes();
                    let after = slot.part.alone_bytes();
                    entry.slot = slot;
                    self.bytes = self.bytes - before + after;
                    1
                }
                Meeting::Cancelled => {
                    self.take(number);
                    2
                }
            };
        }
        if slot.part.key.is_some() {
            self.last.insert(hash, self.first + self.entries.len() as u64);
        }
        self.parts += 1;
        self.bytes += slot.part.alone_bytes();
        let users = self.sets.entry(Arc::clone(&set)).or_default();
        if *users == 0 {
            self.bytes += set_bytes(&set);
        }
        *users += 1;
        self.entries.push_back(Some(Entry { slot, destinations: set, reached: 0 }));
        0
    }

    /// The entry that `slot` can stand in for.
    fn earlier(&mut self, slot: &Slot, set: &Arc<[ServerName]>) -> Option<u64> {
        slot.part.key.as_ref()?;
        let number = *self.last.get(&slot.part.hash)?;
        let entry = self.entry_mut(number)?;
        let is_it = entry.reached == 0
            && entry.slot.part.key == slot.part.key
            && Arc::ptr_eq(&entry.destinations, set);
        is_it.then_some(number)
    }

    fn entry_mut(&mut self, number: u64) -> Option<&mut Entry> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.entries.get_mut(at)?.as_mut()
    }

    /// Takes an entry out. Its place is cleared when its turn comes.
    fn take(&mut self, number: u64) -> Option<Entry> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let entry = self.entries.get_mut(at)?.take()?;
        self.parts -= 1;
        self.bytes -= entry.slot.part.alone_bytes();
        let users = self.sets.get_mut(&entry.destinations).expect("its set is kept while it is there");
        *users -= 1;
        if *users == 0 {
            self.sets.remove(&entry.destinations);
            self.bytes -= set_bytes(&entry.destinations);
        }
        if self.last.get(&entry.slot.part.hash) == Some(&number) {
            self.last.remove(&entry.slot.part.hash);
        }
        if self.parts == 0 {
            self.first += self.entries.len() as u64;
            self.entries = VecDeque::new();
            self.latest = None;
        }
        Some(entry)
    }

    /// The one list that all equal ones share.
    fn intern(&mut self, destinations: &Arc<[ServerName]>) -> Arc<[ServerName]> {
        if let Some([handed_in, kept]) = &self.latest
            && Arc::ptr_eq(handed_in, destinations)
        {
            return Arc::clone(kept);
        }
        let kept = self.sets.get_key_value(&destinations[..]).map_or(destinations, |(kept, _)| kept);
        let kept = Arc::clone(kept);
        self.latest = Some([Arc::clone(destinations), Arc::clone(&kept)]);
        kept
    }

    /// Drops what there is no room for: presence, then the oldest. An eighth more than need be, so that the next one
    /// does not start it all again.
    fn bound(&mut self, limits: &EduLimits, shed: &mut Shed) {
        let is_within = |held: usize, most: usize| held <= most;
        if is_within(self.parts, limits.broadcast_parts_max)
            && is_within(self.bytes, limits.broadcast_bytes_max)
        {
            return;
        }
        let parts_max = limits.broadcast_parts_max / 8 * 7;
        let bytes_max = limits.broadcast_bytes_max / 8 * 7;
        for only_presence in [true, false] {
            let end = self.first + self.entries.len() as u64;
            for number in self.first..end {
                if is_within(self.parts, parts_max) && is_within(self.bytes, bytes_max) {
                    return;
                }
                let entry = self.entry_mut(number);
                if entry.is_some_and(|entry| !only_presence || entry.slot.part.kind == EduKind::Presence)
                    && let Some(entry) = self.take(number)
                {
                    let left = entry.destinations.len() - entry.reached;
                    shed.add(entry.slot.part.kind, left as u64);
                }
            }
        }
    }
}

/// About how much a list takes: a name of some thirty bytes, and what it is held by.
fn set_bytes(destinations: &Arc<[ServerName]>) -> usize {
    destinations.len() * 64
}
