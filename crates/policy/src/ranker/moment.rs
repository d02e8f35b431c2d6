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

/// A [`Moment`] in half the room, for what every host has and half-lives of seconds are measured from.
///
/// # Units
/// Sixteenths of a second since the origin of the clock: four years to either side. What happened between
/// two of them is taken to have happened at the earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RoughMoment(i32);

impl RoughMoment {
    /// How long ago it was, or zero when it is still to come.
    pub(super) fn age(self, now: Instant) -> Duration {
        self.precisely().age(now)
    }

    fn precisely(self) -> Moment {
        Moment(i64::from(self.0) * TICK_NANOS)
    }
}

impl From<Moment> for RoughMoment {
    fn from(moment: Moment) -> Self {
        let ticks = moment.0.div_euclid(TICK_NANOS);
        Self(i32::try_from(ticks).unwrap_or(if ticks < 0 { i32::MIN } else { i32::MAX }))
    }
}

impl From<Instant> for RoughMoment {
    fn from(instant: Instant) -> Self {
        Moment::from(instant).into()
    }
}

const TICK_NANOS: i64 = 1_000_000_000 / 16;

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

    /// Yesterday, now, a millisecond before now, and the end of time.
    #[test]
    fn a_rough_moment_is_never_off_by_more_than_a_sixteenth_of_a_second() {
        let (now, day) = (Instant::ZERO + Duration::from_millis(1999), Duration::from_secs(86_400));
        for age in [day, Duration::ZERO, Duration::from_millis(1)] {
            let rough = RoughMoment::from(Moment::ago(now, age)).age(now);
            assert!(rough >= age && rough - age < Duration::from_millis(63), "{age:?} became {rough:?}");
        }
        let end = RoughMoment::from(Instant::FAR_FUTURE);
        assert!(end > RoughMoment::from(now) && end.age(now) == Duration::ZERO);
    }
}
