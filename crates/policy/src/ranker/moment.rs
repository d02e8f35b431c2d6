//! Points in time that may lie before the clock's origin.

use std::time::Duration;

use southbridge_words::Instant;

/// A point in the past. Unlike an [`Instant`] it can lie before the process began, as what the store
/// remembers does.
///
/// # Units
/// Nanoseconds since the origin of the clock, negative before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(i64);

impl Moment {
    pub(super) fn ago(now: Instant, age: Duration) -> Self {
        let age = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
        Self(Self::from(now).0.saturating_sub(age))
    }

    /// How long ago it was, or zero when it is still to come.
    pub(super) fn age(self, now: Instant) -> Duration {
        let nanos = Self::from(now).0.saturating_sub(self.0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    }
}

impl From<Instant> for Moment {
    fn from(instant: Instant) -> Self {
        Self(i64::try_from(instant.as_nanos()).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_can_lie_before_the_clock_began() {
        let hour = Duration::from_secs(3600);
        let moment = Moment::ago(Instant::ZERO, hour);
        assert_eq!(moment.age(Instant::ZERO + hour), hour * 2);
        assert_eq!(Moment::from(Instant::ZERO + hour).age(Instant::ZERO), Duration::ZERO);
        assert!(Moment::ago(Instant::ZERO, Duration::MAX).age(Instant::FAR_FUTURE) > hour);
    }
}
