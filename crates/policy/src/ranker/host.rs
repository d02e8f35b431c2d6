//! One host, as the ranker sees it.

use std::time::Duration;

use southbridge_words::{HostState, Instant, Outcome, Step};

use super::estimate::{Estimate, SuccessRate};
use super::limits::RankerLimits;
use super::moment::RoughMoment;
use super::probing::Probing;
use super::streak::{Failure, Streak, Tally};
use super::{Advice, Demand, Down, HostView};
use crate::lane::Lane;
use crate::seeded::Seeded;

/// What is remembered of one host. Its size is what `hosts_max` multiplies, so it is tested.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) state: HostState,
    pub(super) changed: bool,
    last: Option<Step>,
    pub(super) in_flight: u32,
    successes: u32,
    pub(super) estimate: Estimate,
    rate: SuccessRate,
    /// When it last answered, or else was last tried.
    pub(super) seen_at: RoughMoment,
    pub(super) saved_at: Option<RoughMoment>,
    /// Since when requests are on the wire and nothing has been heard; in the far future when that is not so.
    silent_since: Instant,
    /// Absent while all is well, as it is with most hosts.
    pub(super) trouble: Option<Box<Trouble>>,
}

/// What has gone wrong with a host since it last did what was asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble {
    pub(super) streak: Streak,
    pub(super) probing: Probing,
    /// Until when the host asked to be left alone (`Retry-After`).
    pub(super) resting_until: Instant,
}

/// What a decision is made with.
pub(super) struct Scene<'a> {
    pub(super) limits: &'a RankerLimits,
    pub(super) seeded: &'a mut Seeded,
    pub(super) now: Instant,
}

