//! Who was said to be typing lately.

use std::time::Duration;

use rustc_hash::FxHashMap;
use southbridge_words::Instant;

use super::limits::EduLimits;

/// Remembers starts of typing for as long as some receiver may show them, for all destinations together: a queue
/// that is empty does not exist, and so cannot remember what it has sent.
///
/// What it does not know it takes for shown. The keys are hashes: two that are equal cost a needless stop.
#[derive(Debug)]
pub(super) struct TypingMemory {
    starts: FxHashMap<u64, Instant>,
    /// Before this, a start may have been sent that is not in `starts`.
    blind_until: Option<Instant>,
}

impl TypingMemory {
    /// Knows nothing of what an earlier process has sent.
    pub(super) fn new() -> Self {
        Self { starts: FxHashMap::default(), blind_until: None }
    }

    /// A start of `key` is about to be queued. Says whether no receiver can have heard of it.
    pub(super) fn note_start(&mut self, key: u64, limits: &EduLimits, now: Instant) -> bool {
        let memory = limits.typing_memory;
        let blind_until = *self.blind_until.get_or_insert(now + memory);
        self.make_room(limits, now);
        let last = self.starts.insert(key, now);
        now > blind_until && last.is_none_or(|last| !is_recent(last, memory, now))
    }

    fn make_room(&mut self, limits: &EduLimits, now: Instant) {
        if self.starts.len() < limits.typing_memories_max {
            return;
        }
        self.starts.retain(|_, last| is_recent(*last, limits.typing_memory, now));
        // Half of it must be free afterwards, or each call would look through all of it.
        if self.starts.len() > limits.typing_memories_max / 2 {
            self.starts.clear();
            self.blind_until = Some(now + limits.typing_memory);
        }
    }
}

fn is_recent(last: Instant, memory: Duration, now: Instant) -> bool {
    now.saturating_since(last) <= memory
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    /// After a restart the peers may still show what the last process said.
    #[test]
    fn nothing_is_first_until_the_past_is_over() {
        let limits = EduLimits::default();
        let mut memory = TypingMemory::new();
        assert!(!memory.note_start(1, &limits, at(0)));
        assert!(!memory.note_start(2, &limits, at(600)));
        assert!(memory.note_start(3, &limits, at(601)));
        assert!(!memory.note_start(3, &limits, at(700)));
        assert!(memory.note_start(3, &limits, at(1301)));
    }

    /// Ten thousand users type at once: it forgets, and knows that it has.
    #[test]
    fn what_is_forgotten_is_taken_for_shown() {
        let limits = EduLimits { typing_memories_max: 100, ..EduLimits::default() };
        let mut memory = TypingMemory::new();
        memory.note_start(0, &limits, at(0));
        for key in 1..1000 {
            memory.note_start(key, &limits, at(1000));
            assert!(memory.starts.len() <= 100);
        }
        assert!(!memory.note_start(5000, &limits, at(1500)));
        assert!(memory.note_start(5001, &limits, at(2101)));
    }
}
