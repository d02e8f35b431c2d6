//! Who is in the last stretch before a time: in order, and when the system is to be asked for a wake-up.
//!
//! # Units
//! Instants of the kernel's clock.

use std::collections::BTreeMap;

use southbridge_words::Instant;

/// Who waits for which time.
#[derive(Debug)]
pub(super) struct Queue<W> {
    waiting: BTreeMap<Place, W>,
    place_next: u64,
    /// When the system will wake us; what it was asked for last.
    set_for: Option<Instant>,
}

/// A place in the queue: until when, and a number that no other place has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(Instant, u64);

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), place_next: 0, set_for: None }
    }
}

impl<W> Queue<W> {
    /// `who` waits until `at`.
    pub(super) fn handle_entered(&mut self, at: Instant, who: W) -> Place {
        let place = Place(at, self.place_next);
        self.place_next += 1;
        self.waiting.insert(place, who);
        place
    }

    /// Whoever has `place` does not wait any more, or has been told.
    pub(super) fn handle_left(&mut self, place: Place) {
        self.waiting.remove(&place);
    }

    /// The system has woken us.
    pub(super) fn handle_rung(&mut self) {
        self.set_for = None;
    }

    /// The next whose time has come. Each is told once.
    pub(super) fn poll(&mut self, now: Instant) -> Option<W> {
        let first = self.waiting.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// What the system is to be asked for now: a wake-up at this time, if it would not wake us before.
    pub(super) fn poll_setting(&mut self) -> Option<Instant> {
        let Place(at, _) = *self.waiting.first_key_value()?.0;
        if self.set_for.is_some_and(|set_for| set_for <= at) {
            return None;
        }
        self.set_for = Some(at);
        Some(at)
    }

    /// Who waits at `place`; nobody once it has been told.
    pub(super) fn at(&mut self, place: Place) -> Option<&mut W> {
        self.waiting.get_mut(&place)
    }
}

#[cfg(test)]
mod tests {
    use std::iter::from_fn;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn at(micros: u64) -> Instant {
        Instant::from_nanos(micros * 1_000)
    }

    /// Three wait. Who came last goes first; those whose time comes together go in the order they came in.
    #[test]
    fn each_is_told_when_its_time_has_come() {
        let mut queue = Queue::default();
        queue.handle_entered(at(2_100), "Bob");
        queue.handle_entered(at(2_100), "Carol");
        queue.handle_entered(at(1_700), "Alice");
        assert_eq!(queue.poll(at(1_699)), None);
        assert_eq!(queue.poll(at(1_700)), Some("Alice"));
        assert_eq!(queue.poll(at(1_700)), None);
        assert_eq!(from_fn(|| queue.poll(at(2_100))).collect::<Vec<_>>(), ["Bob", "Carol"]);
        assert_eq!(queue.poll(Instant::FAR_FUTURE), None);
    }

    /// A call of the system is made for who would be late otherwise, and for nobody else.
    #[test]
    fn the_system_is_asked_only_for_an_earlier_time() {
        let mut queue = Queue::default();
        assert_eq!(queue.poll_setting(), None, "nobody waits");
        let alice = queue.handle_entered(at(1_700), "Alice");
        assert_eq!(queue.poll_setting(), Some(at(1_700)));
        queue.handle_entered(at(1_700), "Bob");
        queue.handle_entered(at(2_100), "Carol");
        assert_eq!(queue.poll_setting(), None, "it is early enough");
        queue.handle_entered(at(400), "Dave");
        assert_eq!(queue.poll_setting(), Some(at(400)));
        queue.handle_left(alice);
        queue.handle_rung();
        assert_eq!(queue.poll(at(400)), Some("Dave"));
        assert_eq!(queue.poll_setting(), Some(at(1_700)), "Bob waits for it still");
        queue.handle_rung();
        assert_eq!(queue.poll(at(1_700)), Some("Bob"));
        assert_eq!(queue.poll_setting(), Some(at(2_100)));
    }

    proptest! {
        /// Whoever comes, leaves, and is told when: with a wake-up at each time that was asked for, nobody is told
        /// early, nobody late, and nobody twice.
        #[test]
        fn nobody_is_early_late_or_told_twice(times in vec((0_u64..3_000, any::<bool>()), 0..40)) {
            let mut queue = Queue::default();
            let mut owed = Vec::new();
            for (number, (micros, leaves)) in times.into_iter().enumerate() {
                let place = queue.handle_entered(at(micros), (at(micros), number));
                match leaves {
                    true => queue.handle_left(place),
                    false => owed.push((at(micros), number)),
                }
            }
            let mut told = Vec::new();
            while let Some(now) = queue.poll_setting() {
                queue.handle_rung();
                for (due, number) in from_fn(|| queue.poll(now)) {
                    prop_assert_eq!(due, now);
                    told.push((due, number));
                }
            }
            owed.sort_unstable();
            prop_assert_eq!(told, owed);
        }
    }
}
