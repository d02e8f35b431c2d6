//! The keys of a homeserver, as they are kept.

use std::sync::Arc;

use crate::{ServerName, WallTime};

/// What is kept of the keys of a homeserver across restarts (F18).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Whose.
    pub server: ServerName,
    /// Its keys. None at all says that it is to be forgotten.
    pub keys: Vec<RecordedKey>,
    /// When this was written down, by the wall clock.
    pub seen_at: WallTime,
}

/// One public key of a homeserver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedKey {
    /// Its name: `ed25519:` and a version.
    pub id: Arc<str>,
    /// Its 32 bytes.
    pub key: [u8; 32],
    /// Whether it signs, or did so once.
    pub standing: KeyStanding,
    /// Until when the server stands by a key that signs; when one that did ceased to.
    pub until: WallTime,
}

/// Whether a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStanding {
    /// It does.
    Signing,
    /// It did, and is good for what it signed then.
    Old,
}
