//! The resolver itself: who waits for which name, and which lookups are under way.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use slab::Slab;
use southbridge_policy::freshness::{Asked, Failing, Fetched, FreshnessCounters, Settled, StepCache};
use southbridge_words::{Answer, Instant, LookupFailure, ServerName, SrvRecord, Ticket};

use super::composition::Composition;
use super::delegations::{Delegations, Told};
use super::journey::{Errand, Journey, Next};
use super::{
    Action, Explanation, LookupId, ResolveError, ResolvedFederationAddress, ResolverLimits, WellKnownFailure,
    WellKnownResult,
};

/// The Federation Resolver. See the [module](super) for the rules it follows.
///
/// Tell it facts with `handle_*`, drain [`poll`](Self::poll) after each, and come back at
/// [`poll_timeout`](Self::poll_timeout). Every ticket handed in is answered by exactly one
/// `Resolved`, `Failed` or `Explained`, or was cancelled.
#[derive(Debug)]
pub struct Resolver {
    limits: ResolverLimits,
    composed: StepCache<ServerName, Composition, ResolveError, Ticket>,
    delegations: Delegations,
    journeys: Slab<Journey>,
    // Tickets and ids are our own numbers, so a plain hash will do.
    tickets: FxHashMap<Ticket, Waits>,
    lookups: FxHashMap<LookupId, Lookup>,
    next_lookup: u64,
    fetch_deadlines: VecDeque<(Instant, LookupId)>,
    lookup_deadlines: VecDeque<(Instant, LookupId)>,
    explanations: u32,
    actions: VecDeque<Action>,
}

/// What a ticket waits for.
#[derive(Debug)]
enum Waits {
    Name(ServerName),
    Explanation(usize),
}

/// What an answer is for.
#[derive(Debug)]
enum Lookup {
    WellKnown(Arc<str>),
    Srv(usize),
    Addresses { journey: usize, at: usize },
}

/// What the resolver has done so far, and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResolverCounters {
    /// The cache of composed results.
    pub composed: FreshnessCounters,
    /// The cache of .well-known outcomes.
    pub well_known: FreshnessCounters,
    /// Composed results held.
    pub names: usize,
    /// .well-known outcomes held.
    pub well_knowns: usize,
    /// Resolutions under way.
    pub under_way: usize,
}

impl Resolver {
    /// A resolver that knows nothing yet; `seed` decides its jitter.
    pub fn new(limits: ResolverLimits, seed: u64) -> Self {
        Self {
            composed: StepCache::new(limits.composed(), seed),
            delegations: Delegations::new(limits.clone(), seed.rotate_left(32)),
            limits,
            journeys: Slab::new(),
            tickets: FxHashMap::default(),
            lookups: FxHashMap::default(),
            next_lookup: 0,
            fetch_deadlines: VecDeque::new(),
            lookup_deadlines: VecDeque::new(),
            explanations: 0,
            actions: VecDeque::new(),
        }
    }

    /// The address of `name`, if it is at hand: one hash lookup. It may leave actions behind (a refresh in
    /// the background), so [`poll`](Self::poll) afterwards.
    pub fn known(&mut self, name: &ServerName, now: Instant) -> Option<Arc<ResolvedFederationAddress>> {
        let known = self.composed.known(name, now)?;
        self.start_due(now);
        Some(Arc::new(known.into()))
    }

    /// `ticket` wants the address of `name`.
    pub fn handle_request(&mut self, ticket: Ticket, name: &ServerName, now: Instant) {
        match self.composed.ask(name, ticket, now) {
            Asked::Known(known) => {
                self.actions.push_back(Action::Resolved { ticket, address: Arc::new(known.into()) });
            }
            Asked::Failed(failing) => {
                self.actions.push_back(Action::Failed { ticket, error: failing.error });
            }
            Asked::Waiting => {
                self.tickets.insert(ticket, Waits::Name(name.clone()));
            }
            Asked::Full(ticket) => {
                self.actions.push_back(Action::Failed { ticket, error: ResolveError::Overloaded });
            }
        }
        self.start_due(now);
    }

    /// `ticket` wants to know how `name` is resolved. The steps are gone through anew, with what their own
    /// caches hold; the composed result is neither read nor written.
    pub fn handle_explain(&mut self, ticket: Ticket, name: &ServerName, now: Instant) {
        if self.explanations >= self.limits.explanations_max {
            self.actions.push_back(Action::Failed { ticket, error: ResolveError::Overloaded });
            return;
        }
        self.explanations += 1;
        let journey = self.journeys.insert(Journey::new(name.clone(), Errand::Explain(ticket), now));
        self.tickets.insert(ticket, Waits::Explanation(journey));
        let next = self.journeys[journey].begin(now);
        self.drive(journey, next, now);
        self.start_due(now);
    }

