//! What is known of delegations: the cache of .well-known outcomes, by host.
//!
//! A good delegation stands in for days while its host fails: a captive portal, an error page or an
//! outage at the web server says nothing about where the Matrix server is. A clean 404 says something,
//! and is believed when it has been repeated for days.

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

impl WellKnownTrouble {
    /// Whether the host works, and says that there is no such document.
    pub fn is_clean_absence(&self) -> bool {
        matches!(self, Self::Status(404 | 410))
    }
}

/// A delegation that was good when it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remembered {
    /// To whom.
    pub(super) server: ServerName,
    /// Since when its host has been saying that there is none.
    absent_since: Option<Instant>,
}

/// What came of asking for, or fetching, a delegation.
pub(super) type Told = Result<Known<Remembered>, Failing<WellKnownTrouble>>;

/// The delegations of hosts; journeys, by their number, wait for them.
#[derive(Debug)]
pub(super) struct Delegations {
    limits: ResolverLimits,
    seeded: Seeded,
    cache: StepCache<Arc<str>, Remembered, WellKnownTrouble, usize>,
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
    ) -> Asked<Remembered, WellKnownTrouble, usize> {
        self.cache.ask(host, journey, now)
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
    ) -> Option<Settled<Remembered, WellKnownTrouble, usize>> {
        if let WellKnownResult::Failed(WellKnownFailure::Overloaded) = result {
            let trouble = WellKnownFailure::Overloaded.into();
            return self.cache.handle_abandoned(host, trouble, now);
        }
        let fetched = match read(result) {
            Ok((Delegation { server }, wish)) => {
                let granted = wish.granted(&self.limits, &mut self.seeded);
                Ok(Fetched::Present(Remembered { server, absent_since: None }, granted))
            }
            Err(trouble) => {
                if trouble.is_clean_absence() {
                    self.on_clean_absence(host, now);
                }
                Err(trouble)
            }
        };
        self.cache.handle_fetched(host, fetched, now)
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

    /// The host says that there is no delegation. The first time that may be a mistake of its operator; after
    /// days it is meant.
    fn on_clean_absence(&mut self, host: &Arc<str>, now: Instant) {
        let Some(remembered) = self.cache.value_mut(host) else { return };
        let since = *remembered.absent_since.get_or_insert(now);
        if now.saturating_since(since) >= self.limits.well_known_absent_max {
            self.cache.forget_value(host);
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