impl Host {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: HostState::Unknown,
            changed: false,
            last: None,
            in_flight: 0,
            successes: 0,
            estimate: Estimate::new(Duration::ZERO, now.into()),
            rate: SuccessRate::new(now),
            seen_at: now.into(),
            saved_at: None,
            silent_since: Instant::FAR_FUTURE,
            trouble: None,
        }
    }

    /// Nothing is known any more but what is under way.
    pub(super) fn forget(&mut self, now: Instant) {
        *self = Self { in_flight: self.in_flight, changed: true, ..Self::new(now) };
    }

    pub(super) fn ask(&mut self, demand: Demand, scene: &mut Scene<'_>) -> Advice {
        self.forget_if_stale(scene);
        if self.state == HostState::Healthy && self.is_silent(scene) {
            self.enter(HostState::Slow);
        }
        let advice = self.advise(demand, scene);
        if !matches!(advice, Advice::Refuse(_)) {
            self.in_flight = self.in_flight.saturating_add(1);
            self.seen_at = scene.now.into();
        }
        advice
    }

    pub(super) fn handle_sent(&mut self, now: Instant) {
        if self.in_flight > 0 {
            self.silent_since = self.silent_since.min(now);
        }
    }

    pub(super) fn handle_outcome(&mut self, outcome: Outcome, scene: &mut Scene<'_>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.in_flight == 0 {
            self.silent_since = Instant::FAR_FUTURE;
        }
        match outcome {
            Outcome::Answered { latency } => self.on_answered(latency, scene),
            Outcome::Unwilling { latency, retry_after } => self.on_unwilling(latency, retry_after, scene),
            // It never left our own house.
            Outcome::Abandoned | Outcome::Failed { step: Step::Admission } => self.on_abandoned(),
            Outcome::Failed { step } => {
                self.last = Some(step);
                self.on_failure(Failure::Unreached, scene);
            }
        }
    }

    pub(super) fn handle_wake(&mut self, scene: &Scene<'_>) {
        self.silent_since = Instant::FAR_FUTURE;
        if let Some(trouble) = &mut self.trouble {
            trouble.resting_until = Instant::ZERO;
            trouble.probing = Probing::default();
            trouble.streak.soften(scene.limits);
        }
        if self.state == HostState::Down {
            self.enter(HostState::Failing);
        }
    }

    pub(super) fn view(&self, now: Instant) -> HostView {
        let down = self.state == HostState::Down;
        let Trouble { streak, probing, .. } = self.trouble();
        HostView {
            state: self.state,
            latency: self.latency(),
            failures: streak.failures(),
            successes: self.successes.into(),
            success_percent: self.rate.percent(),
            failing_for: streak.since().map(|since| since.age(now)),
            retry_in: down.then(|| probing.retry_at().saturating_since(now)),
            in_flight: self.in_flight,
            last: self.last,
            idle_for: self.seen_at.age(now),
        }
    }

    pub(super) fn latency(&self) -> Duration {
        self.estimate.latency()
    }

    /// What has gone wrong with it; nothing, by default.
    pub(super) fn trouble(&self) -> Trouble {
        self.trouble.as_deref().copied().unwrap_or_default()
    }

    fn advise(&mut self, demand: Demand, scene: &Scene<'_>) -> Advice {
        match self.state {
            HostState::Down => self.advise_down(demand, scene),
            HostState::Healthy if self.trouble().resting_until <= scene.now => {
                Advice::Go { lane: Lane::Open }
            }
            _ => Advice::Go { lane: Lane::Limited },
        }
    }

    fn advise_down(&mut self, demand: Demand, scene: &Scene<'_>) -> Advice {
        let (limits, now) = (scene.limits, scene.now);
        let Trouble { streak, probing, resting_until } = self.trouble.get_or_insert_default().as_mut();
        let due_at = probing.due_at(limits).max(*resting_until);
        if due_at <= now {
            probing.handle_started(limits, now);
            return Advice::Probe;
        }
        let failing_for = streak.age(now);
        if demand == Demand::Patient && failing_for < limits.patience {
            return Advice::Go { lane: Lane::Limited };
        }
        let retry_in = due_at.saturating_since(now);
        Advice::Refuse(Down { failures: streak.failures(), failing_for, last: self.last, retry_in })
    }

    fn on_answered(&mut self, latency: Duration, scene: &Scene<'_>) {
        self.on_heard(latency, scene);
        self.rate.handle_good(scene.limits.rate_half_life, scene.now);
        self.successes = self.successes.saturating_add(1);
        self.changed |= self.trouble().streak.failures() > 0 || self.is_unsaved_for_long(scene);
        self.trouble = None;
        let slow_from = match self.state {
            HostState::Slow => scene.limits.slow_below,
            _ => scene.limits.slow_above,
        };
        self.enter(if self.latency() > slow_from { HostState::Slow } else { HostState::Healthy });
    }

    fn on_unwilling(&mut self, latency: Duration, retry_after: Option<Duration>, scene: &mut Scene<'_>) {
        self.on_heard(latency, scene);
        self.last = Some(Step::Response);
        if let Some(retry_after) = retry_after {
            let trouble = self.trouble.get_or_insert_default();
            trouble.resting_until = scene.now + retry_after.min(scene.limits.retry_after_max);
        }
        self.on_failure(Failure::Unwilling, scene);
    }

    fn on_abandoned(&mut self) {
        if let Some(trouble) = &mut self.trouble {
            trouble.streak.handle_abandoned();
            trouble.probing.handle_abandoned();
        }
    }

    fn on_heard(&mut self, latency: Duration, scene: &Scene<'_>) {
        self.silent_since = Instant::FAR_FUTURE;
        self.estimate.observe(latency, scene.limits.latency_half_life, scene.now);
        self.seen_at = scene.now.into();
    }

    fn on_failure(&mut self, failure: Failure, scene: &mut Scene<'_>) {
        let limits = scene.limits;
        self.seen_at = scene.now.into();
        let Trouble { streak, probing, .. } = self.trouble.get_or_insert_default().as_mut();
        let tally = streak.handle_failure(failure, self.in_flight, limits.grace, scene.now);
        if tally == Tally::Counted {
            self.rate.handle_bad(limits.rate_half_life, scene.now);
            self.changed = true;
        }
        let was_down = self.state == HostState::Down;
        if streak.is_down(limits, scene.now) {
            let probed = probing.started_at().is_some() && tally == Tally::Counted;
            if !was_down || probed {
                probing.handle_failed(limits, scene.seeded, scene.now);
            }
            self.enter(HostState::Down);
        } else if was_down || has_lost_its_grace(streak, &self.rate, limits) {
            *probing = Probing::default();
            self.enter(HostState::Failing);
        }
    }

    fn is_silent(&self, scene: &Scene<'_>) -> bool {
        self.silent_since + scene.limits.silence_max <= scene.now
    }

    fn is_unsaved_for_long(&self, scene: &Scene<'_>) -> bool {
        self.saved_at.is_none_or(|saved_at| saved_at.age(scene.now) >= scene.limits.save_every)
    }

    fn forget_if_stale(&mut self, scene: &Scene<'_>) {
        let stale = self.in_flight == 0 && self.seen_at.age(scene.now) >= scene.limits.forget_after;
        if stale && self.state != HostState::Unknown {
            let (changed, successes) = (self.changed, self.successes);
            *self = Self { changed, successes, ..Self::new(scene.now) };
        }
    }

    fn enter(&mut self, state: HostState) {
        self.changed |= self.state != state;
        self.state = state;
    }
}

fn has_lost_its_grace(streak: &Streak, rate: &SuccessRate, limits: &RankerLimits) -> bool {
    let unreliable = rate.percent().is_some_and(|percent| percent < limits.rate_failing_percent);
    unreliable || streak.failures() >= limits.failures_failing
}
