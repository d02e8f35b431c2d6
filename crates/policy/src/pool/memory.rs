//! What protocol each peer spoke last, also after its last connection is gone.
//!
//! It is a hint of fixed size: a number that meets another in its place takes it over, and a peer that
//! is not remembered costs one round trip more when it is met with many requests at once.

use southbridge_words::PeerId;

use super::peer::Spoken;

/// The hints.
#[derive(Debug)]
pub(super) struct Memory {
    places: Vec<Option<(PeerId, Spoken)>>,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self { places: Vec::new() }
    }

    pub(super) fn recall(&self, peer: PeerId) -> Option<Spoken> {
        let place = self.places.get(place(peer)).copied().flatten();
        place.filter(|(whose, _)| *whose == peer).map(|(_, spoken)| spoken)
    }

    pub(super) fn remember(&mut self, peer: PeerId, spoken: Spoken) {
        let place = place(peer);
        if self.places.len() <= place {
            self.places.resize(place + 1, None);
        }
        self.places[place] = Some((peer, spoken));
    }

    pub(super) fn forget(&mut self, peer: PeerId) {
        if let Some(place) = self.places.get_mut(place(peer)) {
            place.take_if(|(whose, _)| *whose == peer);
        }
    }
}

const fn place(peer: PeerId) -> usize {
    peer.0 as usize % PLACES
}

// 64 KiB when full: more peers than a busy homeserver talks to in an hour.
const PLACES: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    /// Two peers meet in one place: the later one is remembered, and neither is taken for the other.
    #[test]
    fn a_hint_is_never_given_for_another_peer() {
        let mut memory = Memory::new();
        let (first, second) = (PeerId(1), PeerId(1 + PLACES as u32));
        memory.remember(first, Spoken::Shared);
        assert_eq!((memory.recall(first), memory.recall(second)), (Some(Spoken::Shared), None));
        memory.remember(second, Spoken::Exclusive);
        assert_eq!((memory.recall(first), memory.recall(second)), (None, Some(Spoken::Exclusive)));
        memory.forget(first);
        assert_eq!(memory.recall(second), Some(Spoken::Exclusive));
        memory.forget(second);
        assert_eq!(memory.recall(second), None);
    }
}
