//! What is remembered by name: found in constant time, forgotten in the order of last use.
//!
//! The name is kept once, with what it names; the index beside it holds numbers, at some six bytes each.
//! Names come from the network, so the hash is keyed with a seed and cannot be made to collide from outside.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::ops::{Deref, DerefMut};

use hashbrown::HashTable;

use crate::seeded::SeededState;
use crate::slots::Slots;

/// What has a name of its own.
pub(crate) trait Named {
    /// What it is found by.
    type Name: Eq + Hash;

    /// Its name, which must not change while it is held.
    fn name(&self) -> &Self::Name;
}

/// Things found by their names. It is also the [`Slots`] that they lie in; what is put in or taken out must
/// pass through [`Roster::enrol`] and [`Roster::strike`].
#[derive(Debug)]
pub(crate) struct Roster<T> {
    slots: Slots<T>,
    index: HashTable<u32>,
    hash: SeededState,
}

impl<T: Named> Roster<T> {
    pub(crate) fn new(seed: u64) -> Self {
        Self { slots: Slots::new(), index: HashTable::new(), hash: SeededState::new(seed) }
    }

    /// Where what is called `name` lies.
    pub(crate) fn find<Q>(&self, name: &Q) -> Option<u32>
    where
        T::Name: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let is_it = |at: &u32| self.slots[*at].name().borrow() == name;
        self.index.find(self.hash.hash_one(name), is_it).copied()
    }

    /// Holds `value`, whose name must be new, outside of all rows.
    pub(crate) fn enrol(&mut self, value: T) -> u32 {
        let Self { slots, index, hash } = self;
        let hashed = hash.hash_one(value.name());
        let at = slots.insert(value);
        index.insert_unique(hashed, at, |at| hash.hash_one(slots[*at].name()));
        at
    }

    /// Gives up what lies at `at`, which must be in no row.
    pub(crate) fn strike(&mut self, at: u32) -> T {
        let value = self.slots.remove(at);
        if let Ok(entry) = self.index.find_entry(self.hash.hash_one(value.name()), |other| *other == at) {
            entry.remove();
        }
        value
    }
}

impl<T> Deref for Roster<T> {
    type Target = Slots<T>;

    fn deref(&self) -> &Slots<T> {
        &self.slots
    }
}

impl<T> DerefMut for Roster<T> {
    fn deref_mut(&mut self) -> &mut Slots<T> {
        &mut self.slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Guest {
        name: String,
        number: usize,
    }

    impl Named for Guest {
        type Name = String;

        fn name(&self) -> &String {
            &self.name
        }
    }

    /// A thousand guests come, every third leaves, and the others are found where they sat down.
    #[test]
    fn everybody_is_found_by_name_until_they_leave() {
        let mut roster = Roster::new(7);
        for number in 0..1000 {
            roster.enrol(Guest { name: format!("guest{number}"), number });
        }
        for number in (0..1000).step_by(3) {
            let at = roster.find(&*format!("guest{number}")).expect("came and did not leave");
            assert_eq!(roster.strike(at).number, number);
        }
        for number in 0..1000 {
            let found = roster.find(&*format!("guest{number}")).map(|at| roster[at].number);
            assert_eq!(found, (number % 3 != 0).then_some(number));
        }
        assert_eq!(roster.len(), 666);
    }
}
