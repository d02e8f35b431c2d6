//! The smallest thing that has a state of its own.

use std::hash::{Hash, Hasher};

use bytes::Bytes;
use rustc_hash::FxHasher;
use southbridge_words::WallTime;

use crate::outgoing::EduKind;

/// What a part is about: of two parts with one key, only the later counts. Names are JSON strings, quotes and all,
/// as they are written.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    Typing { room: Box<str>, user: Box<str> },
    Presence { user: Box<str> },
    Receipt { room: Box<str>, receipt_type: Box<str>, user: Box<str>, thread: Option<Box<str>> },
}

/// What a part says of typing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Typing {
    /// It is about something else.
    None,
    /// The user types, and no receiver has heard of that lately.
    FirstStart,
    /// The user types, or still does.
    Start,
    /// The user has stopped.
    Stop,
}

/// One part; all destinations share it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) kind: EduKind,
    /// None when its EDU was of a shape that we do not know.
    pub(super) key: Option<Key>,
    /// Of the key.
    pub(super) hash: u64,
    /// Of the key without the thread: an EDU has room for one receipt there.
    pub(super) place: u64,
    pub(super) typing: Typing,
    pub(super) created_at: WallTime,
    /// An EDU that holds it alone, where that is how it came.
    pub(super) alone: Option<Bytes>,
    /// What stands in a merged EDU; empty for what is never merged.
    pub(super) raw: Bytes,
}

impl Part {
    /// How many bytes it adds to an EDU that it is merged into, at most.
    pub(super) fn merged_bytes(&self) -> usize {
        match &self.key {
            Some(Key::Receipt { room, receipt_type, user, .. }) => {
                room.len() + receipt_type.len() + user.len() + self.raw.len() + RECEIPT_PUNCTUATION
            }
            _ => self.raw.len() + 1,
        }
    }

    /// How many bytes an EDU has that holds it and nothing else, at most.
    pub(super) fn alone_bytes(&self) -> usize {
        let came_as = self.alone.as_ref().map_or(0, Bytes::len);
        if self.raw.is_empty() { came_as } else { came_as.max(self.merged_bytes() + FRAME_BYTES) }
    }
}

/// Hashes a key. Who makes keys collide gains nothing: they are compared in full.
pub(super) fn hash_of(key: &impl Hash) -> u64 {
    let mut hasher = FxHasher::default();
    key.hash(&mut hasher);
    hasher.finish()
}

// Colons, braces and commas of a room, a type and a user.
const RECEIPT_PUNCTUATION: usize = 8;
/// The frame of an EDU that others are merged into; [`super::compose`] writes it.
pub(super) const FRAME_BYTES: usize = 52;
