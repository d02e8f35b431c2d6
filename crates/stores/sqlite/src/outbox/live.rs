//! Sets with items that somebody still lacks, and how far everybody has come.
//!
//! # Units
//! Positions are those of items; zero is before the first.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::sets::Set;

/// A set with items.
#[derive(Clone, Debug)]
pub(super) struct Live {
    /// Those that may lack some of them; who has passed the last is left out in time.
    pub(super) members: Arc<[u32]>,
    /// The first item there may be.
    pub(super) first: u64,
    /// The last item.
    pub(super) last: u64,
    /// Who was the furthest behind when it was looked last, and at which position.
    blocker: Option<(u32, u64)>,
    /// How often it need not be looked while the blocker stands where it stood.
    patience: u8,
    waited: u8,
}

/// Who lags how far behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Nothing can have changed.
    Unchanged,
    /// Everybody has everything up to here.
    At(u64),
}

impl Live {
    pub(super) fn new(members: Arc<[u32]>, first: u64, last: u64) -> Self {
        Self { members, first, last, blocker: None, patience: 0, waited: 0 }
    }

    pub(super) fn concerns(&self, destination: u32) -> bool {
        self.members.binary_search(&destination).is_ok()
    }

    /// Looks how far everybody is. Cheap while the last one has not moved.
    pub(super) fn cut(&mut self, cursors: &Cursors) -> Cut {
        if let Some((blocker, at)) = self.blocker {
            if cursors.of(blocker) == at && self.waited < self.patience {
                self.waited += 1;
                return Cut::Unchanged;
            }
            // Now and then all are looked at, to leave out who has caught up.
            self.patience = (self.patience * 2).clamp(1, PATIENCE_MAX);
        }
        self.waited = 0;
        let lagging: Vec<_> =
            self.members.iter().copied().filter(|member| cursors.of(*member) < self.last).collect();
        self.blocker = lagging.iter().map(|member| (*member, cursors.of(*member))).min_by_key(|(_, at)| *at);
        if lagging.len() * 2 <= self.members.len() {
            self.members = lagging.into();
        }
        Cut::At(self.blocker.map_or(self.last, |(_, at)| at))
    }

    /// More is to be done than was done.
    pub(super) fn look_again(&mut self) {
        self.blocker = None;
    }

    /// An item was added, which all of `set` lack.
    fn add(&mut self, set: &Set, seq: u64) {
        self.members = Arc::clone(&set.members);
        self.last = seq;
        self.patience = 0;
    }
}

/// The sets with items, by number.
#[derive(Debug, Default)]
pub(super) struct LiveSets(pub(super) BTreeMap<u32, Live>);

impl LiveSets {
    /// The last item for `set`, if it has any.
    pub(super) fn last(&self, set: u32) -> Option<u64> {
        self.0.get(&set).map(|live| live.last)
    }

    /// The sets that have something for `destination` after `after`.
    pub(super) fn concerning(&self, destination: u32, after: u64) -> impl Iterator<Item = (u32, &Live)> {
        let sets = self.0.iter().map(|(id, live)| (*id, live));
        sets.filter(move |(_, live)| live.last > after && live.concerns(destination))
    }

    pub(super) fn add(&mut self, set: &Set, seq: u64) {
        let new = || Live::new(Arc::clone(&set.members), seq, seq);
        self.0.entry(set.id).or_insert_with(new).add(set, seq);
    }

    /// The first item that any set may have.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.0.values().map(|live| live.first).min()
    }
}

/// How far each destination has come.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    at: FxHashMap<u32, u64>,
    /// What they were before the transaction under way.
    before: Vec<(u32, Option<u64>)>,
}

impl Cursors {
    pub(super) fn of(&self, destination: u32) -> u64 {
        self.at.get(&destination).copied().unwrap_or(0)
    }

    pub(super) fn len(&self) -> usize {
        self.at.len()
    }

    /// Moves it, until [`Cursors::keep`] or [`Cursors::undo`].
    pub(super) fn set(&mut self, destination: u32, at: u64) {
        self.before.push((destination, self.at.insert(destination, at)));
    }

    /// Forgets it, as long as nothing is before it that could be delivered again.
    pub(super) fn forget(&mut self, destination: u32) {
        self.before.push((destination, self.at.remove(&destination)));
    }

    /// Those that stand before `position`, at most `count` of them.
    pub(super) fn before(&self, position: u64, count: usize) -> Vec<u32> {
        self.at.iter().filter(|(_, at)| **at < position).map(|(id, _)| *id).take(count).collect()
    }

    /// The transaction is durable.
    pub(super) fn keep(&mut self) {
        self.before.clear();
    }

    /// The transaction came to nothing.
    pub(super) fn undo(&mut self) {
        for (destination, at) in self.before.drain(..).rev() {
            match at {
                Some(at) => self.at.insert(destination, at),
                None => self.at.remove(&destination),
            };
        }
    }
}

// With an upkeep a second, who has caught up is left out within a minute.
const PATIENCE_MAX: u8 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn cursors(at: &[(u32, u64)]) -> Cursors {
        let mut cursors = Cursors::default();
        at.iter().for_each(|(id, at)| cursors.set(*id, *at));
        cursors
    }

    /// Two of three have everything; the third is the one to watch, and the only one to remember.
    #[test]
    fn who_has_everything_is_left_out() {
        let mut live = Live::new([1, 2, 3].into(), 5, 9);
        let mut at = cursors(&[(1, 9), (2, 6), (3, 12)]);
        assert_eq!(live.cut(&at), Cut::At(6));
        assert_eq!(*live.members, [2]);
        at.set(2, 9);
        assert_eq!(live.cut(&at), Cut::At(9));
    }

    /// A dead server blocks ten thousand sets: looking at them must cost nothing.
    #[test]
    fn a_set_is_not_looked_through_while_its_last_member_stands_still() {
        let mut live = Live::new([1, 2, 3].into(), 5, 9);
        let at = cursors(&[(1, 9)]);
        let looked = (0..1000).filter(|_| live.cut(&at) != Cut::Unchanged).count();
        assert!((2..30).contains(&looked), "{looked}");
    }

    /// Who was left out lacks the next item as everybody does.
    #[test]
    fn an_item_is_for_all_of_its_set_again() {
        let mut sets = LiveSets::default();
        let set = Set { id: 4, members: [1, 2, 3].into() };
        sets.add(&set, 5);
        let mut at = cursors(&[(1, 5), (2, 5)]);
        sets.0.get_mut(&4).unwrap().cut(&at);
        sets.add(&set, 6);
        assert_eq!(sets.concerning(1, 5).count(), 1);
        at.set(3, 6);
        assert_eq!(sets.0.get_mut(&4).unwrap().cut(&at), Cut::At(5));
    }

    /// A write that came to nothing moved nobody.
    #[test]
    fn a_move_can_be_undone() {
        let mut at = cursors(&[(1, 5)]);
        at.keep();
        at.set(1, 7);
        at.set(2, 7);
        at.set(1, 8);
        at.undo();
        assert_eq!((at.of(1), at.of(2), at.len()), (5, 0, 1));
    }
}
