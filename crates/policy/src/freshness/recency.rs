//! Which of many slots was used longest ago.
//!
//! A doubly linked list laid over slot numbers: every operation takes the same short time, and
//! a slot costs eight bytes.

/// Slots in the order of their last use.
#[derive(Clone, Debug, Default)]
pub(super) struct Recency {
    links: Vec<Link>,
    newest: Option<u32>,
    oldest: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    newer: u32,
    older: u32,
}

impl Recency {
    /// The slot that was used longest ago.
    pub(super) fn oldest(&self) -> Option<u32> {
        self.oldest
    }

    /// Takes `slot`, which must not be in the list, in as the one used last.
    pub(super) fn insert(&mut self, slot: u32) {
        let at = slot as usize;
        if at >= self.links.len() {
            self.links.resize(at + 1, APART);
        }
        self.links[at] = Link { newer: NONE, older: self.newest.unwrap_or(NONE) };
        match self.newest {
            Some(newest) => self.links[newest as usize].newer = slot,
            None => self.oldest = Some(slot),
        }
        self.newest = Some(slot);
    }

    /// Takes `slot`, which must be in the list, out of it.
    pub(super) fn remove(&mut self, slot: u32) {
        let Link { newer, older } = std::mem::replace(&mut self.links[slot as usize], APART);
        match newer {
            NONE => self.newest = some(older),
            newer => self.links[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = some(newer),
            older => self.links[older as usize].newer = newer,
        }
    }

    /// Notes that `slot`, which must be in the list, was used.
    pub(super) fn touch(&mut self, slot: u32) {
        if self.newest != Some(slot) {
            self.remove(slot);
            self.insert(slot);
        }
    }
}

fn some(slot: u32) -> Option<u32> {
    (slot != NONE).then_some(slot)
}

const NONE: u32 = u32::MAX;
const APART: Link = Link { newer: NONE, older: NONE };

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn emptied(mut recency: Recency) -> Vec<u32> {
        std::iter::from_fn(|| recency.oldest().inspect(|slot| recency.remove(*slot))).collect()
    }

    #[test]
    fn what_was_touched_leaves_last() {
        let mut recency = Recency::default();
        [0, 1, 2, 3].into_iter().for_each(|slot| recency.insert(slot));
        recency.touch(0);
        recency.touch(2);
        recency.remove(3);
        assert_eq!(emptied(recency), [1, 0, 2]);
    }

    proptest! {
        /// The list behaves like the plain vector that a slower program would keep.
        #[test]
        fn the_list_agrees_with_a_plain_vector(steps in prop::collection::vec((0_u32..8, 0_u8..3), 0..64)) {
            let (mut recency, mut plain) = (Recency::default(), Vec::new());
            for (slot, what) in steps {
                let held = plain.contains(&slot);
                plain.retain(|other| *other != slot);
                match (held, what) {
                    (true, 0) => recency.remove(slot),
                    (true, _) => { recency.touch(slot); plain.push(slot); }
                    (false, _) => { recency.insert(slot); plain.push(slot); }
                }
            }
            prop_assert_eq!(emptied(recency), plain);
        }
    }
}
