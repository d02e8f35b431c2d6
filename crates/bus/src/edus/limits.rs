//! The bounds of what is volatile.

use std::time::Duration;

use southbridge_words::WallTime;

use crate::outgoing::EduKind;

/// How much that is volatile waits, how long, and how it goes out. Counts are parts: one user's typing in one room,
/// one user's presence, one receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EduLimits {
    /// Parts that wait for one destination; beyond that the oldest are dropped. Default 500: a transaction or
    /// two, and quick to look through.
    pub parts_max: usize,
    /// Bytes that wait for one destination, as if each part were sent alone; destinations share most of them.
    /// Default 256 KiB.
    pub bytes_max: usize,
    /// The largest part. A larger one is dropped at once: it would not fit where hosts insist on small
    /// transactions. Default 16 KiB; a receipt has 200 bytes.
    pub part_bytes_max: usize,
    /// Parts that wait to be spread over their destinations; beyond that presence is dropped, then the oldest. Default
    /// 20,000: what a large homeserver says in some seconds, collapsed.
    pub broadcast_parts_max: usize,
    /// Bytes of those parts, and of the lists of their destinations. Default 32 MiB.
    pub broadcast_bytes_max: usize,
    /// How long typing is worth sending. Default 60 s: after that the receiver has forgotten it by itself.
    pub typing_age_max: Duration,
    /// How long presence is worth sending. Default 30 min: homeservers repeat it about that often, and
    /// its `last_active_ago` has been wrong by this much.
    pub presence_age_max: Duration,
    /// How long a receipt is worth sending. Default 1 day: it stays true, but by then the user has read on.
    pub receipt_age_max: Duration,
    /// Users in one presence EDU. Default 50, what large homeservers send themselves.
    pub presence_users_max: usize,
    /// Receipts in one receipt EDU. Default 100.
    pub receipts_max: usize,
    /// How long after a start of typing its receivers may still show it: a stop within that time is
    /// always sent. Default 10 min: its own minute in the queue, retries of its transaction, and a minute there.
    pub typing_memory: Duration,
    /// Starts of typing remembered, for all destinations together. Default 10 000, 24 bytes each.
    pub typing_memories_max: usize,
}

impl Default for EduLimits {
    fn default() -> Self {
        Self {
            parts_max: 500,
            bytes_max: 256 * 1024,
            part_bytes_max: 16 * 1024,
            broadcast_parts_max: 20_000,
            broadcast_bytes_max: 32 * 1024 * 1024,
            typing_age_max: MINUTE,
            presence_age_max: MINUTE.saturating_mul(30),
            receipt_age_max: MINUTE.saturating_mul(24 * 60),
            presence_users_max: 50,
            receipts_max: 100,
            typing_memory: MINUTE.saturating_mul(10),
            typing_memories_max: 10_000,
        }
    }
}

impl EduLimits {
    /// Whether what was created at `created_at` is not worth sending any more.
    pub(super) fn is_stale(&self, kind: EduKind, created_at: WallTime, wall: WallTime) -> bool {
        let age_max = match kind {
            EduKind::Typing => self.typing_age_max,
            EduKind::Presence => self.presence_age_max,
            _ => self.receipt_age_max,
        };
        wall.saturating_since(created_at) > age_max
    }
}

const MINUTE: Duration = Duration::from_secs(60);
