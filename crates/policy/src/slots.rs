//! Many small things under numbers, and rows of them in the order of their last use.
//!
//! A vector that doubles moves all it holds, for a moment takes up half as much again, leaves a hole where
//! it was, and is half empty afterwards. Here room grows by one block of [`BLOCK`] slots at a time and
//! nothing ever moves, so thousands of hosts that are merely remembered cost what they are and no more.
//! A slot taken out is the next one given out.
//!
//! # Units
//! Slots are numbered from zero. A slot costs its value and eight bytes.

use std::ops::{Index, IndexMut};

/// Values `T` under numbers that are theirs until they are taken out.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    /// All full but the last one.
    blocks: Vec<Vec<Slot<T>>>,
    /// The slot left last; the others follow by their `older`.
    vacant: u32,
    len: u32,
}

#[derive(Debug)]
struct Slot<T> {
    held: Option<T>,
    older: u32,
    newer: u32,
}

/// Some of the slots, in the order of their last use. A slot stands in at most one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    oldest: u32,
    newest: u32,
}

impl<T> Slots<T> {
    pub(crate) const fn new() -> Self {
        Self { blocks: Vec::new(), vacant: NOWHERE, len: 0 }
    }

    /// How many are held.
    pub(crate) const fn len(&self) -> usize {
        self.len as usize
    }

    /// Holds `value`, outside of all rows, under the number that is returned.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        let at = self.vacant;
        if at == NOWHERE {
            return self.extend(value);
        }
        let slot = self.slot_mut(at);
        slot.held = Some(value);
        self.vacant = std::mem::replace(&mut slot.older, NOWHERE);
        at
    }

    /// Gives up slot `at`, which must be held, and be in no row.
    pub(crate) fn remove(&mut self, at: u32) -> T {
        let vacant = self.vacant;
        let slot = self.slot_mut(at);
        let value = slot.held.take().expect("a slot is given up once");
        slot.older = vacant;
        self.vacant = at;
        self.len -= 1;
        value
    }

    /// What is held at `at`, if anything is.
    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        self.blocks.get(at as usize / BLOCK)?.get(at as usize % BLOCK)?.held.as_ref()
    }

    /// What is held, with its number, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let slots = (0_u32..).zip(self.blocks.iter().flatten());
        slots.filter_map(|(at, slot)| Some((at, slot.held.as_ref()?)))
    }

    /// Puts slot `at`, which must be in no row, at the newest end of `row`.
    pub(crate) fn append(&mut self, row: &mut Row, at: u32) {
        let older = std::mem::replace(&mut row.newest, at);
        let slot = self.slot_mut(at);
        (slot.older, slot.newer) = (older, NOWHERE);
        match older {
            NOWHERE => row.oldest = at,
            older => self.slot_mut(older).newer = at,
        }
    }

    /// Takes slot `at` out of `row`, in which it must be.
    pub(crate) fn leave(&mut self, row: &mut Row, at: u32) {
        let slot = self.slot_mut(at);
        let older = std::mem::replace(&mut slot.older, NOWHERE);
        let newer = std::mem::replace(&mut slot.newer, NOWHERE);
        match older {
            NOWHERE => row.oldest = newer,
            older => self.slot_mut(older).newer = newer,
        }
        match newer {
            NOWHERE => row.newest = older,
            newer => self.slot_mut(newer).older = older,
        }
    }

    /// Moves slot `at` to the newest end of `row`, in which it must be.
    pub(crate) fn renew(&mut self, row: &mut Row, at: u32) {
        if row.newest != at {
            self.leave(row, at);
            self.append(row, at);
        }
    }

    /// A slot that nobody has had yet.
    fn extend(&mut self, value: T) -> u32 {
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        let before = (self.blocks.len() - 1) * BLOCK;
        let block = self.blocks.last_mut().expect("one was just made");
        let at = u32::try_from(before + block.len()).expect("whoever holds slots has a bound far below");
        block.push(Slot { held: Some(value), older: NOWHERE, newer: NOWHERE });
        at
    }

    fn slot_mut(&mut self, at: u32) -> &mut Slot<T> {
        &mut self.blocks[at as usize / BLOCK][at as usize % BLOCK]
    }
}

impl<T> Index<u32> for Slots<T> {
    type Output = T;

    fn index(&self, at: u32) -> &T {
        self.get(at).expect("a number is kept no longer than its slot")
    }
}

impl<T> IndexMut<u32> for Slots<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        self.slot_mut(at).held.as_mut().expect("a number is kept no longer than its slot")
    }
}

impl Row {
    /// A row without slots.
    pub(crate) const EMPTY: Self = Self { oldest: NOWHERE, newest: NOWHERE };

    /// The slot that was used longest ago.
    pub(crate) fn oldest(&self) -> Option<u32> {
        (self.oldest != NOWHERE).then_some(self.oldest)
    }
}

const NOWHERE: u32 = u32::MAX;
// Some five KiB of hosts: little to have in vain, and few enough allocations.
const BLOCK: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn emptied<T>(slots: &mut Slots<T>, mut row: Row) -> Vec<u32> {
        std::iter::from_fn(|| row.oldest().inspect(|at| slots.leave(&mut row, *at))).collect()
    }

    #[test]
    fn what_was_renewed_leaves_last() {
        let (mut slots, mut row) = (Slots::new(), Row::EMPTY);
        for name in ["a", "b", "c", "d"] {
            let at = slots.insert(name);
            slots.append(&mut row, at);
        }
        slots.renew(&mut row, 0);
        slots.renew(&mut row, 2);
        slots.leave(&mut row, 3);
        assert_eq!(slots.remove(3), "d");
        assert_eq!(emptied(&mut slots, row), [1, 0, 2]);
    }

    /// A thousand come and go: the room for one is made once.
    #[test]
    fn a_slot_taken_out_is_given_out_again() {
        let mut slots = Slots::new();
        (0..=BLOCK).for_each(|number| assert_eq!(slots.insert(number) as usize, number));
        for round in 0..1000 {
            assert_eq!(slots.remove(5), 5 + round);
            assert_eq!(slots.insert(6 + round), 5);
        }
        assert_eq!((slots.len(), slots.blocks.len()), (BLOCK + 1, 2));
    }

    proptest! {
        /// Slots and row behave like the plain vectors that a slower program would keep.
        #[test]
        fn slots_agree_with_plain_vectors(steps in prop::collection::vec((0_usize..200, 0_u8..4), 0..400)) {
            let (mut slots, mut row, mut plain) = (Slots::new(), Row::EMPTY, Vec::new());
            for (number, (which, what)) in steps.into_iter().enumerate() {
                match (what, plain.is_empty()) {
                    (0, false) => {
                        let (at, value) = plain.remove(which % plain.len());
                        slots.leave(&mut row, at);
                        prop_assert_eq!(slots.remove(at), value);
                    }
                    (1, false) => {
                        let held = plain.remove(which % plain.len());
                        slots.renew(&mut row, held.0);
                        plain.push(held);
                    }
                    _ => {
                        let at = slots.insert(number);
                        slots.append(&mut row, at);
                        plain.push((at, number));
                    }
                }
                prop_assert_eq!(slots.len(), plain.len());
            }
            for (at, value) in &plain {
                prop_assert_eq!(slots[*at], *value);
            }
            prop_assert_eq!(slots.iter().count(), plain.len());
            let order: Vec<u32> = plain.iter().map(|(at, _)| *at).collect();
            prop_assert_eq!(emptied(&mut slots, row), order);
        }
    }
}