    /// A [`Action::FetchWellKnown`] has ended.
    pub fn handle_well_known(&mut self, id: LookupId, result: WellKnownResult, now: Instant) {
        let Some(Lookup::WellKnown(host)) = self.lookups.get(&id) else { return };
        let host = Arc::clone(host);
        self.lookups.remove(&id);
        self.forget_answered();
        if let Some(Settled { waiters, answer }) = self.delegations.handle_fetched(&host, result, now) {
            for journey in waiters {
                self.on_delegation(journey, answer.clone(), false, now);
            }
        }
        self.start_due(now);
    }

    /// A [`Action::LookupSrv`] has ended.
    pub fn handle_srv(
        &mut self,
        id: LookupId,
        answer: Result<Answer<Arc<[SrvRecord]>>, LookupFailure>,
        now: Instant,
    ) {
        let Some(&Lookup::Srv(journey)) = self.lookups.get(&id) else { return };
        self.lookups.remove(&id);
        self.forget_answered();
        let next = self.journeys[journey].on_srv(answer, &self.limits, now);
        self.drive(journey, next, now);
        self.start_due(now);
    }

    /// A [`Action::LookupAddresses`] has ended.
    pub fn handle_addresses(
        &mut self,
        id: LookupId,
        answer: Result<Answer<Arc<[IpAddr]>>, LookupFailure>,
        now: Instant,
    ) {
        let Some(&Lookup::Addresses { journey, at }) = self.lookups.get(&id) else { return };
        self.lookups.remove(&id);
        self.forget_answered();
        let next = self.journeys[journey].on_addresses(at, answer, &self.limits, now);
        self.drive(journey, next, now);
        self.start_due(now);
    }

    /// Nobody waits for `ticket` any more. What it had started goes on, and is remembered.
    pub fn handle_cancelled(&mut self, ticket: Ticket) {
        match self.tickets.remove(&ticket) {
            Some(Waits::Name(name)) => {
                self.composed.withdraw(&name, |other| *other == ticket);
            }
            Some(Waits::Explanation(journey)) => {
                self.journeys[journey].errand = Errand::Nobody;
                self.explanations -= 1;
            }
            None => self.actions.retain(|action| action.ticket() != Some(ticket)),
        }
    }

    /// What was resolved for `name` does not work (nobody answers there, or with the wrong certificate), or an
    /// operator asks for it: resolve it anew the next time. What is remembered can still stand in.
    pub fn handle_distrusted(&mut self, name: &ServerName, now: Instant) {
        self.composed.expire(name, now);
        self.delegations.expire(&name.host_lowercase().into(), now);
    }

