//! What is known of delegations: the cache of .well-known outcomes, by host.
//!
//! A good delegation stands in for days while its host fails: a captive portal, an error page or an
//! outage at the web server says nothing about where the Matrix server is. A clean 404 says something:
//! of a host that delegated yesterday it is believed when it has been repeated for days, of one that is
//! not known to delegate at once, for as long as the specification lets errors be remembered.

use std::sync::Arc;

use southbridge_policy::freshness::{Asked, Failing, Fetched, FreshnessCounters, Known, Settled, StepCache};
use southbridge_policy::seeded::Seeded;
use southbridge_words::{Instant, ServerName};

use super::{
    Delegation, Lifetime, ResolverLimits, WellKnownAnswer, WellKnownError, WellKnownFailure, WellKnownResult,
    lifetime, parse_body,
};

/// Why a host delegates to nobody, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WellKnownTrouble {
    /// It answered with another status than 200.
    #[error("status {0}")]
    Status(u16),
    /// It answered with something that is no delegation.
    #[error("{0}")]
    Body(#[from] WellKnownError),
    /// It did not answer.
    #[error("{0}")]
    Fetch(#[from] WellKnownFailure),
}

/// What a host has said.
#[derive(Clone, Debug)]
enum Said {
    /// To whom it delegates.
    Delegates(ServerName),
    /// It did delegate, and has been saying otherwise. Boxed, because hardly any does.
    Doubted(Box<Doubted>),
    /// It delegates to nobody, and said so with this status.
    Nothing(u16),
}

/// A delegation that was good when it was seen.
#[derive(Clone, Debug)]
struct Doubted {
    server: ServerName,
    /// Since when its host has been saying that there is none.
    absent_since: Instant,
}

/// What came of asking for, or fetching, a delegation: to whom.
pub(super) type Told = Result<Known<ServerName>, Failing<WellKnownTrouble>>;

/// The delegations of hosts; journeys, by their number, wait for them.
#[derive(Debug)]
pub(super) struct Delegations {
    limits: ResolverLimits,
    seeded: Seeded,
    cache: StepCache<Arc<str>, Said, WellKnownTrouble, usize>,
}

impl Delegations {
    pub(super) fn new(limits: ResolverLimits, seed: u64) -> Self {
        let cache = StepCache::new(limits.well_known(), seed);
        Self { cache, limits, seeded: Seeded::new(!seed) }
    }

    /// Asks for the delegation of `host` (in lower case) on behalf of `journey`.
    pub(super) fn ask(
        &mut self,
        host: &Arc<str>,
        journey: usize,
        now: Instant,
    ) -> Asked<ServerName, WellKnownTrouble, usize> {
        match self.cache.ask(host, journey, now) {
            Asked::Known(known) => match told(known) {
                Ok(known) => Asked::Known(known),
                Err(failing) => Asked::Failed(failing),
            },
            Asked::Failed(failing) => Asked::Failed(failing),
            Asked::Waiting => Asked::Waiting,
            Asked::Full(journey) => Asked::Full(journey),
        }
    }

    /// The next host to fetch from.
    pub(super) fn poll(&mut self) -> Option<Arc<str>> {
        self.cache.poll()
    }

    /// A fetch has ended.
    pub(super) fn handle_fetched(
        &mut self,
        host: &Arc<str>,
        result: WellKnownResult,
        now: Instant,
    ) -> Option<Settled<ServerName, WellKnownTrouble, usize>> {
        let Settled { waiters, answer } = self.settle(host, result, now)?;
        Some(Settled { waiters, answer: answer.and_then(told) })
    }

    /// Has the delegation of `host` fetched anew when it is next asked for.
    pub(super) fn expire(&mut self, host: &Arc<str>, now: Instant) {
        self.cache.expire(host, now);
    }

    pub(super) fn counters(&self) -> FreshnessCounters {
        self.cache.counters()
    }

    pub(super) fn len(&self) -> usize {
        self.cache.len()
    }

    fn settle(
        &mut self,
        host: &Arc<str>,
        result: WellKnownResult,
        now: Instant,
    ) -> Option<Settled<Said, WellKnownTrouble, usize>> {
        if let WellKnownResult::Failed(WellKnownFailure::Overloaded) = result {
            let trouble = WellKnownFailure::Overloaded.into();
            return self.cache.handle_abandoned(host, trouble, now);
        }
        let fetched = match read(result) {
            Ok((Delegation { server }, wish)) => {
                let granted = wish.granted(&self.limits, &mut self.seeded);
                Ok(Fetched::Present(Said::Delegates(server), granted))
            }
            Err(WellKnownTrouble::Status(status @ (404 | 410))) if self.is_believed_absent(host, now) => {
                let believed = self.limits.well_known_none_max.mul_f64(self.seeded.factor(0.8, 1.0));
                Ok(Fetched::Absent(Said::Nothing(status), believed))
            }
            Err(trouble) => Err(trouble),
        };
        self.cache.handle_fetched(host, fetched, now)
    }

    /// The host says that there is no delegation. Where there was one, that may be a mistake of its operator the
    /// first time; after days it is meant.
    fn is_believed_absent(&mut self, host: &Arc<str>, now: Instant) -> bool {
        let Some(said) = self.cache.value_mut(host) else { return true };
        match said {
            Said::Delegates(server) => {
                *said = Said::Doubted(Box::new(Doubted { server: server.clone(), absent_since: now }));
                self.limits.well_known_absent_max.is_zero()
            }
            Said::Doubted(doubted) => {
                now.saturating_since(doubted.absent_since) >= self.limits.well_known_absent_max
            }
            Said::Nothing(_) => true,
        }
    }
}

fn told(Known { value, fresh_until, stale }: Known<Said>) -> Told {
    match value {
        Said::Delegates(value) => Ok(Known { value, fresh_until, stale }),
        Said::Doubted(doubted) => Ok(Known { value: doubted.server, fresh_until, stale }),
        Said::Nothing(status) => {
            Err(Failing { error: WellKnownTrouble::Status(status), retry_at: fresh_until })
        }
    }
}

fn read(result: WellKnownResult) -> Result<(Delegation, Lifetime), WellKnownTrouble> {
    match result {
        WellKnownResult::Failed(failure) => Err(failure.into()),
        WellKnownResult::Answered(WellKnownAnswer { status: 200, caching, body, received_at }) => {
            Ok((parse_body(&body)?, lifetime(&caching, received_at)))
        }
        WellKnownResult::Answered(answer) => Err(WellKnownTrouble::Status(answer.status)),
    }
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use super::*;

    /// `well_knowns_max` multiplies it. Whoever lets it grow has changed what a host costs, and should say so where
    /// the book gives the figure.
    #[test]
    fn what_a_host_said_costs_three_words() {
        assert_eq!(size_of::<Option<Said>>(), 24);
    }
}
