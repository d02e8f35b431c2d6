//! What kind of waiting a request does: its priority class.

use std::fmt;
use std::ops::{Index, IndexMut};

/// The priority class of a request, the most urgent first (F14).
///
/// Classes share what is scarce by weight; none starves. The lowest are shed first (F19).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// A person waits for the answer: profile, directory, keys, device lists, public rooms.
    Interactive,
    /// A person waits to get into or out of a room: make/send join, leave, knock, invite.
    Join,
    /// Live traffic: transactions with fresh PDUs and EDUs.
    Live,
    /// What the homeserver itself waits for to go on: missing events, state, event auth, server keys.
    Repair,
    /// Media a person may be looking at.
    Media,
    /// History: backfill, catch-up, prefetch.
    Backfill,
}

impl Class {
    /// All classes, the most urgent first.
    pub const ALL: [Self; 6] =
        [Self::Interactive, Self::Join, Self::Live, Self::Repair, Self::Media, Self::Backfill];

    /// The name used in metrics, logs and configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Join => "join",
            Self::Live => "live",
            Self::Repair => "repair",
            Self::Media => "media",
            Self::Backfill => "backfill",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One `T` for each class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerClass<T>(pub [T; 6]);

impl<T> Index<Class> for PerClass<T> {
    type Output = T;

    fn index(&self, class: Class) -> &T {
        &self.0[class as usize]
    }
}

impl<T> IndexMut<Class> for PerClass<T> {
    fn index_mut(&mut self, class: Class) -> &mut T {
        &mut self.0[class as usize]
    }
}