    /// The time has come to `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(id) = overdue(&mut self.fetch_deadlines, now) {
            self.handle_well_known(id, WellKnownResult::Failed(WellKnownFailure::TimedOut), now);
        }
        while let Some(id) = overdue(&mut self.lookup_deadlines, now) {
            self.handle_srv(id, Err(LookupFailure::TimedOut), now);
            self.handle_addresses(id, Err(LookupFailure::TimedOut), now);
        }
    }

    /// What to do next. Drain it to `None` after every fact.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), unless a fact comes before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let first =
            |deadlines: &VecDeque<(Instant, LookupId)>| deadlines.front().map(|(deadline, _)| *deadline);
        first(&self.fetch_deadlines).into_iter().chain(first(&self.lookup_deadlines)).min()
    }

    /// What it has done so far, and holds.
    pub fn counters(&self) -> ResolverCounters {
        ResolverCounters {
            composed: self.composed.counters(),
            well_known: self.delegations.counters(),
            names: self.composed.len(),
            well_knowns: self.delegations.len(),
            under_way: self.journeys.len(),
        }
    }

    /// Starts what the caches say is due: journeys for names, fetches for hosts.
    fn start_due(&mut self, now: Instant) {
        while let Some(name) = self.composed.poll() {
            let journey = self.journeys.insert(Journey::new(name, Errand::Compose, now));
            let next = self.journeys[journey].begin(now);
            self.drive(journey, next, now);
        }
        while let Some(host) = self.delegations.poll() {
            let id = self.look_up(Lookup::WellKnown(Arc::clone(&host)), now);
            self.actions.push_back(Action::FetchWellKnown { id, host });
        }
    }

    /// Gives a journey what it needs next, as far as that is at hand.
    fn drive(&mut self, journey: usize, next: Next, now: Instant) {
        match next {
            Next::Wait => {}
            Next::WellKnown(host) => match self.delegations.ask(&host, journey, now) {
                Asked::Waiting => {}
                Asked::Known(known) => self.on_delegation(journey, Ok(known), true, now),
                Asked::Failed(failing) => self.on_delegation(journey, Err(failing), true, now),
                Asked::Full(journey) => {
                    let failing = Failing { error: WellKnownFailure::Overloaded.into(), retry_at: now };
                    self.on_delegation(journey, Err(failing), true, now);
                }
            },
            Next::Srv(name) => {
                let id = self.look_up(Lookup::Srv(journey), now);
                self.actions.push_back(Action::LookupSrv { id, name });
            }
            Next::Addresses(names) => {
                for (at, name) in names.into_iter().enumerate() {
                    let id = self.look_up(Lookup::Addresses { journey, at }, now);
                    self.actions.push_back(Action::LookupAddresses { id, name });
                }
            }
            Next::Done(outcome) => self.on_done(journey, outcome, now),
        }
    }

    fn on_delegation(&mut self, journey: usize, told: Told, cached: bool, now: Instant) {
        let next = self.journeys[journey].on_well_known(told, cached, now);
        self.drive(journey, next, now);
    }

    fn on_done(&mut self, journey: usize, outcome: Result<Composition, ResolveError>, now: Instant) {
        let Journey { name, errand, started_at, steps, fresh_until, .. } = self.journeys.remove(journey);
        match errand {
            Errand::Compose => self.on_composed(&name, outcome, fresh_until, now),
            Errand::Explain(ticket) => {
                self.tickets.remove(&ticket);
                self.explanations -= 1;
                let took = now.saturating_since(started_at);
                let outcome = outcome.map(|composition| Arc::new(composition.write_out(fresh_until)));
                let explanation = Box::new(Explanation { name, steps, outcome, took });
                self.actions.push_back(Action::Explained { ticket, explanation });
            }
            Errand::Nobody => {}
        }
    }

    fn on_composed(
        &mut self,
        name: &ServerName,
        outcome: Result<Composition, ResolveError>,
        fresh_until: Instant,
        now: Instant,
    ) {
        let settled = match outcome {
            Ok(composition) => {
                let fresh = fresh_until.saturating_since(now);
                self.composed.handle_fetched(name, Ok(Fetched::Present(composition, fresh)), now)
            }
            Err(ResolveError::Overloaded) => {
                self.composed.handle_abandoned(name, ResolveError::Overloaded, now)
            }
            Err(error) => self.composed.handle_fetched(name, Err(error), now),
        };
        let Some(Settled { waiters, answer }) = settled else { return };
        let answer = answer.map(|known| Arc::new(ResolvedFederationAddress::from(known)));
        for ticket in waiters {
            self.tickets.remove(&ticket);
            self.actions.push_back(match &answer {
                Ok(address) => Action::Resolved { ticket, address: Arc::clone(address) },
                Err(failing) => Action::Failed { ticket, error: failing.error.clone() },
            });
        }
    }

    fn look_up(&mut self, lookup: Lookup, now: Instant) -> LookupId {
        let id = LookupId(self.next_lookup);
        self.next_lookup += 1;
        let (deadlines, wait): (_, Duration) = match lookup {
            Lookup::WellKnown(_) => (&mut self.fetch_deadlines, self.limits.fetch_max),
            _ => (&mut self.lookup_deadlines, self.limits.lookup_max),
        };
        deadlines.push_back((now + wait, id));
        self.lookups.insert(id, lookup);
        id
    }

    /// Drops the deadlines of what has been answered, as far as they are in front.
    fn forget_answered(&mut self) {
        for deadlines in [&mut self.fetch_deadlines, &mut self.lookup_deadlines] {
            while deadlines.front().is_some_and(|(_, id)| !self.lookups.contains_key(id)) {
                deadlines.pop_front();
            }
        }
    }
}

/// Takes off the first lookup whose deadline has come.
fn overdue(deadlines: &mut VecDeque<(Instant, LookupId)>, now: Instant) -> Option<LookupId> {
    let (deadline, id) = *deadlines.front()?;
    if deadline > now {
        return None;
    }
    deadlines.pop_front();
    Some(id)
}

impl Action {
    /// The ticket that this action answers, if it answers one.
    pub fn ticket(&self) -> Option<Ticket> {
        match self {
            Self::Resolved { ticket, .. } | Self::Failed { ticket, .. } | Self::Explained { ticket, .. } => {
                Some(*ticket)
            }
            Self::FetchWellKnown { .. } | Self::LookupSrv { .. } | Self::LookupAddresses { .. } => None,
        }
    }
}
