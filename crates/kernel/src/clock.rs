//! The kernel's clock: the one place on the I/O thread where the time is looked up.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use southbridge_words::{Instant, WallTime};

/// Tells the time to the machines. Follows tokio's clock, so a paused runtime pauses the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: tokio::time::Instant,
    /// What the wall clock showed at the origin, where it is not the system's.
    wall: Option<WallTime>,
}

impl Clock {
    /// A clock whose origin is now.
    pub fn start() -> Self {
        // A little before now, so that what happened "just before the start" has a time as well.
        let now = tokio::time::Instant::now();
        Self { origin: now.checked_sub(HEAD_START).unwrap_or(now), wall: None }
    }

    /// The same, with a wall clock of its own: it shows `wall` now, and goes on as tokio's clock does.
    pub fn start_at(wall: WallTime) -> Self {
        let head_start = u64::try_from(HEAD_START.as_millis()).unwrap_or_default();
        let at_origin = WallTime::from_unix_millis(wall.unix_millis().saturating_sub(head_start));
        Self { wall: Some(at_origin), ..Self::start() }
    }

    /// The time.
    pub fn now(&self) -> Instant {
        Instant::ZERO + self.origin.elapsed()
    }

    /// The same instant as tokio's timers see it; a far future for what is out of their range.
    pub fn to_tokio(&self, at: Instant) -> tokio::time::Instant {
        let after = at.saturating_since(Instant::ZERO).min(TIMER_MAX);
        self.origin + after
    }

    /// The wall clock.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn wall(&self) -> WallTime {
        if let Some(at_origin) = self.wall {
            let since = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
            return WallTime::from_unix_millis(at_origin.unix_millis().saturating_add(since));
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime::from_unix_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Certificates are looked at with the same eyes as everything else.
impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.wall().unix_millis())))
    }
}

const HEAD_START: Duration = Duration::from_secs(1);
/// Thirty years: tokio's own notion of "far".
const TIMER_MAX: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
