//! The time, both ways.

use southbridge_words::{Instant, WallTime};

/// The time, both ways: deadlines run on `now`, which never jumps; ages and timestamps are on `wall`, which
/// may be set forward and back (faults row 21).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// The monotonic clock.
    pub now: Instant,
    /// The wall clock.
    pub wall: WallTime,
}
