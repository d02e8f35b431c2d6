//! What of a host outlives the process.
//!
//! The wall clock may be set in either direction between saving and restoring, so nothing read from a
//! record is trusted further than the ranker's own bounds: a back-off never outlasts `backoff_max`,
//! and somebody's request may be the probe within `probe_every_max` whatever the record says.

use std::time::Duration;

use southbridge_words::{HostRecord, HostState, Instant, ServiceName, WallTime};

use super::estimate::Estimate;
use super::host::{Host, Scene, Trouble};
use super::limits::RankerLimits;
use super::moment::Moment;
use super::probing::Probing;
use super::streak::Streak;

impl Host {
    /// What the store is to remember.
    pub(super) fn to_record(&self, host: &ServiceName, now: Instant, wall: WallTime) -> HostRecord {
        let back = |age: Duration| {
            let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            WallTime::from_unix_millis(wall.unix_millis().saturating_sub(age))
        };
        let Trouble { streak, probing, .. } = self.trouble();
        let retry_in = probing.retry_at().saturating_since(now);
        HostRecord {
            host: host.clone(),
            state: self.state,
            latency: self.latency(),
            failures: streak.failures(),
            failing_since: streak.since().map(|since| back(since.age(now))),
            retry_at: (self.state == HostState::Down).then(|| wall + retry_in),
            seen_at: back(self.seen_at.age(now)),
        }
    }

    /// What the store remembered; none when it is too old to mean anything.
    pub(super) fn from_record(record: &HostRecord, scene: &mut Scene<'_>, wall: WallTime) -> Option<Self> {
        let now = scene.now;
        let age = wall.saturating_since(record.seen_at);
        if record.state == HostState::Unknown || age >= scene.limits.forget_after {
            return None;
        }
        let seen_at = Moment::ago(now, age).into();
        let mut host = Self::new(now);
        host.state = record.state;
        host.seen_at = seen_at;
        host.saved_at = Some(seen_at);
        host.estimate = Estimate::new(record.latency, seen_at);
        let mut trouble = Trouble { streak: streak(record, scene.limits, now, wall), ..Trouble::default() };
        if record.state == HostState::Down {
            let retry_at = record.retry_at.unwrap_or(record.seen_at);
            let left = retry_at.saturating_since(wall);
            let backoff = retry_at.saturating_since(record.seen_at);
            trouble.probing = Probing::remembered(backoff, left, scene.limits, scene.seeded, now);
        }
        host.trouble = (trouble.streak != Streak::default()).then(|| Box::new(trouble));
        Some(host)
    }
}

fn streak(record: &HostRecord, limits: &RankerLimits, now: Instant, wall: WallTime) -> Streak {
    let unreached = match record.state {
        // Sure of it, whatever the clock says about the grace.
        HostState::Down => record.failures.max(limits.failures_sure),
        _ => record.failures.min(limits.failures_down - 1),
    };
    let since = match record.state {
        HostState::Down | HostState::Failing => Some(record.failing_since.unwrap_or(record.seen_at)),
        _ => record.failing_since,
    };
    let since = since.map(|since| Moment::ago(now, wall.saturating_since(since)));
    Streak::remembered(record.failures, since, unreached)
}
