//! Queues that take turns: one for each class in each of some groups.

use southbridge_words::Class;

use super::fair::{Strides, Turns};
use super::list::{Key, List, Lists};

/// The queues of `GROUPS` groups.
#[derive(Debug)]
pub(super) struct Rings<T, const GROUPS: usize> {
    entries: Lists<T>,
    queues: [[List; Class::ALL.len()]; GROUPS],
    turns: Turns<GROUPS>,
    strides: Strides<GROUPS>,
}

impl<T: Copy, const GROUPS: usize> Rings<T, GROUPS> {
    pub(super) fn new(strides: Strides<GROUPS>) -> Self {
        let queues = [[List::EMPTY; Class::ALL.len()]; GROUPS];
        Self { entries: Lists::new(), queues, turns: Turns::new(), strides }
    }

    pub(super) fn push_back(&mut self, group: usize, class: Class, value: T) -> Key {
        self.entries.push_back(&mut self.queues[group][class as usize], value)
    }

    pub(super) fn remove(&mut self, group: usize, class: Class, key: Key) -> T {
        self.entries.remove(&mut self.queues[group][class as usize], key)
    }

    /// Moves who stands at `key` to the back of another queue.
    pub(super) fn transfer(&mut self, from: (usize, Class), to: (usize, Class), key: Key) {
        let number = |(group, class): (usize, Class)| group * Class::ALL.len() + class as usize;
        let queues = self.queues.as_flattened_mut();
        if let Ok([from, to]) = queues.get_disjoint_mut([number(from), number(to)]) {
            self.entries.transfer(from, to, key);
        }
    }

    /// How many stand in the queues of `group`.
    pub(super) fn len(&self, group: usize) -> u32 {
        self.queues[group].iter().map(List::len).sum()
    }

    /// Whether nobody stands in any queue.
    pub(super) fn are_empty(&self) -> bool {
        self.entries.are_empty()
    }

    /// Whether nobody stands in the queues of `group`.
    pub(super) fn is_empty(&self, group: usize) -> bool {
        self.queues[group].iter().all(List::is_empty)
    }

    /// Whose turn it is among the groups that are `open`: its group, its class, its place and itself.
    pub(super) fn next(&mut self, open: [bool; GROUPS]) -> Option<(usize, Class, Key, T)> {
        let queues = &self.queues;
        let ready = |group: usize, class| open[group] && !queues[group][class as usize].is_empty();
        let (group, class) = self.turns.next(&self.strides, ready)?;
        let key = queues[group][class as usize].first()?;
        Some((group, class, key, *self.entries.get(key)))
    }
}
