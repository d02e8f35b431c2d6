//! The items of all sets of one destination, in one order.
//!
//! A host that was away for a week comes back to fifty thousand items in a thousand sets. Finding the next
//! item of each set is what costs, so it is remembered from one page to the next.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};

use rusqlite::Connection;

use super::items;
use super::live::LiveSets;
use super::trouble::{Done, Trouble};

/// Where one destination's reading stands.
#[derive(Debug, Default)]
pub(super) struct Merge {
    /// Everything up to here was taken.
    after: u64,
    /// The next item of each set, the first on top.
    next: BinaryHeap<Reverse<(u64, u32)>>,
}

impl Merge {
    /// Begins after `after`.
    pub(super) fn new(after: u64) -> Self {
        Self { after, next: BinaryHeap::new() }
    }

    /// Takes up the sets that are not read yet, or were read to their end and have more now.
    pub(super) fn take_up(&mut self, connection: &Connection, live: &LiveSets, destination: u32) -> Done<()> {
        let held: BTreeSet<u32> = self.next.iter().map(|Reverse((_, set))| *set).collect();
        for (set, found) in live.concerning(destination, self.after).filter(|(set, _)| !held.contains(set)) {
            self.push_next(connection, set, self.after, found.last)?;
        }
        Ok(())
    }

    /// The next item and its set.
    pub(super) fn peek(&self) -> Option<(u64, u32)> {
        self.next.peek().map(|Reverse(next)| *next)
    }

    /// Goes past it.
    pub(super) fn advance(&mut self, connection: &Connection, live: &LiveSets) -> Done<()> {
        let Some(Reverse((seq, set))) = self.next.pop() else { return Ok(()) };
        self.after = seq;
        self.push_next(connection, set, seq, live.last(set).unwrap_or(0))
    }

    /// Finds the item of `set` after `after`, which there must be up to `last`.
    fn push_next(&mut self, connection: &Connection, set: u32, after: u64, last: u64) -> Done<()> {
        match items::next(connection, set, after)? {
            Some(seq) => self.next.push(Reverse((seq, set))),
            None if last > after => {
                return Err(Trouble::damaged(format!("item s{last}"), "the index does not name it"));
            }
            None => {}
        }
        Ok(())
    }
}

/// The merges of those who read lately.
#[derive(Debug, Default)]
pub(super) struct Merges {
    /// The latest last.
    held: VecDeque<(u32, Merge)>,
}

impl Merges {
    /// The merge of `destination` after `after`: the one that stopped there, or a new one.
    pub(super) fn take(&mut self, destination: u32, after: u64) -> Merge {
        let at = self.held.iter().position(|(id, _)| *id == destination);
        let held = at.and_then(|at| self.held.remove(at)).map(|(_, merge)| merge);
        held.filter(|merge| merge.after == after).unwrap_or_else(|| Merge::new(after))
    }

    /// Keeps it for the next page.
    pub(super) fn keep(&mut self, destination: u32, merge: Merge) {
        if merge.next.is_empty() {
            return;
        }
        self.held.push_back((destination, merge));
        let sets: usize = self.held.iter().map(|(_, merge)| merge.next.len()).sum();
        if self.held.len() > MERGES_MAX || sets > SETS_MAX {
            self.held.pop_front();
        }
    }
}

// Catch-up is paced, so few read at a time; 16 bytes a set.
const MERGES_MAX: usize = 128;
const SETS_MAX: usize = 200_000;
